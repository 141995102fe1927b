//! Where the password of a source comes from. A file is read at each connect, so that a new password works without
//! a restart.

use std::path::PathBuf;
use std::sync::Once;

use tracing::warn;

use crate::config::dsn::{Passfile, Passwords, Resolved, Server, Unread};
use crate::config::{Advice, PostgresConfig, Secret};
use crate::source::SourceError;

/// Where the password comes from.
#[derive(Debug)]
pub(super) enum Password {
    /// In the DSN, or not needed: trust, peer, a client certificate.
    AsInDsn,
    Given(Secret),
    File(PathBuf),
    /// Perhaps in a `.pgpass`.
    Passfile {
        file: Passfile,
        warned: Once,
    },
}

/// The passwords for the next connection.
pub(super) enum Secrets {
    AsInDsn,
    One(String),
    /// The lines of a `.pgpass`, and its name.
    Lines(Passwords, String),
    /// There is a `.pgpass`, and it is not read.
    Unread(Unread),
}

impl Password {
    pub(super) fn of(config: &PostgresConfig, target: &Resolved) -> Self {
        match (&config.password_file, &config.password, &target.dsn.passfile) {
            (Some(path), _, _) => Self::File(path.clone()),
            (None, Some(secret), _) => Self::Given(secret.clone()),
            (None, None, Some(file)) => Self::Passfile { file: file.clone(), warned: Once::new() },
            (None, None, None) => Self::AsInDsn,
        }
    }

    /// The passwords for the next connection.
    pub(super) async fn read(&self) -> Result<Secrets, SourceError> {
        match self {
            Self::AsInDsn => Ok(Secrets::AsInDsn),
            Self::Given(secret) => Ok(Secrets::One(secret.expose().to_owned())),
            Self::File(path) => {
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || crate::text::read_secret(&file)).await;
                read.map_err(std::io::Error::other).flatten().map(Secrets::One).map_err(|e| {
                    SourceError::authentication(
                        "password_file",
                        format!("cannot read the password from {}: {e}", path.display()),
                    )
                    .with_remedy(Advice::PasswordFile)
                })
            }
            Self::Passfile { file, warned } => {
                let (passfile, name) = (file.clone(), file.path().display().to_string());
                let read = tokio::task::spawn_blocking(move || passfile.read()).await;
                Ok(match read.unwrap_or_else(|_| Err(Unread::Missing(name.clone()))) {
                    Ok(passwords) => Secrets::Lines(passwords, name),
                    Err(Unread::Missing(_)) => Secrets::AsInDsn,
                    Err(unread) => {
                        warned.call_once(|| warn!(reason = %unread, "a .pgpass is not used"));
                        Secrets::Unread(unread)
                    }
                })
            }
        }
    }
}

impl Secrets {
    /// Sets the password for one server.
    pub(super) fn give(&self, config: &mut tokio_postgres::Config, server: &Server) {
        match self {
            Self::AsInDsn | Self::Unread(_) => {}
            Self::One(password) => drop(config.password(password)),
            Self::Lines(passwords, _) => {
                let login = (config.get_dbname().unwrap_or_default(), config.get_user().unwrap_or_default());
                if let Some(password) = passwords.find(server, login.0, login.1).filter(|p| !p.is_empty()) {
                    config.password(password);
                }
            }
        }
    }

    /// What a refused login should know about a `.pgpass`.
    pub(super) fn remark(&self, was_given: bool) -> Option<String> {
        match self {
            Self::AsInDsn | Self::One(_) => None,
            Self::Lines(_, name) if was_given => Some(format!("the password is that of {name}")),
            Self::Lines(_, name) => Some(format!("no line of {name} has a password for this login")),
            Self::Unread(unread) => Some(unread.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ErrorKind;

    #[tokio::test]
    async fn the_password_file_is_read_anew_each_time() {
        let path = std::env::temp_dir().join(format!("adu-password-{}", uuid::Uuid::new_v4()));
        let password = Password::File(path.clone());
        let Err(missing) = password.read().await else { panic!("no file yet") };
        assert_eq!(missing.kind, ErrorKind::Authentication);
        for secret in ["one", "two "] {
            std::fs::write(&path, format!("{secret}\n")).expect("written");
            let Ok(Secrets::One(read)) = password.read().await else { panic!("it is there") };
            assert_eq!(read, secret);
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
