//! The effective settings of a connection, each with its place, to show them. No secret is among them.

use std::path::Path;

use super::{PostgresConfig, SourceKind};
use crate::config::dsn::{Dsn, Place, Server, Setting, TlsDemand, Unread};

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
        // What is effective: there is no TLS on sockets, `allow` is taken for `prefer`, and a system's bundle of CAs
        // demands more than is usual.
        let demand = dsn.tls.demand.as_str();
        usual("sslmode", demand);
        for setting in settings.iter_mut().filter(|setting| setting.keyword == "sslmode") {
            setting.value = Some(demand.into());
            if dsn.servers.iter().all(Server::is_local) {
                setting.place = Place::Socket;
            }
        }
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        notes.extend(
            home.iter().flat_map(|home| unused(&home.join(".postgresql"), dsn, self.ca_file.is_some())),
        );
        settings.sort_by_key(|setting| setting.keyword);
        Effective { settings, notes }
    }
}

/// Files in the user's directory that libpq reads by itself, and that would matter here if somebody named them.
fn unused(directory: &Path, dsn: &Dsn, has_ca: bool) -> Vec<String> {
    if dsn.tls.demand == TlsDemand::Disable {
        return Vec::new();
    }
    let files = [
        ("root.crt", "name it by sslrootcert or ca_file", !has_ca && dsn.tls.roots.is_none()),
        ("postgresql.crt", "name it by sslcert, and its key by sslkey", dsn.tls.client_cert.is_none()),
        ("root.crl", "lists of revoked certificates are not supported", true),
    ];
    let there = files.into_iter().filter(|(file, _, matters)| *matters && directory.join(file).exists());
    there
        .map(|(file, remedy, _)| {
            format!("{} is not read by itself, as psql does: {remedy}", directory.join(file).display())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn kind(dsn: &str) -> SourceKind {
        let text = format!("[export]\nroot = \"/data\"\n[sources.w]\nkind = \"postgres\"\ndsn = \"{dsn}\"");
        let config = Config::parse(&text, []).expect("valid");
        config.sources.into_values().next().expect("a source").kind
    }

    #[test]
    fn the_effective_sslmode_is_shown_with_its_place() {
        for (dsn, shown, from) in [
            ("host=h user=u dbname=d", "prefer", "default"),
            ("host=h user=u dbname=d sslmode=allow", "prefer", "dsn"),
            ("host=h user=u dbname=d sslmode=verify-ca", "verify-ca", "dsn"),
            ("host=h user=u dbname=d sslrootcert=system", "verify-full", "default"),
            ("host=h,/run user=u dbname=d sslmode=require", "require", "dsn"),
            ("host=/run user=u dbname=d", "disable", "the Unix socket, which needs no TLS"),
            (
                "host=/run user=u dbname=d sslmode=verify-full",
                "disable",
                "the Unix socket, which needs no TLS",
            ),
        ] {
            let found = kind(dsn).effective().settings;
            let modes: Vec<_> = found.iter().filter(|setting| setting.keyword == "sslmode").collect();
            let [mode] = modes[..] else { panic!("{dsn}: {} values", modes.len()) };
            assert_eq!(
                (mode.value.as_deref(), mode.place.to_string().as_str()),
                (Some(shown), from),
                "{dsn}"
            );
        }
    }

    #[test]
    fn files_that_only_psql_reads_are_told_where_they_would_matter() {
        let home = std::env::temp_dir().join(format!("adu-effective-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).expect("made");
        let told = |dsn: &str, has_ca| {
            let SourceKind::Postgres(server) = kind(dsn) else { panic!("another kind") };
            unused(&home, &server.target.expect("valid").dsn, has_ca).join("\n")
        };
        assert_eq!(told("host=h user=u dbname=d", false), "");
        for file in ["root.crt", "postgresql.crt", "postgresql.key"] {
            std::fs::write(home.join(file), "").expect("written");
        }
        let all = told("host=h user=u dbname=d", false);
        assert!(
            all.contains("root.crt is not read by itself") && all.contains("postgresql.crt is not"),
            "{all}"
        );
        let cert = told("host=h user=u dbname=d sslrootcert=/x", false);
        assert!(!cert.contains("root.crt") && cert.contains("postgresql.crt"), "{cert}");
        assert!(!told("host=h user=u dbname=d", true).contains("root.crt"));
        assert!(!told("host=h user=u dbname=d sslcert=/x sslkey=/y", false).contains("postgresql.crt"));
        for dsn in ["host=/run user=u dbname=d", "host=h user=u dbname=d sslmode=disable"] {
            assert_eq!(told(dsn, false), "", "{dsn}");
        }
        std::fs::remove_dir_all(home).expect("removed");
    }
}
