//! Messages of the server, except those with columns and rows. Lengths in them are not trusted.
//!
//! Source: `messages/backend_messages/` of `vertica-python`, and `v-protocol/src/parser.ts` of
//! `vertica-nodejs`, which lists all types.

use super::super::sqlstate::Said;

/// Types of messages. The first byte of a message is its type.
pub(super) mod tag {
    pub(in super::super) const PARSE_COMPLETE: u8 = b'1';
    pub(in super::super) const COMMAND_COMPLETE: u8 = b'C';
    pub(in super::super) const DATA_ROW: u8 = b'D';
    pub(in super::super) const ERROR: u8 = b'E';
    pub(in super::super) const VERIFY_FILES: u8 = b'F';
    pub(in super::super) const COPY_IN: u8 = b'G';
    pub(in super::super) const LOAD_FILE: u8 = b'H';
    pub(in super::super) const EMPTY_QUERY: u8 = b'I';
    pub(in super::super) const KEY_DATA: u8 = b'K';
    pub(in super::super) const NOTICE: u8 = b'N';
    pub(in super::super) const WRITE_FILE: u8 = b'O';
    pub(in super::super) const AUTHENTICATION: u8 = b'R';
    pub(in super::super) const PARAMETER_STATUS: u8 = b'S';
    pub(in super::super) const ROW_DESCRIPTION: u8 = b'T';
    pub(in super::super) const LOAD_BALANCE: u8 = b'Y';
    pub(in super::super) const READY: u8 = b'Z';
    pub(in super::super) const COPY_DONE: u8 = b'c';
    pub(in super::super) const COMMAND_DESCRIPTION: u8 = b'm';
}

/// The name of a message that is not expected, for errors.
pub(super) fn name_of(tag: u8) -> &'static str {
    match tag {
        tag::PARSE_COMPLETE => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        tag::COMMAND_COMPLETE => "CommandComplete",
        tag::DATA_ROW => "DataRow",
        tag::ERROR => "ErrorResponse",
        tag::VERIFY_FILES => "VerifyFiles",
        tag::COPY_IN => "CopyInResponse",
        tag::LOAD_FILE => "LoadFile",
        tag::EMPTY_QUERY => "EmptyQueryResponse",
        b'J' => "EndOfBatchResponse",
        tag::KEY_DATA => "BackendKeyData",
        tag::NOTICE => "NoticeResponse",
        tag::WRITE_FILE => "WriteFile",
        tag::AUTHENTICATION => "Authentication",
        tag::PARAMETER_STATUS => "ParameterStatus",
        tag::ROW_DESCRIPTION => "RowDescription",
        tag::LOAD_BALANCE => "LoadBalanceResponse",
        tag::READY => "ReadyForQuery",
        tag::COPY_DONE => "CopyDoneResponse",
        tag::COMMAND_DESCRIPTION => "CommandDescription",
        b'n' => "NoData",
        b's' => "PortalSuspended",
        b't' => "ParameterDescription",
        _ => "a message of an unknown type",
    }
}

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("a message of the server ends too early");
const NO_TEXT: Malformed = Malformed("a text in a message of the server is not UTF-8");

/// Steps through the body of a message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.bytes().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.bytes().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_be_bytes)
    }

    /// Bytes up to a zero byte, which is skipped.
    fn until_zero(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(bytes)
    }

    /// A text that ends with a zero byte.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.until_zero()?).map_err(|_| NO_TEXT)
    }

    /// So many bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Process and secret key of a session. The server takes them as the right to cancel its statements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) process: u32,
    pub(super) secret: u32,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("process", &self.process).finish_non_exhaustive()
    }
}

/// BackendKeyData.
pub(super) fn key_data(body: &[u8]) -> Result<Key, Malformed> {
    let mut reader = Reader::new(body);
    Ok(Key { process: reader.u32()?, secret: reader.u32()? })
}

/// ParameterStatus: name and value.
pub(super) fn parameter_status(body: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut reader = Reader::new(body);
    Ok((reader.text()?, reader.text()?))
}

/// ErrorResponse or NoticeResponse. Its texts need not be UTF-8.
pub(super) fn said(body: &[u8]) -> Result<Said, Malformed> {
    let mut reader = Reader::new(body);
    let mut said = Said::default();
    while !reader.is_done() {
        let field = reader.u8()?;
        if field == 0 {
            break;
        }
        let text = String::from_utf8_lossy(reader.until_zero()?);
        match field {
            b'S' => said.severity = text.into_owned(),
            b'C' => said.code = text.into_owned(),
            b'M' => said.message = text.into_owned(),
            b'V' => said.number = text.trim().parse().ok(),
            // Detail, hint, position and places in the server's source. Details may hold rows.
            _ => {}
        }
    }
    Ok(said)
}

/// LoadBalanceResponse: the node to connect to.
pub(super) fn load_balance(body: &[u8]) -> Result<(String, u16), Malformed> {
    let mut reader = Reader::new(body);
    let port = u16::try_from(reader.u32()?).map_err(|_| Malformed("the server names an impossible port"))?;
    Ok((reader.text()?.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_have_severity_state_number_and_message() {
        let body = b"SERROR\0C42V01\0MRelation \"x\" does not exist\0Drow 1\0V4566\0Fa.cpp\0\0";
        let found = said(body).expect("well-formed");
        assert_eq!((found.severity.as_str(), found.code.as_str()), ("ERROR", "42V01"));
        assert_eq!((found.number, found.message.as_str()), (Some(4566), "Relation \"x\" does not exist"));
        // Some texts of old servers are not UTF-8.
        assert_eq!(said(b"M\xff\0\0").expect("well-formed").message, "\u{fffd}");
        assert_eq!(said(b"SERROR\0").expect("without the last zero").severity, "ERROR");
        assert_eq!(said(b"SERR"), Err(SHORT));
    }

    #[test]
    fn keys_are_not_shown() {
        let key = key_data(&[0, 0, 0, 9, 0, 0, 4, 0xd2]).expect("well-formed");
        assert_eq!((key.process, key.secret), (9, 1234));
        assert_eq!(format!("{key:?}"), "Key { process: 9, .. }");
    }

    proptest! {
        #[test]
        fn no_body_causes_a_panic(body: Vec<u8>) {
            let _ = (key_data(&body), parameter_status(&body), said(&body), load_balance(&body));
        }
    }
}
