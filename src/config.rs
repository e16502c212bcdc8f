//! What the daemon was told: flags and environment, parsed, defaulted and cross-checked once: pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

mod endpoints;
mod pattern;
mod status_endpoints;

pub use endpoints::Endpoint;
pub use pattern::Pattern;
pub use status_endpoints::StatusEndpoints;

/// A value that never appears in logs: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Endpoints as given: `https://host:port`, `http://host:port` or bare `host:port`. Never empty.
    pub endpoints: Vec<String>,
    /// Root of all keys, normalised: no trailing or doubled slash. Empty where `/` itself was asked for.
    pub prefix: String,
    /// CA bundle (PEM) that signs the servers' certificates.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key (PEM): both or neither.
    pub client_pair: Option<(PathBuf, PathBuf)>,
    pub login: Option<(String, Secret)>,
    /// How long before its end a lease must have been renewed.
    pub renew_margin: Duration,
}

/// Where docker's options go when the daemon writes them itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptsFile {
    pub path: PathBuf,
    pub key: String,
}

impl DockerOptsFile {
    /// The variable that the usual docker unit reads.
    pub const DEFAULT_KEY: &str = "DOCKER_NETWORK_OPTIONS";
}

/// What to do once the own key is found to be another host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLeaseLost {
    /// Go on as before, and take the key back once it is free.
    #[default]
    Hold,
    /// Lease another subnet, and go over to it.
    Move,
    /// End the process. The data plane stays.
    Exit,
}

impl OnLeaseLost {
    /// Names of all, as `-on-lease-lost` takes them; the default first.
    pub const NAMES: [&str; 3] = ["hold", "move", "exit"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "hold" => Some(Self::Hold),
            "move" => Some(Self::Move),
            "exit" => Some(Self::Exit),
            _ => None,
        }
    }
}

impl fmt::Display for OnLeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Move => "move",
            Self::Exit => "exit",
        })
    }
}

/// Who computes the checksums of packets on the overlay devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TxChecksum {
    /// The kernel where its offload is known to break them; otherwise as the kernel has it.
    #[default]
    Auto,
    /// Left to what sends the packets in the end.
    On,
    /// The kernel, at once.
    Off,
}

impl TxChecksum {
    /// Names of all, as `-tx-checksum` takes them; the default first.
    pub const NAMES: [&str; 3] = ["auto", "on", "off"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Which interface carries the overlay, and where peers reach it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfaceConfig {
    /// Interface names or addresses to try, in order.
    pub names: Vec<String>,
    /// Patterns of addresses or names to try after them.
    pub patterns: Vec<Pattern>,
    /// After these: the interface that routes to this address.
    pub can_reach: Option<IpAddr>,
    /// IPv4 address that peers should use instead of the interface's own.
    pub public_ip: Option<Ipv4Addr>,
    pub public_ipv6: Option<Ipv6Addr>,
}

impl IfaceConfig {
    /// Whether anything but a public address was said. Otherwise the default route decides.
    pub fn names_an_interface(&self) -> bool {
        !self.names.is_empty() || !self.patterns.is_empty() || self.can_reach.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    pub ip_masq: bool,
    /// With ports that no one can guess, where kernel and tool can.
    pub fully_random: bool,
    pub forward: bool,
    /// How often the rules are looked at where no one tells of changes.
    pub resync: Duration,
    pub source_filter: bool,
}

impl fmt::Display for FirewallConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, resync) = (self.source_filter, self.resync.as_secs());
        write!(f, "ip-masq={} ", self.ip_masq)?;
        write!(f, "iptables-forward-rules={} ", self.forward)?;
        write!(f, "vxlan-source-filter={filter} iptables-resync={resync}s")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub etcd: EtcdConfig,
    pub iface: IfaceConfig,
    /// Drop what goes to unused addresses of the own subnets.
    pub blackhole: bool,
    pub tx_checksum: TxChecksum,
    pub subnet_file: PathBuf,
    pub docker_opts: Option<DockerOptsFile>,
    /// Where the state is kept that a start without etcd needs.
    pub state_file: Option<PathBuf>,
    pub on_lease_lost: OnLeaseLost,
    pub firewall: FirewallConfig,
    pub status_endpoints: StatusEndpoints,
}

/// Everything on one line for the log, without the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.etcd, self.iface)?;
        write!(f, "subnet-file={}", self.subnet_file.display())?;
        if let Some(state) = &self.state_file {
            write!(f, " state-file={}", state.display())?;
        }
        if let Some(DockerOptsFile { path, key }) = &self.docker_opts {
            let path = path.display();
            write!(f, " docker-opts-file={path} docker-opts-key={key}")?;
        }
        write!(f, " on-lease-lost={} ", self.on_lease_lost)?;
        write!(f, "{}{}", self.firewall, self.status_endpoints)
    }
}

impl fmt::Display for IfaceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names_an_interface() {
            false => f.write_str("iface=(default route) ")?,
            true if !self.names.is_empty() => write!(f, "iface={} ", self.names.join(","))?,
            true => {}
        }
        for pattern in &self.patterns {
            write!(f, "iface-regex={pattern} ")?;
        }
        if let Some(ip) = self.can_reach {
            write!(f, "iface-can-reach={ip} ")?;
        }
        match self.public_ip {
            Some(ip) => write!(f, "public-ip={ip}")?,
            None => f.write_str("public-ip=(interface)")?,
        }
        self.public_ipv6
            .map_or(Ok(()), |ip| write!(f, " public-ipv6={ip}"))
    }
}

/// One line without the password.
impl fmt::Display for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.endpoints.join(",");
        write!(f, "endpoints={endpoints} prefix={}", self.prefix)?;
        if let Some(ca) = &self.ca_file {
            write!(f, " ca={}", ca.display())?;
        }
        if let Some((cert, key)) = &self.client_pair {
            write!(f, " cert={} key={}", cert.display(), key.display())?;
        }
        if let Some((user, password)) = &self.login {
            write!(f, " user={user} password={password}")?;
        }
        write!(f, " renew-margin={}m", self.renew_margin.as_secs() / 60)
    }
}
