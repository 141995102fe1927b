//! `.pgpass`: passwords by host, port, database and user.
//!
//! Facts: <https://www.postgresql.org/docs/current/libpq-pgpass.html>. How escapes are read is not said there in
//! full, and is compared with libpq itself (`tests/main/libpq.rs`).

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::server::{Host, Server};

/// The directory of sockets that Debian's libpq takes by default. For it the file says `localhost`. Other builds take
/// `/tmp`, in which everybody could wait for a password.
const USUAL_SOCKETS: &str = "/var/run/postgresql";
/// Rights that only the owner may have.
const OTHERS: u32 = 0o077;
/// More than any such file needs.
const LARGEST: u64 = 16 << 20;

/// A password file. It need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passfile(PathBuf);

/// Why a password file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// There is none.
    #[error("there is no file {0}")]
    Missing(String),
    /// It is a directory, a pipe or the like.
    #[error("{0} is no plain file")]
    NotPlain(String),
    /// Others may read it.
    #[error("{0} is not read, because its mode {1:03o} gives others access: run chmod 600 {0}")]
    Open(String, u32),
    /// The system refuses.
    #[error("{0} cannot be read: {1}")]
    Refused(String, std::io::ErrorKind),
}

impl Passfile {
    /// The file of this path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the file. libpq, too, goes on without it where it cannot be read.
    ///
    /// # Errors
    /// Why it is not read.
    pub fn read(&self) -> Result<Passwords, Unread> {
        let name = || self.0.display().to_string();
        let refused = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Unread::Missing(name()),
            kind => Unread::Refused(name(), kind),
        };
        // Opening a pipe would wait for its writer.
        if !self.0.metadata().map_err(refused)?.is_file() {
            return Err(Unread::NotPlain(name()));
        }
        let file = std::fs::File::open(&self.0).map_err(refused)?;
        let mode = file.metadata().map_err(refused)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(Unread::Open(name(), mode));
        }
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).map_err(refused)?;
        Ok(Passwords(text))
    }
}

/// The lines of a password file.
pub struct Passwords(Vec<u8>);

impl Passwords {
    /// The password of the first line that matches; empty if the line has none.
    #[must_use]
    pub fn find(&self, server: &Server, database: &str, user: &str) -> Option<Vec<u8>> {
        let hosts = match (&server.host, server.address) {
            (Some(Host::Unix(directory)), None) => {
                let directory = directory.display().to_string();
                let usual = directory == USUAL_SOCKETS;
                [Some(directory), usual.then(|| "localhost".to_owned())]
            }
            _ => [Some(server.name()), None],
        };
        let port = server.port.to_string();
        let lines = self.0.split(|b| *b == b'\n').filter(|line| !line.starts_with(b"#"));
        lines.map(trimmed).find_map(|line| {
            hosts.iter().flatten().find_map(|host| {
                let rest = [host, port.as_str(), database, user]
                    .into_iter()
                    .try_fold(line, |rest, wanted| after_field(rest, wanted.as_bytes()))?;
                Some(unescaped(rest))
            })
        })
    }
}

/// The line up to a zero byte, without the carriage return at its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.split(|b| *b == 0).next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What comes after the first field, if that is the wanted text or an asterisk.
fn after_field<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    for wanted in wanted {
        rest = match rest {
            [b'\\', b, after @ ..] | [b, after @ ..] if b == wanted => after,
            _ => return None,
        };
    }
    rest.strip_prefix(b":")
}

/// The password: up to the next colon, without the backslashes of escapes.
fn unescaped(mut rest: &[u8]) -> Vec<u8> {
    let mut password = Vec::new();
    loop {
        rest = match rest {
            [] | [b':', ..] => return password,
            [b'\\', b, after @ ..] | [b, after @ ..] => {
                password.push(*b);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &str, host: &str) -> Option<String> {
        let dsn: crate::config::dsn::Dsn = format!("host={host} user=u dbname=d").parse().expect("valid");
        let found = Passwords(lines.into()).find(&dsn.servers[0], "d", "u");
        found.map(|password| String::from_utf8(password).expect("UTF-8"))
    }

    #[test]
    fn localhost_stands_for_the_usual_sockets_and_for_no_other() {
        let line = "localhost:5432:d:u:secret";
        for (host, expected) in [
            ("localhost", Some("secret")),
            ("/var/run/postgresql", Some("secret")),
            ("/tmp", None),
            ("/run/elsewhere", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(found(line, host).as_deref(), expected, "{host}");
        }
        let both = "/tmp:5432:*:*:directory\nlocalhost:*:*:*:name";
        assert_eq!(found(both, "/tmp").as_deref(), Some("directory"));
        assert_eq!(found("\\:\\:1:*:*:*:escaped", "::1").as_deref(), Some("escaped"));
    }
}
