//! The servers of a connection string. Hosts, addresses and ports are lists, and values at the same position
//! belong together.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::{InvalidDsn, Texts};

/// The default port.
pub const DEFAULT_PORT: u16 = 5432;
/// The port of a Vertica server that names none.
pub const VERTICA_PORT: u16 = 5433;

/// A server's name, or the directory of its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// A directory.
    Unix(PathBuf),
}

/// One server that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name of the server; `None` if only the address is given.
    pub host: Option<Host>,
    /// Address of the server, if the name must not be looked up.
    pub address: Option<IpAddr>,
    /// Port of the server.
    pub port: u16,
}

impl Server {
    /// Whether the server is reached through a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.is_none() && matches!(self.host, Some(Host::Unix(_)))
    }

    /// The server's name, else its address.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => name.clone(),
            (Some(Host::Unix(path)), None) => path.display().to_string(),
            (_, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            address if address.contains(':') => write!(f, "[{address}]:{}", self.port),
            name => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The servers, at least one.
pub(super) fn servers(texts: &Texts) -> Result<Vec<Server>, InvalidDsn> {
    let hosts: Vec<Option<Host>> = list(texts, "host")?.map(host).collect::<Result<_, _>>()?;
    let addresses: Vec<Option<IpAddr>> = list(texts, "hostaddr")?.map(address).collect::<Result<_, _>>()?;
    let ports: Vec<u16> =
        list(texts, "port")?.map(|text| port(text, texts.port)).collect::<Result<_, _>>()?;
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(InvalidDsn::NoHost);
    }
    if !hosts.is_empty() && !addresses.is_empty() && addresses.len() != hosts.len() {
        return Err(InvalidDsn::Counts("hostaddr", addresses.len(), hosts.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(InvalidDsn::Counts("port", ports.len(), count));
    }
    let server = |i: usize| Server {
        host: hosts.get(i).cloned().flatten(),
        address: addresses.get(i).copied().flatten(),
        port: ports.get(i).or(ports.first()).copied().unwrap_or(texts.port),
    };
    let servers: Vec<Server> = (0..count).map(server).collect();
    if servers.iter().any(|s| s.host.is_none() && s.address.is_none()) {
        return Err(InvalidDsn::Value("host", "names without an empty one between commas"));
    }
    Ok(servers)
}

fn list<'a>(texts: &'a Texts, keyword: &'static str) -> Result<impl Iterator<Item = &'a str>, InvalidDsn> {
    let text = texts.get(keyword)?.filter(|text| !text.is_empty());
    Ok(text.into_iter().flat_map(|text| text.split(',')))
}

fn host(text: &str) -> Result<Option<Host>, InvalidDsn> {
    if text.starts_with('/') {
        // A directory may contain these characters, but here they show that a URL was split wrongly.
        let apart = text.contains(['@', '?', '&', '=']);
        return if apart { Err(InvalidDsn::HostSigns) } else { Ok(Some(Host::Unix(text.into()))) };
    }
    // Names may have letters of all languages, but no characters that separate the components of a URL.
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
    if !text.chars().all(plain) {
        return Err(InvalidDsn::HostSigns);
    }
    Ok((!text.is_empty()).then(|| Host::Tcp(text.to_owned())))
}

fn address(text: &str) -> Result<Option<IpAddr>, InvalidDsn> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| InvalidDsn::Value("hostaddr", "an IP address for each host"))
}

fn port(text: &str, usual: u16) -> Result<u16, InvalidDsn> {
    if text.is_empty() {
        return Ok(usual);
    }
    text.trim().parse().ok().filter(|port| *port > 0).ok_or(InvalidDsn::Port)
}
