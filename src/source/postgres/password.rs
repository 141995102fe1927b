//! Where the password of a source comes from. A file is read at each connect, so that a new password works without
//! a restart.

use std::path::PathBuf;

use crate::config::{Advice, PostgresConfig, Secret};
use crate::source::SourceError;

/// Where the password comes from.
#[derive(Clone, Debug)]
pub(super) enum Password {
    /// In the DSN, or not needed: trust, peer, a client certificate.
    AsInDsn,
    Given(Secret),
    File(PathBuf),
}

impl Password {
    pub(super) fn of(config: &PostgresConfig) -> Self {
        match (&config.password_file, &config.password) {
            (Some(path), _) => Self::File(path.clone()),
            (None, Some(secret)) => Self::Given(secret.clone()),
            (None, None) => Self::AsInDsn,
        }
    }

    /// The password for the next connection, if it is not in the DSN.
    pub(super) async fn read(&self) -> Result<Option<String>, SourceError> {
        match self {
            Self::AsInDsn => Ok(None),
            Self::Given(secret) => Ok(Some(secret.expose().to_owned())),
            Self::File(path) => {
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || crate::text::read_secret(&file)).await;
                read.map_err(std::io::Error::other).flatten().map(Some).map_err(|e| {
                    SourceError::authentication(
                        "password_file",
                        format!("cannot read the password from {}: {e}", path.display()),
                    )
                    .with_remedy(Advice::PasswordFile)
                })
            }
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
        let missing = password.read().await.expect_err("no file yet");
        assert_eq!(missing.kind, ErrorKind::Authentication);
        for secret in ["one", "two "] {
            std::fs::write(&path, format!("{secret}\n")).expect("written");
            assert_eq!(password.read().await.expect("read"), Some(secret.to_owned()));
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
