//! The journal of systemd: each line of the log becomes an entry with fields.
//!
//! Facts: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>, and `$JOURNAL_STREAM` in systemd.exec(5). A library
//! exists, but its entries have no fields in their text, and `journalctl` shows nothing else.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Fields of a line that the journal has itself, or that have a field of their own.
const OWN: [&str; 4] = ["timestamp", "level", "target", "message"];
/// Characters of a value; the rest is cut. A datagram has a limit, and no line of ours is near it.
const LONGEST: usize = 8 << 10;

/// Writes lines of JSON into the journal.
#[derive(Clone)]
pub(super) struct Journal(Arc<UnixDatagram>);

impl Journal {
    /// The journal, if standard error of this process goes there.
    pub(super) fn of_stderr() -> Option<Self> {
        let stderr = rustix::fs::fstat(io::stderr()).ok()?;
        let named = std::env::var_os("JOURNAL_STREAM")?;
        is_stream(&named, stderr.st_dev, stderr.st_ino).then(|| Self::at(Path::new(SOCKET)).ok()).flatten()
    }

    fn at(socket: &Path) -> io::Result<Self> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        Ok(Self(Arc::new(journal)))
    }
}

/// Whether `$JOURNAL_STREAM` names this file: `device:inode`.
fn is_stream(named: &OsStr, device: u64, inode: u64) -> bool {
    named.to_str().is_some_and(|named| named == format!("{device}:{inode}"))
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let entry = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => entry(&fields),
            _ => return Ok(line.len()),
        };
        // The journal may be restarting. Its socket stays, and the line would be lost on a stream too.
        self.0.send(&entry).map(|_| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn entry(line: &serde_json::Map<String, Value>) -> Vec<u8> {
    let text = |name: &str| line.get(name).map(shown).unwrap_or_default();
    let mut message = text("message");
    let mut entry = Vec::new();
    for (name, value) in line.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        let value = shown(value);
        // The daemon is the same in all lines of a unit.
        if name != "daemon" {
            write!(message, " {name}={value}").expect("text takes all");
        }
        field(&mut entry, &format!("ADU_{}", name.to_ascii_uppercase()), &value);
    }
    // Levels of syslog(3).
    let priority = match text("level").as_str() {
        "ERROR" => "3",
        "WARN" => "4",
        "INFO" => "6",
        _ => "7",
    };
    field(&mut entry, "PRIORITY", priority);
    field(&mut entry, "SYSLOG_IDENTIFIER", "adu-export");
    field(&mut entry, "CODE_MODULE", &text("target"));
    field(&mut entry, "MESSAGE", &message);
    entry
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Adds a field in the form that lets the value have several lines.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value: String = value.chars().take(LONGEST).collect();
    entry.extend(name.as_bytes());
    entry.push(b'\n');
    entry.extend((value.len() as u64).to_le_bytes());
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Reads an entry as the journal does.
    fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let mut fields = BTreeMap::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|b| *b == b'\n').expect("a name");
            let (length, rest) = entry[end + 1..].split_first_chunk::<8>().expect("a length");
            let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("short"));
            fields.insert(text(&entry[..end]), text(value));
            entry = rest.strip_prefix(b"\n").expect("a newline");
        }
        fields
    }

    #[test]
    fn an_entry_has_fields_and_a_text_that_a_person_can_read() {
        let path = std::env::temp_dir().join(format!("adu-journal-{}", uuid::Uuid::new_v4()));
        let journal = UnixDatagram::bind(&path).expect("bound");
        let line = r#"{"timestamp":"2026-12-01T10:00:00Z","level":"WARN","target":"adu_export::worker","message":
            "a chunk is tried again","daemon":"d1","job":"n1","chunk":3,"error":"one\ntwo"}"#;
        Journal::at(&path).expect("connected").write_all(line.as_bytes()).expect("sent");
        let mut entry = vec![0; 4096];
        let length = journal.recv(&mut entry).expect("received");
        std::fs::remove_file(&path).expect("removed");
        let expected = [
            ("ADU_CHUNK", "3"),
            ("ADU_DAEMON", "d1"),
            ("ADU_ERROR", "one\ntwo"),
            ("ADU_JOB", "n1"),
            ("CODE_MODULE", "adu_export::worker"),
            ("MESSAGE", "a chunk is tried again chunk=3 error=one\ntwo job=n1"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "adu-export"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&entry[..length]), BTreeMap::from(expected));
    }

    #[test]
    fn the_journal_is_used_only_if_standard_error_is_its_stream() {
        assert!(is_stream(OsStr::new("8:77"), 8, 77));
        for other in ["8:78", "9:77", "", "8", "8:77:1"] {
            assert!(!is_stream(OsStr::new(other), 8, 77), "{other}");
        }
    }
}
