//! Messages to the server.
//!
//! Source: `messages/frontend_messages/` of `vertica-python`.

use super::backend::Key;
use super::{Credential, Login};

/// The version that all servers since 3.5 understand. It stands in the fixed field of Startup.
const FIXED_VERSION: u32 = version(3, 5);
/// The newest version that this client understands. The server answers with the one to use.
pub(super) const NEWEST_VERSION: u32 = version(3, 16);
/// From this version on, RowDescription tells what complex types consist of.
pub(super) const COMPLEX_TYPES: u32 = version(3, 12);
/// What a server speaks that does not answer with a version.
pub(super) const OLDEST_VERSION: u32 = FIXED_VERSION;

/// LoadBalanceRequest: length and code.
pub(super) const LOAD_BALANCE_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd3, 0x00, 0x00];
/// Terminate.
pub(super) const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

const CANCEL_CODE: u32 = 80_877_102;

const fn version(major: u32, minor: u32) -> u32 {
    major << 16 | minor
}

/// Which user, process and machine we are.
pub(super) struct Client {
    os: String,
    os_user: String,
    host: String,
}

impl Client {
    pub(super) fn here() -> Self {
        let system = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Self {
            os: format!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())),
            os_user: uzers::get_current_username().unwrap_or_default().to_string_lossy().into_owned(),
            host: text(system.nodename()),
        }
    }
}

/// Startup. All results become binary. Each statement is a transaction of its own.
pub(super) fn startup(login: &Login, client: &Client) -> Vec<u8> {
    let pid = std::process::id().to_string();
    let (category, token) = match &login.secret {
        Credential::OAuthToken(token) => ("OAuth", Some(token.expose())),
        Credential::Password(Some(_)) => ("User", None),
        Credential::Password(None) => ("", None),
    };
    let parameters = [
        ("user", login.user.as_str()),
        ("database", &login.database),
        ("client_label", &login.label),
        ("client_type", "adu-export"),
        ("client_version", env!("CARGO_PKG_VERSION")),
        ("client_os", &client.os),
        ("client_os_user_name", &client.os_user),
        ("client_os_hostname", &client.host),
        ("client_pid", &pid),
        ("autocommit", "on"),
        ("binary_data_protocol", "1"),
        ("protocol_features", "{\"request_complex_types\":true}"),
        ("protocol_compat", "VER"),
        ("workload", ""),
        ("auth_category", category),
    ];
    // Servers of version 3.11 read the token here.
    let token = token.map(|token| ("oauth_access_token", token));
    message(None, |body| {
        body.extend(FIXED_VERSION.to_be_bytes());
        text(body, "protocol_version");
        body.extend(NEWEST_VERSION.to_be_bytes());
        body.push(0);
        for (name, value) in parameters.into_iter().chain(token) {
            text(body, name);
            text(body, value);
        }
        body.push(0);
    })
}

/// Password, or another answer in its place.
pub(super) fn password(answer: &str) -> Vec<u8> {
    message(Some(b'p'), |body| text(body, answer))
}

/// Query.
pub(super) fn query(sql: &str) -> Vec<u8> {
    message(Some(b'Q'), |body| text(body, sql))
}

/// CancelRequest.
pub(super) fn cancel(key: Key) -> Vec<u8> {
    message(None, |body| {
        for word in [CANCEL_CODE, key.process, key.secret] {
            body.extend(word.to_be_bytes());
        }
    })
}

fn message(tag: Option<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out: Vec<u8> = tag.into_iter().collect();
    let start = out.len();
    out.extend([0; 4]);
    write(&mut out);
    // Nothing that we send is near 4 GiB.
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out
}

/// A text and its zero byte. The caller has refused texts that contain one.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}
