//! Certificates in PEM files: trusted authorities, and our own certificates with their keys. The broker and
//! the sources both read them here, so that both trust the same authorities.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::text::{NotUtf8, utf8, without_mark};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read or is damaged.
    #[error("cannot read certificates of {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A file contains no certificate.
    #[error("{path} holds no certificate that can be used")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The system has no trusted authorities.
    #[error("no CA certificates were found on this machine{0}")]
    NoAuthorities(String),
    /// No authority can be used.
    #[error("no CA certificate can be used: {0}")]
    Unusable(String),
}

/// The certificates of a file.
///
/// # Errors
/// When the file cannot be read or has no certificates.
pub(crate) fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(path)?).collect();
    let certificates = certificates.map_err(|e| unreadable(path, &e))?;
    if certificates.is_empty() {
        return Err(CertificateError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// The authorities that this machine trusts: those of `SSL_CERT_FILE` and `SSL_CERT_DIR` if one of them is
/// set, else those of the distribution.
///
/// # Errors
/// When there are none.
pub(crate) fn of_system() -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let cause = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
        return Err(CertificateError::NoAuthorities(cause));
    }
    for error in found.errors {
        tracing::debug!(%error, "skipped a CA certificate of the system");
    }
    Ok(found.certs)
}

/// A certificate of our own, its chain to the authority, and its key.
///
/// # Errors
/// When one of the files cannot be read or has no certificate or key.
pub(crate) fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let key = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|e| unreadable(key, &e))?;
    Ok((of_file(certificate)?, key))
}

/// Verifies servers against these authorities. An authority that cannot be used is skipped, if there are
/// others.
///
/// # Errors
/// When no authority can be used.
pub(crate) fn verifier(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, CertificateError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(authorities);
    let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), provider).build();
    verifier.map_err(|e| CertificateError::Unusable(e.to_string()))
}

/// Reads a PEM file. A byte order mark is removed, because the parser would not find the first line after it.
/// Comments between the certificates may be in any encoding that contains ASCII.
fn pem(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let bytes = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
    match utf8(&bytes) {
        Err(other @ (NotUtf8::Charset(_) | NotUtf8::Compressed(_))) => Err(unreadable(path, &other)),
        Ok(_) | Err(NotUtf8::Byte { .. }) => Ok(without_mark(&bytes).to_vec()),
    }
}

fn unreadable(path: &Path, cause: &dyn std::error::Error) -> CertificateError {
    CertificateError::Unreadable { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Certificate of an authority whose key nobody has, valid for a hundred years.
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBnzCCAUWgAwIBAgIUMwj2j33chBrumCJNRcTy8Zx+UFMwCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZQURVIEV4cG9ydCB0ZXN0IGF1dGhvcml0eTAgFw0yNjExMzAx
NTEyMTBaGA8yMTI2MTEwNjE1MTIxMFowJDEiMCAGA1UEAwwZQURVIEV4cG9ydCB0
ZXN0IGF1dGhvcml0eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPU0f1uzQr5i
Pjb0cYMJUBW3kPC/yz7mNIGPb93XmnghmmNEMTSr/ESowPFPv9Rn6qEmDTP5y6sx
iexwiU0kz6OjUzBRMB0GA1UdDgQWBBSMKzJB7rzMgaOF85w4N556D6LO9DAfBgNV
HSMEGDAWgBSMKzJB7rzMgaOF85w4N556D6LO9DAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQCdixRfeejMoToRoltvzz+F4VD+Jm3VpR/F7E+Po+18
owIgEc50ytocjBvg3P1Puffwt5pbDoloPrVgiAuqLYTgQQ0=
-----END CERTIFICATE-----
";

    fn file(content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("adu-certificates-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, content).expect("written");
        path
    }

    #[test]
    fn certificates_are_found_between_remarks_and_after_a_byte_order_mark() {
        let latin1 =
            [b"Autorit\xE9 de test\n".as_slice(), AUTHORITY.as_bytes(), AUTHORITY.as_bytes()].concat();
        let marked = [b"\xEF\xBB\xBF".as_slice(), AUTHORITY.as_bytes()].concat();
        for (content, count) in [(latin1.as_slice(), 2), (marked.as_slice(), 1)] {
            let path = file(content);
            let certificates = of_file(&path);
            std::fs::remove_file(&path).expect("removed");
            assert_eq!(certificates.expect("some").len(), count);
        }
    }

    #[test]
    fn what_holds_no_certificate_is_named() {
        let wide: Vec<u8> = AUTHORITY.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (content, word) in [(&b"nothing"[..], "no certificate"), (&wide, "UTF-16")] {
            let path = file(content);
            let said = of_file(&path).expect_err("none").to_string();
            std::fs::remove_file(&path).expect("removed");
            assert!(said.contains(word) && said.contains("adu-certificates"), "{said}");
        }
    }

    #[test]
    fn authorities_of_which_none_can_be_used_are_refused() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let broken = CertificateDer::from(vec![0x30, 0]);
        let error = verifier([broken.clone()], Arc::clone(&provider)).expect_err("none can be used");
        assert!(error.to_string().contains("no CA certificate can be used"), "{error}");
        let path = file(AUTHORITY.as_bytes());
        let good = of_file(&path).expect("one");
        std::fs::remove_file(&path).expect("removed");
        assert!(verifier(good.into_iter().chain([broken]), provider).is_ok());
    }
}
