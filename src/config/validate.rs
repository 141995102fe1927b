//! Checks bounds that types cannot express, and reads the secrets behind `*_file`.

use std::fs::File;
use std::path::Path;

use super::load::{ConfigError, Problem, read_secret};
use super::{
    Auto, BrokerConfig, Config, ExportConfig, HttpConfig, LogConfig, Secret, SourceConfig, TimingConfig,
};
use crate::message::SourceName;
use crate::message::output::LEAST_FILE_BYTES;
use crate::message::setting::Span;

impl Config {
    /// All keys whose values are out of bounds or contradict each other. Pure.
    #[must_use]
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        self.broker.check(&mut found);
        self.export.check(&mut found);
        self.http.check(&mut found);
        self.log.check(&mut found);
        self.timing.check(&mut found);
        for (name, source) in &self.sources {
            source.check(name, &mut found);
        }
        found.problems
    }

    /// Checks what a daemon needs beyond a valid file: a broker, a source, readable files, and services and
    /// variables that its sources take their settings from.
    ///
    /// # Errors
    /// Names every missing key and every unreadable file.
    pub fn check_daemon(&self) -> Result<(), ConfigError> {
        let mut found = Problems::default();
        if self.broker.url.is_none() && self.broker.url_file.is_none() {
            let text = "it or broker.url_file must be set, e.g. amqp://user:password@127.0.0.1:5672/%2f";
            found.add("broker.url", text);
        }
        if self.sources.is_empty() {
            found.add("sources", "there must be at least one, e.g. [sources.warehouse] with kind and dsn");
        }
        let broker = &self.broker;
        let mut files = vec![
            ("broker.url_file".to_owned(), &broker.url_file),
            ("broker.ca_file".to_owned(), &broker.ca_file),
            ("broker.cert_file".to_owned(), &broker.cert_file),
            ("broker.key_file".to_owned(), &broker.key_file),
        ];
        for (name, source) in &self.sources {
            for (key, text) in source.kind.problems_around() {
                found.add(&format!("sources.{name}.{key}"), text);
            }
            let named = source.kind.files().into_iter();
            files.extend(named.map(|(key, file)| (format!("sources.{name}.{key}"), file)));
        }
        for (key, file) in files {
            if let Some(file) = file {
                found.readable(&key, file);
            }
        }
        if found.problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { file: None, problems: found.problems })
        }
    }
}

impl BrokerConfig {
    /// The URL of the broker, from the file if one is set.
    ///
    /// # Errors
    /// When neither is set, or the file cannot be read.
    pub fn resolve_url(&self) -> Result<Secret, ConfigError> {
        match (&self.url, &self.url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(file)) => read_secret("broker.url_file", file),
            (None, None) => {
                let text = "it or broker.url_file must be set, e.g. amqp://user:password@127.0.0.1:5672/%2f";
                Err(ConfigError { file: None, problems: vec![Problem::new("broker.url", text)] })
            }
        }
    }

    fn check(&self, found: &mut Problems) {
        if let Some(url) = &self.url {
            found.unless(
                url.expose().starts_with("amqp://") || url.expose().starts_with("amqps://"),
                "broker.url",
                "it must begin with amqp:// or amqps://",
            );
        }
        found.unless(
            self.url.is_none() || self.url_file.is_none(),
            "broker.url",
            "set it or broker.url_file, not both",
        );
        found.unless(
            (1..=100).contains(&self.prefix.len())
                && self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "broker.prefix",
            "use 1 to 100 of the characters A-Z a-z 0-9 . _ -",
        );
        found.unless(
            !self.prefix.starts_with("amq."),
            "broker.prefix",
            "it must not begin with `amq.`, which RabbitMQ keeps to itself",
        );
        found.unless(
            self.cert_file.is_some() == self.key_file.is_some(),
            "broker.cert_file",
            "set it together with broker.key_file",
        );
        let whole_second = self.heartbeat.0.subsec_nanos() == 0;
        found.unless(whole_second, "broker.heartbeat", "use whole seconds");
        found.between("broker.heartbeat", self.heartbeat, Span::seconds(1), Span::seconds(600));
        found.between("broker.call_timeout", self.call_timeout, MOMENT, Span::seconds(3600));
    }
}

impl ExportConfig {
    fn check(&self, found: &mut Problems) {
        let root = &self.root;
        found.unless(root.is_absolute(), "export.root", "it must be an absolute path, e.g. /data/exports");
        let parent = |c| matches!(c, std::path::Component::ParentDir);
        found.unless(!root.components().any(parent), "export.root", "it must not contain `..`");
        for (key, number) in [
            ("export.workers", self.workers),
            ("export.table_threads", self.table_threads),
            ("export.chunk_workers", self.chunk_workers),
        ] {
            if let Auto::Exactly(n) = number {
                found.unless(n.get() <= 4096, key, "use at most 4096, or \"auto\"");
            }
        }
        if let Auto::Exactly(bytes) = self.memory_limit {
            let key = "export.memory_limit";
            found.unless(bytes.get() >= 16 << 20, key, "use at least 16777216 bytes (16 MiB), or \"auto\"");
        }
        found.unless(
            (1 << 10..=4 << 30).contains(&self.row_group_bytes.get()),
            "export.row_group_bytes",
            "use 1024 (1 KiB) to 4294967296 (4 GiB) bytes",
        );
        found.unless(
            self.file_bytes.is_none_or(|bytes| bytes.get() >= LEAST_FILE_BYTES),
            "export.file_bytes",
            "use at least 1048576 bytes (1 MiB), or leave it out",
        );
        found.unless(self.partitions_max.get() <= 100_000, "export.partitions_max", "use at most 100000");
        found.unless(self.chunk_bytes.get() >= 1 << 10, "export.chunk_bytes", "use at least 1024 bytes");
        found.between("export.shutdown_grace", self.shutdown_grace, Span::seconds(0), Span::seconds(86_400));
        let group = self.group.as_ref().is_none_or(|g| !g.is_empty() && !g.contains([':', '\0', '\n']));
        found.unless(group, "export.group", "use the name or number of a group");
    }
}

impl HttpConfig {
    fn check(&self, found: &mut Problems) {
        let port = self.listen.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        found.unless(
            self.listen == "off" || port.is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
            "http.listen",
            "use an address with a port such as 127.0.0.1:9950, or \"off\"",
        );
    }
}

impl LogConfig {
    fn check(&self, found: &mut Problems) {
        found.unless(
            !self.level.is_empty() && tracing_subscriber::EnvFilter::try_new(&self.level).is_ok(),
            "log.level",
            "use error, warn, info, debug or trace, or a filter such as info,adu_export::bus=debug",
        );
    }
}

impl TimingConfig {
    fn check(&self, found: &mut Problems) {
        for (key, span) in [
            ("timing.alive_interval", self.alive_interval),
            ("timing.alive_timeout", self.alive_timeout),
            ("timing.look_interval", self.look_interval),
            ("timing.progress_interval", self.progress_interval),
            ("timing.stalled_after", self.stalled_after),
            ("timing.plan_wait", self.plan_wait),
            ("timing.keeper_wait", self.keeper_wait),
            ("timing.unfit_retry", self.unfit_retry),
            ("timing.retry_first", self.retry_first),
            ("timing.retry_longest", self.retry_longest),
            ("timing.retry_limit", self.retry_limit),
            ("timing.abandoned_workspace", self.abandoned_workspace),
        ] {
            found.between(key, span, MOMENT, Span::seconds(30 * 86_400));
        }
        found.unless(
            self.alive_timeout.0 >= self.alive_interval.0 * 2,
            "timing.alive_timeout",
            "use at least twice timing.alive_interval, or living daemons count as dead",
        );
        found.unless(
            self.retry_first <= self.retry_longest && self.retry_longest <= self.retry_limit,
            "timing.retry_longest",
            "use a span between timing.retry_first and timing.retry_limit",
        );
    }
}

impl SourceConfig {
    fn check(&self, name: &SourceName, found: &mut Problems) {
        let key = |key: &str| format!("sources.{name}.{key}");
        for (field, text) in self.kind.problems() {
            found.add(&key(field), text);
        }
        for field in &self.misplaced {
            found.add(&key(field), "this kind of source has no such setting; leave it out");
        }
        for (field, number) in
            [("pool_size", self.pool_size), ("max_parallel", self.max_parallel), ("max_jobs", self.max_jobs)]
        {
            found.unless(number.get() <= 10_000, &key(field), "use at most 10000");
        }
        let day = Span::seconds(86_400);
        for (field, wait) in self.kind.waits() {
            found.between(&key(field), wait, MOMENT, Span::seconds(3600));
        }
        if let Some(span) = self.stall_timeout {
            found.between(&key("stall_timeout"), span, MOMENT, day);
        }
        if let Some(span) = self.max_snapshot_age.0 {
            found.between(&key("max_snapshot_age"), span, Span::seconds(1), Span::seconds(365 * 86_400));
        }
        let named = self.schemas.iter().all(|s| !s.is_empty() && !s.contains('\0'));
        found.unless(
            named,
            &key("schemas"),
            "name every schema, without quotes, e.g. [\"public\", \"sales\"]",
        );
        for setting in self.session.keys() {
            let session = key(&format!("session.{setting}"));
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
            found.unless(
                !setting.is_empty() && setting.bytes().all(plain),
                &session,
                "names of settings have letters, digits, dots and underscores only",
            );
            found.unless(
                !self.kind.fixed_settings().contains(&setting.to_ascii_lowercase().as_str()),
                &session,
                "it decides how values are written and cannot be changed; leave it out",
            );
        }
    }
}

const MOMENT: Span = Span(std::time::Duration::from_millis(1));

/// Collects problems.
#[derive(Default)]
struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, key: &str, text: impl Into<String>) {
        self.problems.push(Problem::new(key, text));
    }

    fn unless(&mut self, fine: bool, key: &str, text: &str) {
        if !fine {
            self.add(key, text);
        }
    }

    fn between(&mut self, key: &str, span: Span, least: Span, most: Span) {
        if span < least || span > most {
            self.add(key, format!("{span} is out of bounds: use {least} to {most}"));
        }
    }

    fn readable(&mut self, key: &str, file: &Path) {
        if let Err(e) = File::open(file) {
            let text = format!(
                "file {} cannot be read: {e}; check the path and the rights of this user",
                file.display()
            );
            self.add(key, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sections: &str) -> Result<Config, ConfigError> {
        let export = if sections.contains("[export]") { "" } else { "[export]\nroot = \"/data\"\n" };
        Config::parse(&format!("{export}{sections}"), [])
    }

    #[test]
    fn values_out_of_bounds_name_key_and_bound() {
        let source = "[sources.w]\nkind = \"postgres\"\ndsn = \"postgres://u@h/d\"\n";
        for (sections, key) in [
            ("[export]\nroot = \"data\"", "export.root: it must be an absolute path"),
            ("[export]\nroot = \"/a/../b\"", "export.root"),
            ("[export]\nroot = \"/a\"\nworkers = 5000", "export.workers: use at most 4096"),
            ("[export]\nroot = \"/a\"\nrow_group_bytes = 5", "export.row_group_bytes"),
            ("[export]\nroot = \"/a\"\nfile_bytes = 1048575", "export.file_bytes"),
            ("[export]\nroot = \"/a\"\nmemory_limit = 5", "export.memory_limit"),
            ("[broker]\nprefix = \"a#b\"", "broker.prefix"),
            ("[broker]\nurl = \"amqp://x\"\nurl_file = \"/x\"", "not both"),
            ("[broker]\ncert_file = \"/x\"", "broker.cert_file: set it together with broker.key_file"),
            ("[broker]\nheartbeat = \"0s\"", "broker.heartbeat: 0ms is out of bounds: use 1s to 10m"),
            ("[http]\nlisten = \"9950\"", "http.listen"),
            ("[log]\nlevel = \"adu=loud=x\"", "log.level"),
            ("[timing]\nalive_timeout = \"15s\"", "timing.alive_timeout"),
            ("[timing]\nretry_first = \"2m\"", "timing.retry_longest"),
            (&format!("{source}password = \"a\"\npassword_file = \"/b\""), "sources.w.password"),
            (&format!("{source}pool_size = 20000"), "sources.w.pool_size"),
            (&format!("{source}connect_timeout = \"0s\""), "sources.w.connect_timeout"),
            (&format!("{source}[sources.w.session]\nTimeZone = \"x\""), "sources.w.session.TimeZone"),
            (&format!("{source}[sources.w.session]\n\"a; b\" = \"x\""), "names of settings"),
            ("[sources.w]\nkind = \"postgres\"\ndsn = \"mysql://x\"", "sources.w.dsn"),
        ] {
            let text = parse(sections).expect_err(sections).to_string();
            assert!(text.contains(key), "{sections}: {text}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let error = parse("[broker]\nprefix = \"\"\n[http]\nlisten = \"x\"").expect_err("two problems");
        assert_eq!(error.problems.len(), 2);
    }

    #[test]
    fn a_daemon_without_broker_source_or_secret_is_told_so() {
        let config = parse("").expect("enough for one-shot");
        let text = config.check_daemon().expect_err("not enough for a daemon").to_string();
        assert!(text.contains("broker.url") && text.contains("sources"), "{text}");
        assert!(config.broker.resolve_url().is_err());
        let source =
            "[sources.w]\nkind = \"postgres\"\ndsn = \"postgres://u@h/d\"\npassword_file = \"/none\"";
        let config = parse(&format!("[broker]\nurl_file = \"/none\"\n{source}")).expect("valid");
        let text = config.check_daemon().expect_err("files").to_string();
        assert!(text.contains("broker.url_file") && text.contains("sources.w.password_file"), "{text}");
    }

    #[test]
    fn what_is_wrong_around_a_source_matters_only_where_it_is_used() {
        let source = |dsn: &str| format!("[sources.w]\nkind = \"postgres\"\ndsn = \"{dsn}\"");
        for dsn in [
            "service=no_such_service",
            "service=no_such_service servicefile=/none user=u",
            "postgres:///d?service=x&servicefile=/none",
        ] {
            let config = parse(&source(dsn)).expect("valid where no source is needed");
            let text = config.check_daemon().expect_err("not enough for a daemon").to_string();
            assert!(text.contains("sources.w.dsn: its service"), "{text}");
        }
        for dsn in ["host=h user=u", "host=h user=u dbname=d port=x", "host=h sslmode"] {
            let text = parse(&source(dsn)).expect_err("wrong for everybody").to_string();
            assert!(text.contains("sources.w.dsn: "), "{text}");
        }
        let around = format!("{}\nenvironment = true", source("host=h sslmode=never"));
        assert!(parse(&around).expect_err("wrong in the string").to_string().contains("`sslmode`"));
    }

    #[test]
    fn a_secret_file_is_read_without_the_end_of_its_line() {
        let file = std::env::temp_dir().join(format!("adu-export-secret-{}", std::process::id()));
        std::fs::write(&file, "amqp://u:p@h/\r\n").expect("writes");
        let broker = BrokerConfig { url_file: Some(file.clone()), ..BrokerConfig::default() };
        assert_eq!(broker.resolve_url().expect("reads").expose(), "amqp://u:p@h/");
        std::fs::write(&file, "\u{FEFF}amqp://u:p@h/\n").expect("writes");
        assert_eq!(
            broker.resolve_url().expect("reads").expose(),
            "amqp://u:p@h/",
            "nor the mark of an editor"
        );
        std::fs::write(&file, b"\xFF\xFEa\0").expect("writes");
        assert!(broker.resolve_url().expect_err("wide").to_string().contains("UTF-16"));
        std::fs::write(&file, "\n").expect("writes");
        assert!(broker.resolve_url().expect_err("empty").to_string().contains("it is empty"));
        std::fs::remove_file(&file).expect("removes");
    }
}
