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
        let hosts = dsn.servers.iter().map(|server| (server.name(), server.port));
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

    /// Longest time to connect, log in and set up a session, for each host.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.login.connect_timeout
    }

    /// The next login, with the secret as it is now.
    pub(super) async fn next(&self) -> Result<Login, SourceError> {
        let secret = match &self.secret {
            SecretPlace::Given(password) => Credential::Password(password.clone()),
            SecretPlace::PasswordFile(path) => {
                Credential::Password(Some(read(path, "the password", Advice::PasswordFile).await?))
            }
            SecretPlace::TokenFile(path) => {
                Credential::OAuthToken(read(path, "the OAuth token", Advice::TokenFile).await?)
            }
        };
        Ok(Login { secret, ..self.login.clone() })
    }
}

async fn read(path: &Path, what: &str, advice: Advice) -> Result<Secret, SourceError> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || crate::text::read_secret(&file)).await;
    read.map_err(std::io::Error::other).flatten().map(Secret::new).map_err(|e| {
        let message = format!("cannot read {what} from {}: {e}", path.display());
        SourceError::authentication("secret_file", message).with_remedy(advice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceKind;

    fn logins(toml: &str) -> Result<Logins, SourceError> {
        let config: SourceConfig = toml::from_str(toml).expect("a section");
        let SourceKind::Vertica(server) = &config.kind else { panic!("another kind") };
        Logins::new(&SourceName::parse("w").expect("valid"), &config, server)
    }

    #[tokio::test]
    async fn hosts_come_from_dsn_and_backups_and_files_are_read_anew() {
        let path = std::env::temp_dir().join(format!("adu-token-{}", uuid::Uuid::new_v4()));
        let logins = logins(&format!(
            "kind = \"vertica\"\ndsn = \"vertica://u@n1,[::1]:5434/d?application_name=nightly&connect_timeout=3\"\n\
             backup_hosts = [\"n2\"]\noauth_token_file = {path:?}\nload_balance = false"
        ))
        .expect("valid");
        let missing = logins.next().await.expect_err("no file yet");
        assert_eq!(missing.remedy, Some(Advice::TokenFile.into()));
        for token in ["one", "two"] {
            std::fs::write(&path, format!("{token}\n")).expect("written");
            let login = logins.next().await.expect("read");
            assert!(matches!(&login.secret, Credential::OAuthToken(read) if read.expose() == token));
            let hosts: Vec<(&str, u16)> = login.hosts.iter().map(|(h, p)| (h.as_str(), *p)).collect();
            assert_eq!(hosts, [("n1", 5433), ("::1", 5434), ("n2", 5433)]);
            assert_eq!((login.label.as_str(), login.load_balance), ("nightly", false));
            assert_eq!(login.connect_timeout, Duration::from_secs(3));
        }
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_bad_connection_string_names_the_field_and_not_the_password() {
        let bad = "kind = \"vertica\"\ndsn = \"vertica://u:geheim@h/d?sslmode=maybe\"";
        let Err(error) = logins(bad) else { panic!("accepted") };
        assert!(error.message.starts_with("sources.w.dsn:"), "{error}");
        assert!(!error.message.contains("geheim"));
        let socket = "kind = \"vertica\"\ndsn = \"host=/run/vertica user=u dbname=d\"";
        let Err(error) = logins(socket) else { panic!("accepted") };
        assert!(error.message.contains("Unix sockets"), "{error}");
    }
}
