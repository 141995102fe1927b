//! A site whose source is a stand-in for Vertica.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Daemon, Database, PASSWORD, PATIENCE, Proxy, Site, StandIn, answer, eventually, manual,
};

/// A site, its stand-in, and a proxy between it and the daemons.
pub(crate) struct Scene {
    pub(crate) stand_in: StandIn,
    pub(crate) proxy: Proxy,
    pub(crate) site: Site,
}

impl Scene {
    /// A stand-in of three nodes on a new database.
    pub(crate) fn new(setup: &str) -> Self {
        Self::with(setup, &[])
    }

    /// The same with options of the stand-in.
    pub(crate) fn with(setup: &str, options: &[&str]) -> Self {
        let db = Database::empty();
        if !setup.is_empty() {
            db.execute(setup);
        }
        let site = Site::new(db);
        let stand_in = StandIn::start(&site.db, &site.path("stand-in"), options);
        let proxy = Proxy::to(stand_in.port());
        Self { stand_in, proxy, site }
    }

    /// A table `big` of this many rows, sorted by another column than its key, so that it is cut by hash.
    pub(crate) fn big(rows: u32) -> Self {
        let scene = Self::new("");
        scene.fill("big", rows);
        scene
    }

    /// Makes a table of ids and fillers that is cut by the hash of its key.
    pub(crate) fn fill(&self, table: &str, rows: u32) {
        self.site.db.execute(&format!(
            "CREATE TABLE public.{table} (id bigint PRIMARY KEY, filler text NOT NULL);
             INSERT INTO public.{table} SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, {rows}) g;
             INSERT INTO vertica.tables (schema, relation, segment_expression, sort)
               VALUES ('public', '{table}', 'hash({table}.id)', ARRAY['filler'])"
        ));
    }

    /// The configuration of a daemon: chunks of a thousand rows, through the proxy.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.site.config();
        config["sources"]["warehouse"] = json!({
            "kind": "vertica",
            "dsn": StandIn::dsn_at(self.proxy.port),
            "password": PASSWORD,
            "load_balance": false,
            "chunk_rows": 1000,
            "stall_timeout": "60s",
        });
        config
    }

    /// Starts a daemon and waits until it consumes.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Daemon {
        self.site.daemon_with(&self.config())
    }

    /// Runs a one-shot export of a request, straight from the stand-in.
    pub(crate) fn try_export(&self, request: &Value, arguments: &[&str]) -> Output {
        let password = self.site.path("password");
        std::fs::write(&password, PASSWORD).expect("write a password");
        let dsn = StandIn::dsn_at(self.stand_in.port());
        let source = ["--dsn", &dsn, "--password-file", &password.to_string_lossy()];
        self.site.one_shot(&[&source, arguments].concat(), request)
    }

    /// Runs a one-shot export, which must complete.
    #[track_caller]
    pub(crate) fn export(&self, request: &Value) -> Value {
        answer(&self.try_export(request, &[]), request)
    }

    /// The plan of a request.
    #[track_caller]
    pub(crate) fn plan(&self, request: &Value) -> Value {
        self.site.planned(&["--config", &self.site.write("plan.toml", &self.config())], request)
    }

    /// Requests tables of the schema `public`, and waits until their rows are on their way.
    #[track_caller]
    pub(crate) fn mid_job(&self, daemon: &Daemon, tables: &[&str]) -> String {
        let tables: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        let job = self.site.request(json!({"tables": tables}));
        eventually("rows are exported", PATIENCE, || (daemon.rows_exported() > 0).then_some(()));
        job
    }

    /// What DuckDB answers for the files of a directory: `select` gives one row, as text.
    #[track_caller]
    pub(crate) fn rows(&self, directory: &str, select: &str) -> Vec<String> {
        let files = format!("{}/*.parquet", self.site.exports.path(directory).display());
        let code = format!(
            "import duckdb\nprint('|'.join(map(str, duckdb.execute({:?}, [{files:?}]).fetchone())))",
            format!("SELECT {select} FROM read_parquet(?)"),
        );
        let answer = manual::run_python(&code, &self.site.exports.0);
        answer.trim_end().split('|').map(str::to_owned).collect()
    }

    /// The names of the columns in the files of a directory, in order.
    pub(crate) fn columns(&self, directory: &str) -> Vec<String> {
        let files = format!("{}/*.parquet", self.site.exports.path(directory).display());
        let code = format!(
            "import duckdb\nfound = duckdb.execute('SELECT * FROM read_parquet(?) LIMIT 0', [{files:?}]).description\n\
             print('|'.join(column[0] for column in found))"
        );
        let answer = manual::run_python(&code, &self.site.exports.0);
        answer.trim_end().split('|').map(str::to_owned).collect()
    }

    /// Checks that a directory has exactly the rows 1 to n of a table that `fill` made.
    #[track_caller]
    pub(crate) fn assert_has_all(&self, directory: &str, n: u32) {
        let all =
            self.rows(directory, "count(*), count(DISTINCT id), min(id), max(id), count(DISTINCT filler)");
        let n = n.to_string();
        assert_eq!(all, [&n, &n, "1", &n, &n], "{directory}");
    }

    /// Nobody works on the stand-in any more.
    #[track_caller]
    pub(crate) fn free_within(&self, span: Duration) {
        crate::support::none_left("the stand-in is free", span, || self.stand_in.busy());
    }
}
