//! TLS as libpq's `sslmode` means it, with rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::dsn::{Roots, Tls, TlsDemand};
use crate::text::without_mark;

/// Where distributions keep the CA bundle of the system.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsSetup {
    #[error("cannot read certificates or key of {path}: {cause}")]
    Unreadable { path: PathBuf, cause: String },
    #[error("{path} holds no certificate that can be used")]
    Empty { path: PathBuf },
    #[error("no CA certificates were found on this machine; name them with ca_file or sslrootcert")]
    NoSystemRoots,
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] Error),
}

/// The TLS side of every connection to this source. `ca_file` of the
/// configuration goes before `sslrootcert` of the connection string.
pub(super) fn connector(said: &Tls, ca_file: Option<&Path>) -> Result<MakeRustlsConnect, TlsSetup> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = ca_file.map(|path| Roots::File(path.to_owned())).or_else(|| said.roots.clone());
    // As in libpq: CA certificates that somebody gave are meant to be used.
    let demand = match (said.demand, &roots) {
        (TlsDemand::Require, Some(_)) => TlsDemand::VerifyCa,
        (demand, _) => demand,
    };
    let verifier = match demand {
        TlsDemand::Disable | TlsDemand::Prefer | TlsDemand::Require => {
            Verifier { chain: None, pinned: Vec::new(), name: false, provider: provider.clone() }
        }
        TlsDemand::VerifyCa | TlsDemand::VerifyFull => {
            let certificates = root_certificates(roots.as_ref().unwrap_or(&Roots::System))?;
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certificates.iter().cloned());
            let chain = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone())
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
            let name = demand == TlsDemand::VerifyFull;
            Verifier { chain: Some(chain), pinned: certificates, name, provider: provider.clone() }
        }
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match said.versions {
        (true, false) => &[&rustls::version::TLS12],
        (false, _) => &[&rustls::version::TLS13],
        (true, true) => rustls::DEFAULT_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &said.client_cert {
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|e| unreadable(key, &e))?;
            builder.with_client_auth_cert(certificates_of(cert)?, key)?
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = config;
    config.enable_sni = said.sni;
    if said.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn root_certificates(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, TlsSetup> {
    match roots {
        Roots::File(path) => certificates_of(path),
        Roots::System => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let bundle = named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from)).find(|p| p.is_file());
            certificates_of(&bundle.ok_or(TlsSetup::NoSystemRoots)?)
        }
    }
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetup> {
    let pem = pem(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| unreadable(path, &e))?;
    if certificates.is_empty() {
        return Err(TlsSetup::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// A file in PEM, whose first line is not found after a byte order mark.
fn pem(path: &Path) -> Result<Vec<u8>, TlsSetup> {
    let bytes = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
    Ok(without_mark(&bytes).to_vec())
}

fn unreadable(path: &Path, cause: &dyn std::error::Error) -> TlsSetup {
    TlsSetup::Unreadable { path: path.to_owned(), cause: cause.to_string() }
}

/// Checks as much of the server's certificate as `sslmode` asks for.
#[derive(Debug)]
struct Verifier {
    /// Checks the chain and the name; none: nothing of the certificate is checked.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted as they are. A self-signed server
    /// certificate that is its own CA is common with PostgreSQL, and no chain.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether the name must fit.
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.pinned.iter().any(|p| p == end_entity) {
            if self.name {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is checked before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
