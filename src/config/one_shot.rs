//! The configuration of `adu-export export --dsn`: one source, one folder, and defaults for everything else.

use std::path::Path;

use toml::{Table, Value};

use super::load::environment;
use super::{Config, ConfigError, Origin, Problem, Secret, SourceKind};
use crate::message::SourceName;

impl Config {
    /// A configuration with one source, which is named after its DSN. `root` must be absolute. Environment variables override everything except sources and
    /// broker.
    ///
    /// # Errors
    /// When the DSN or a variable cannot be read.
    pub fn for_dsn(dsn: &Secret, root: &Path) -> Result<(Self, SourceName), ConfigError> {
        let problem = |key, text: &str| ConfigError { file: None, problems: vec![Problem::new(key, text)] };
        let (kind, name) = SourceKind::of_dsn(dsn).map_err(|e| problem("--dsn", &e.to_string()))?;
        let root = root.to_str().ok_or_else(|| problem("--out", "the path must be UTF-8"))?;
        let section = |pairs: &[(&str, &str)]| {
            let texts = pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::String((*v).to_owned())));
            Value::Table(texts.collect::<Table>())
        };
        let mut source = section(&[("kind", kind), ("dsn", dsn.expose())]);
        if let Value::Table(source) = &mut source
            && kind == "postgres"
        {
            source.insert("environment".into(), Value::Boolean(true));
        }
        let mut sources = Table::new();
        sources.insert(name.to_string(), source);
        let mut table = Table::new();
        let mut export = section(&[("root", root)]);
        if let Value::Table(export) = &mut export {
            // A person is watching, so the export may use the last bytes of a disk.
            export.insert("min_free_bytes".into(), Value::Integer(0));
        }
        table.insert("export".into(), export);
        table.insert("sources".into(), Value::Table(sources));
        let env = environment().filter(|(variable, _)| {
            !variable.starts_with("ADU_EXPORT__SOURCES__") && !variable.starts_with("ADU_EXPORT__BROKER__")
        });
        let mut config = Self::parse(&table.to_string(), env).map_err(|mut error| {
            // The folder was given by a flag, so the error names the flag.
            error.problems.iter_mut().filter(|p| p.key == "export.root").for_each(|p| p.key = "--out".into());
            error
        })?;
        if let Some(source) = config.sources.get_mut(&name) {
            source.origin = Origin::CommandLine;
        }
        Ok((config, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dsn::Dsn;

    #[test]
    fn the_source_of_a_dsn_is_called_after_host_port_and_database() {
        for (dsn, name) in [
            ("postgres://u:p%40ss@db.example:5432/shop?sslmode=require", "db_example_shop"),
            ("postgresql://u@db/shop", "db_shop"),
            ("postgres://u@h1:1,h2:2/x", "h1_1_x"),
            ("postgres://u@[fe80::1]:5433/x", "fe80__1_5433_x"),
            ("postgres://h/a?user=b@c&host=/run/pg", "_run_pg_a"),
            ("host=/run/pg dbname=a user=b password=c", "_run_pg_a"),
            ("host = h port=6432 dbname='a' user=b", "h_6432_a"),
        ] {
            let (config, source) = Config::for_dsn(&Secret::new(dsn), Path::new("/tmp/out")).expect("valid");
            assert_eq!(source.as_str(), name);
            let SourceKind::Postgres(server) = &config.sources[&source].kind else { panic!("another kind") };
            let target = &server.target.as_ref().expect("valid").dsn;
            assert_eq!(target.identity(), dsn.parse::<Dsn>().expect("valid").identity());
            assert_eq!(config.sources[&source].origin, Origin::CommandLine);
        }
        let refused = Config::for_dsn(&Secret::new("mysql://x"), Path::new("/tmp/out")).expect_err("no DSN");
        assert!(refused.to_string().starts_with("--dsn: it must look like"), "{refused}");
        let above =
            Config::for_dsn(&Secret::new("postgres://u@h/d"), Path::new("/tmp/../x")).expect_err("a folder");
        assert!(above.to_string().starts_with("--out: "), "{above}");
    }
}
