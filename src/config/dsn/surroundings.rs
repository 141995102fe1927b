//! What a connection string may take from its surroundings: the environment variables of libpq, and the files
//! that libpq looks for.
//!
//! Facts: <https://www.postgresql.org/docs/current/libpq-envars.html>.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::place::Place;
use super::settings::Values;

/// The variables that set a keyword. `PGSERVICE` and `PGSERVICEFILE` are read before all others
/// ([`super::service`]). Left out are variables that shape what `psql` shows (`PGCLIENTENCODING`,
/// `PGDATESTYLE`, `PGTZ`) or the server's planner (`PGGEQO`): an export fixes the former for every session.
const VARIABLES: [(&str, &str); 31] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLSNI", "sslsni"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGMINPROTOCOLVERSION", "min_protocol_version"),
    ("PGMAXPROTOCOLVERSION", "max_protocol_version"),
    // An old name, which counts only without PGSSLMODE.
    (REQUIRES_TLS, "sslmode"),
];
const REQUIRES_TLS: &str = "PGREQUIRESSL";

/// Directories where builds of libpq look for the `pg_service.conf` of a host: Debian's, and that of
/// PostgreSQL's own RPMs.
const SYSTEM: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// The surroundings of a connection string.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Whether environment variables may set what the string leaves out.
    pub environment: bool,
    pub(super) variables: BTreeMap<String, Vec<u8>>,
    /// The home directory, with `.pgpass` and `.pg_service.conf`.
    pub(super) home: Option<PathBuf>,
    pub(super) system: Vec<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process(environment: bool) -> Self {
        let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = all.filter(|(name, _)| name.starts_with("PG"));
        Self {
            environment,
            variables: ours.map(|(name, value)| (name, value.into_vec())).collect(),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            system: SYSTEM.map(PathBuf::from).into(),
        }
    }

    /// The value of a variable, if variables count.
    pub(super) fn variable(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name).filter(|_| self.environment).map(Vec::as_slice)
    }

    /// A variable that would set a keyword if variables counted.
    pub(super) fn unread(&self, keyword: &str) -> Option<&'static str> {
        let set = |variable: &str| self.variables.get(variable).is_some_and(|value| !value.is_empty());
        let named = VARIABLES.iter().find(|(variable, sets)| *sets == keyword && set(variable));
        named.map(|(variable, _)| *variable).filter(|_| !self.environment)
    }

    /// Sets what is still missing.
    pub(super) fn fill(&self, values: &mut Values) {
        for (variable, keyword) in VARIABLES {
            let Some(value) = self.variable(variable) else { continue };
            let value = match variable {
                REQUIRES_TLS if value.first() == Some(&b'1') => b"require",
                REQUIRES_TLS => continue,
                _ => value,
            };
            values.fill(keyword, value.to_vec(), Place::Variable(variable));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dsn::Dsn;

    fn around(environment: bool, variables: &[(&str, &str)]) -> Surroundings {
        let set = variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        Surroundings { environment, variables: set.collect(), home: None, system: vec![] }
    }

    fn refused(text: &str, around: &Surroundings) -> String {
        Dsn::within(text, around).expect_err(text).to_string()
    }

    #[test]
    fn what_the_surroundings_may_set_is_wrong_around_the_string() {
        let set = |environment, variables: &[(&str, &str)]| around(environment, variables);
        let is_around =
            |text: &str, around: &Surroundings| Dsn::within(text, around).expect_err(text).is_around();
        for (text, around) in [
            ("host=h user=u", set(true, &[])),
            ("host=h user=u dbname=d", set(true, &[("PGPORT", "x")])),
            ("host=a,b user=u dbname=d", set(true, &[("PGPORT", "1,2,3")])),
        ] {
            assert!(is_around(text, &around), "{text}");
        }
        for (text, around) in [
            ("host=h user=u", set(false, &[])),
            ("host=h user=u", set(false, &[("PGDATABASE", "d")])),
            ("host=h port=x user=u dbname=d", set(true, &[("PGPORT", "1")])),
            ("host", set(true, &[])),
        ] {
            assert!(!is_around(text, &around), "{text}");
        }
    }

    #[test]
    fn variables_count_only_if_they_should_and_errors_name_them() {
        let variables = [("PGUSER", "me"), ("PGDATABASE", "shop"), ("PGREQUIRESSL", "1")];
        let read = Dsn::within("host=h", &around(true, &variables)).expect("valid");
        assert_eq!(read.dsn.identity(), "me@h:5432/shop");
        assert_eq!(read.dsn.tls.demand, crate::config::dsn::TlsDemand::Require);
        let told = refused("host=h", &around(false, &variables));
        assert!(told.contains("PGDATABASE is not read: set `environment = true`"), "{told}");
        assert_eq!(
            refused("host=h user=u", &around(false, &[])),
            refused("host=h user=u", &around(true, &[]))
        );
        for (variable, value, says) in [
            ("PGPORT", "geheim", "65535"),
            ("PGSSLMODE", "geheim", "verify-full"),
            ("PGSSLCRL", "/geheim", "not supported"),
            ("PGREQUIREAUTH", "geheim", "not supported"),
            ("PGCONNECT_TIMEOUT", "0", "from 1 to 3600"),
        ] {
            let told = refused("host=h user=u dbname=d", &around(true, &[(variable, value)]));
            assert!(told.contains(says) && told.ends_with(&format!("(set by {variable})")), "{told}");
            assert!(!told.contains("geheim"), "{told}");
        }
    }
}
