//! The effective settings of a connection, each with its place, to show them. No secret is among them.

use super::{PostgresConfig, SourceKind};
use crate::config::dsn::{Place, Setting, TlsDemand, Unread};

/// How a source is reached.
#[derive(Clone, Default)]
pub struct Effective {
    /// The settings.
    pub settings: Vec<Setting>,
    /// What was looked for and is not used.
    pub notes: Vec<String>,
}

impl SourceKind {
    /// The effective settings of the connection. A source of Vertica has only those of its section.
    #[must_use]
    pub fn effective(&self) -> Effective {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => server.effective(),
            Self::Vertica(_) => Effective::default(),
        }
    }
}

impl PostgresConfig {
    fn effective(&self) -> Effective {
        let Ok(target) = &self.target else { return Effective::default() };
        let (dsn, mut settings, mut notes) = (&target.dsn, target.settings.clone(), Vec::new());
        let mut set = |keyword, value: Option<String>, place| {
            settings.retain(|setting| setting.keyword != keyword);
            settings.push(Setting { keyword, value, place });
        };
        if let Some(file) = &self.ca_file {
            set("sslrootcert", Some(file.display().to_string()), Place::Key("ca_file"));
        }
        if self.password.is_some() {
            set("password", None, Place::Key("password"));
        } else if self.password_file.is_some() {
            set("password", None, Place::Key("password_file"));
        } else if let Some(passfile) = &dsn.passfile {
            let found = passfile.read().map(|passwords| {
                dsn.servers.iter().any(|server| passwords.find(server, &dsn.database, &dsn.user).is_some())
            });
            match found {
                Ok(true) => set("password", None, Place::Passfile(passfile.path().display().to_string())),
                Ok(false) | Err(Unread::Missing(_)) => {}
                Err(unread) => notes.push(unread.to_string()),
            }
        }
        let mut usual = |keyword, value: &str| {
            if !settings.iter().any(|setting| setting.keyword == keyword) {
                settings.push(Setting { keyword, value: Some(value.into()), place: Place::Usual });
            }
        };
        usual("port", &dsn.servers[0].port.to_string());
        if dsn.tls.demand == TlsDemand::Prefer {
            usual("sslmode", "prefer");
        }
        settings.sort_by_key(|setting| setting.keyword);
        Effective { settings, notes }
    }
}
