//! The address of the broker (URL, virtual host) and the TLS settings.

use std::fmt;
use std::path::{Path, PathBuf};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

use super::super::BusError;
use super::url;
use crate::config::BrokerConfig;

/// Where Linux distributions keep their bundle of certificate authorities.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// A broker's address. Its text form shows neither user nor password.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
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

fn read(setting: &str, path: &Path) -> Result<String, BusError> {
    crate::text::read_file(path).map_err(|e| wrong(&format!("{setting} {}", path.display()), e.to_string()))
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
            AMQPScheme::AMQP => OwnedTLSConfig { identity: None, cert_chain: None },
            AMQPScheme::AMQPS => tls(config)?,
        };
        Ok(Self { uri, tls })
    }
}

fn tls(config: &BrokerConfig) -> Result<OwnedTLSConfig, BusError> {
    let authorities = match &config.ca_file {
        Some(path) => read("broker.ca_file", path)?,
        None => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let known = SYSTEM_BUNDLES.iter().map(PathBuf::from);
            let bundle = named.into_iter().chain(known).find(|path| path.is_file()).ok_or_else(|| {
                wrong("broker.ca_file", "is not set and this system has no bundle of certificate authorities")
            })?;
            read("certificate authorities", &bundle)?
        }
    };
    if !authorities.contains("-----BEGIN CERTIFICATE-----") {
        return Err(wrong("broker.ca_file", "holds no PEM certificate"));
    }
    let identity = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read("broker.cert_file", cert)?.into_bytes(),
            key: read("broker.key_file", key)?.into_bytes(),
        }),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("broker.key_file", "is not set, but broker.cert_file is")),
        (None, Some(_)) => return Err(wrong("broker.cert_file", "is not set, but broker.key_file is")),
    };
    Ok(OwnedTLSConfig { identity, cert_chain: Some(authorities) })
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
        let ca = std::env::temp_dir().join(format!("adu-ca-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").expect("written");
        let config = BrokerConfig {
            ca_file: Some(ca.clone()),
            cert_file: Some(ca.clone()),
            ..config("amqps://h/%2f")
        };
        let error = Address::read(&config).err().expect("no key").to_string();
        std::fs::remove_file(&ca).expect("removed");
        assert!(error.contains("broker.key_file"), "{error}");
    }
}
