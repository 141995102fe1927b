//! Connections as people have them: connection strings, services, environment variables and `.pgpass`. `psql`
//! is the oracle: it gets the same surroundings, and must say the same to the same server.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use crate::support::{BINARY, Database, Dice, Services, Site, leashed, said, scratch};

mod listener;

use listener::{Contact, Listeners};

/// A home directory, a directory for the host's service file, and servers to be found.
struct Scene {
    listeners: Listeners,
    directory: PathBuf,
}

/// What one try has to go by.
#[derive(Clone, Default)]
struct Given {
    dsn: String,
    environment: Vec<(&'static str, String)>,
}

impl Given {
    fn dsn(dsn: impl Into<String>) -> Self {
        Self { dsn: dsn.into(), environment: vec![] }
    }

    fn and(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }
}

impl Scene {
    fn new(name: &str) -> Self {
        let directory = scratch().join(format!("libpq-{name}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("home")).expect("created");
        std::fs::create_dir_all(directory.join("system")).expect("created");
        Self { listeners: Listeners::new(), directory }
    }

    /// Writes a file that only its owner may read.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).expect("written");
        self.permit(name, 0o600);
        path.display().to_string()
    }

    fn permit(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.directory.join(name), Permissions::from_mode(mode)).expect("permitted");
    }

    fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.directory.join(name));
    }

    fn run(&self, program: &str, arguments: &[&str], given: &Given) -> Output {
        let mut command = leashed(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("a path"));
        command.env("HOME", self.directory.join("home"));
        // Nobody's file of the host takes part.
        command.env("PGSYSCONFDIR", self.directory.join("system"));
        command.envs(given.environment.iter().map(|(name, value)| (name, value.as_str())));
        command.args(arguments).current_dir(&self.directory).output().expect("runs")
    }

    /// What `psql` says to whom, and what it prints.
    fn psql(&self, given: &Given) -> (Option<Contact>, String) {
        let psql = Services::get().psql();
        let output = self.run(&psql, &["-X", "-w", "-c", "SELECT 1", "-d", &given.dsn], given);
        (self.listeners.first(), said(&output))
    }

    /// What we say to whom, and what we print.
    fn ours(&self, given: &Given) -> (Option<Contact>, String) {
        let arguments = ["export", "--dsn", &given.dsn, "--table", "public.t", "--out", "out"];
        let output = self.run(BINARY, &arguments, given);
        (self.listeners.first(), said(&output))
    }

    /// Compares, and returns what both did.
    #[track_caller]
    fn assert_as_psql(&self, given: &Given) -> Option<Contact> {
        let (theirs, they_said) = self.psql(given);
        let (ours, we_said) = self.ours(given);
        let what = || format!("{}\n{:#?}\npsql: {they_said}\nwe: {we_said}", given.dsn, given.environment);
        assert_eq!(ours, theirs, "{}", what());
        for secret in ["geheim", "secret"] {
            assert!(!we_said.contains(secret), "{}", what());
        }
        theirs
    }
}

/// A setting with its variable, and a value for each place: the string, the service, the environment.
struct Key {
    keyword: &'static str,
    variable: &'static str,
    values: [String; 3],
}

fn key(keyword: &'static str, variable: &'static str, values: [&str; 3]) -> Key {
    Key { keyword, variable, values: values.map(str::to_owned) }
}

fn keys(ports: [u16; 3], directory: &str) -> Vec<Key> {
    let port = Key { keyword: "port", variable: "PGPORT", values: ports.map(|port| port.to_string()) };
    vec![
        key("host", "PGHOST", ["127.0.0.1", directory, "localhost"]),
        port,
        key("user", "PGUSER", ["anna", "bert", "carl"]),
        key("dbname", "PGDATABASE", ["shop", "stock", "staff"]),
        key("password", "PGPASSWORD", ["secret1", "secret2", "secret3"]),
        key("options", "PGOPTIONS", ["-ca=1", "-ca=2", "-ca=3"]),
        key("application_name", "PGAPPNAME", ["one", "two", "three"]),
        key("sslmode", "PGSSLMODE", ["disable", "prefer", "require"]),
        key("hostaddr", "PGHOSTADDR", ["127.0.0.1", "127.0.0.1", "127.0.0.1"]),
        key("connect_timeout", "PGCONNECT_TIMEOUT", ["11", "12", "13"]),
        key("target_session_attrs", "PGTARGETSESSIONATTRS", ["any", "any", "any"]),
    ]
}

/// Puts values into their places. Bit 0: the string, 1: the service, 2: the environment.
fn placed(scene: &Scene, keys: &[Key], places: &[usize]) -> Given {
    let mut given = Given::default();
    let mut service = "[shop]\n".to_owned();
    for (key, places) in keys.iter().zip(places) {
        if places & 1 != 0 {
            write!(given.dsn, "{}={} ", key.keyword, key.values[0]).expect("written");
        }
        if places & 2 != 0 {
            writeln!(service, "{}={}", key.keyword, key.values[1]).expect("written");
        }
        if places & 4 != 0 {
            given.environment.push((key.variable, key.values[2].clone()));
        }
    }
    scene.write("home/.pg_service.conf", &service);
    given.dsn.push_str("service=shop");
    given
}

#[test]
fn each_setting_comes_from_the_string_then_the_service_then_the_environment() {
    let scene = Scene::new("places");
    let ports = [scene.listeners.port(), scene.listeners.port(), scene.listeners.port()];
    for port in ports {
        scene.listeners.socket(&scene.directory, port).expect("bound");
    }
    let keys = keys(ports, &scene.directory.display().to_string());
    // Host, port, user and database stand in the string; `hostaddr` in no place, because it hides the host.
    let usual = |number: usize| usize::from(number < 4);
    for number in 0..keys.len() {
        for places in 1..8 {
            let all: Vec<usize> =
                (0..keys.len()).map(|i| if i == number { places } else { usual(i) }).collect();
            let contact = scene.assert_as_psql(&placed(&scene, &keys, &all));
            assert!(contact.is_some(), "psql refuses {}", keys[number].keyword);
        }
    }
    let mut dice = Dice::new(26);
    let mut met = 0;
    for _ in 0..40 {
        let all: Vec<usize> = (0..keys.len())
            .map(|i| match keys[i].keyword {
                "hostaddr" => 0,
                // The defaults of user and database are those of a person at a terminal: none here.
                "host" | "user" | "dbname" => 1 + dice.below(7),
                _ => dice.below(8),
            })
            .collect();
        met += usize::from(scene.assert_as_psql(&placed(&scene, &keys, &all)).is_some());
    }
    assert!(met > 20, "only {met} of 40 meet a server");
}

#[test]
fn a_service_is_looked_for_where_libpq_looks() {
    let scene = Scene::new("services");
    let ports = [scene.listeners.port(), scene.listeners.port(), scene.listeners.port()];
    let text = |port: u16| {
        format!(
            "# services\n\n[other]\nhost=nowhere.invalid\n[shop]\nhost=127.0.0.1\nport={port}\r\n \tuser=u \n\
             dbname=d{port}\npassword=p#w=1 2\n[shop]\nport=1\n"
        )
    };
    let without = "[shop2]\nhost=nowhere.invalid\n";
    // Each file: none, one with the service, one without it. The first is named, and so it must be there.
    let put = |name: &str, kind: usize, port: u16| match kind {
        0 => scene.remove(name),
        1 => drop(scene.write(name, &text(port))),
        _ => drop(scene.write(name, without)),
    };
    let mut met = 0;
    for named in 0..4 {
        for (of_user, of_host) in (0..9).map(|i| (i / 3, i % 3)) {
            put("home/.pg_service.conf", of_user, ports[1]);
            put("system/pg_service.conf", of_host, ports[2]);
            let mut given = if of_user == 1 { Given::dsn("service=shop") } else { Given::dsn("user=me") };
            given = given.and("PGSERVICE", if of_user == 1 { "other" } else { "shop" });
            if named < 3 {
                put("named.conf", named, ports[0]);
                given = given.and("PGSERVICEFILE", scene.directory.join("named.conf").display().to_string());
            }
            met += usize::from(scene.assert_as_psql(&given).is_some());
        }
    }
    assert!(met > 15, "only {met} of 36 meet a server");
    // What is wrong within a file.
    let server = format!("host=127.0.0.1 port={} user=u dbname=d service=shop", ports[0]);
    for (lines, is_read) in [
        ("sslmode=disable", true),
        ("sslmode=disable\n[other]\nnonsense", true),
        ("\x0boptions=-ca=b", true),
        ("[shopping]\nnonsense", true),
        ("nonsense", false),
        ("port = 5", false),
        ("no_such_setting=1", false),
        ("service=other", false),
        ("options=", true),
        ("user='quoted'", true),
    ] {
        scene.write("home/.pg_service.conf", &format!("[shop]\n{lines}\n"));
        let contact = scene.assert_as_psql(&Given::dsn(&server));
        assert_eq!(contact.is_some(), is_read, "{lines}");
    }
}

/// A user and a database with signs that a `.pgpass` escapes.
const USER: &str = r"u\v";
const DATABASE: &str = "d:1";

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace(':', r"\:")
}

#[test]
fn the_first_line_of_a_pgpass_that_fits_has_the_password() {
    let scene = Scene::new("pgpass");
    let port = scene.listeners.port();
    scene.listeners.socket(&scene.directory, port).expect("bound");
    let socket = scene.directory.display().to_string();
    let hosts = ["127.0.0.1", "localhost", socket.as_str()];
    let mut dice = Dice::new(77);
    let passwords =
        [r"geheim", r"ge\:heim", r"ge:heim", r"ge\\heim\", r"", r" geheim #", r"ge\heim", "geheim\r"];
    let mut found = 0;
    for round in 0..60 {
        let host = hosts[dice.below(3)];
        let mut lines = String::new();
        for _ in 0..=dice.below(5) {
            let mut line = String::new();
            for plain in [host, &port.to_string(), DATABASE, USER] {
                let exact = escaped(plain);
                let field = match dice.below(17) {
                    0 => "*x".to_owned(),
                    1 => "other".to_owned(),
                    2 => format!(r"\{exact}"),
                    3 => format!("{exact} "),
                    4 => r"\*".to_owned(),
                    16 => plain.to_owned(),
                    5..9 => "*".to_owned(),
                    _ => exact,
                };
                line.push_str(&field);
                line.push(':');
            }
            let comment = ["", "", "", "", "", "", "#", " ", "\n"][dice.below(9)];
            writeln!(lines, "{comment}{line}{}", passwords[dice.below(passwords.len())]).expect("written");
        }
        scene.write("home/.pgpass", lines.trim_end_matches('\n'));
        let quote = |text: &str| text.replace('\\', r"\\");
        let dsn = format!("host={host} port={port} user={} dbname={DATABASE} sslmode=disable", quote(USER));
        let contact = scene.assert_as_psql(&Given::dsn(dsn)).unwrap_or_else(|| panic!("round {round}"));
        found += usize::from(contact.password.is_some());
    }
    assert!((15..55).contains(&found), "{found} of 60 have a password");
}

#[test]
fn a_pgpass_is_found_where_libpq_looks_and_read_only_if_nobody_else_may() {
    let scene = Scene::new("modes");
    let (port, second) = (scene.listeners.port(), scene.listeners.port());
    let server = format!("host=127.0.0.1 port={port} user=u dbname=d sslmode=disable");
    let password = |given: &Given| scene.assert_as_psql(given).expect("a server").password;
    scene.write("home/.pgpass", "*:*:*:*:of-home");
    let named = scene.write("named", "*:*:*:*:of-file");
    let at_home = Given::dsn(&server);
    assert_eq!(password(&at_home).as_deref(), Some("of-home"));
    assert_eq!(password(&at_home.clone().and("PGPASSFILE", &named)).as_deref(), Some("of-file"));
    assert_eq!(password(&at_home.clone().and("PGPASSFILE", "")).as_deref(), Some("of-home"));
    assert_eq!(password(&at_home.clone().and("PGPASSFILE", "/nowhere/x")), None);
    assert_eq!(password(&Given::dsn(format!("{server} passfile={named}"))).as_deref(), Some("of-file"));
    assert_eq!(password(&at_home.clone().and("PGPASSWORD", "of-env")).as_deref(), Some("of-env"));
    let emptied = Given::dsn(format!("{server} password=''")).and("PGPASSWORD", "of-env");
    assert_eq!(password(&emptied).as_deref(), Some("of-home"));
    for (mode, is_read) in
        [(0o600, true), (0o400, true), (0o700, true), (0o640, false), (0o604, false), (0o610, false)]
    {
        scene.permit("home/.pgpass", mode);
        assert_eq!(password(&at_home).is_some(), is_read, "{mode:o}");
        let (_, told) = scene.ours(&at_home);
        assert_eq!(told.contains("chmod 600"), !is_read, "{mode:o}: {told}");
    }
    assert_eq!(password(&at_home.clone().and("PGPASSFILE", scene.directory.display().to_string())), None);
    scene.remove("home/.pgpass");
    std::os::unix::fs::symlink(&named, scene.directory.join("home/.pgpass")).expect("linked");
    assert_eq!(password(&at_home).as_deref(), Some("of-file"));

    // Several hosts: each has a line of its own. The first that answers is taken.
    scene.remove("home/.pgpass");
    scene.write("home/.pgpass", &format!("localhost:{second}:d:u:second\n127.0.0.1:*:d:u:first\n"));
    let closed = crate::support::free_port();
    for (hosts, ports, expected) in [
        ("127.0.0.1,localhost", format!("{closed},{second}"), "second"),
        ("127.0.0.1,localhost", format!("{port},{second}"), "first"),
        ("localhost,127.0.0.1", format!("{closed},{second}"), "first"),
        ("127.0.0.1,localhost", second.to_string(), "first"),
    ] {
        let given = Given::dsn(format!("user=u dbname=d sslmode=disable host={hosts}"));
        assert_eq!(
            password(&given.and("PGPORT", ports.clone())).as_deref(),
            Some(expected),
            "{hosts} {ports}"
        );
    }
    // The name counts, not the address; without a name the address counts.
    let given = Given::dsn(format!("user=u dbname=d sslmode=disable host=localhost port={second}"));
    assert_eq!(password(&given.clone().and("PGHOSTADDR", "127.0.0.1")).as_deref(), Some("second"));
    let given = Given::dsn(format!("user=u dbname=d sslmode=disable port={second}"));
    assert_eq!(password(&given.and("PGHOSTADDR", "127.0.0.1")).as_deref(), Some("first"));
}

#[test]
fn a_daemon_reads_the_environment_only_if_its_source_says_so_and_check_shows_every_place() {
    let site = Site::new(Database::empty());
    let scene = Scene::new("check");
    let port = scene.listeners.port();
    scene.write("home/.pgpass", "*:*:*:*:geheim");
    scene.write("home/.pg_service.conf", &format!("[shop]\nhost=127.0.0.1\nport={port}\ndbname=d\n"));
    let mut config = site.config();
    let source = config["sources"]["warehouse"].as_object_mut().expect("a source");
    source.remove("password");
    source["dsn"] = "service=shop options=-ca=geheim sslmode=disable".into();
    let file = site.write("check.toml", &config);
    let given = Given::default().and("PGUSER", "me").and("PGPASSWORD", "geheim");
    let check = |file: &str, json: bool| {
        let arguments = ["check", "--config", file, "--json"];
        said(&scene.run(BINARY, &arguments[..if json { 4 } else { 3 }], &given))
    };
    let told = check(&file, false);
    assert!(told.contains("PGUSER is not read: set `environment = true`"), "{told}");
    // Commands that need no database work all the same.
    let pruned = scene.run(BINARY, &["prune", "--config", &file], &given);
    assert!(pruned.status.success(), "{}", said(&pruned));
    let planned = ["plan", "--config", &file, "--source", "warehouse", "--table", "public.t"];
    let planned = said(&scene.run(BINARY, &planned, &given));
    assert!(planned.contains("sources.warehouse.dsn: it names no user"), "{planned}");

    config["sources"]["warehouse"]["environment"] = true.into();
    let file = site.write("check.toml", &config);
    let told = check(&file, false);
    let service = scene.directory.join("home/.pg_service.conf").display().to_string();
    for line in [
        format!("host = 127.0.0.1, from {service} line 2"),
        format!("port = {port}, from {service} line 3"),
        "user = me, from PGUSER".into(),
        "password = (not shown), from PGPASSWORD".into(),
        "options = (not shown), from dsn".into(),
        "sslmode = disable, from dsn".into(),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    assert!(!told.contains("geheim"), "{told}");
    assert_eq!(scene.listeners.first().and_then(|contact| contact.password).as_deref(), Some("geheim"));
    let json = check(&file, true);
    assert!(json.contains(r#""from": "PGUSER""#) && !json.contains("geheim"), "{json}");
}
