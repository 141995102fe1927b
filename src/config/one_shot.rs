//! The configuration of `adu-export export --dsn`: one source, one folder, and
//! the default of everything else.

use std::path::Path;

use toml::{Table, Value};

use super::load::environment;
use super::{Config, ConfigError, Problem, Secret};
use crate::message::SourceName;

impl Config {
    /// A configuration with one source, called after host, port (if it is not
    /// 5432) and database. `root` must be absolute. Variables of the environment override all but sources
    /// and broker.
    ///
    /// # Errors
    /// When the DSN or a variable cannot be read.
    pub fn for_dsn(dsn: &Secret, root: &Path) -> Result<(Self, SourceName), ConfigError> {
        let (host, port, database) = target(dsn.expose());
        let name = SourceName::of_dsn(host, port, database);
        let problem = |key, text| ConfigError { file: None, problems: vec![Problem::new(key, text)] };
        let root = root.to_str().ok_or_else(|| problem("--out", "the path must be UTF-8"))?;
        let section = |pairs: &[(&str, &str)]| {
            let texts = pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::String((*v).to_owned())));
            Value::Table(texts.collect::<Table>())
        };
        let mut sources = Table::new();
        sources.insert(name.to_string(), section(&[("kind", "postgres"), ("dsn", dsn.expose())]));
        let mut table = Table::new();
        let mut export = section(&[("root", root)]);
        if let Value::Table(export) = &mut export {
            // A person looks on: the last bytes of a disk are theirs to use.
            export.insert("min_free_bytes".into(), Value::Integer(0));
        }
        table.insert("export".into(), export);
        table.insert("sources".into(), Value::Table(sources));
        let env = environment().filter(|(variable, _)| {
            !variable.starts_with("ADU_EXPORT__SOURCES__") && !variable.starts_with("ADU_EXPORT__BROKER__")
        });
        Self::parse(&table.to_string(), env).map(|config| (config, name))
    }
}

/// First host, its port, and database of a DSN, as far as they can be seen; never its password.
fn target(dsn: &str) -> (&str, Option<&str>, &str) {
    let (mut host, mut port, mut database) = ("localhost", None, "postgres");
    if let Some((_, rest)) = dsn.split_once("://") {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let first = address.split(',').next().unwrap_or_default();
        // The address of IPv6 stands in brackets, for it has colons of its own.
        let (name, after) = match first.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, after)) => (name, after.strip_prefix(':')),
            None => first.split_once(':').map_or((first, None), |(name, port)| (name, Some(port))),
        };
        port = after;
        if !name.is_empty() {
            host = name;
        }
        if !path.is_empty() {
            database = path;
        }
    } else {
        for (key, value) in dsn.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            match key {
                "host" => host = value,
                "port" => port = value.split(',').next(),
                "dbname" => database = value,
                _ => {}
            }
        }
    }
    (host, port.filter(|p| !p.is_empty()), database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_dsn_is_called_after_host_port_and_database() {
        for (dsn, name) in [
            ("postgres://u:p@ss@db.example:5432/shop?sslmode=require", "db_example_shop"),
            ("postgresql://db/shop", "db_shop"),
            ("postgres:///shop", "localhost_shop"),
            ("postgres://u@h1:1,h2:2/x", "h1_1_x"),
            ("postgres://u@[fe80::1]:5433/x", "fe80__1_5433_x"),
            ("host=/run/pg dbname=a user=b password=c", "_run_pg_a"),
            ("host=h port=6432 dbname=a user=b", "h_6432_a"),
        ] {
            let (config, source) = Config::for_dsn(&Secret::new(dsn), Path::new("/tmp/out")).expect("valid");
            assert_eq!(source.as_str(), name);
            assert_eq!(config.sources[&source].dsn.expose(), dsn);
        }
        assert!(Config::for_dsn(&Secret::new("mysql://x"), Path::new("/tmp/out")).is_err());
    }
}
