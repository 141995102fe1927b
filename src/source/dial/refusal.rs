//! What it means when no stream to a server can be opened.

use super::DialError;
use crate::config::{Advice, Remedy};
use crate::source::{ErrorKind, SourceError};

impl DialError {
    /// The error of a call. `what` names the action and the object; `give_tls` says how to switch TLS on at the
    /// server.
    pub(in crate::source) fn error(&self, what: &str, give_tls: &'static str) -> SourceError {
        let (kind, code, remedy) = match self {
            Self::Unreachable(_) => (ErrorKind::Unreachable, "unreachable", Advice::Address.into()),
            Self::Unwanted => (
                ErrorKind::Unreachable,
                "unreachable",
                "name a server of that kind, or change target_session_attrs of the connection string".into(),
            ),
            Self::Tls(cause) => (ErrorKind::Permanent, "tls", tls_remedy(cause, give_tls)),
        };
        SourceError::of(kind, code, format!("{what}: {self}")).with_remedy(remedy)
    }
}

fn tls_remedy(cause: &str, give_tls: &'static str) -> Remedy {
    if cause.contains("does not support TLS") {
        format!(
            "sslmode demands TLS and the server offers none: {give_tls} (sslmode=disable would send password and rows \
             in the clear)"
        )
        .into()
    } else if cause.contains("NotValidForName") || cause.contains("not valid for name") {
        Advice::CertificateName.into()
    } else if cause.contains("UnknownIssuer") || cause.contains("CaUsedAsEndEntity") {
        Advice::UnknownCa.into()
    } else if cause.contains("Expired") || cause.contains("expired") {
        "the server's certificate has expired; renew it".into()
    } else {
        Advice::Tls.into()
    }
}
