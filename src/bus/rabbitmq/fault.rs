//! Errors of the broker and the library in the words of an operator: what happened, to which object, and what
//! to change.

use std::io;

use lapin::{ErrorKind, ExchangeKind};

use super::super::BusError;
use crate::text::with_causes;

/// Reply codes of AMQP 0-9-1 that have their own remedy.
pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
const CONNECTION_FORCED: u16 = 320;
const RESOURCE_LOCKED: u16 = 405;
const NOT_ALLOWED: u16 = 530;

/// The broker's reply code, if it gave one.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(e) => Some(e.get_id()),
        _ => None,
    }
}

/// The text of the error.
fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(e) => e.get_message().to_string(),
        ErrorKind::IOError(e) => with_causes(&**e),
        _ => error.to_string(),
    }
}

/// A queue or exchange with one of our names that differs from our declaration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The text of the broker's error.
    pub(super) said: String,
    /// The argument that differs: `x-queue-type`, `durable`, `type`, …
    argument: String,
    /// The argument's value at the broker.
    current: String,
}

impl Misfit {
    /// Parses the error text, in all its forms: `inequivalent arg 'x-queue-type' for queue 'q' in vhost '/':
    /// received 'quorum' but current is 'classic'`.
    pub(super) fn read(error: &lapin::Error) -> Option<Self> {
        if reply_code(error) != Some(PRECONDITION_FAILED) {
            return None;
        }
        let said = said(error);
        let argument = said.split_once("arg '").and_then(|(_, rest)| rest.split_once('\''));
        let current = said.split_once("current is ").map(|(_, rest)| rest.trim_start_matches("the value "));
        let current = current.and_then(|rest| rest.strip_prefix('\'')?.split_once('\''));
        Some(Self {
            argument: argument.map(|(name, _)| name.to_owned()).unwrap_or_default(),
            current: current.map(|(value, _)| value.to_owned()).unwrap_or_default(),
            said,
        })
    }

    /// Why such a queue cannot be used; `None` if it can.
    pub(super) fn of_queue(&self) -> Option<String> {
        (self.argument == "x-queue-type" && self.current == "stream").then(|| {
            "it is a stream, from which nothing is ever removed: delete it, and a daemon will create a quorum queue"
                .to_owned()
        })
    }

    /// Why such an exchange cannot be used instead of `wanted`; `None` if it can.
    pub(super) fn of_exchange(&self, wanted: &ExchangeKind) -> Option<String> {
        let serves: &[&str] = match wanted {
            // Our routing keys are plain words without wildcards, so a topic exchange routes them like a
            // direct one.
            ExchangeKind::Direct => &["topic"],
            ExchangeKind::Fanout => &["direct", "topic"],
            _ => &[],
        };
        let known = ["direct", "fanout", "topic", "headers"].contains(&self.current.as_str());
        (self.argument == "type" && known && !serves.contains(&self.current.as_str())).then(|| {
            format!(
                "it is a {} exchange, which routes messages to the wrong queues: delete it, or set another broker.prefix",
                self.current
            )
        })
    }
}

/// Error of an attempt to connect. Bytes that cannot be parsed mean here that the peer speaks another
/// protocol; on an open connection they mean something else.
pub(super) fn unconnected(what: impl Into<String>, error: &lapin::Error) -> BusError {
    let other = "what answers there does not speak AMQP: check the port of broker.url; a port with TLS needs amqps://";
    let other = matches!(error.kind(), ErrorKind::ParsingError(_)).then_some(other);
    with_remedy(what, error, other)
}

/// A failed call as a [`BusError`].
pub(super) fn failed(what: impl Into<String>, error: &lapin::Error) -> BusError {
    with_remedy(what, error, None)
}

fn with_remedy(what: impl Into<String>, error: &lapin::Error, better: Option<&'static str>) -> BusError {
    let said = said(error);
    let why = match better.or_else(|| remedy(error, &said)) {
        Some(remedy) => format!("{}; {remedy}", said.trim_end_matches('.')),
        None => said,
    };
    BusError::Connection { what: what.into(), why }
}

fn remedy(error: &lapin::Error, said: &str) -> Option<&'static str> {
    if let Some(code) = reply_code(error) {
        return match code {
            ACCESS_REFUSED if said.contains("Login was refused") => {
                Some("check the user and the password in broker.url or broker.url_file")
            }
            ACCESS_REFUSED => Some(
                "grant the user this permission (rabbitmqctl set_permissions), or set broker.declare = false if only creating is refused",
            ),
            NOT_ALLOWED if said.contains("vhost") => Some(
                "create the vhost (rabbitmqctl add_vhost), grant the user access to it, or correct broker.url; the default vhost `/` is written %2f",
            ),
            NOT_FOUND => Some(
                "it was deleted or never created: set broker.declare = true, or have an operator create it",
            ),
            RESOURCE_LOCKED => Some("another connection holds it exclusively"),
            PRECONDITION_FAILED if said.contains("acknowledgement") => Some(
                "a message was held for longer than consumer_timeout of the broker: raise it above the time of the longest chunk, or lower export.chunk_rows",
            ),
            CONNECTION_FORCED => Some("an operator or a shutdown of the broker ended the connection"),
            _ => None,
        };
    }
    match error.kind() {
        ErrorKind::IOError(e) => io_remedy(e, said),
        ErrorKind::ParsingError(_) => {
            Some("the broker sent a frame that cannot be read: please report it with the broker's version")
        }
        ErrorKind::MissingHeartbeatError => {
            Some("the broker or the network hangs, or broker.heartbeat is too short")
        }
        _ => None,
    }
}

fn io_remedy(error: &io::Error, said: &str) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            return Some("is RabbitMQ running there, and is the port of broker.url right?");
        }
        io::ErrorKind::TimedOut => {
            return Some("a firewall may drop the packets; check host and port of broker.url");
        }
        _ => {}
    }
    let has = |word: &str| said.contains(word);
    if has("UnknownIssuer") {
        Some("its certificate is signed by an authority that is not trusted here: set broker.ca_file")
    } else if has("not valid for name") {
        Some("its certificate is for another host name: correct the host in broker.url")
    } else if has("alert: CertificateExpired") || has("alert: UnknownCA") || has("alert: BadCertificate") {
        Some("the broker does not accept our certificate: renew or replace broker.cert_file")
    } else if has("expired") || has("Expired") {
        Some("its certificate has expired: renew it there")
    } else if has("CertificateRequired") || has("HandshakeFailure") || has("certificate required") {
        Some("it wants a client certificate: set broker.cert_file and broker.key_file")
    } else if has("InvalidContentType") || has("corrupt message") {
        Some("that port does not speak TLS: use amqp:// or the port of amqps (5671)")
    } else if has("lookup") || has("resolve") {
        Some("the host name of broker.url is not known here")
    } else if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    ) {
        Some(
            "the broker closed the connection; its log says why (with amqps: does it want another broker.cert_file?)",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::AMQPError;

    fn protocol(code: u16, text: &str) -> lapin::Error {
        let error = AMQPError::from_id(code, text.into()).expect("a known code");
        ErrorKind::ProtocolError(error).into()
    }

    #[test]
    fn what_exists_already_serves_or_is_named() {
        let misfit = |text: &str| Misfit::read(&protocol(406, text)).expect("it differs");
        let stream = misfit(
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'p.work' in vhost '/': \
             received the value 'quorum' of type 'longstr' but current is the value 'stream' of type 'longstr'",
        );
        assert!(stream.of_queue().is_some_and(|why| why.contains("stream")));
        let classic = misfit(
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'p.work' in vhost '/': \
             received 'quorum' but current is 'classic'",
        );
        assert_eq!((classic.current.as_str(), classic.of_queue()), ("classic", None));
        let absent = misfit(
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '1' of type 'long'",
        );
        assert_eq!(absent.of_queue(), None);
        let exchange = |kind: &str| {
            misfit(&format!(
                "inequivalent arg 'type' for exchange 'p' in vhost '/': received 'direct' but current is '{kind}'"
            ))
        };
        assert!(exchange("fanout").of_exchange(&ExchangeKind::Direct).is_some());
        assert!(exchange("fanout").of_exchange(&ExchangeKind::Topic).is_some());
        assert_eq!(exchange("topic").of_exchange(&ExchangeKind::Direct), None);
        assert_eq!(exchange("x-random").of_exchange(&ExchangeKind::Direct), None);
        assert_eq!(Misfit::read(&protocol(403, "ACCESS_REFUSED")), None);
    }

    #[test]
    fn errors_name_the_remedy() {
        let text = |e: &lapin::Error| failed("connecting to amqp://h:5672", e).to_string();
        assert!(text(&protocol(403, "ACCESS_REFUSED - Login was refused using PLAIN")).contains("password"));
        assert!(text(&protocol(530, "NOT_ALLOWED - vhost x not found")).contains("%2f"));
        assert!(text(&protocol(404, "NOT_FOUND - no queue 'p.work'")).contains("broker.declare = true"));
        assert!(
            text(&protocol(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out"))
                .contains("consumer_timeout")
        );
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(text(&refused.into()).contains("running"));
    }
}
