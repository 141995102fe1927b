//! Reads the configuration file and its overrides from the environment (`ADU_EXPORT__SECTION__KEY`). Every
//! error names the place, the key and what to change. No error shows a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, credentials};
use crate::spelling::did_you_mean;

/// Prefix of variables that override keys of the file.
const ENV_PREFIX: &str = "ADU_EXPORT__";
/// Keys with secret values: never shown, never read as numbers.
const SECRETS: [&str; 3] = ["url", "dsn", "password"];
/// Other keys whose values are text, even if they look like numbers.
const TEXTS: [&str; 4] = ["group", "level", "prefix", "listen"];

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, e.g. `sources.warehouse.pool_size`; empty for the file itself.
    pub key: String,
    /// What is wrong, and what to change.
    pub text: String,
    /// The variable that set the key, if one did.
    pub variable: Option<String>,
}

impl Problem {
    /// A problem of a key.
    #[must_use]
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into(), variable: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        match &self.variable {
            Some(variable) => write!(f, " (set by {variable})"),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// All problems; at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "configuration {}", file.display())?,
            // Options of the command line need no heading.
            None if self.problems.iter().all(|problem| problem.key.starts_with("--")) => {
                let texts: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
                return f.write_str(&texts.join("\n"));
            }
            None => f.write_str("configuration")?,
        }
        match self.problems.as_slice() {
            [one] => write!(f, ": {one}"),
            all => all.iter().try_for_each(|problem| write!(f, "\n  {problem}")),
        }
    }
}

impl Config {
    /// Reads a file and the overrides from the environment of this process, and checks all bounds.
    ///
    /// # Errors
    /// Names the file, the key, the bound and the remedy.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let error = |problem| ConfigError { file: Some(file.to_owned()), problems: vec![problem] };
        let text = crate::text::read_file(file).map_err(|e| {
            error(Problem::new("", format!("cannot be read: {e}; name it with --config, or create it")))
        })?;
        Self::parse(&text, environment()).map_err(|e| ConfigError { file: Some(file.to_owned()), ..e })
    }

    /// Reads a text and overrides, and checks all bounds. Pure, but for what a source's DSN takes from service
    /// files and from the environment.
    ///
    /// # Errors
    /// Names the key, the bound and the remedy.
    pub fn parse(text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut variables = BTreeMap::new();
        let fail = |problems: Vec<Problem>, variables: &BTreeMap<String, String>| {
            let variable = |p: &Problem| p.variable.clone().or_else(|| variables.get(&p.key).cloned());
            let named = |p: Problem| Problem { variable: variable(&p), ..p };
            ConfigError { file: None, problems: problems.into_iter().map(named).collect() }
        };
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mut table: Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(e) => return Err(fail(vec![syntax_problem(text, &e)], &variables)),
        };
        let mut credentials = None;
        for (variable, value) in env {
            if variable == credentials::VARIABLE {
                credentials = Some(value);
                continue;
            }
            match override_key(&mut table, &variable, value) {
                Ok(Some(key)) => {
                    variables.insert(key, variable);
                }
                Ok(None) => {}
                Err(problem) => return Err(fail(vec![problem], &variables)),
            }
        }
        let mut config = deserialize(table).map_err(|p| fail(vec![p], &variables))?;
        if let Some(directory) = credentials {
            config.find_credentials(Path::new(&directory));
        }
        match config.problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(fail(problems, &variables)),
        }
    }
}

/// The environment variables of this process that are valid UTF-8.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// Where the syntax is wrong, without showing the text there.
fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let place = error.span().map_or(String::new(), |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    Problem::new("", format!("{place}{}", error.message()))
}

/// Sets the key that a variable names. Returns the path of the key, or `None` for other variables.
fn override_key(table: &mut Table, variable: &str, value: String) -> Result<Option<String>, Problem> {
    let Some(name) = variable.strip_prefix(ENV_PREFIX) else { return Ok(None) };
    let wrong = |why: &str| Problem { variable: Some(variable.to_owned()), ..Problem::new("", why) };
    let mut path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
    if path.len() < 2 || path.iter().any(String::is_empty) {
        return Err(wrong("a variable needs a section and a key, e.g. ADU_EXPORT__EXPORT__ROOT"));
    }
    if path[0] == "sources"
        && let Some(Value::Table(sources)) = table.get("sources")
    {
        let same: Vec<&String> = sources.keys().filter(|k| k.eq_ignore_ascii_case(&path[1])).collect();
        match same.as_slice() {
            [] => {}
            [one] => path[1] = (*one).clone(),
            _ => return Err(wrong("more than one source has this name but for upper case")),
        }
    }
    let is_text = path.get(2).is_some_and(|k| k == "session")
        || path.last().is_some_and(|k| {
            SECRETS.contains(&k.as_str()) || TEXTS.contains(&k.as_str()) || k.ends_with("_file")
        });
    let (last, sections) = path.split_last().ok_or_else(|| wrong("a variable needs a key"))?;
    let mut section = table;
    for name in sections {
        section = match section.entry(name.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(table) => table,
            _ => return Err(wrong("it goes below a key that is not a section")),
        };
    }
    let value = match is_text {
        true => Value::String(value),
        // The error must not quote the text, because it may contain a secret.
        false => toml_value(value).map_err(|e| wrong(&format!("it is not valid TOML: {e}")))?,
    };
    section.insert(last.clone(), value);
    Ok(Some(path.join(".")))
}

/// Reads the value as TOML, or else as plain text. A value that begins like a list or a table must be valid
/// TOML.
fn toml_value(text: String) -> Result<Value, String> {
    match toml::from_str::<Table>(&format!("v = {text}")) {
        Ok(mut table) if table.len() == 1 => Ok(table.remove("v").unwrap_or(Value::String(text))),
        Err(e) if text.trim_start().starts_with(['{', '[']) => Err(e.message().to_owned()),
        _ => Ok(Value::String(text)),
    }
}

fn deserialize(table: Table) -> Result<Config, Problem> {
    serde_path_to_error::deserialize::<_, Config>(Value::Table(table)).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        explain(path, error.inner().message())
    })
}

/// Splits serde's message into the key, the problem and the remedy.
fn explain(path: String, message: &str) -> Problem {
    let join = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let wrong = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let parent = path.strip_suffix(wrong).map_or(path.as_str(), |p| p.trim_end_matches('.'));
        let suggestion = did_you_mean(wrong, known.iter().copied());
        let text = format!("there is no such key.{suggestion} Known are {}", known.join(", "));
        return Problem::new(join(parent, wrong), text);
    }
    if message.starts_with("missing field") {
        let key = join(&path, quoted.next().unwrap_or_default());
        let example = match key.as_str() {
            "export" | "export.root" => ", e.g. [export] with root = \"/data/exports\"",
            _ if key.ends_with(".kind") => ", e.g. kind = \"postgres\"",
            _ if key.ends_with(".dsn") => ", e.g. dsn = \"postgres://exporter@db.example/warehouse\"",
            _ => "",
        };
        return Problem::new(key, format!("it must be set{example}"));
    }
    if SECRETS.contains(&path.rsplit('.').next().unwrap_or_default()) {
        return Problem::new(path, "it must be text in quotes");
    }
    Problem::new(path, message)
}

/// Reads the secret file of a key.
pub(super) fn read_secret(key: &str, file: &Path) -> Result<super::Secret, ConfigError> {
    let error = |why: String| ConfigError {
        file: None,
        problems: vec![Problem::new(key, format!("file {}: {why}", file.display()))],
    };
    let secret = crate::text::read_secret(file)
        .map_err(|e| error(format!("cannot be read: {e}; check the path and the rights of this user")))?;
    if secret.is_empty() {
        return Err(error("it is empty; write the secret into it".into()));
    }
    Ok(super::Secret::new(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceKind;

    const SMALLEST: &str = r#"
        [broker]
        url = "amqp://guest:geheim@127.0.0.1/%2f"
        [export]
        root = "/data/exports"
        [sources.Warehouse]
        kind = "postgres"
        dsn = "postgres://exporter@db.example/warehouse"
    "#;
    const SAMPLE: &str = include_str!("../../config/adu-export.toml");

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    fn refused(text: &str, env: &[(&str, &str)]) -> String {
        parse(text, env).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_smallest_file_is_enough() {
        let config = parse(SMALLEST, &[]).expect("valid");
        assert_eq!(config.broker.prefix, "adu.export");
        assert_eq!(config.sources.len(), 1);
    }

    #[test]
    fn a_mark_of_the_byte_order_is_skipped_and_nothing_is_set_twice() {
        let marked = format!("\u{FEFF}{SMALLEST}");
        assert_eq!(parse(&marked, &[]).expect("valid").sources.len(), 1);
        assert!(refused(&format!("{SMALLEST}\n[export]\nroot = \"/b\""), &[]).contains("duplicate"));
        let twice = ("ADU_EXPORT__SOURCES__W", "{dsn = \"postgres://u:geheim@h/d\", dsn = \"geheim\"}");
        let said = refused(SMALLEST, &[twice]);
        assert!(
            said.contains("not valid TOML") && said.contains("(set by ADU_EXPORT__SOURCES__W)"),
            "{said}"
        );
        assert!(!said.contains("geheim"), "{said}");
    }

    #[test]
    fn the_sample_loads_with_its_examples_in_place_too() {
        parse(SAMPLE, &[]).expect("the sample is valid");
        let uncommented: String = SAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.split_once(" = ").is_some_and(|(k, _)| !k.contains(' ')) => key,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let table = toml::from_str(&uncommented).expect("TOML");
        let config = deserialize(table).expect("every example has the type of its key");
        let problems: Vec<_> =
            config.problems().into_iter().filter(|p| !p.text.contains("not both")).collect();
        assert_eq!(problems, []);
    }

    #[test]
    fn the_sample_shows_every_key() {
        for section in ["broker", "export", "http", "log", "timing", "sources.warehouse"] {
            let mut table: Table = toml::from_str(SAMPLE).expect("TOML");
            let key = format!("{ENV_PREFIX}{}__NO_SUCH_KEY", section.replace('.', "__").to_uppercase());
            override_key(&mut table, &key, "1".into()).expect("sets").expect("a key");
            let problem = deserialize(table).expect_err("unknown").to_string();
            let (_, known) = problem.split_once("Known are ").expect("lists keys");
            let known: Vec<&str> = known.split(", ").collect();
            assert!(known.len() > 1, "{problem}");
            let start = SAMPLE.find(&format!("[{section}]")).expect(section);
            let body = &SAMPLE[start + 1..];
            let body = &body[..body.find("\n[").unwrap_or(body.len())];
            for key in known.iter().filter(|k| **k != "session") {
                let shown =
                    body.lines().any(|l| l.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = ")));
                assert!(shown, "the sample does not show {section}.{key}");
            }
        }
        assert!(SAMPLE.contains("[sources.warehouse.session]"));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = parse(
            SMALLEST,
            &[
                ("ADU_EXPORT__SOURCES__WAREHOUSE__DSN", "postgres://me@other/db"),
                ("ADU_EXPORT__SOURCES__WAREHOUSE__PASSWORD", "12345"),
                ("ADU_EXPORT__SOURCES__WAREHOUSE__SCHEMAS", r#"["a","b"]"#),
                ("ADU_EXPORT__SOURCES__WAREHOUSE__SESSION__WORK_MEM", "64"),
                ("ADU_EXPORT__SOURCES__NEW__KIND", "postgres"),
                ("ADU_EXPORT__SOURCES__NEW__DSN", "postgres://me@new/db"),
                ("ADU_EXPORT__EXPORT__WORKERS", "4"),
                ("ADU_EXPORT__EXPORT__COMPRESSION", "zstd:5"),
                ("ADU_EXPORT__EXPORT__GROUP", "1000"),
                ("ADU_EXPORT__BROKER__DECLARE", "false"),
                ("PATH", "/bin"),
            ],
        )
        .expect("valid");
        let source = config.sources.iter().find(|(n, _)| n.as_str() == "Warehouse").expect("kept").1;
        let SourceKind::Postgres(server) = &source.kind else { panic!("another kind") };
        let target = server.target.as_ref().expect("valid");
        assert_eq!(target.dsn.identity(), "me@other:5432/db");
        assert_eq!(server.password.as_ref().map(super::super::Secret::expose), Some("12345"));
        assert_eq!(source.schemas, ["a", "b"]);
        assert_eq!(source.session["work_mem"], "64");
        assert_eq!(config.sources.len(), 2);
        assert_eq!(config.export.group.as_deref(), Some("1000"));
        assert!(!config.broker.declare);
    }

    #[test]
    fn errors_name_the_key_and_what_to_change() {
        let export = |line: &str| refused(&SMALLEST.replace("[export]", &format!("[export]\n{line}")), &[]);
        let text = export("worker = 3");
        assert!(text.contains("export.worker: there is no such key. Did you mean `workers`?"), "{text}");
        let text = export("workers = 0");
        assert!(text.contains("export.workers"), "{text}");
        let text = export("shutdown_grace = \"soon\"");
        assert!(text.contains("export.shutdown_grace: `soon` is not a duration"), "{text}");
        let text = export("compression = \"rar\"");
        assert!(text.contains("use snappy, zstd"), "{text}");
        let text = refused("[export]\nroot = \"/x\"\n[sources.a]\ndsn = \"x\"", &[]);
        assert!(text.contains("sources.a.kind: it must be set"), "{text}");
        let text = refused("", &[]);
        assert!(text.contains("export: it must be set, e.g. [export]"), "{text}");
        let text = refused(SMALLEST, &[("ADU_EXPORT__EXPORT__ROOTS", "/x")]);
        assert!(
            text.contains("export.roots") && text.contains("(set by ADU_EXPORT__EXPORT__ROOTS)"),
            "{text}"
        );
        let text = refused(SMALLEST, &[("ADU_EXPORT__ROOT", "/x")]);
        assert!(text.contains("needs a section and a key"), "{text}");
        let missing = Config::load(Path::new("/nonexistent/adu.toml")).expect_err("no file").to_string();
        assert!(missing.contains("/nonexistent/adu.toml") && missing.contains("--config"), "{missing}");
    }

    #[test]
    fn no_error_shows_a_secret() {
        for text in [
            "[export]\nroot = \"/x\"\n[sources.a]\nkind = \"postgres\"\ndsn = 31415",
            "[export]\nroot = \"/x\"\n[sources.a]\nkind = \"postgres\"\ndsn = \"x\"\npassword = \"31415",
            "[broker]\nurl = [31415]\n[export]\nroot = \"/x\"",
            "[broker]\nurl = \"ftp://31415@x\"\n[export]\nroot = \"/x\"",
        ] {
            assert!(!refused(text, &[]).contains("31415"), "{}", refused(text, &[]));
        }
        let config = parse(SMALLEST, &[]).expect("valid");
        assert!(!format!("{config:?}").contains("geheim"));
    }
}
