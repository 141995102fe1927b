//! Listens on several ports and sockets, lets a client log in, and notes what it says. Nobody gets in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Codes in the place of a protocol version, and the version,
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const VERSION: u32 = 196_608;
/// ErrorResponse: the password is wrong.
const REFUSAL: &[u8] = b"E\0\0\0\x1bSFATAL\0C28P01\0Mnobody\0\0";

/// What a client said on its first connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contact {
    /// Where it connected.
    pub(super) place: String,
    /// Whether it asked for TLS.
    tls: bool,
    user: Option<String>,
    database: Option<String>,
    options: Option<String>,
    application_name: Option<String>,
    pub(super) password: Option<String>,
}

/// The listeners of a test.
pub(super) struct Listeners {
    sender: Sender<Contact>,
    receiver: Receiver<Contact>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }

    /// Listens on a free port, which it returns.
    pub(super) fn port(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                attend(stream, port.to_string(), &sender);
            }
        });
        port
    }

    /// Listens on the socket that a client looks for in a directory.
    pub(super) fn socket(&self, directory: &Path, port: u16) -> std::io::Result<()> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        let listener = UnixListener::bind(&path)?;
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                attend(stream, path.display().to_string(), &sender);
            }
        });
        Ok(())
    }

    /// The first connection of a client that has ended, if it made one. Forgets all others.
    pub(super) fn first(&self) -> Option<Contact> {
        let first = self.receiver.recv_timeout(Duration::from_millis(150)).ok();
        while self.receiver.recv_timeout(Duration::from_millis(5)).is_ok() {}
        first
    }
}

fn attend(stream: impl Read + Write + Send + 'static, place: String, sender: &Sender<Contact>) {
    let sender = sender.clone();
    std::thread::spawn(move || {
        let (mut stream, mut contact) = (stream, Contact { place, ..Contact::default() });
        let wants_in = converse(&mut stream, &mut contact).is_ok();
        let _ = sender.send(contact);
        if wants_in {
            let _ = stream.write_all(REFUSAL);
        }
    });
}

fn converse(stream: &mut (impl Read + Write), contact: &mut Contact) -> std::io::Result<()> {
    loop {
        let body = packet(stream)?;
        let (code, rest) = body.split_first_chunk::<4>().expect("a code");
        match u32::from_be_bytes(*code) {
            SSL_REQUEST => {
                contact.tls = true;
                stream.write_all(b"N")?;
            }
            GSS_REQUEST => stream.write_all(b"N")?,
            VERSION => {
                note(contact, rest);
                break;
            }
            other => panic!("no code of a startup packet: {other}"),
        }
    }
    // AuthenticationCleartextPassword.
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03")?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let password = packet(stream)?;
    contact.password = Some(password[..password.len() - 1].iter().map(|b| char::from(*b)).collect());
    Ok(())
}

fn packet(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn note(contact: &mut Contact, parameters: &[u8]) {
    let texts: Vec<String> =
        parameters.split(|b| *b == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let pairs: BTreeMap<&str, &str> =
        texts.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let get = |name: &str| pairs.get(name).map(|value| (*value).to_owned());
    contact.user = get("user");
    contact.database = get("database");
    contact.options = get("options");
    // The names that the programs have without a setting.
    contact.application_name =
        get("application_name").filter(|name| name != "psql" && !name.starts_with("adu-export"));
}
