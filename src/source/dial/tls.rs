//! TLS with rustls, with the same meaning of `sslmode` as in libpq.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError as Invalid, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::certificates::{self, CertificateError};
use crate::config::dsn::{Roots, Tls, TlsDemand};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum TlsSetup {
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] Error),
}

/// TLS settings of a source, with their certificates.
#[derive(Clone)]
pub(in crate::source) struct Security {
    pub(super) demand: TlsDemand,
    /// TLS from the first byte, without asking (PostgreSQL 17).
    pub(super) direct: bool,
    pub(super) connector: MakeRustlsConnect,
}

impl Security {
    /// Reads the certificates. `ca_file` of the configuration replaces `sslrootcert` of the connection string.
    pub(in crate::source) fn new(said: &Tls, ca_file: Option<&Path>) -> Result<Self, TlsSetup> {
        Ok(Self { demand: said.demand, direct: said.direct, connector: connector(said, ca_file)? })
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Security").field(&self.demand).finish()
    }
}

/// The TLS settings of every connection to this source.
fn connector(said: &Tls, ca_file: Option<&Path>) -> Result<MakeRustlsConnect, TlsSetup> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = ca_file.map(|path| Roots::File(path.to_owned())).or_else(|| said.roots.clone());
    // As in libpq, CA certificates that are given are always used for a check.
    let demand = match (said.demand, &roots) {
        (TlsDemand::Require, Some(_)) => TlsDemand::VerifyCa,
        (demand, _) => demand,
    };
    let verifier = match demand {
        TlsDemand::Disable | TlsDemand::Prefer | TlsDemand::Require => {
            Verifier { chain: None, pinned: Vec::new(), name: false, provider: provider.clone() }
        }
        TlsDemand::VerifyCa | TlsDemand::VerifyFull => {
            let trusted = match &roots {
                Some(Roots::File(path)) => certificates::of_file(path)?,
                Some(Roots::System) | None => certificates::of_system()?,
            };
            let chain = certificates::verifier(trusted.iter().cloned(), provider.clone())?;
            let name = demand == TlsDemand::VerifyFull;
            Verifier { chain: Some(chain), pinned: trusted, name, provider: provider.clone() }
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
            let (chain, key) = certificates::identity(cert, key)?;
            builder.with_client_auth_cert(chain, key)?
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

/// Checks the server's certificate as far as `sslmode` demands.
#[derive(Debug)]
struct Verifier {
    /// Checks the chain and the name; `None`: the certificate is not checked.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted by themselves. PostgreSQL servers often use a self-signed certificate
    /// that is its own CA. Such a certificate has no chain.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether the name must match.
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
            // The chain is checked before the name, so here the chain is good.
            Err(Error::InvalidCertificate(
                Invalid::NotValidForName | Invalid::NotValidForNameContext { .. },
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
