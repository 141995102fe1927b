//! TLS to PostgreSQL: what `sslmode` demands is had or refused by name, and rows
//! and cancel requests travel in it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::mid_job::{Slow, fill, mid_job};
use crate::support::{Database, EXPORTER, PATIENCE, Services, Site, eventually, none_left, said};

/// A CA, and a certificate of its own for `localhost`.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn new(site: &Site) -> Self {
        let this = Self { directory: site.path("tls") };
        std::fs::create_dir(&this.directory).expect("a directory");
        let key = |name: &str| {
            format!("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key")
        };
        for ca in ["ca", "other"] {
            this.openssl(&format!("req -x509 {} -days 2 -subj /CN=test-{ca} -out {ca}.pem", key(ca)));
        }
        std::fs::write(this.directory.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
        this.openssl(&format!("req {} -subj /CN=localhost -out server.csr", key("server")));
        this.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem");
        this
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.directory).output();
        let output = output.expect("run openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", said(&output));
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    /// The server presents it from now on.
    fn install(&self, db: &Database) {
        for (from, to) in [("server.pem", "server.crt"), ("server.key", "server.key")] {
            let text = std::fs::read_to_string(self.directory.join(from)).expect("PEM");
            db.execute(&format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'cat > {to}; chmod 600 {to}'",
                text.trim_end()
            ));
        }
        db.execute("ALTER SYSTEM SET ssl = on");
        db.execute("SELECT pg_reload_conf()");
        eventually("the server offers TLS", PATIENCE, || (db.rows("SHOW ssl")[0][0] == "on").then_some(()));
    }
}

/// A connection string of the exporting role.
fn dsn(db: &Database, host: &str, port: u16, options: &str) -> Value {
    json!(format!("postgres://{EXPORTER}@{host}:{port}/{}?{options}", db.name))
}

#[test]
fn rows_and_cancel_requests_travel_in_tls_as_sslmode_demands() {
    let servers = Services::borrow();
    let db = Database::on(&servers);
    fill(&db, "big", 40_000);
    let slow = Slow::of(Site::on(&servers, db), &servers);
    let db = &slow.site.db;
    let certificates = Certificates::new(&slow.site);
    certificates.install(db);

    // What is demanded and cannot be had is refused, and says what to change.
    let (right, wrong) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    for (host, options, remedy) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={wrong}"), "ca_file"),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={right}"), "sslmode=verify-ca"),
        ("127.0.0.1", "sslmode=disable&channel_binding=require".to_owned(), "channel binding"),
    ] {
        let mut config = slow.site.config();
        config["sources"]["warehouse"]["dsn"] = dsn(db, host, servers.postgres, &options);
        let config = slow.site.write("refused.toml", &config);
        let output = slow.site.run(&["check", "--config", &config]);
        assert_eq!(output.status.code(), Some(1), "{options}: {}", said(&output));
        assert!(said(&output).contains(remedy), "{options}: {}", said(&output));
    }

    let mut config = slow.config();
    let options = format!("sslmode=verify-full&channel_binding=require&sslrootcert={right}");
    config["sources"]["warehouse"]["dsn"] = dsn(db, "localhost", slow.proxy.port, &options);
    let daemon = slow.site.daemon_with(&config);
    let cancelled = slow.site.request(json!({"tables": ["public.big"]}));
    mid_job(&daemon);
    let unsafe_sessions = format!(
        "SELECT a.application_name FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
         WHERE a.usename = '{EXPORTER}' AND NOT s.ssl"
    );
    assert!(!db.busy_backends().is_empty());
    assert_eq!(db.rows(&unsafe_sessions), Vec::<Vec<String>>::new());
    slow.site
        .broker
        .publish(json!({"cancel": cancelled}).to_string().as_bytes(), lapin::BasicProperties::default());
    let last = slow.site.broker.events.wait_final(&cancelled, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    none_left("the cancel reaches the server", PATIENCE, || db.busy_backends());

    slow.proxy.mend();
    let done = slow.site.export(json!({"tables": ["public.big"]}));
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[&cancelled, done.job()], [daemon]);
    db.execute("ALTER SYSTEM RESET ssl");
    db.execute("SELECT pg_reload_conf()");
}
