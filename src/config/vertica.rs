//! `[sources.<name>]` of the kind `vertica`.

use std::path::PathBuf;

use super::Secret;
use super::dsn::{Dsn, InvalidDsn, TlsDemand, VERTICA_PORT};
use crate::message::setting::Span;

/// How to reach a Vertica database.
#[derive(Clone, Debug, PartialEq)]
pub struct VerticaConfig {
    /// `vertica://user@host/database?sslmode=verify-full`; may hold a password.
    pub dsn: Secret,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password. It is read again for each connection.
    pub password_file: Option<PathBuf>,
    /// A file with an OAuth access token, in place of a password. It is read again for each connection.
    pub oauth_token_file: Option<PathBuf>,
    /// CA certificates (PEM) to verify the server; if not set, `sslrootcert` of the DSN applies.
    pub ca_file: Option<PathBuf>,
    /// Other hosts to try, as `host` or `host:port`, after those of the DSN.
    pub backup_hosts: Vec<String>,
    /// Whether the server may send a connection to another node.
    pub load_balance: bool,
    /// The resource pool of the sessions; if not set, the user's own.
    pub resource_pool: Option<String>,
    /// Longest wait for a connection, unless the DSN sets `connect_timeout`.
    pub connect_timeout: Span,
    /// Whether `max_parallel` is not set, so that the number of nodes limits the chunks at once.
    pub by_nodes: bool,
}

impl VerticaConfig {
    /// The parsed connection string.
    ///
    /// # Errors
    /// Says what is wrong with it, without its text.
    pub fn parsed(&self) -> Result<Dsn, InvalidDsn> {
        Dsn::of_vertica(self.dsn.expose())
    }

    /// The hosts of `backup_hosts` with their ports.
    ///
    /// # Errors
    /// The entry that is neither `host` nor `host:port`.
    pub fn backups(&self) -> Result<Vec<(String, u16)>, &str> {
        self.backup_hosts.iter().map(|entry| backup(entry).ok_or(entry.as_str())).collect()
    }

    /// What is wrong with its settings, by key.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let dsn = self.parsed().err().map(|error| ("dsn", error.to_string()));
        let given = [self.password.is_some(), self.password_file.is_some(), self.oauth_token_file.is_some()];
        let both = given.into_iter().filter(|given| *given).count() > 1;
        let password =
            both.then(|| ("password", "set one of password, password_file and oauth_token_file".to_owned()));
        let backups = self.backups().err().map(|entry| {
            (
                "backup_hosts",
                format!("{entry:?} is no host; write \"node2.example\" or \"node2.example:5433\""),
            )
        });
        let pool = self.resource_pool.as_ref().filter(|pool| pool.is_empty() || pool.contains('\0'));
        let pool = pool.map(|_| ("resource_pool", "name a resource pool, or leave it out".to_owned()));
        let plain =
            self.parsed().is_ok_and(|dsn| matches!(dsn.tls.demand, TlsDemand::Disable | TlsDemand::Prefer));
        let token = (plain && self.oauth_token_file.is_some()).then(|| {
            let why = "a token must not travel without TLS: set sslmode of the dsn to verify-full (or at least require)";
            ("oauth_token_file", why.to_owned())
        });
        dsn.into_iter().chain(password).chain(backups).chain(pool).chain(token).collect()
    }
}

fn backup(entry: &str) -> Option<(String, u16)> {
    let plain = |host: &str| {
        let fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        !host.is_empty() && host.chars().all(fine)
    };
    let (host, port) = match entry.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']')?;
            match rest {
                "" => (host, VERTICA_PORT),
                port => (host, port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?),
            }
        }
        None => match entry.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (entry, VERTICA_PORT),
        },
    };
    plain(host).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceConfig, SourceKind};

    fn vertica(toml: &str) -> VerticaConfig {
        let section: SourceConfig = toml::from_str(toml).expect("valid");
        let SourceKind::Vertica(server) = section.kind else { panic!("another kind") };
        server
    }

    const SMALLEST: &str = "kind = \"vertica\"\ndsn = \"vertica://u@h/d\"\n";

    #[test]
    fn a_section_has_its_own_port_and_kind() {
        let server = vertica(SMALLEST);
        let dsn = server.parsed().expect("valid");
        assert_eq!((dsn.servers[0].port, dsn.user.as_str(), dsn.database.as_str()), (5433, "u", "d"));
        assert!(server.load_balance && server.by_nodes && server.problems().is_empty());
        let server = vertica(&format!("{SMALLEST}max_parallel = 7\nload_balance = false"));
        assert!(!server.load_balance && !server.by_nodes);
    }

    #[test]
    fn backup_hosts_may_have_ports() {
        let server = vertica(&format!(
            "{SMALLEST}backup_hosts = [\"n2\", \"n3:5434\", \"[fe80::1]:5435\", \"[::1]\"]"
        ));
        let expected = [("n2", 5433), ("n3", 5434), ("fe80::1", 5435), ("::1", 5433)];
        assert_eq!(server.backups().expect("valid"), expected.map(|(host, port)| (host.to_owned(), port)));
        for bad in ["", "a b", "h:0", "h:x", "[::1", "u@h"] {
            let server = VerticaConfig { backup_hosts: vec![bad.into()], ..server.clone() };
            assert_eq!(server.problems()[0].0, "backup_hosts", "{bad}");
        }
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for (mode, fine) in [
            ("", false),
            ("?sslmode=prefer", false),
            ("?sslmode=disable", false),
            ("?sslmode=require", true),
            ("?sslmode=verify-full", true),
        ] {
            let toml =
                format!("kind = \"vertica\"\ndsn = \"vertica://u@h/d{mode}\"\noauth_token_file = \"/b\"");
            let problems = vertica(&toml).problems();
            assert_eq!(problems.is_empty(), fine, "{mode}");
            assert!(problems.iter().all(|(field, _)| *field == "oauth_token_file"), "{problems:?}");
        }
    }

    #[test]
    fn one_secret_is_enough() {
        let server = vertica(&format!("{SMALLEST}password = \"a\"\noauth_token_file = \"/b\""));
        assert_eq!(server.problems()[0].0, "password");
        assert!(!format!("{:?}", vertica(&format!("{SMALLEST}password = \"geheim\""))).contains("geheim"));
    }
}
