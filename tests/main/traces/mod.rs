//! Traces, as a collector gets them.

use crate::support::{Collector, Database, Site, leashed, said};

mod collectors;
mod jobs;
mod variables;

/// A site with a small table, and a collector.
struct Small {
    site: Site,
    collector: Collector,
}

impl Small {
    fn new() -> Self {
        let db = Database::empty();
        db.execute(
            "CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small SELECT generate_series(1, 10)",
        );
        Self { site: Site::new(db), collector: Collector::new() }
    }

    /// Exports the table in a process of its own with these variables. Returns what it said.
    #[track_caller]
    fn export(&self, variables: &[(&str, &str)]) -> String {
        let url = self.site.db.url_at(self.site.db.port());
        let out = self.site.path(&format!("out-{}", uuid::Uuid::new_v4().simple()));
        let output = leashed(crate::support::BINARY)
            .args(["export", "--dsn", &url, "--table", "public.small", "--out", &out.to_string_lossy()])
            .envs(variables.iter().copied())
            .env("ADU_EXPORT__LOG__LEVEL", "info")
            .output()
            .expect("run adu-export");
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// The names of the spans that an export with these variables sends.
    #[track_caller]
    fn sent(&self, variables: &[(&str, &str)]) -> Vec<String> {
        self.collector.forget();
        self.export(variables);
        let mut names: Vec<String> = self.collector.spans().into_iter().map(|span| span.name).collect();
        names.sort_unstable();
        names
    }
}

/// The spans of an export of one small table.
const ALL: [&str; 6] = ["chunk", "job", "part", "plan", "publish", "table"];

#[test]
fn an_export_without_a_collector_says_nothing_of_traces() {
    let small = Small::new();
    assert!(!small.export(&[]).contains("traces"), "nobody asked");
    // Other programs' variables do not change this.
    let said = small.export(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_METRICS_EXPORTER", "otlp")]);
    assert!(!said.contains("traces"), "{said}");
}
