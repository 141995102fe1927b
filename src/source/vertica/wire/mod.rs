//! The client: it speaks Vertica's own protocol, as far as an export needs it.
//!
//! Vertica publishes no description of its protocol. Its own clients are public, and each part of this module
//! follows them. Paths below are in `vertica-python` (`vertica_python/vertica/`), `vertica-sql-go` and
//! `vertica-nodejs` (`packages/`):
//!
//! | part | vertica-python | the others |
//! | --- | --- | --- |
//! | frames: type, length, body | `messages/message.py`, `connection.py: read_message` | `connection.go: recvMessage`, `v-protocol/src/parser.ts` |
//! | TLS, load balancing before it | `connection.py: enable_ssl, balance_load`, `messages/backend_messages/load_balance_response.py` | `connection.go: initializeSSL, balanceLoad` |
//! | several hosts in turn | `connection.py: establish_socket_connection` | `connection.go: establishSocketConnection` |
//! | startup, protocol version | `messages/frontend_messages/startup.py`, `messages/backend_messages/parameter_status.py` | `msgs/festartupmsg.go`, `vertica-nodejs/lib/client.js: _handleParameterStatus` |
//! | authentication | `messages/backend_messages/authentication.py`, `messages/frontend_messages/password.py` | `connection.go: authSend…`, `vertica-nodejs/lib/utils.js` |
//! | errors and notices | `mixins/notice_response_attr.py` | `msgs/beerrormsg.go` |
//! | simple query | `cursor.py: _execute_simple_query` | `stmt.go: runSimpleStatement` |
//! | columns of a result | `messages/backend_messages/row_description.py`, `datatypes.py` | `msgs/berowdescmsg.go` |
//! | rows | `messages/backend_messages/data_row.py` | `msgs/bedatarowmsg.go` |
//! | cancel by key | `messages/frontend_messages/cancel_request.py` | `stmt.go: QueryContextRaw` |
//!
//! All results are binary (`binary_data_protocol` at startup), and a DataRow's body is byte for byte a tuple of
//! PostgreSQL's binary COPY. So the rows of a big result leave this module as such a COPY, and `source/decode`
//! reads them.
//!
//! This module promises: no bytes of a server cause a panic, nothing is allocated for a length before its bytes
//! have arrived, a result ends successfully only after the server has said so, secrets are in no error and in
//! no Debug form, and each wait has a limit. A future may be dropped at any time, e.g. because its chunk is
//! cancelled; the session is then healthy only if nothing was under way.

use std::time::Duration;

use super::sqlstate::Stage;
use crate::config::Secret;
use crate::source::dial::tls::Security;

mod answer;
mod authentication;
mod backend;
mod cancel;
mod description;
mod frontend;
mod input;
mod login;
mod rows;
mod session;
#[cfg(test)]
mod tests;

pub(super) use self::answer::{Answer, Row};
use self::cancel::Canceller;
pub(super) use self::description::{Described, Description, oid};
pub(super) use self::session::Session;

/// Where and as whom to log in. Its Debug form shows no secret.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Names or addresses, with their ports, in the order in which to try them. At least one.
    pub(super) hosts: Vec<(String, u16)>,
    /// The database; empty for the server's own.
    pub(super) database: String,
    /// The user; may be empty with an OAuth token.
    pub(super) user: String,
    /// What proves that we are this user.
    pub(super) secret: Credential,
    /// TLS.
    pub(super) tls: Security,
    /// The session's label (`client_label`), shown in `v_monitor.sessions`.
    pub(super) label: String,
    /// Whether the server may name another node to connect to.
    pub(super) load_balance: bool,
    /// Limit for each address, login included.
    pub(super) connect_timeout: Duration,
    /// Longest time without a byte from the server while it owes us something.
    pub(super) stall: Duration,
}

/// What proves who the user is.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// A password, if the user has one.
    Password(Option<Secret>),
    /// An OAuth access token.
    OAuthToken(Secret),
}

/// A statement, and what its errors say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement<'a> {
    /// One statement, without a semicolon.
    pub(super) sql: &'a str,
    /// What is being done: the same SQLSTATE means different things at different stages.
    pub(super) stage: Stage,
    /// Action and object: "read public.orders".
    pub(super) what: &'a str,
}
