//! Arguments that several subcommands share: configuration, source, tables.

use std::io::Read;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgGroup, Args};

use crate::config::{Config, Secret};
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
    pub fn load(&self) -> Result<Config, crate::config::ConfigError> {
        Config::load(&self.path())
    }
}

/// A source: given by a DSN, or by name from the configuration.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("origin").required(true).args(["dsn", "config"]))]
pub struct SourceArgs {
    /// Database to read, e.g. postgres://user@host/database or vertica://user@host/database; no configuration file is read
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
                tables: self.tables.iter().cloned().map(TableRequest::all_of).collect(),
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
        set(&mut request.output.types, &self.types);
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
    use super::*;

    fn tables(names: &[&str]) -> TableArgs {
        let tables = names.iter().map(|n| TablePattern::parse(n).expect("valid")).collect();
        TableArgs { tables, request: None, exclude: vec![] }
    }

    #[test]
    fn tables_of_the_command_line_become_a_request_that_reads_back() {
        let overrides = Overrides { workers: NonZeroU32::new(3), verify: true, ..Overrides::default() };
        let request = tables(&["public.orders", "sales.*"]).request(&overrides).expect("valid");
        let body = serde_json::to_vec(&request).expect("JSON");
        assert_eq!(RequestMessage::parse(&body).expect("valid"), RequestMessage::Export(Box::new(request)));
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
