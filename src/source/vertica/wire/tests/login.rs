//! Startup and authentication.

use super::super::login::log_in;
use super::*;
use crate::source::{ErrorKind, SourceError};

/// Logs in at a server that sends these bytes after Startup, and returns what it receives in answer.
async fn try_log_in(secret: Credential, sent: &[u8]) -> (Result<Greeting, SourceError>, Vec<(u8, Vec<u8>)>) {
    let (mut server, client) = duplex(1 << 16);
    let login = login_as(secret);
    let logged_in = tokio::spawn(async move {
        let logged_in = log_in(client, &login, &Client::here(), "connect to h:5433").await;
        logged_in.map(|(_, greeting)| greeting)
    });
    untyped(&mut server).await;
    server.write_all(sent).await.expect("the client reads");
    let result = logged_in.await.expect("no panic");
    let mut answers = Vec::new();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.expect("the rest");
    let mut rest = rest.as_slice();
    while !rest.is_empty() {
        answers.push(received(&mut rest).await);
    }
    (result, answers)
}

/// What is answered when the server asks for a proof and then accepts it.
async fn answer(secret: Credential, asked: &[u8]) -> String {
    let (result, answers) = try_log_in(secret, &[asked, &greeting()].concat()).await;
    result.expect("logged in");
    let [(b'p', body)] = answers.as_slice() else { panic!("{answers:?}") };
    let text = body.strip_suffix(b"\0").expect("a zero byte at the end");
    String::from_utf8(text.to_vec()).expect("a text")
}

#[tokio::test]
async fn startup_says_what_the_vendors_client_says() {
    let (mut server, client) = duplex(1 << 16);
    let login = login_as(Credential::OAuthToken(Secret::new("a token")));
    tokio::spawn(async move { log_in(client, &login, &Client::here(), "connect").await.map(|_| ()) });
    let body = untyped(&mut server).await;
    let (fixed, rest) = body.split_first_chunk::<4>().expect("a version");
    assert_eq!(*fixed, [0, 3, 0, 5]);
    let rest = rest.strip_prefix(b"protocol_version\0\x00\x03\x00\x10\0").expect("a requested version");
    let rest = rest.strip_suffix(b"\0\0").expect("an end");
    let texts: Vec<_> = rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text)).collect();
    let value = |name: &str| {
        texts
            .chunks(2)
            .find(|pair| pair[0] == name)
            .map(|pair| pair[1].clone().into_owned())
            .expect("a parameter")
    };
    assert_eq!(value("user"), "dbadmin");
    assert_eq!(value("database"), "vdb");
    assert_eq!(value("client_label"), "adu-export test");
    assert_eq!(value("autocommit"), "on");
    assert_eq!(value("binary_data_protocol"), "1");
    assert_eq!(value("protocol_features"), "{\"request_complex_types\":true}");
    assert_eq!(value("protocol_compat"), "VER");
    assert_eq!(value("auth_category"), "OAuth");
    assert_eq!(value("oauth_access_token"), "a token");
    assert_eq!(value("client_pid"), std::process::id().to_string());
}

#[tokio::test]
async fn each_method_gets_its_answer() {
    assert_eq!(answer(password("geheim"), &authentication(3, &[])).await, "geheim");
    // Computed with Python's hashlib, as in vertica-python.
    let md5 = "md55a970f542befe6b0dea201d9e7966e9a";
    for code in [5, 65536 + 5] {
        assert_eq!(answer(password("geheim"), &authentication(code, &[1, 2, 3, 4])).await, md5);
    }
    let user_salt: [u8; 16] = std::array::from_fn(|i| i as u8);
    let salts = [&[1, 2, 3, 4, 0, 0, 0, 16][..], &user_salt].concat();
    let sha512 = "sha5121fed04ae590302880c1e5fbbba4c4e348a10e6c743fdcb70dbad450001b24b90b6af38feed5dec56703752726adb2e99ca66ec5f805cc13bb2423d8d46264cf2";
    for code in [65536, 65536 + 512] {
        assert_eq!(answer(password("geheim"), &authentication(code, &salts)).await, sha512);
    }
    let token = Credential::OAuthToken(Secret::new("a token"));
    assert_eq!(answer(token, &authentication(12, &[])).await, "a token");
}

#[tokio::test]
async fn trust_needs_no_answer_and_tells_the_session() {
    let (result, answers) = try_log_in(Credential::Password(None), &greeting()).await;
    let greeting = result.expect("logged in");
    assert!(answers.is_empty());
    assert_eq!(greeting.key.map(|key| (key.process, key.secret)), Some((42, 4711)));
    assert!(greeting.complex && greeting.protocol == frontend::NEWEST_VERSION);
    // Notices, unknown parameters and a password that expires soon change nothing.
    let chatter = [
        authentication(11, &[]),
        message(b'N', b"SNOTICE\0C01000\0MHello\0\0"),
        parameter("server_version", "v24.2.0"),
        super::greeting(),
    ];
    let (result, _) = try_log_in(Credential::Password(None), &chatter.concat()).await;
    result.expect("logged in");
}

#[tokio::test]
async fn old_servers_say_no_version_and_describe_no_complex_types() {
    let old = [authentication(0, &[]), key(1, 2), ready()].concat();
    let (result, _) = try_log_in(Credential::Password(None), &old).await;
    let greeting = result.expect("logged in");
    assert!(!greeting.complex && greeting.protocol == frontend::OLDEST_VERSION);
    let older = [
        authentication(0, &[]),
        parameter("protocol_version", &(3_u32 << 16 | 11).to_string()),
        parameter("request_complex_types", "on"),
        ready(),
    ];
    let (result, _) = try_log_in(Credential::Password(None), &older.concat()).await;
    assert!(!result.expect("logged in").complex);
    for unknown in [(3_u32 << 16 | 17).to_string(), (2_u32 << 16).to_string(), "new".into()] {
        let sent = [authentication(0, &[]), parameter("protocol_version", &unknown), ready()].concat();
        let (result, _) = try_log_in(Credential::Password(None), &sent).await;
        assert_eq!(result.expect_err("unknown").code, "protocol", "{unknown}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_by_name_and_tells_no_secret() {
    let cases: [(Credential, Vec<u8>, &str); 9] = [
        (Credential::Password(None), authentication(3, &[]), "asks for a password"),
        (Credential::Password(None), authentication(65536, &[7; 24]), "16 bytes"),
        (password("geheim"), authentication(12, &[]), "OAuth"),
        (Credential::OAuthToken(Secret::new("geheim")), authentication(3, &[]), "asks for a password"),
        (password("geheim"), authentication(7, &[]), "Kerberos"),
        (password("geheim"), authentication(9, &[]), "expired"),
        (password("geheim"), authentication(14, &[]), "TOTP"),
        (password("geheim"), authentication(4, &[1, 2]), "crypt"),
        (password("geheim"), authentication(99, &[]), "99"),
    ];
    for (secret, asked, named) in cases {
        let (result, answers) = try_log_in(secret, &asked).await;
        let error = result.expect_err("refused");
        assert!(error.message.contains(named) && answers.is_empty(), "{error}");
        assert!(error.remedy.is_some());
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
        if named != "16 bytes" {
            assert_eq!(error.kind, ErrorKind::Authentication, "{error}");
        }
    }
    let login = login_as(password("geheim"));
    assert!(!format!("{login:?}").contains("geheim"));
}

#[tokio::test]
async fn the_servers_refusal_is_passed_on() {
    for (code, number, kind) in [
        ("28000", 3781, ErrorKind::Authentication),
        ("53300", 4060, ErrorKind::Exhausted),
        ("57V03", 4060, ErrorKind::Exhausted),
        ("57V03", 4149, ErrorKind::Transient),
        ("3D000", 2983, ErrorKind::Permanent),
    ] {
        let (result, _) = try_log_in(password("geheim"), &error("FATAL", code, number)).await;
        let error = result.expect_err("refused");
        assert_eq!((error.kind, error.code.as_str()), (kind, code));
        assert!(error.message.contains("it failed") && !error.message.contains("secret row"), "{error}");
    }
}

#[tokio::test]
async fn nobody_is_logged_in_before_the_server_says_so() {
    let (result, _) = try_log_in(password("geheim"), &[key(1, 2), ready()].concat()).await;
    assert!(result.expect_err("not asked").message.contains("ReadyForQuery"));
    let (result, _) = try_log_in(password("geheim"), &message(b'D', &[0, 0])).await;
    assert!(result.expect_err("no row belongs here").message.contains("DataRow"));
    for length in [0_u32, 3, 1 << 30, u32::MAX] {
        let mut sent = vec![b'R'];
        sent.extend(length.to_be_bytes());
        let (result, _) = try_log_in(password("geheim"), &sent).await;
        assert!(result.expect_err("impossible").message.contains("length"), "{length}");
    }
}
