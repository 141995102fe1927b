use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

fn dsn(text: &str) -> Dsn {
    text.parse().expect(text)
}

fn refused(text: &str) -> String {
    text.parse::<Dsn>().expect_err(text).to_string()
}

#[test]
fn tls_of_libpq_is_understood_in_both_forms() {
    for text in [
        "postgres://u:p@db.example:5433/w?sslmode=verify-full&sslrootcert=/etc/my%20ca.pem&connect_timeout=3",
        r"host=db.example port=5433 user=u dbname=w password = 'p' sslmode=verify-full connect_timeout=3
          sslrootcert='/etc/my ca.pem'",
    ] {
        let dsn = dsn(text);
        assert_eq!(dsn.tls.demand, TlsDemand::VerifyFull);
        assert_eq!(dsn.tls.roots, Some(Roots::File("/etc/my ca.pem".into())));
        assert_eq!(dsn.password.as_deref(), Some(b"p".as_slice()));
        assert_eq!(dsn.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(dsn.server(), "db.example:5433");
    }
    assert_eq!(dsn("postgres://u@h/d").tls.demand, TlsDemand::Prefer);
    assert_eq!(dsn("host=/run/postgresql user=u dbname=d sslmode=require").tls.demand, TlsDemand::Disable);
    let system = dsn("postgres://u@h/d?sslrootcert=system").tls;
    assert_eq!((system.roots, system.demand), (Some(Roots::System), TlsDemand::VerifyFull));
    assert!(refused("postgres://u@h/d?sslrootcert=system&sslmode=require").contains("verify-full"));
    assert_eq!(dsn("postgres://u@h/d?ssl_min_protocol_version=tlsv1.3").tls.versions, (false, true));
    assert!(refused("postgres://u@h/d?ssl_max_protocol_version=TLSv1.1").contains("TLSv1.3"));
    assert!(!dsn("postgres://u@h/d?sslsni=0").tls.sni);
}

#[test]
fn a_url_with_an_at_sign_among_its_parameters_is_read_as_libpq_reads_it() {
    let dsn = dsn("postgres://h/db?user=a@b&password=geheim&host=/tmp&sslmode=require");
    assert_eq!((dsn.user.as_str(), dsn.database.as_str()), ("a@b", "db"));
    assert_eq!(dsn.password.as_deref(), Some(b"geheim".as_slice()));
    assert_eq!(dsn.server(), "/tmp:5432");
    assert_eq!(format!("{dsn:?}"), "Dsn(\"/tmp:5432\")");
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_word_about_the_sign() {
    for text in [
        "postgres://h?user=a@b&password=geheim",
        "postgres://h:5432?sslmode=verify-full&user=a@b/d",
        "postgres://h?sslmode=verify-full&password=geheim@b/d",
        "postgres://u:geheim@2@h/d",
        "postgres://u:ge/heim@h/d",
        "postgres://u:12/geheim@h/d",
        "postgres://u:geheim/@h/d",
        "postgres://u:1?ssl=true&x=geheim@h/d",
        "host=a@b&password=geheim user=u dbname=d",
    ] {
        let text = refused(text);
        assert!(text.contains("`@` as %40") || text.contains("`@` written as %40"), "{text}");
        assert!(!text.contains("heim") && !text.contains("verify"), "{text}");
    }
    // Characters in a password that do not end it.
    assert_eq!(dsn("postgres://u:p?w&x#y:z@h/d").password.as_deref(), Some(b"p?w&x#y:z".as_slice()));
}

#[test]
fn a_setting_is_no_part_of_a_name() {
    for text in [
        "postgres://u@h/d;password=geheim",
        "postgres://u@h/d&password=geheim&sslmode=verify-full",
        "postgres://u@h/d#x&Password=geheim",
        "postgres://u;password=geheim@h/d",
        "host=h user=u dbname=d;password=geheim",
        "host=h dbname=d user=u,sslmode=verify-full",
    ] {
        let text = refused(text);
        assert!(text.contains("a setting stands in its `"), "{text}");
        assert!(!text.contains("heim") && !text.contains("verify"), "{text}");
    }
    for name in ["d;e", "d=e", "cn=u,dc=e", "a&b"] {
        assert_eq!(dsn(&format!("host=h user='{name}' dbname='{name}'")).database, name);
    }
}

#[test]
fn every_setting_is_honoured_or_refused_by_its_name() {
    for (keyword, value) in [
        ("sslcrl", "/x"),
        ("sslcrldir", "/x"),
        ("sslpassword", "geheim"),
        ("gssencmode", "require"),
        ("krbsrvname", "x"),
        ("gssdelegation", "1"),
        ("require_auth", "scram-sha-256"),
        ("requirepeer", "postgres"),
        ("replication", "database"),
        ("client_encoding", "LATIN1"),
        ("sslcertmode", "disable"),
        ("sslcompression", "1"),
        ("min_protocol_version", "3.2"),
        ("oauth_client_secret", "geheim"),
        ("sslmode", "geheim"),
        ("sslnegotiation", "geheim"),
        ("channel_binding", "geheim"),
        ("target_session_attrs", "geheim"),
        ("load_balance_hosts", "geheim"),
        ("connect_timeout", "geheim"),
        ("connect_timeout", "0"),
        ("connect_timeout", "99999999999"),
        ("keepalives", "2"),
        ("keepalives_idle", "-1"),
        ("tcp_user_timeout", "geheim"),
        ("sslsni", "2"),
        ("ssl_min_protocol_version", "geheim"),
        ("hostaddr", "geheim"),
    ] {
        let text = refused(&format!("postgres://u@h/d?{keyword}={value}"));
        assert!(text.contains(&format!("`{keyword}`")) && !text.contains("geheim"), "{keyword}: {text}");
        assert_eq!(text, refused(&format!("host=h user=u dbname=d {keyword}={value}")));
    }
    for harmless in [
        "gssencmode=prefer",
        "client_encoding=UTF8",
        "sslcompression=0",
        "replication=false",
        "sslcertmode=allow",
    ] {
        assert_eq!(dsn(&format!("postgres://u@h/d?{harmless}")), dsn("postgres://u@h/d"), "{harmless}");
    }
    let text = refused("postgres://u@h/d?sslmode=require&ssl_mode=verify-full");
    assert!(text.contains("number 2") && text.contains("did you mean `sslmode`?"), "{text}");
    let text = refused("postgres://u@h/d?password=a&geheim=b");
    assert!(text.contains("number 2") && text.contains("%26") && !text.contains("geheim"), "{text}");
}

#[test]
fn numbers_have_the_units_of_libpq() {
    let dsn = dsn(
        "postgres://u@h/d?tcp_user_timeout=1500&keepalives_idle=7&keepalives_interval=0&keepalives_count=2\
         &keepalives=1&application_name=x&options=-c%20a%3Db&target_session_attrs=prefer-standby",
    );
    let second = Duration::from_secs;
    assert_eq!(
        dsn.keepalive,
        Keepalive {
            on: true,
            idle: Some(second(7)),
            interval: Some(second(0)),
            count: Some(2),
            user_timeout: Some(Duration::from_millis(1500)),
        }
    );
    assert_eq!((dsn.application_name.as_deref(), dsn.options.as_deref()), (Some("x"), Some("-c a=b")));
    assert_eq!(dsn.target, Target::PreferStandby);
}

#[test]
fn quotes_and_backslashes_of_a_password_survive() {
    let quoted = dsn(r"host=h user=u dbname=d password='it\'s \\ me' sslmode=require");
    assert_eq!(quoted.password.as_deref(), Some(br"it's \ me".as_slice()));
    assert_eq!(dsn("postgres://u:%ff@h/d").password.as_deref(), Some([0xff].as_slice()));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (text, word) in [
        ("postgres://u:geheim@h/", "database"),
        ("user=u dbname=d", "host"),
        ("postgres://h/d", "user"),
        ("postgres://u@h/d?sslcert=/c.pem", "sslkey"),
        ("postgres://u@h/d?sslnegotiation=direct", "require"),
        ("host=a,b port=1,2,3 user=u dbname=d", "3 values of port for 2 hosts"),
        ("host=a,b hostaddr=::1 user=u dbname=d", "1 values of hostaddr"),
        ("postgres://u@a,,b/d", "`host`"),
        ("postgres://u@h:0/d", "65535"),
        ("postgres://u@h:geheim/d", "65535"),
        ("postgres://u@[::1/d", "brackets"),
        ("postgres://u@h/d?x", "number 1"),
        ("postgres://u@h/d?user=a=b", "%3D"),
        ("postgres://u@h /d", "%20"),
        ("postgres://u%4@h/d", "%25"),
        ("postgres://u%00@h/d", "%25"),
        ("postgres://u@%ff/d", "UTF-8"),
        ("host=h password='geheim", "never closed"),
        ("mysql://u:geheim@h/d", "postgres://user@host/database"),
        ("", "host"),
    ] {
        let said = refused(text);
        assert!(said.contains(word) && !said.contains("geheim"), "{text}: {said}");
    }
}

#[test]
fn an_identity_names_role_servers_and_database_alone() {
    for (text, identity) in [
        ("postgres://u:p@h/d?sslmode=require", "u@h:5432/d"),
        ("postgres://u@h1:1,h2:2/d", "u@h1,h2:1,2/d"),
        ("host=h hostaddr=::1 port=7 user=u dbname=d", "u@h=::1:7/d"),
        ("host=/run/pg user=u dbname=d password=p", "u@/run/pg:5432/d"),
    ] {
        assert_eq!(dsn(text).identity(), identity);
    }
}

const MARKER: &str = "geheim";

/// Connection strings with a marker where a password may be, and with special characters around it.
fn with_marker() -> impl Strategy<Value = String> {
    let noise = "[@:/?&=%#,'\\\\ \\[\\]a1]{0,4}";
    let secret = (noise, noise).prop_map(|(a, b)| format!("{a}{MARKER}{b}"));
    let url = secret.clone().prop_flat_map(|s| {
        prop_oneof![
            Just(format!("postgres://u:{s}@h:5432/d?sslmode=require")),
            Just(format!("postgresql://h/d?user=a@b&password={s}&host=/tmp")),
            Just(format!("postgres://h:5432?user=a@b&password={s}&sslmode=verify-full")),
            Just(format!("postgres://u@h,i:1/d?sslmode=require&sslpassword={s}")),
        ]
    });
    let pairs = secret.prop_flat_map(|s| {
        prop_oneof![
            Just(format!("host=h user=u dbname=d password={s} sslmode=require")),
            Just(format!("host=h password='{s}' user=u dbname=d")),
        ]
    });
    prop_oneof![url, pairs]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_refusal_never_shows_a_piece_of_the_string(
        text in with_marker(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), "[@:/?&=%' ]{0,1}", 0_usize..3), 0..4),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        for (place, sign, length) in &cuts {
            let at = place.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars.splice(at..end, sign.chars());
        }
        let text: String = chars.into_iter().collect();
        match text.parse::<Dsn>() {
            Err(error) => {
                // The marker may have been cut, so every piece of four letters counts.
                for piece in ["gehe", "ehei", "heim"] {
                    prop_assert!(!error.to_string().contains(piece), "{text}: {error}");
                    prop_assert!(!format!("{error:?}").contains(piece), "{text}: {error:?}");
                }
            }
            // The shown text of an accepted string has no characters that belong to passwords or parameters.
            Ok(dsn) => {
                let shown = format!("{} {dsn:?}", dsn.server());
                prop_assert!(!shown.contains(['@', '&', '=', '?']), "{text}: {shown}");
            }
        }
    }
}

/// How libpq itself reads connection strings; `None` for one that it refuses.
fn libpq(texts: &[String]) -> Vec<Option<std::collections::BTreeMap<String, String>>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/conninfo.py");
    let mut child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run python3");
    let body = serde_json::to_vec(texts).expect("JSON");
    child.stdin.take().expect("piped").write_all(&body).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{script}: is libpq5 installed?");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Settings that libpq knows only since PostgreSQL 16.
const LATER: [&str; 2] = ["sslnegotiation", "load_balance_hosts"];

/// Compares an accepted string with what libpq reads from it.
fn assert_as_libpq(text: &str, said: Option<&std::collections::BTreeMap<String, String>>) {
    let Ok(ours) = text.parse::<Dsn>() else { return };
    let said = said.unwrap_or_else(|| panic!("libpq refuses {text}"));
    let get = |keyword: &str| said.get(keyword).map(String::as_str).filter(|value| !value.is_empty());
    assert_eq!(get("user"), Some(ours.user.as_str()), "user of {text}");
    assert_eq!(get("dbname"), Some(ours.database.as_str()), "dbname of {text}");
    let password = ours.password.map(|bytes| bytes.iter().map(|b| char::from(*b)).collect::<String>());
    assert_eq!(get("password"), password.as_deref(), "password of {text}");
    let hosts: Vec<&str> = get("host").map_or(Vec::new(), |hosts| hosts.split(',').collect());
    let ports: Vec<&str> = get("port").map_or(vec!["5432"], |ports| ports.split(',').collect());
    for (i, server) in ours.servers.iter().enumerate() {
        let host = match &server.host {
            Some(Host::Tcp(name)) => Some(name.as_str()),
            Some(Host::Unix(path)) => path.to_str(),
            None => None,
        };
        assert_eq!(hosts.get(i).copied().filter(|h| !h.is_empty()), host, "host {i} of {text}");
        let port = ports.get(i).unwrap_or(&ports[0]).trim();
        assert_eq!(
            if port.is_empty() { "5432" } else { port },
            server.port.to_string(),
            "port {i} of {text}"
        );
    }
    if !ours.servers.iter().all(Server::is_local) {
        let demand = match get("sslmode") {
            None if get("sslrootcert") == Some("system") => TlsDemand::VerifyFull,
            None | Some("allow" | "prefer") => TlsDemand::Prefer,
            Some("disable") => TlsDemand::Disable,
            Some("require") => TlsDemand::Require,
            Some("verify-ca") => TlsDemand::VerifyCa,
            Some("verify-full") => TlsDemand::VerifyFull,
            Some(other) => panic!("{other} of {text}"),
        };
        assert_eq!(ours.tls.demand, demand, "sslmode of {text}");
    }
    assert_eq!(get("options"), ours.options.as_deref(), "options of {text}");
}

#[test]
fn what_is_accepted_means_what_it_means_to_libpq() {
    let accepted = [
        "postgres://u@h/d",
        "postgresql://u:p@h:1/d?sslmode=verify-full",
        "postgres://h/db?user=a@b&password=geheim&host=/tmp",
        "postgres://h/db?user=a@b&password=geheim&sslmode=verify-full",
        "postgres://u@h,i:5,[::1]:7/d",
        "postgres://u@h:,i/d?port=1,2",
        "postgres://u@h%2Ci/d",
        "postgres://u@%2Ftmp/d",
        "postgres:///d?host=/tmp&user=u",
        "postgres://u:p?w&x#y:z=@h/d",
        "postgres://u:@h/d?",
        "postgres://u@h/d/e",
        "postgres://u@h?dbname=d",
        "postgres://u@h/d?us%65r=x&ssl=true&",
        "postgres://u@h/d?user=x&user=y&host=z",
        "postgres://u@h/d?requiressl=1",
        "postgres://u%40x:p%3a%2f%25@h/my%20d?options=-c%20a%3Db",
        r"host = h user='u' dbname=d password='it\'s \\ me'",
        r"host=h user=u dbname=d password=a\ b\'c\\ sslmode=require",
        "user='u'dbname='d'host='h'",
        "host=h,i port=1,2 user=u dbname=d",
        "host=a host=b user=u dbname=d requiressl=0",
        "host=h user=u dbname=a=b@c:d",
        "host=h user=u dbname=d password=x\\",
    ]
    .map(str::to_owned);
    for (text, said) in accepted.iter().zip(libpq(&accepted)) {
        dsn(text);
        assert_as_libpq(text, said.as_ref());
    }
    // Corrupted strings. Those that are still accepted are compared.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pieces = "(u|h|d|p|/|:|@|,|\\?|&|=|%40|%2F|\\[::1\\]|user=|host=|sslmode=require|password=|5432| |'|\\\\){0,8}";
    let tail = proptest::string::string_regex(pieces).expect("a pattern");
    let starts =
        ["postgres://", "postgres://u:p@h/d", "postgres://h/d?user=u&", "host=h user=u dbname=d ", "user=u "];
    let mut texts = Vec::new();
    for _ in 0..1500 {
        let start = (0..starts.len()).new_tree(&mut runner).expect("a number").current();
        let tail = tail.new_tree(&mut runner).expect("a text").current();
        texts.push(format!("{}{tail}", starts[start]));
    }
    texts.retain(|text| !LATER.iter().any(|later| text.contains(later)));
    let taken = texts.iter().filter(|text| text.parse::<Dsn>().is_ok()).count();
    assert!(taken > 50, "only {taken} are accepted: nothing is compared");
    for (text, said) in texts.iter().zip(libpq(&texts)) {
        assert_as_libpq(text, said.as_ref());
    }
}

#[test]
fn strings_of_vertica_have_its_port_and_no_setting_of_postgresql() {
    let of = |text: &str| Dsn::of_vertica(text);
    for text in [
        "vertica://u:p@n1,n2:5434,n3/w?sslmode=require",
        "host=n1,n2,n3 port=,5434, user=u password=p dbname=w sslmode=require",
    ] {
        let dsn = of(text).expect(text);
        let ports: Vec<u16> = dsn.servers.iter().map(|server| server.port).collect();
        assert_eq!((ports, dsn.tls.demand), (vec![5433, 5434, 5433], TlsDemand::Require), "{text}");
    }
    assert_eq!(of("vertica://u@h/d").expect("valid").servers[0].port, 5433);
    for text in ["postgres://u@h/d", "u@h/d", ""] {
        assert!(of(text).is_err(), "{text}");
    }
    for setting in [
        "options=-c%20a=b",
        "target_session_attrs=primary",
        "channel_binding=require",
        "keepalives_idle=9",
        "hostaddr=127.0.0.1",
        "sslnegotiation=direct",
    ] {
        let error =
            of(&format!("vertica://u:geheim@h/d?sslmode=require&{setting}")).expect_err(setting).to_string();
        assert!(!error.contains("geheim"), "{error}");
    }
    assert!(refused("vertica://u@h/d").contains("postgres://"));
    for (text, says) in [
        ("vertica://u@h/d?backup_server_node=n2", "use backup_hosts"),
        ("vertica://u@h/d?connect_timout=3", "did you mean `connect_timeout`"),
        ("vertica://u@h/d?optoins=3", "none that a Vertica source has"),
        ("vertica://u@h", "vertica://user@node1.example/warehouse"),
        ("vertica://h/d", "names no user; write e.g. vertica://"),
        ("vertica://u@[::1/d", "e.g. vertica://user@[fe80::1]:5433"),
    ] {
        let told = of(text).expect_err(text).to_string();
        assert!(told.contains(says) && !told.contains("ostgre"), "{text}: {told}");
    }
}
