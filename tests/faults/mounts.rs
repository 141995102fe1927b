//! File systems that a test can fill up, unmount or make read-only. Mounting needs root. A test unmounts what
//! an interrupted run has left mounted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::{eventually, scratch};

static CLEAN: LazyLock<()> = LazyLock::new(|| {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the list of mounts");
    let below = scratch();
    let stale = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    stale.filter(|path| path.starts_with(&below)).for_each(unmount);
});

/// A mounted file system. Dropping this value unmounts it.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system in memory of this size, in MiB.
    #[track_caller]
    pub(crate) fn tmpfs(at: &Path, mib: u32) -> Self {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"], at)
    }

    /// Mounts a directory at a second path.
    #[track_caller]
    pub(crate) fn bind(directory: &Path, at: &Path) -> Self {
        Self::new(&["--bind", &directory.to_string_lossy()], at)
    }

    #[track_caller]
    fn new(what: &[&str], at: &Path) -> Self {
        LazyLock::force(&CLEAN);
        std::fs::create_dir_all(at).expect("a place to mount");
        let said = mount(&[what, &[&at.to_string_lossy()]].concat());
        assert_eq!(said, "", "mount (as root?)");
        Self(at.to_owned())
    }

    /// Makes the mount read-only. Waits for a moment without writers.
    #[track_caller]
    pub(crate) fn make_read_only(&self) {
        let change = || mount(&["-o", "remount,bind,ro", &self.0.to_string_lossy()]).is_empty().then_some(());
        eventually("nobody has a file open for writing", Duration::from_secs(30), change);
    }

    /// Makes the mount writable again.
    #[track_caller]
    pub(crate) fn make_writable(&self) {
        assert_eq!(mount(&["-o", "remount,bind,rw", &self.0.to_string_lossy()]), "", "remount");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// The error text of mount.
fn mount(arguments: &[&str]) -> String {
    let output = Command::new("mount").args(arguments).output().expect("run mount");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Unmounts lazily, so that processes keep their open files.
fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).output();
}
