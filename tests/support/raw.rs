//! A publisher that can write any bytes where client libraries demand text.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::amqp::{frame, header, long, short};

/// A connection with one channel. Each message needs a new connection, because the broker ends some of them.
struct RawConnection(TcpStream);

impl RawConnection {
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut this = Self(stream);
        this.0.write_all(b"AMQP\0\0\x09\x01")?;
        this.answer()?;
        let start = [&[0; 4][..], &short(b"PLAIN"), &long(b"\0guest\0guest"), &short(b"en_US")].concat();
        this.method(0, 10, 11, &start)?;
        let tune = this.answer()?;
        this.method(0, 10, 31, &[&tune[4..10], &[0, 0]].concat())?;
        this.method(0, 10, 40, &[short(b"/"), vec![0, 0]].concat())?;
        this.answer()?;
        this.method(1, 20, 10, &[0])?;
        this.answer()?;
        this.method(1, 85, 10, &[0])?;
        this.answer()?;
        Ok(this)
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(&frame(kind, channel, payload))
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> io::Result<()> {
        self.frame(1, channel, &[&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat())
    }

    /// The payload of the next frame.
    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head)?;
        let size = u32::from_be_bytes(head[3..7].try_into().expect("four bytes"));
        let mut payload = vec![0; size as usize + 1];
        self.0.read_exact(&mut payload)?;
        payload.pop();
        Ok(payload)
    }
}

/// Publishes a message with raw properties: flags and values as they are sent. Returns whether the broker
/// accepted it.
pub(crate) fn publish_raw(
    port: u16,
    exchange: &str,
    routing_key: &[u8],
    (flags, properties): (u16, &[u8]),
    body: &[u8],
) -> bool {
    let publish = || -> io::Result<bool> {
        let mut connection = RawConnection::open(port)?;
        let to = [&[0, 0][..], &short(exchange.as_bytes()), &short(routing_key), &[0]].concat();
        connection.method(1, 60, 40, &to)?;
        connection.frame(2, 1, &header(body.len() as u64, flags, properties))?;
        for piece in body.chunks(100_000) {
            connection.frame(3, 1, piece)?;
        }
        // The answer is basic.ack, or a close of the channel or connection.
        Ok(connection.answer()?.starts_with(&[0, 60, 0, 80]))
    };
    publish().expect("a broker that answers")
}
