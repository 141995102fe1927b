//! System calls of a daemon that fail, or that report a false error.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Daemon, Site, eventually, leashed};

/// Makes system calls of a daemon fail while this value lives. It attaches strace to all threads.
pub(crate) struct Injection {
    tracer: Child,
    log: PathBuf,
}

impl Injection {
    /// `what` has the syntax of strace's `-e inject`.
    #[track_caller]
    pub(crate) fn into(daemon: &Daemon, site: &Site, what: &str) -> Self {
        let call = what.split(':').next().expect("the name of a call");
        let log = site.path("strace.txt");
        let tracer = leashed("strace")
            .args(["-f", "-e", &format!("trace={call}"), "-e", &format!("inject={what}")])
            .arg("-o")
            .arg(&log)
            .args(["-p", &daemon.pid().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run strace");
        let this = Self { tracer, log };
        eventually("strace is attached", Duration::from_secs(10), || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).ok()?;
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().to_owned();
            (tracer != "0").then_some(())
        });
        this
    }

    /// Number of calls that failed so far.
    pub(crate) fn count(&self) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().matches("(INJECTED)").count()
    }

    /// Ends the injection while the daemon continues. Returns the number of calls that failed.
    pub(crate) fn end(mut self) -> usize {
        self.detach();
        self.count()
    }

    fn detach(&mut self) {
        // A killed strace would leave the threads stopped or without results.
        let pid = rustix::process::Pid::from_child(&self.tracer);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.tracer.wait();
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A library that reports errors although a call succeeded, as NFS does when an answer is lost. In each
/// directory it does so for the first link and every third one after it, and for the first rename and every
/// second one after it.
const LIAR: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int links[256], renames[256];

/* One counter for each directory that names appear in. */
static atomic_int *of_directory(atomic_int *counters, const char *path) {
    const char *end = strrchr(path, '/');
    unsigned hash = 5381;
    for (const char *c = path; end && c < end; c++) hash = hash * 33 + (unsigned char)*c;
    return &counters[hash % 256];
}

static void tell(const char *call, const char *path) {
    char line[4200];
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    int log = open(getenv("LIES"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (log >= 0) {
        if (write(log, line, length) < 0) abort();
        close(log);
    }
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    int (*real)(int, const char *, int, const char *, int) = dlsym(RTLD_NEXT, "linkat");
    int done = real(from_dir, from, to_dir, to, flags);
    if (done == 0 && atomic_fetch_add(of_directory(links, to), 1) % 3 == 0) {
        tell("link", to);
        errno = EIO;
        return -1;
    }
    return done;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    int done = real(from, to);
    if (done == 0 && atomic_fetch_add(of_directory(renames, to), 1) % 2 == 0) {
        tell("rename", to);
        errno = EIO;
        return -1;
    }
    return done;
}
"#;

/// A library that reports errors for calls that succeeded.
pub(crate) struct Liar {
    library: PathBuf,
    log: PathBuf,
}

impl Liar {
    #[track_caller]
    pub(crate) fn compile(site: &Site) -> Self {
        let library = site.path("liar.so");
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-ldl", "-o"])
            .arg(&library)
            .stdin(Stdio::piped())
            .spawn()
            .expect("run cc");
        compiler.stdin.take().expect("piped").write_all(LIAR.as_bytes()).expect("the source");
        assert!(compiler.wait().expect("cc ends").success(), "cc");
        Self { library, log: site.path("lies.txt") }
    }

    /// Environment of a daemon that uses the library.
    pub(crate) fn environment<'a>(&'a self) -> [(&'a str, &'a str); 2] {
        let text = |path: &'a Path| path.to_str().expect("UTF-8");
        [("LD_PRELOAD", text(&self.library)), ("LIES", text(&self.log))]
    }

    /// The calls that succeeded with an error: name and path.
    pub(crate) fn lies(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}
