//! Parses the broker's URL. The parser of the client library takes a host in brackets for `localhost` and
//! ignores parameters and fragments that it does not know. Here each part is either understood or refused,
//! and a refusal never shows the part.

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

use crate::text::percent_decoded;

/// Reads `amqp://user:password@host:port/vhost?…`.
///
/// # Errors
/// The text says what to write and never shows a part of the URL.
pub(super) fn read(text: &str) -> Result<AMQPUri, String> {
    const FORM: &str = "is not a URL such as amqp://user:password@host:5672/%2f";
    const SIGNS: &str = "has a `@`, `/`, `?` or `#` that is taken for the end of user, password, host or vhost: \
                         write `@` as %40, `/` as %2F, `?` as %3F, `#` as %23, `:` as %3A and `%` as %25 inside of user, password and vhost";
    let (scheme, rest) = match text.split_once("://") {
        Some(("amqp", rest)) => (AMQPScheme::AMQP, rest),
        Some(("amqps", rest)) => (AMQPScheme::AMQPS, rest),
        _ => return Err(FORM.into()),
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a space: write it as %20".into());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // A `@` here comes from a password that is not escaped, and a `#` would begin a fragment, which AMQP URLs
    // do not have.
    if rest.contains(['@', '#']) {
        return Err(SIGNS.into());
    }
    let (credentials, place) = authority.rsplit_once('@').map_or((None, authority), |(c, p)| (Some(c), p));
    let userinfo = match credentials {
        None => AMQPUserInfo::default(),
        Some(credentials) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            AMQPUserInfo { username: decoded(user)?, password: decoded(password)? }
        }
    };
    let (host, port) = host_and_port(place).ok_or(SIGNS)?;
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(
            "has a port that is not a number from 1 to 65535; if it belongs to the password, write `@` as %40, `/` as \
             %2F, `?` as %3F and `#` as %23",
        )?,
        None => scheme.default_port(),
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let vhost = path.strip_prefix('/').map_or(Ok("/".to_owned()), decoded)?;
    let query = query.map_or(Ok(AMQPQueryString::default()), parameters)?;
    Ok(AMQPUri { scheme, authority: AMQPAuthority { userinfo, host, port }, vhost, query })
}

/// The host without brackets, and the port. `None` if this cannot be a host.
fn host_and_port(place: &str) -> Option<(String, Option<&str>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => {
            let (address, after) = inside.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.') || (c == ':' && place.starts_with('['));
    let host = if host.is_empty() { "localhost" } else { host };
    host.chars().all(plain).then(|| (host.to_owned(), port.filter(|port| !port.is_empty())))
}

/// Reads the parameters that we support. For others the error says which setting to use.
fn parameters(query: &str) -> Result<AMQPQueryString, String> {
    let mut found = AMQPQueryString::default();
    let mut seen = Vec::new();
    for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        let wrong = |known: &str| format!("has a value of `{known}` that cannot be used");
        match name.as_str() {
            "frame_max" => found.frame_max = Some(value.parse().map_err(|_| wrong("frame_max"))?),
            "channel_max" => found.channel_max = Some(value.parse().map_err(|_| wrong("channel_max"))?),
            "auth_mechanism" => {
                found.auth_mechanism = Some(value.parse().map_err(|_| wrong("auth_mechanism"))?)
            }
            other => {
                let instead = INSTEAD.iter().find(|(name, _)| *name == other);
                return Err(match instead {
                    Some((name, setting)) => {
                        format!("has a parameter `{name}`, which is not supported: {setting}")
                    }
                    None => format!(
                        "has a parameter (number {}) that is not frame_max, channel_max or auth_mechanism; if it \
                         belongs to the password, write `?` as %3F, `&` as %26, `@` as %40",
                        number + 1
                    ),
                });
            }
        }
        if seen.contains(&name) {
            return Err(format!("has the parameter `{name}` twice"));
        }
        seen.push(name);
    }
    Ok(found)
}

/// Parameters that other clients of RabbitMQ know, and what to set here instead.
const INSTEAD: [(&str, &str); 10] = [
    ("heartbeat", "set broker.heartbeat"),
    ("connection_timeout", "set broker.call_timeout"),
    ("cacertfile", "set broker.ca_file"),
    ("certfile", "set broker.cert_file"),
    ("keyfile", "set broker.key_file"),
    ("password", "broker.key_file must be a key without passphrase"),
    ("verify", "leave it out: the broker's certificate is always verified"),
    ("fail_if_no_peer_cert", "leave it out: the broker's certificate is always verified"),
    ("server_name_indication", "leave it out: the broker is asked for by the host of this URL"),
    ("depth", "leave it out"),
];

fn decoded(text: &str) -> Result<String, String> {
    const PERCENT: &str =
        "has a `%` without two hex digits after it, or bytes that are not UTF-8: write `%` itself as %25";
    let bytes = percent_decoded(text.as_bytes()).ok_or(PERCENT)?;
    String::from_utf8(bytes).map_err(|_| PERCENT.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (String, String, String, u16, String) {
        let AMQPUri { authority: AMQPAuthority { userinfo, host, port }, vhost, .. } =
            read(text).expect(text);
        (userinfo.username, userinfo.password, host, port, vhost)
    }

    #[test]
    fn every_part_is_where_it_belongs() {
        for (text, (user, password, host, port, vhost)) in [
            ("amqp://", ("guest", "guest", "localhost", 5672, "/")),
            ("amqp://h", ("guest", "guest", "h", 5672, "/")),
            ("amqp://h/", ("guest", "guest", "h", 5672, "")),
            ("amqps://u:p@h/%2f", ("u", "p", "h", 5671, "/")),
            ("amqp://u@h:1/v", ("u", "", "h", 1, "v")),
            (
                "amqp://u%40x:p%3aq%2F@h.example:56/my%2fhost?frame_max=8192",
                ("u@x", "p:q/", "h.example", 56, "my/host"),
            ),
            ("amqp://u:p@ss:w@h/v", ("u", "p@ss:w", "h", 5672, "v")),
            ("amqp://u:p@[::1]:7/v", ("u", "p", "::1", 7, "v")),
            ("amqp://u:p@[fe80::1]", ("u", "p", "fe80::1", 5672, "/")),
        ] {
            let expected = (user.into(), password.into(), host.into(), port, vhost.into());
            assert_eq!(parts(text), expected, "{text}");
        }
        assert_eq!(
            read("amqp://h?auth_mechanism=external&channel_max=9").expect("valid").query.channel_max,
            Some(9)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_shown() {
        for (text, word) in [
            ("http://u:geheim@h", "amqp://"),
            ("geheim", "amqp://"),
            ("amqp:u:geheim@h", "amqp://"),
            ("amqp://u:ge/heim@h/v", "%40"),
            ("amqp://u:12/geheim@h/v", "%40"),
            ("amqp://u:12#geheim", "%23"),
            ("amqp://u:12?geheim@h/v", "%3F"),
            ("amqp://u:geheim/v", "65535"),
            ("amqp://u:p@h&x=geheim/v", "%40"),
            ("amqp://u:p@[geheim]/v", "%40"),
            ("amqp://u:p@h:0/v", "65535"),
            ("amqp://u:p%zz@h/v", "%25"),
            ("amqp://u:p@h/v?heartbeat=10", "broker.heartbeat"),
            ("amqps://u:p@h/v?verify=verify_none", "always verified"),
            ("amqps://u:p@h/v?cacertfile=/geheim", "broker.ca_file"),
            ("amqps://u:p@h/v?geheim=1", "number 1"),
            ("amqps://u:p@h/v?frame_max=geheim", "`frame_max`"),
            ("amqps://u:p@h/v?frame_max=1&frame_max=2", "twice"),
            ("amqp://u:p geheim@h/v", "%20"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(word) && !said.contains("geheim"), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn a_password_is_never_shown_whatever_stands_around_it(
            before in "[@:/?&=%#\\[\\] a1]{0,4}",
            after in "[@:/?&=%#\\[\\] a1]{0,4}",
            cut in any::<prop::sample::Index>(),
            sign in "[@:/?&=%#]{0,1}",
        ) {
            let mut text = format!("amqp://u:{before}geheim{after}@h:5672/v?frame_max=9000");
            let place = 7 + cut.index(text.len() - 7);
            text.replace_range(place..place + 1, &sign);
            match read(&text) {
                Err(said) => {
                    for piece in ["gehe", "ehei", "heim"] {
                        prop_assert!(!said.contains(piece), "{text}: {said}");
                    }
                }
                Ok(uri) => {
                    let shown = format!("{}{}", uri.authority.host, uri.vhost);
                    // Without the `@` before the host nobody can tell a password from a host.
                    prop_assert!(!shown.contains("geheim") || !text.contains("@h:5672"), "{text}: {shown}");
                }
            }
        }
    }
}
