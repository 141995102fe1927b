//! Arguments that several subcommands share: configuration, source, tables.

use std::io::Read;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgGroup, Args};

use crate::config::{Config, ConfigError, Problem, Secret};
use crate::message::pattern::TablePattern;
use crate::message::request::{
    Consistency, ExportRequest, OutputDirectory, OutputRequest, Parallelism, RequestMessage, TableRequest,
    Verify,
};
use crate::message::setting::{Compression, FileTypes, ReadWay};
use crate::message::{JobId, SourceName};

/// Path of the configuration file by default.
pub const DEFAULT_CONFIG: &str = "/etc/adu-export/adu-export.toml";
/// Environment variable with the path of the configuration file.
pub const CONFIG_VARIABLE: &str = "ADU_EXPORT_CONFIG";

/// What to do before there is a configuration.
const FIRST_STEPS: &str = r#"there is no such file yet. What to do next:
  - Write it. This is enough, with your own values:

      [broker]
      url = "amqp://guest:guest@127.0.0.1:5672/%2f"
      [export]
      root = "/data/exports"
      [sources.warehouse]
      kind = "postgres"
      dsn = "postgres://exporter@db.example/warehouse"

    Then run `adu-export check --init`. It says what is still missing.
  - If it has another name, give it by --config FILE or ADU_EXPORT_CONFIG.
  - Without a configuration, broker and daemon, tables are exported here and now by
    `adu-export export --dsn postgres://user@host/database --table public.orders --out exports`;
    `verify` and `prune` then take --root exports."#;

/// The configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file [default: $ADU_EXPORT_CONFIG, else /etc/adu-export/adu-export.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The path of the file to use.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let named = || std::env::var_os(CONFIG_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(named).unwrap_or_else(|| DEFAULT_CONFIG.into())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The text names file, key, bound and remedy.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let path = self.path();
        if path.try_exists().is_ok_and(|exists| !exists) {
            let problems = vec![Problem::new("", FIRST_STEPS)];
            return Err(ConfigError { file: Some(path), problems });
        }
        Config::load(&path)
    }
}

/// A source: given by a DSN, or by name from the configuration.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("origin").required(true).args(["dsn", "config"]))]
pub struct SourceArgs {
    /// Database to read: postgres://user@host/database, vertica://user@host/database, or as psql takes it, with PG*
    /// variables, service=NAME and .pgpass; no configuration file is read
    #[arg(long, value_name = "URL", value_parser = secret, conflicts_with = "config")]
    pub dsn: Option<Secret>,
    /// File with the password for --dsn, so that other users cannot see it
    #[arg(long, value_name = "FILE", requires = "dsn", conflicts_with = "config")]
    pub password_file: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Source of the configuration [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config", conflicts_with = "dsn")]
    pub source: Option<SourceName>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl SourceArgs {
    /// The configuration with `root` as its export folder, and the name of the source, if it is known
    /// already.
    ///
    /// # Errors
    /// If the configuration or the DSN cannot be used.
    pub fn load(&self, root: &Path) -> anyhow::Result<(Config, Option<SourceName>)> {
        let root = std::path::absolute(root).with_context(|| format!("find {}", root.display()))?;
        if let Some(dsn) = &self.dsn {
            let (mut config, name) = Config::for_dsn(dsn, &root)?;
            if let Some(source) = config.sources.get_mut(&name) {
                source.kind.set_password_file(self.password_file.clone());
            }
            return Ok((config, Some(name)));
        }
        let mut config = ConfigArgs { config: self.config.clone() }.load()?;
        config.export.root = root;
        // What is wrong with other sources does not matter here.
        if let Some(name) = self.source.as_ref().filter(|name| config.sources.contains_key(*name)) {
            config.sources.retain(|other, _| other == name);
        }
        let only = || match config.sources.len() {
            1 => config.sources.keys().next().cloned(),
            _ => None,
        };
        let name = self.source.clone().or_else(only);
        Ok((config, name))
    }
}

/// The tables: named on the command line, or in a request file.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("meant").required(true).args(["tables", "request"]))]
pub struct TableArgs {
    /// Table or pattern, e.g. public.orders or 'sales.*'; may be repeated
    #[arg(long = "table", value_name = "TABLE", conflicts_with = "request")]
    pub tables: Vec<TablePattern>,
    /// File with a request as JSON; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Table or pattern to leave out where another pattern matches it; may be repeated
    #[arg(long, value_name = "TABLE", requires = "tables", conflicts_with = "request")]
    pub exclude: Vec<TablePattern>,
    /// Columns of the only --table, e.g. id,placed [default: all]; may be repeated
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        requires = "tables",
        conflicts_with = "request"
    )]
    pub columns: Vec<String>,
    /// Which rows of the only --table, as `where` of a request, e.g. "placed >= '2026-01-01'"
    #[arg(long = "where", value_name = "CONDITION", requires = "tables", conflicts_with = "request")]
    pub filter: Option<String>,
}

/// Options of the command line besides the tables. They override the request file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Id of the job.
    pub job: Option<JobId>,
    /// The source.
    pub source: Option<SourceName>,
    /// Directory below the root.
    pub directory: Option<OutputDirectory>,
    /// Compression of pages.
    pub compression: Option<Compression>,
    /// Bytes at which a file is followed by the next one.
    pub file_bytes: Option<NonZeroU64>,
    /// Columns by which files are put into directories.
    pub partition_by: Vec<String>,
    /// Types of the files.
    pub types: Option<FileTypes>,
    /// How the tables are read.
    pub read: Option<ReadWay>,
    /// Number of chunks at a time.
    pub workers: Option<NonZeroU32>,
    /// Count the rows of every table.
    pub verify: bool,
    /// Whether each chunk may read its own snapshot.
    pub inconsistent: bool,
}

impl TableArgs {
    /// The request from the arguments.
    ///
    /// # Errors
    /// If the file cannot be read or is not an export request.
    pub fn request(&self, overrides: &Overrides) -> anyhow::Result<ExportRequest> {
        let mut request = match &self.request {
            Some(file) => {
                let body = read(file).with_context(|| format!("read request {}", file.display()))?;
                match RequestMessage::parse(&body)
                    .with_context(|| format!("read request {}", file.display()))?
                {
                    RequestMessage::Export(request) => *request,
                    RequestMessage::Cancel(_) | RequestMessage::Retry(_) => {
                        anyhow::bail!("{} is not an export: use `cancel` or `retry`", file.display())
                    }
                }
            }
            None => ExportRequest {
                job_id: None,
                source: None,
                tables: self.entries()?,
                exclude: self.exclude.clone(),
                output: OutputRequest::default(),
                consistency: None,
                on_unfit: Default::default(),
                verify: Verify::None,
                parallelism: Parallelism::default(),
                deadline: None,
                labels: std::collections::BTreeMap::new(),
            },
        };
        overrides.apply(&mut request);
        Ok(request)
    }

    fn entries(&self) -> Result<Vec<TableRequest>, ConfigError> {
        let mut tables: Vec<_> = self.tables.iter().cloned().map(TableRequest::all_of).collect();
        let option = match (self.columns.is_empty(), &self.filter) {
            (true, None) => return Ok(tables),
            (_, Some(_)) => "--where",
            (false, None) => "--columns",
        };
        match tables.as_mut_slice() {
            [table] if table.table.literal().is_some() => {
                table.columns = (!self.columns.is_empty()).then(|| self.columns.clone());
                table.where_.clone_from(&self.filter);
                Ok(tables)
            }
            _ => {
                let why = "it is for a single table: name one --table without wildcards, or give each table its own \
                           columns and where in a file for --request";
                Err(ConfigError { file: None, problems: vec![Problem::new(option, why)] })
            }
        }
    }
}

impl Overrides {
    fn apply(&self, request: &mut ExportRequest) {
        fn set<T: Clone>(field: &mut Option<T>, value: &Option<T>) {
            if value.is_some() {
                field.clone_from(value);
            }
        }
        set(&mut request.job_id, &self.job);
        set(&mut request.source, &self.source);
        set(&mut request.output.directory, &self.directory);
        set(&mut request.output.compression, &self.compression);
        set(&mut request.output.file_bytes, &self.file_bytes);
        set(&mut request.output.types, &self.types);
        if !self.partition_by.is_empty() {
            request.output.partition_by.clone_from(&self.partition_by);
        }
        for table in &mut request.tables {
            set(&mut table.read, &self.read);
        }
        if let Some(workers) = self.workers {
            request.parallelism = Parallelism { table_threads: Some(workers), chunk_workers: Some(workers) };
        }
        if self.verify {
            request.verify = Verify::Count;
        }
        if self.inconsistent {
            request.consistency = Some(Consistency::None);
        }
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body)?;
        return Ok(body);
    }
    std::fs::read(file)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn tables(names: &[&str]) -> TableArgs {
        let tables = names.iter().map(|n| TablePattern::parse(n).expect("valid")).collect();
        TableArgs { tables, request: None, exclude: vec![], columns: vec![], filter: None }
    }

    #[test]
    fn tables_of_the_command_line_become_a_request_that_reads_back() {
        let overrides = Overrides { workers: NonZeroU32::new(3), verify: true, ..Overrides::default() };
        let request = tables(&["public.orders", "sales.*"]).request(&overrides).expect("valid");
        let body = serde_json::to_vec(&request).expect("JSON");
        assert_eq!(RequestMessage::parse(&body).expect("valid"), RequestMessage::Export(Box::new(request)));
    }

    #[test]
    fn columns_and_a_filter_are_for_a_single_table() {
        let wanted = |names: &[&str]| TableArgs {
            columns: vec!["id".into(), "placed".into()],
            filter: Some("id >= 7".into()),
            ..tables(names)
        };
        let request = wanted(&["public.orders"]).request(&Overrides::default()).expect("valid");
        let body = r#"{"tables":[{"table":"public.orders","columns":["id","placed"],"where":"id >= 7"}]}"#;
        let expected = RequestMessage::parse(body.as_bytes()).expect("valid");
        assert_eq!(RequestMessage::Export(Box::new(request)), expected);
        for names in [&["public.orders", "public.parts"][..], &["public.*"]] {
            let error = wanted(names).request(&Overrides::default()).expect_err("several");
            assert!(error.to_string().starts_with("--where: it is for a single table"), "{error}");
            assert!(error.to_string().contains("--request"), "{error}");
            let columns = TableArgs { filter: None, ..wanted(names) };
            let error = columns.request(&Overrides::default()).expect_err("several").to_string();
            assert!(error.starts_with("--columns: it is for a single table"), "{error}");
        }
    }

    #[test]
    fn without_a_configuration_the_next_steps_are_shown_and_they_work() {
        let config = ConfigArgs { config: Some("/nonexistent/adu-export.toml".into()) };
        let told = config.load().expect_err("none").to_string();
        assert!(
            told.starts_with("configuration /nonexistent/adu-export.toml: there is no such file"),
            "{told}"
        );
        let lines = told.lines().skip_while(|line| line.trim() != "[broker]");
        let example: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        assert_eq!(Config::parse(&example.join("\n"), []).expect("valid").sources.len(), 1);
        let commands: Vec<&str> =
            told.split('`').skip(1).step_by(2).filter(|span| span.starts_with("adu-export ")).collect();
        assert_eq!(commands.len(), 2);
        for command in commands {
            assert!(crate::cli::Cli::try_parse_from(command.split_whitespace()).is_ok(), "{command}");
        }
    }

    #[test]
    fn a_request_file_is_read_and_the_command_line_wins() {
        let file = std::env::temp_dir().join(format!("adu-export-request-{}.json", std::process::id()));
        let args = TableArgs { request: Some(file.clone()), ..tables(&[]) };
        std::fs::write(&file, r#"{"job_id":"a","tables":["s.t"],"output":{"compression":"gzip"}}"#)
            .expect("writes");
        let overrides = Overrides { compression: Some(Compression::Lz4), ..Overrides::default() };
        let request = args.request(&overrides).expect("valid");
        assert_eq!(request.output.compression, Some(Compression::Lz4));
        assert_eq!(request.job_id.as_ref().map(JobId::as_str), Some("a"));
        std::fs::write(&file, r#"{"cancel":"a"}"#).expect("writes");
        let error = args.request(&Overrides::default()).expect_err("no export");
        assert!(error.to_string().contains("is not an export"), "{error}");
        std::fs::remove_file(&file).expect("removes");
    }
}
