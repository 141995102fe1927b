//! TLS. What `sslmode` demands of PostgreSQL is fulfilled or refused by name. Rows and cancel requests use
//! TLS. Brokers and clients show certificates, and errors say what is wrong with a certificate.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::amqp::short;
use crate::support::raw::publish_raw;
use crate::support::{
    Database, EXPORTER, PATIENCE, Services, Site, Slow, eventually, fill, free_port, mid_job, none_left, said,
};

/// A CA and the certificates that it signed: `server` and `expired` for `localhost`, `client` and `late` for
/// the exporting role. `stranger` has the same name, but another CA has signed it.
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
        for (name, of, ca, days) in [
            ("server", "localhost", "ca", 2),
            ("expired", "localhost", "ca", -1),
            ("client", EXPORTER, "ca", 2),
            ("late", EXPORTER, "ca", -1),
            ("stranger", EXPORTER, "other", 2),
        ] {
            this.openssl(&format!("req {} -subj /CN={of} -out {name}.csr", key(name)));
            this.openssl(&format!(
                "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} -extfile names -out {name}.pem"
            ));
        }
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

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).expect("PEM")
    }

    /// Makes the server present this certificate and trust the CA of clients.
    fn install(&self, db: &Database, name: &str) {
        for (from, to) in [
            (format!("{name}.pem"), "server.crt"),
            (format!("{name}.key"), "server.key"),
            ("ca.pem".into(), "ca.crt"),
        ] {
            write(db, to, &self.read(&from));
        }
        db.execute("ALTER SYSTEM SET ssl = on");
        db.execute("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'");
        reload(db);
    }
}

/// Writes a file in the server's directory.
fn write(db: &Database, name: &str, text: &str) {
    db.execute(&format!(
        "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'cat > {name}; chmod 600 {name}'",
        text.trim_end()
    ));
}

/// Makes the server read its files again. New connections use them.
fn reload(db: &Database) {
    let before = db.rows("SELECT pg_conf_load_time()");
    db.execute("SELECT pg_reload_conf()");
    eventually("the server has read its files", PATIENCE, || {
        (db.rows("SELECT pg_conf_load_time()") != before).then_some(())
    });
}

/// What `check` says about a configuration that must not work.
#[track_caller]
fn refusal(site: &Site, config: &Value) -> String {
    let path = site.write("refused.toml", config);
    let output = site.run(&["check", "--config", &path]);
    assert!(matches!(output.status.code(), Some(1 | 6)), "{}", said(&output));
    said(&output)
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
    let slow = Slow::of(Site::on(&servers, db), servers.postgres);
    let db = &slow.site.db;
    let certificates = Certificates::new(&slow.site);
    certificates.install(db, "server");

    // If a demand cannot be fulfilled, the connection is refused, and the error says what to change.
    let (right, wrong) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    for (host, options, remedy) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={wrong}"), "ca_file"),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={right}"), "sslmode=verify-ca"),
        ("127.0.0.1", "sslmode=disable&channel_binding=require".to_owned(), "channel binding"),
    ] {
        let mut config = slow.site.config();
        config["sources"]["warehouse"]["dsn"] = dsn(db, host, servers.postgres, &options);
        let text = refusal(&slow.site, &config);
        assert!(text.contains(remedy), "{options}: {text}");
    }

    let mut config = slow.config();
    let options = format!("sslmode=verify-full&channel_binding=require&sslrootcert={right}");
    config["sources"]["warehouse"]["dsn"] = dsn(db, "localhost", slow.proxy.port, &options);
    let daemon = slow.site.daemon_with(&config);
    let cancelled = slow.request(&["big"]);
    mid_job(&daemon);
    let unsafe_sessions = format!(
        "SELECT a.application_name FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
         WHERE a.usename = '{EXPORTER}' AND NOT s.ssl"
    );
    assert!(!db.busy_backends().is_empty());
    assert_eq!(db.rows(&unsafe_sessions), Vec::<Vec<String>>::new());
    slow.site.cancel(&cancelled);
    let last = slow.site.broker.events.wait_final(&cancelled, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    none_left("the cancel reaches the server", PATIENCE, || db.busy_backends());

    slow.proxy.mend();
    let done = slow.site.export(json!({"tables": ["public.big"]}));
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[done.job(), &cancelled], [daemon]);
    db.execute("ALTER SYSTEM RESET ssl");
    db.execute("ALTER SYSTEM RESET ssl_ca_file");
    reload(db);
}

#[test]
fn postgresql_that_wants_client_certificates_gets_ours_and_an_expired_one_is_named() {
    let servers = Services::borrow();
    let db = Database::on(&servers);
    fill(&db, "few", 1000);
    let site = Site::on(&servers, db);
    let db = &site.db;
    let certificates = Certificates::new(&site);
    let path = |name: &str| certificates.path(name);
    let with = |more: &str| {
        let mut config = site.config();
        let options = format!("sslmode=verify-full&sslrootcert={}{more}", path("ca.pem"));
        config["sources"]["warehouse"]["dsn"] = dsn(db, "localhost", servers.postgres, &options);
        config
    };
    let ours = |name: &str| {
        format!("&sslcert={}&sslkey={}", path(&format!("{name}.pem")), path(&format!("{name}.key")))
    };
    certificates.install(db, "expired");
    assert!(refusal(&site, &with("")).contains("has expired; renew it"), "{}", refusal(&site, &with("")));

    certificates.install(db, "server");
    let rules = db.rows("SELECT pg_read_file('pg_hba.conf')")[0][0].clone();
    let demand = format!("hostssl all {EXPORTER} all scram-sha-256 clientcert=verify-full\n");
    write(db, "pg_hba.conf", &format!("{demand}{rules}"));
    reload(db);
    for (more, said) in [
        (String::new(), "requires a valid client certificate"),
        (ours("stranger"), "alert: UnknownCA"),
        (ours("late"), "alert: CertificateExpired"),
    ] {
        let text = refusal(&site, &with(&more));
        assert!(text.contains(said), "{more}: {text}");
    }
    let daemon = site.daemon_with(&with(&ours("client")));
    let done = site.export(json!({"tables": ["public.few"]}));
    site.assert_equal(&[("SELECT * FROM few", "public_few")]);
    site.assert_sound(&[done.job()], [daemon]);
    write(db, "pg_hba.conf", &rules);
    db.execute("ALTER SYSTEM RESET ssl");
    db.execute("ALTER SYSTEM RESET ssl_ca_file");
    reload(db);
}

#[test]
fn a_broker_and_its_daemons_know_each_other_by_certificates() {
    let servers = Services::borrow();
    let db = Database::on(&servers);
    fill(&db, "few", 1000);
    let site = Site::on(&servers, db);
    let certificates = Certificates::new(&site);
    let path = |name: &str| certificates.path(name);
    let listen = |name: &str| {
        let port = free_port();
        servers.rabbitmqctl(&[
            "eval",
            &format!(
                "{{ok, _}} = application:ensure_all_started(ssl), \
                 rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, [{{cacertfile, \"{}\"}}, \
                 {{certfile, \"{}\"}}, {{keyfile, \"{}\"}}, {{verify, verify_peer}}, \
                 {{fail_if_no_peer_cert, true}}], 2).",
                path("ca.pem"),
                path(&format!("{name}.pem")),
                path(&format!("{name}.key")),
            ),
        ]);
        port
    };
    let (good, expired) = (listen("server"), listen("expired"));
    let with = |host: &str, port: u16, ca: &str, client: Option<&str>| {
        let mut config = site.config();
        config["broker"]["url"] = json!(format!("amqps://guest:guest@{host}:{port}/%2f"));
        config["broker"]["ca_file"] = json!(path(ca));
        if let Some(name) = client {
            config["broker"]["cert_file"] = json!(path(&format!("{name}.pem")));
            config["broker"]["key_file"] = json!(path(&format!("{name}.key")));
        }
        config
    };
    for (config, remedy) in [
        (with("localhost", good, "other.pem", Some("client")), "set broker.ca_file"),
        (with("127.0.0.1", good, "ca.pem", Some("client")), "for another host name"),
        (with("localhost", expired, "ca.pem", Some("client")), "has expired: renew it there"),
        (with("localhost", good, "ca.pem", None), "broker.cert_file"),
        (with("localhost", good, "ca.pem", Some("stranger")), "broker.cert_file"),
        (with("localhost", good, "ca.pem", Some("late")), "broker.cert_file"),
    ] {
        let text = refusal(&site, &config);
        assert!(text.contains(remedy), "{remedy}: {text}");
    }
    let daemon = site.daemon_with(&with("localhost", good, "ca.pem", Some("client")));
    // The message breaks the client library. Our code above TLS changes the message so that the connection
    // survives.
    let queue = format!("{}.requests", site.broker.prefix);
    assert!(publish_raw(servers.amqp, "", queue.as_bytes(), (1 << 5, &short(b"\xe9")), b"{}"));
    let done = site.export(json!({"tables": ["public.few"]}));
    site.assert_equal(&[("SELECT * FROM few", "public_few")]);
    assert!(!daemon.log().contains("the session with the broker broke"), "{}", daemon.log());
    site.assert_sound(&[done.job()], [daemon]);
}
