//! Makes sessions: finds a node that answers, agrees on TLS, logs in.
//!
//! Hosts are tried in their order, the addresses of each in a random one, like the vendor's clients do. When a
//! server refuses the login, no other is tried: the user could be locked after a few wrong passwords.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::sqlstate::{Stage, undialled};
use super::authentication::{self, Asked};
use super::backend::{self, Key, Malformed, tag};
use super::frontend::{self, Client};
use super::input::{Fault, Link};
use super::{Canceller, Login, Session};
use crate::config::Advice;
use crate::config::dsn::{Host, Keepalive, Server};
use crate::source::dial::{Address, Dialer, Socket, Wire};
use crate::source::{ErrorKind, SourceError};

/// The system's TCP keepalive, with the defaults of `source/dial`.
const KEEPALIVE: Keepalive =
    Keepalive { on: true, idle: None, interval: None, count: None, user_timeout: None };
/// Longest LoadBalanceResponse: a port and a host name.
const LONGEST_NODE: usize = 1 << 10;

/// What the server told about the session.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub(super) key: Option<Key>,
    /// The version of the protocol.
    pub(super) protocol: u32,
    /// Whether it describes complex types.
    pub(super) complex: bool,
}

/// The first session that can be had.
pub(super) async fn open(login: &Login) -> Result<Session, SourceError> {
    check(login)?;
    let client = Client::here();
    let mut last = None;
    for (host, port) in &login.hosts {
        let server = Server { host: Some(Host::Tcp(host.clone())), address: None, port: *port };
        let what = format!("connect to {server}");
        let silent = || {
            let message = format!("{what}: no answer within {:?}", login.connect_timeout);
            SourceError::unreachable(message).with_remedy(Advice::Silence)
        };
        let dialer = Dialer::to(server.clone(), KEEPALIVE, login.tls.clone());
        let addresses = match timeout(login.connect_timeout, dialer.addresses()).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                last = Some(undialled(&error, &what));
                continue;
            }
            Err(_) => {
                last = Some(silent());
                continue;
            }
        };
        for address in addresses {
            let attempt = Attempt { login, client: &client, dialer: &dialer, what: &what };
            match timeout(login.connect_timeout, attempt.session(address)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(silent()),
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        SourceError::permanent("config", "the source names no host").with_remedy(Advice::Dsn)
    }))
}

/// Refuses what cannot be sent.
fn check(login: &Login) -> Result<(), SourceError> {
    let secret = match &login.secret {
        super::Credential::Password(password) => password.as_ref().map(|password| password.expose()),
        super::Credential::OAuthToken(token) => Some(token.expose()),
    };
    let texts = [("user", login.user.as_str()), ("database", &login.database), ("label", &login.label)];
    let secret = secret.map(|secret| ("password or token", secret));
    match texts.into_iter().chain(secret).find(|(_, text)| text.contains('\0')) {
        Some((name, _)) => {
            Err(SourceError::permanent("config", format!("the source's {name} has a zero byte")))
        }
        None => Ok(()),
    }
}

/// Whether another node would refuse the login too.
fn is_final(error: &SourceError) -> bool {
    match error.kind {
        ErrorKind::Authentication => true,
        ErrorKind::Permanent => !matches!(error.code.as_str(), "tls" | "protocol"),
        _ => false,
    }
}

/// One attempt to log in.
struct Attempt<'a> {
    login: &'a Login,
    client: &'a Client,
    dialer: &'a Dialer,
    what: &'a str,
}

impl Attempt<'_> {
    async fn session(&self, address: Address) -> Result<Session, SourceError> {
        let (wire, address) = self.wire(address).await?;
        let (link, greeting) = log_in(wire, self.login, self.client, self.what).await?;
        let canceller = Canceller::new(self.dialer.clone(), address, greeting.key);
        Ok(Session::new(link, &greeting, canceller))
    }

    /// A stream with TLS, if demanded, to the node that the server names, or to the address itself.
    async fn wire(&self, address: Address) -> Result<(Wire, Address), SourceError> {
        let failed = |error| undialled(&error, self.what);
        let mut socket = self.dialer.socket(&address).await.map_err(failed)?;
        if self.login.load_balance {
            let node =
                ask_for_node(&mut socket).await.map_err(|fault| fault.error(Stage::Connect, self.what))?;
            if let Some((host, port)) = node
                && let Some(other) = self.elsewhere(&address, &host, port).await
            {
                match timeout(self.login.connect_timeout / 2, self.dialer.open(&other)).await {
                    Ok(Ok(wire)) => return Ok((wire, other)),
                    // The first node waits, and takes the session.
                    Ok(Err(error)) => not_there(&host, port, &error),
                    Err(_) => not_there(&host, port, &"no answer in time"),
                }
            }
        }
        Ok((self.dialer.secure(socket, &address).await.map_err(failed)?, address))
    }

    /// The address of another node.
    async fn elsewhere(&self, here: &Address, host: &str, port: u16) -> Option<Address> {
        let found = timeout(self.login.connect_timeout / 4, lookup_host((host, port))).await;
        let socket = found.ok().and_then(Result::ok).and_then(|mut found| found.next())?;
        (here.tcp() != Some(socket)).then(|| here.behind(socket))
    }
}

/// Logs that the node which the server named is passed over.
fn not_there(host: &str, port: u16, why: &dyn fmt::Display) {
    tracing::warn!(host, port, error = %why, "the node that the server names cannot be used");
}

/// Asks which node takes the next session. It is asked before TLS, like the vendor's clients do.
async fn ask_for_node(socket: &mut Socket) -> Result<Option<(String, u16)>, Fault> {
    socket.write_all(&frontend::LOAD_BALANCE_REQUEST).await?;
    match socket.read_u8().await? {
        b'N' => Ok(None),
        tag::LOAD_BALANCE => {
            let length =
                (socket.read_u32().await? as usize).checked_sub(4).filter(|length| *length <= LONGEST_NODE);
            let length = length.ok_or(Malformed("a LoadBalanceResponse has an impossible length"))?;
            let mut body = [0; LONGEST_NODE];
            socket.read_exact(&mut body[..length]).await?;
            Ok(Some(backend::load_balance(&body[..length])?))
        }
        _ => Err(Fault::NotVertica),
    }
}

/// Sends Startup and answers what the server asks for, until it is ready for a query.
pub(super) async fn log_in<S>(
    stream: S,
    login: &Login,
    client: &Client,
    what: &str,
) -> Result<(Link<S>, Greeting), SourceError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let fault = |fault: Fault| fault.error(Stage::Connect, what);
    let mut link = Link::new(stream, login.stall);
    link.send(&frontend::startup(login, client)).await.map_err(fault)?;
    let mut greeting = Greeting { key: None, protocol: frontend::OLDEST_VERSION, complex: false };
    let (mut is_in, mut asks_for_complex) = (false, false);
    loop {
        let tag = link.next().await.map_err(fault)?;
        let malformed = |malformed: Malformed| fault(malformed.into());
        match tag {
            tag::AUTHENTICATION => {
                let asked = authentication::parse(link.body()).map_err(malformed)?;
                is_in |= asked == Asked::Nothing;
                if asked == Asked::NewPasswordSoon {
                    tracing::warn!(user = login.user, "the user's password expires soon; set a new one");
                }
                if let Some(answer) = authentication::answer(login, &asked, what)? {
                    link.send(&frontend::password(&answer)).await.map_err(fault)?;
                }
            }
            tag::KEY_DATA => greeting.key = Some(backend::key_data(link.body()).map_err(malformed)?),
            tag::PARAMETER_STATUS => {
                let (name, value) = backend::parameter_status(link.body()).map_err(malformed)?;
                match name {
                    "protocol_version" => greeting.protocol = spoken(value).map_err(malformed)?,
                    "request_complex_types" => asks_for_complex = value == "on",
                    _ => {}
                }
            }
            tag::NOTICE => note(link.body()),
            tag::ERROR => {
                let said = backend::said(link.body()).map_err(malformed)?;
                return Err(with_secret(said.error(Stage::Connect, what), &login.secret));
            }
            tag::READY if is_in => {
                link.pass();
                greeting.complex = asks_for_complex && greeting.protocol >= frontend::COMPLEX_TYPES;
                return Ok((link, greeting));
            }
            other => return Err(fault(Fault::Unexpected(backend::name_of(other)))),
        }
        link.pass();
    }
}

/// A refused login, with the remedy for what was shown: a password, or a token.
fn with_secret(error: SourceError, secret: &super::Credential) -> SourceError {
    match secret {
        super::Credential::OAuthToken(_) if error.remedy == Some(Advice::Login.into()) => {
            error.with_remedy(Advice::Token)
        }
        _ => error,
    }
}

/// The version that the server chose.
fn spoken(value: &str) -> Result<u32, Malformed> {
    let version = value.trim().parse().ok();
    let known = frontend::OLDEST_VERSION..=frontend::NEWEST_VERSION;
    version
        .filter(|version| known.contains(version))
        .ok_or(Malformed("the server chose a version that this client does not speak"))
}

/// Logs a notice, without its text: that may hold data.
pub(super) fn note(body: &[u8]) {
    if let Ok(said) = backend::said(body) {
        tracing::debug!(
            severity = said.severity,
            code = said.code,
            number = said.number,
            "the server gives a notice"
        );
    }
}

/// Limit for sending a last message.
pub(super) const LAST_WORD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[tokio::test]
    async fn a_server_that_is_not_vertica_is_named() {
        let (here, mut there) = tokio::net::UnixStream::pair().expect("a pair");
        // PostgreSQL answers with an ErrorResponse: an unsupported protocol.
        there.write_all(b"E").await.expect("written");
        let fault = ask_for_node(&mut Socket::Right(here)).await.expect_err("no Vertica");
        let error = fault.error(Stage::Connect, "connect to h");
        assert!(error.message.contains("not a Vertica server"), "{error}");
        assert_eq!(error.remedy, Some(Advice::NotVertica.into()));
    }

    #[test]
    fn a_refused_token_is_not_called_a_password() {
        let refused =
            || SourceError::authentication("28000", "connect to h: refused").with_remedy(Advice::Login);
        let token = super::super::Credential::OAuthToken(Secret::new("t".to_owned()));
        assert_eq!(with_secret(refused(), &token).remedy, Some(Advice::Token.into()));
        let password = super::super::Credential::Password(None);
        assert_eq!(with_secret(refused(), &password).remedy, Some(Advice::Login.into()));
    }
}
