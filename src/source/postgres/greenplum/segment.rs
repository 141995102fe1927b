//! A retrieve session: a connection to a segment that can do nothing but fetch rows of one cursor.
//!
//! The startup option `gp_retrieve_conn` makes it one. Its password is the cursor's token. It takes no other
//! statement, so `tokio-postgres`, which asks the catalogue about types that it does not know, cannot be used
//! here. Messages are built and read by `postgres-protocol`, except DataRows, which are passed on as they are.
//!
//! A RETRIEVE fills a tuplestore before its first row goes out. So rows are fetched in batches of a few MiB.
//! Two batches are on their way at once, so that the segment never waits for the network.

use std::io;

use bytes::{Buf, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::super::connect::Connector;
use super::super::quote::ident;
use super::super::sqlstate::{self, Stage};
use crate::source::SourceError;
use crate::source::dial::Wire;
use fallible_iterator::FallibleIterator;

/// Batches that are asked for at once.
const AT_ONCE: usize = 2;
/// Rows of the first batches, before the width of rows is known.
const FIRST_ROWS: u64 = 64;
/// Bytes that a batch should have.
const BATCH_BYTES: u64 = 2 << 20;
/// Fewest and most rows of a batch. With fewer than 2,000 usual rows the segment's work grows; wide rows make
/// batches large enough.
const ROWS: std::ops::RangeInclusive<u64> = 16..=10_000;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// A message's type and length.
const MESSAGE_HEADER: usize = 5;

/// The way around the segments.
const BY_QUERY: &str = "the chunk is tried again; if that does not help, ask for read \"query\"";

/// Where rows of a cursor can be fetched.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// A password for this cursor's rows.
    pub(super) token: String,
    pub(super) name: String,
}

/// What a call of [`SegmentSession::fetch`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// Perhaps some rows.
    Rows,
    /// No row is left.
    End,
}

/// A retrieve session.
pub(super) struct SegmentSession {
    wire: Wire,
    input: BytesMut,
    endpoint: String,
    /// Action, object, host and port, for errors.
    what: String,
    /// Batches that were asked for and have not ended.
    asked: usize,
    rows: u64,
    /// Rows of the batches that have ended.
    rows_before: u64,
    bytes: u64,
    has_ended: bool,
}

impl SegmentSession {
    /// Logs in and asks for the first batches.
    pub(super) async fn open(
        connector: &Connector,
        endpoint: &Endpoint,
        what: &str,
    ) -> Result<Self, SourceError> {
        let segment = format!("{what}: the segment at {}:{}", endpoint.host, endpoint.port);
        let open = async {
            let wire = connector.dial(&endpoint.host, endpoint.port, what).await?;
            let mut session = Self {
                wire,
                input: BytesMut::with_capacity(READ_BYTES),
                endpoint: ident(&endpoint.name),
                what: segment.clone(),
                asked: 0,
                rows: 0,
                rows_before: 0,
                bytes: 0,
                has_ended: false,
            };
            session.log_in(connector, endpoint).await?;
            for _ in 0..AT_ONCE {
                session.ask().await?;
            }
            Ok(session)
        };
        timeout(connector.timeout(), open).await.map_err(|_| {
            SourceError::unreachable(format!("{segment} does not answer"))
                .with_remedy("check the network between this host and the segment, or ask for read \"query\"")
        })?
    }

    async fn log_in(&mut self, connector: &Connector, endpoint: &Endpoint) -> Result<(), SourceError> {
        let (user, database) = connector.login();
        let mut message = BytesMut::new();
        let parameters = [
            ("user", user),
            ("database", database),
            ("application_name", "adu-export retrieve"),
            ("client_encoding", "UTF8"),
            // The role may have a `statement_timeout`, which must not end a RETRIEVE that waits for rows.
            ("options", "-c gp_retrieve_conn=true -c statement_timeout=0"),
        ];
        frontend::startup_message(parameters, &mut message).map_err(|e| self.broken(&e))?;
        self.write(&message).await?;
        loop {
            match self.message().await? {
                Message::AuthenticationCleartextPassword => {
                    let mut message = BytesMut::new();
                    frontend::password_message(endpoint.token.as_bytes(), &mut message)
                        .map_err(|e| self.broken(&e))?;
                    self.write(&message).await?;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationOk | Message::BackendKeyData(_) => {}
                _ => {
                    let error =
                        io::Error::new(io::ErrorKind::InvalidData, "the segment asks for another login");
                    return Err(self.broken(&error));
                }
            }
        }
    }

    /// Asks for one more batch.
    async fn ask(&mut self) -> Result<(), SourceError> {
        let rows = match self.bytes.checked_div(self.rows) {
            None => FIRST_ROWS,
            Some(width) => (BATCH_BYTES / width.max(1)).clamp(*ROWS.start(), *ROWS.end()),
        };
        let sql = format!("RETRIEVE {rows} FROM ENDPOINT {}", self.endpoint);
        let mut message = BytesMut::new();
        let built = frontend::parse("", &sql, [], &mut message).and_then(|()| {
            let none: [i16; 0] = [];
            let values: [(); 0] = [];
            frontend::bind("", "", none, values, |(), _| Ok(IsNull::Yes), [1], &mut message)
                .map_err(|_| io::Error::other("a message cannot be built"))?;
            frontend::execute("", 0, &mut message)
        });
        built.map_err(|e| self.broken(&e))?;
        frontend::sync(&mut message);
        self.asked += 1;
        self.write(&message).await
    }

    /// Appends rows that have arrived to a block, as tuples of a binary COPY.
    pub(super) async fn fetch(&mut self, block: &mut Vec<u8>) -> Result<Fetched, SourceError> {
        loop {
            self.take_rows(block);
            if block.len() >= super::super::tap::BLOCK_BYTES {
                return Ok(Fetched::Rows);
            }
            let Some(message) = self.next_message()? else {
                let waits = block.is_empty();
                self.fill().await?;
                if waits { continue } else { return Ok(Fetched::Rows) }
            };
            match message {
                // Its tag does not say how many rows the batch had.
                Message::CommandComplete(_) => {
                    self.has_ended |= self.rows == self.rows_before;
                    self.rows_before = self.rows;
                }
                Message::ReadyForQuery(_) => {
                    self.asked = self.asked.saturating_sub(1);
                    if !self.has_ended {
                        self.ask().await?;
                    } else if self.asked == 0 {
                        return Ok(Fetched::End);
                    }
                }
                _ => {}
            }
        }
    }

    /// Moves complete DataRows at the front of the input to a block.
    fn take_rows(&mut self, block: &mut Vec<u8>) {
        while block.len() < super::super::tap::BLOCK_BYTES {
            let Some(([b'D', length @ ..], rest)) = self.input.split_first_chunk::<MESSAGE_HEADER>() else {
                return;
            };
            // The length counts itself.
            let Some(length) =
                usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|n| n.checked_sub(4))
            else {
                return;
            };
            let Some(row) = rest.get(..length) else {
                self.input.reserve(length - rest.len());
                return;
            };
            block.extend_from_slice(row);
            self.rows += 1;
            self.bytes += length as u64;
            self.input.advance(MESSAGE_HEADER + length);
        }
    }

    /// The next message, once it has arrived completely.
    async fn message(&mut self) -> Result<Message, SourceError> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next complete message of the input. Errors of the segment are errors.
    fn next_message(&mut self) -> Result<Option<Message>, SourceError> {
        loop {
            if self.input.first() == Some(&b'D') {
                return Ok(None);
            }
            match Message::parse(&mut self.input).map_err(|e| self.broken(&e))? {
                Some(Message::ErrorResponse(body)) => return Err(self.refused(body.fields())),
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                other => return Ok(other),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        self.input.reserve(READ_BYTES);
        match self.wire.read_buf(&mut self.input).await {
            Ok(0) => Err(self.broken(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => Ok(()),
            Err(e) => Err(self.broken(&e)),
        }
    }

    async fn write(&mut self, message: &[u8]) -> Result<(), SourceError> {
        let written = self.wire.write_all(message).await;
        written.map_err(|e| self.broken(&e))
    }

    fn broken(&self, error: &io::Error) -> SourceError {
        SourceError::transient("connection_lost", format!("{}: the connection failed: {error}", self.what))
            .with_remedy(BY_QUERY)
    }

    fn refused(&self, fields: ErrorFields<'_>) -> SourceError {
        let mut said = sqlstate::Said::default();
        let _ = fields.for_each(|field| {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => said.code = value(),
                b'M' => said.message = value(),
                b'H' => said.hint = value(),
                _ => {}
            }
            Ok(())
        });
        let error = sqlstate::of_segment(&said, Stage::Chunk, &self.what);
        if error.remedy.is_some() { error } else { error.with_remedy(BY_QUERY) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::{Origin, SourceConfig, SourceKind};
    use crate::message::SourceName;
    use crate::source::ErrorKind;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short");
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// One field of four bytes, as a segment sends it.
    fn row(value: i32) -> Vec<u8> {
        [&1_i16.to_be_bytes()[..], &4_i32.to_be_bytes(), &value.to_be_bytes()].concat()
    }

    /// What a segment answers to one RETRIEVE.
    fn batch(values: &[i32]) -> Vec<u8> {
        let rows: Vec<u8> = values.iter().flat_map(|value| message(b'D', &row(*value))).collect();
        let end = [message(b'C', b"RETRIEVE\0"), message(b'Z', b"I")].concat();
        [message(b'1', b""), message(b'2', b""), rows, end].concat()
    }

    async fn read_message(client: &mut TcpStream) -> (u8, Vec<u8>) {
        let kind = client.read_u8().await.expect("a message");
        let length = client.read_u32().await.expect("a length") as usize - 4;
        let mut body = vec![0; length];
        client.read_exact(&mut body).await.expect("a body");
        (kind, body)
    }

    /// A segment that lets the token in, and gives these answers to its RETRIEVEs. Then it closes.
    async fn segment(answers: Vec<Vec<u8>>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let length = client.read_u32().await.expect("a length") as usize - 4;
            let mut startup = vec![0; length];
            client.read_exact(&mut startup).await.expect("a startup message");
            assert!(String::from_utf8_lossy(&startup).contains("-c gp_retrieve_conn=true"));
            client.write_all(&message(b'R', &3_i32.to_be_bytes())).await.expect("written");
            assert_eq!(read_message(&mut client).await, (b'p', b"token\0".to_vec()));
            let in_now = [message(b'R', &0_i32.to_be_bytes()), message(b'Z', b"I")].concat();
            client.write_all(&in_now).await.expect("written");
            for answer in answers {
                loop {
                    let (kind, body) = read_message(&mut client).await;
                    if kind == b'P' {
                        let sql = String::from_utf8_lossy(&body).into_owned();
                        assert!(sql.contains(" FROM ENDPOINT \"e1\""), "{sql}");
                    }
                    if kind == b'S' {
                        break;
                    }
                }
                client.write_all(&answer).await.expect("written");
            }
        });
        port
    }

    /// All that a session gives.
    async fn fetched(answers: Vec<Vec<u8>>) -> Result<Vec<u8>, SourceError> {
        let port = segment(answers).await;
        let toml = format!("kind = \"greenplum\"\ndsn = \"postgres://u@127.0.0.1:{port}/d?sslmode=disable\"");
        let config: SourceConfig = toml::from_str(&toml).expect("valid");
        let SourceKind::Greenplum(server) = &config.kind else { panic!("another kind") };
        let name = SourceName::parse("w").expect("valid");
        let connector = Connector::new(&name, Origin::Configuration, server).expect("valid");
        let endpoint = Endpoint { host: "127.0.0.1".into(), port, token: "token".into(), name: "e1".into() };
        let mut session = SegmentSession::open(&connector, &endpoint, "read s.t").await?;
        let mut all = Vec::new();
        while session.fetch(&mut all).await? == Fetched::Rows {}
        Ok(all)
    }

    #[tokio::test]
    async fn rows_are_tuples_of_a_copy_until_a_batch_is_empty() {
        let answers = vec![batch(&[1, 2]), batch(&[3]), batch(&[]), batch(&[])];
        assert_eq!(fetched(answers).await.expect("fetched"), [row(1), row(2), row(3)].concat());
    }

    #[tokio::test]
    async fn a_segment_that_ends_early_is_an_error_and_never_an_end() {
        let aborted = message(b'E', b"SERROR\0CXX000\0Mthe cursor was aborted\0\0");
        let error = fetched(vec![batch(&[1]), aborted]).await.expect_err("an error");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Transient, "XX000"));
        let error = fetched(vec![batch(&[1]), batch(&[2])]).await.expect_err("closed");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Transient, "connection_lost"));
        let half = batch(&[2, 3]);
        let error = fetched(vec![batch(&[1]), half[..half.len() - 9].to_vec()]).await.expect_err("closed");
        assert_eq!(error.kind, ErrorKind::Transient);
    }
}
