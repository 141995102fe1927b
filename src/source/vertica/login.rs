//! Where and as whom sessions log in, from the configuration. Files with secrets are read for each session, so
//! that a new password works without a restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::{Credential, Login};
use crate::config::{Advice, Origin, Secret, SourceConfig, VerticaConfig};
use crate::message::SourceName;
use crate::source::SourceError;
use crate::source::dial::tls::Security;

/// The label of our sessions, unless the DSN sets `application_name`.
const LABEL: &str = "adu-export";

/// Where the secret comes from.
#[derive(Clone, Debug)]
enum SecretPlace {
    Given(Option<Secret>),
    PasswordFile(PathBuf),
    TokenFile(PathBuf),
}

/// What every login of a source has in common.
pub(super) struct Logins {
    login: Login,
    secret: SecretPlace,
    /// The first host, for messages.
    server: String,
}

impl Logins {
    /// Reads the connection string and the certificates that it needs.
    pub(super) fn new(
        name: &SourceName,
        config: &SourceConfig,
        server: &VerticaConfig,
    ) -> Result<Self, SourceError> {
        let invalid = |advice: Advice, cause: &dyn fmt::Display| {
            SourceError::permanent(
                "config",
                match (config.origin, advice) {
                    (Origin::CommandLine, _) => format!("--dsn: {cause}"),
                    (Origin::Configuration, Advice::Dsn) => format!("sources.{name}.dsn: {cause}"),
                    (Origin::Configuration, _) => format!("sources.{name}: {cause}"),
                },
            )
            .with_remedy(advice)
        };
        let dsn = server.parsed().map_err(|e| invalid(Advice::Dsn, &e))?;
        let tls = Security::new(&dsn.tls, server.ca_file.as_deref())
            .map_err(|e| invalid(Advice::Certificates, &e))?;
        let backups = server
            .backups()
            .map_err(|entry| invalid(Advice::Address, &format!("backup_hosts: {entry:?} is no host")))?;
        if dsn.servers.iter().any(crate::config::dsn::Server::is_local) {
            return Err(invalid(Advice::Dsn, &"Vertica has no Unix sockets: name a host"));
        }
        let hosts = dsn.servers.iter().map(|server| {
            (server.address.map_or_else(|| server.name(), |address| address.to_string()), server.port)
        });
        let in_dsn =
            dsn.password.as_deref().map(|bytes| Secret::new(String::from_utf8_lossy(bytes).into_owned()));
        let secret = match (&server.oauth_token_file, &server.password_file, &server.password) {
            (Some(path), _, _) => SecretPlace::TokenFile(path.clone()),
            (None, Some(path), _) => SecretPlace::PasswordFile(path.clone()),
            (None, None, given) => SecretPlace::Given(given.clone().or(in_dsn)),
        };
        let login = Login {
            hosts: hosts.chain(backups).collect(),
            database: dsn.database.clone(),
            user: dsn.user.clone(),
            secret: Credential::Password(None),
            tls,
            label: dsn.application_name.clone().unwrap_or_else(|| LABEL.into()),
            load_balance: server.load_balance,
            connect_timeout: dsn.connect_timeout.unwrap_or(server.connect_timeout.0),
            stall: config.stall_timeout().0,
        };
        Ok(Self { login, secret, server: dsn.server() })
    }

    /// The first host, for messages.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Longest time without a byte.
    pub(super) fn stall(&self) -> Duration {
        self.login.stall
    }

    /// The next login, with the secret as it is now.
    pub(super) async fn next(&self) -> Result<Login, SourceError> {
        let secret = match &self.secret {
            SecretPlace::Given(password) => Credential::Password(password.clone()),
            SecretPlace::PasswordFile(path) => {
                Credential::Password(Some(read(path, "password_file", "the password").await?))
            }
            SecretPlace::TokenFile(path) => {
                Credential::OAuthToken(read(path, "oauth_token_file", "the OAuth token").await?)
            }
        };
        Ok(Login { secret, ..self.login.clone() })
    }
}

async fn read(path: &Path, code: &str, what: &str) -> Result<Secret, SourceError> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || crate::text::read_secret(&file)).await;
    read.map_err(std::io::Error::other).flatten().map(Secret::new).map_err(|e| {
        SourceError::authentication(code, format!("cannot read {what} from {}: {e}", path.display()))
            .with_remedy(Advice::PasswordFile)
    })
}
