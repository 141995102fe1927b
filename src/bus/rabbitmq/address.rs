//! The address of the broker (URL, virtual host) and the TLS settings.

use std::fmt;
use std::sync::Arc;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;

use super::super::BusError;
use super::url;
use crate::certificates;
use crate::config::BrokerConfig;

/// A broker's address. Its text form shows neither user nor password.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    /// `None`: the connection is in plain text.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let AMQPUri { authority, vhost, .. } = &self.uri;
        write!(f, "{scheme}://{}:{} (vhost `{vhost}`)", authority.host, authority.port)
    }
}

fn wrong(what: &str, why: impl Into<String>) -> BusError {
    BusError::Setting { what: what.into(), why: why.into() }
}

impl Address {
    /// The virtual host, decoded.
    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Reads the URL and the certificates. It runs at every attempt to connect, so that secrets can be
    /// replaced while the daemon runs.
    pub(super) fn read(config: &BrokerConfig) -> Result<Self, BusError> {
        let url = config.resolve_url().map_err(|e| wrong("[broker]", e.to_string()))?;
        let mut uri = url::read(url.expose().trim()).map_err(|why| wrong("broker.url", why))?;
        let seconds = config.heartbeat.0.as_secs().clamp(1, u64::from(u16::MAX));
        uri.query.heartbeat = Some(u16::try_from(seconds).unwrap_or(u16::MAX));
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(Arc::new(tls(config)?)),
        };
        Ok(Self { uri, tls })
    }
}

/// TLS is set up here, because the library would trust the system's authorities besides those of `ca_file`.
fn tls(config: &BrokerConfig) -> Result<ClientConfig, BusError> {
    let ours = |why: String| wrong("broker.cert_file and broker.key_file", why);
    let identity = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => Some(certificates::identity(cert, key).map_err(|e| ours(e.to_string()))?),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("broker.key_file", "is not set, but broker.cert_file is")),
        (None, Some(_)) => return Err(wrong("broker.cert_file", "is not set, but broker.key_file is")),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match &config.ca_file {
        Some(path) => certificates::of_file(path),
        None => certificates::of_system(),
    }
    .and_then(|authorities| certificates::verifier(authorities, Arc::clone(&provider)))
    .map_err(|e| wrong("broker.ca_file", e.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("TLS with the broker", e.to_string()))?
        .with_webpki_verifier(verifier);
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| ours(e.to_string())),
        None => Ok(builder.with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(url: &str) -> BrokerConfig {
        BrokerConfig { url: Some(Secret::new(url)), ..BrokerConfig::default() }
    }

    #[test]
    fn an_address_shows_host_and_vhost_and_no_password() {
        let address = Address::read(&config("amqp://user:s3cret@db.example:5673/my%2fhost")).expect("valid");
        assert_eq!(address.to_string(), "amqp://db.example:5673 (vhost `my/host`)");
        assert_eq!(address.uri.query.heartbeat, Some(20));
    }

    #[test]
    fn an_invalid_url_is_not_repeated() {
        for url in ["amqp:user:s3cret@h", "http://user:s3cret@h", "s3cret"] {
            let error = Address::read(&config(url)).err().expect("invalid").to_string();
            assert!(error.contains("broker.url") && !error.contains("s3cret"), "{error}");
        }
        let error = Address::read(&BrokerConfig::default()).err().expect("nothing set").to_string();
        assert!(error.contains("broker.url_file"), "{error}");
    }

    #[test]
    fn half_a_client_certificate_is_an_error() {
        let config = BrokerConfig { cert_file: Some("/cert.pem".into()), ..config("amqps://h/%2f") };
        let error = Address::read(&config).err().expect("no key").to_string();
        assert!(error.contains("broker.key_file"), "{error}");
    }
}
