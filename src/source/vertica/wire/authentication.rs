//! Authentication: what the server asks for, and our answers.
//!
//! Source: `messages/backend_messages/authentication.py` and `messages/frontend_messages/password.py` of
//! `vertica-python`.

use std::fmt::Write;

use postgres_protocol::authentication::md5_hash;
use sha2::{Digest, Sha512};

use super::backend::{Malformed, Reader};
use super::{Credential, Login};
use crate::config::Advice;
use crate::source::SourceError;

/// What the server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing more: we are logged in.
    Nothing,
    /// Nothing more, but the password expires soon.
    NewPasswordSoon,
    Cleartext,
    Md5 {
        salt: [u8; 4],
    },
    Sha512 {
        salt: [u8; 4],
        user_salt: [u8; 16],
    },
    OAuth,
    /// Something that this client does not do.
    Other(u32),
}

const USER_SALT: u32 = 16;

/// Reads the body of an Authentication message.
pub(super) fn parse(body: &[u8]) -> Result<Asked, Malformed> {
    let mut reader = Reader::new(body);
    Ok(match reader.u32()? {
        0 => Asked::Nothing,
        3 => Asked::Cleartext,
        // By its own name, and as a kind of hash.
        5 | 0x1_0005 => Asked::Md5 { salt: reader.bytes()? },
        11 => Asked::NewPasswordSoon,
        12 => Asked::OAuth,
        // A hash without a name is SHA-512.
        0x1_0000 | 0x1_0200 => {
            let salt = reader.bytes()?;
            if reader.u32()? != USER_SALT {
                return Err(Malformed("the user's salt does not have 16 bytes"));
            }
            Asked::Sha512 { salt, user_salt: reader.bytes()? }
        }
        other => Asked::Other(other),
    })
}

/// The text that answers what the server asks for; `None` if it wants no answer.
pub(super) fn answer(login: &Login, asked: &Asked, what: &str) -> Result<Option<String>, SourceError> {
    match (asked, &login.secret) {
        (Asked::Nothing | Asked::NewPasswordSoon, _) => Ok(None),
        (Asked::OAuth, Credential::OAuthToken(token)) => Ok(Some(token.expose().to_owned())),
        (Asked::OAuth, Credential::Password(_)) => Err(refused(
            format!("{what}: the server asks for an OAuth token"),
            "give the source an OAuth access token, or have the user authenticated by a password (hash)",
        )),
        (Asked::Cleartext | Asked::Md5 { .. } | Asked::Sha512 { .. }, Credential::OAuthToken(_)) => {
            Err(refused(
                format!("{what}: the server asks for a password, and the source has an OAuth token"),
                "give the source a password, or grant the user an authentication record of method oauth",
            ))
        }
        (asked, Credential::Password(None)) if !matches!(asked, Asked::Other(_)) => Err(
            SourceError::authentication("authentication", format!("{what}: the server asks for a password"))
                .with_remedy(Advice::NoPassword),
        ),
        (Asked::Cleartext, Credential::Password(Some(password))) => Ok(Some(password.expose().to_owned())),
        (Asked::Md5 { salt }, Credential::Password(Some(password))) => {
            Ok(Some(md5_hash(login.user.as_bytes(), password.expose().as_bytes(), *salt)))
        }
        (Asked::Sha512 { salt, user_salt }, Credential::Password(Some(password))) => {
            Ok(Some(sha512(password.expose(), *salt, *user_salt)))
        }
        (Asked::Other(code), _) => Err(unsupported(*code, what)),
        (_, Credential::Password(None)) => unreachable!("it is refused above"),
    }
}

/// SHA-512 of the hexadecimal digits of SHA-512 of the password and the user's salt, and of the salt of this
/// login.
fn sha512(password: &str, salt: [u8; 4], user_salt: [u8; 16]) -> String {
    let inner = hex::encode(Sha512::new().chain_update(password).chain_update(user_salt).finalize());
    let outer = Sha512::new().chain_update(inner).chain_update(salt).finalize();
    let mut text = String::from("sha512");
    for byte in outer {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn refused(message: String, remedy: &'static str) -> SourceError {
    SourceError::authentication("authentication", message).with_remedy(remedy)
}

/// The error for a method that this client does not have.
fn unsupported(code: u32, what: &str) -> SourceError {
    const METHOD: &str = "have the server authenticate this user by a password (method hash), trust, a client \
                          certificate, LDAP or OAuth";
    let (method, remedy) = match code {
        1 | 2 => ("Kerberos", METHOD),
        4 => ("a password by crypt", METHOD),
        6 => ("SCM credentials", METHOD),
        7 | 8 => ("Kerberos (GSS)", METHOD),
        9 => (
            "a new password, because the user's has expired",
            "set a new password for the user (ALTER USER … IDENTIFIED BY), and give it to the source",
        ),
        10 => ("nothing after a change of the password", METHOD),
        14 => ("a one-time code (TOTP)", "export as a user without multi-factor authentication"),
        _ => {
            return refused(format!("{what}: the server asks for the unknown authentication {code}"), METHOD);
        }
    };
    refused(format!("{what}: the server asks for {method}, which this client does not do"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_vendors_clients() {
        // hashlib: sha512(sha512(b"geheim" + bytes(range(16))).hexdigest().encode() + b"\x01\x02\x03\x04")
        let user_salt = std::array::from_fn(|i| i as u8);
        assert_eq!(sha512("geheim", [1, 2, 3, 4], user_salt), SHA512_VECTOR);
        // hashlib: md5(md5(b"geheim" + b"dbadmin").hexdigest().encode() + b"\x01\x02\x03\x04")
        assert_eq!(md5_hash(b"dbadmin", b"geheim", [1, 2, 3, 4]), MD5_VECTOR);
    }

    const SHA512_VECTOR: &str = "sha5121fed04ae590302880c1e5fbbba4c4e348a10e6c743fdcb70dbad450001b24b90b6af38feed5dec56703752726adb2e99ca66ec5f805cc13bb2423d8d46264cf2";
    const MD5_VECTOR: &str = "md55a970f542befe6b0dea201d9e7966e9a";

    #[test]
    fn each_method_is_read_or_named() {
        assert_eq!(parse(&[0, 0, 0, 0]), Ok(Asked::Nothing));
        assert_eq!(parse(&[0, 0, 0, 3]), Ok(Asked::Cleartext));
        for code in [[0, 0, 0, 5], [0, 1, 0, 5]] {
            assert_eq!(parse(&[&code[..], &[1, 2, 3, 4]].concat()), Ok(Asked::Md5 { salt: [1, 2, 3, 4] }));
        }
        for code in [[0, 1, 0, 0], [0, 1, 2, 0]] {
            let body = [&code[..], &[1, 2, 3, 4, 0, 0, 0, 16], &[7; 16]].concat();
            let asked = Asked::Sha512 { salt: [1, 2, 3, 4], user_salt: [7; 16] };
            assert_eq!(parse(&body), Ok(asked));
            assert!(parse(&body[..27]).is_err());
            let other = [&code[..], &[1, 2, 3, 4, 0, 0, 0, 15], &[7; 16]].concat();
            assert!(parse(&other).is_err());
        }
        for (code, named) in
            [(2, "Kerberos"), (7, "Kerberos (GSS)"), (9, "expired"), (14, "TOTP"), (77, "77")]
        {
            let error = unsupported(code, "connect to h");
            assert!(error.message.contains(named) && error.remedy.is_some(), "{error}");
        }
    }
}
