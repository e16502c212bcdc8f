//! Flags -> [`Config`]: every rule that a value or a pair of values must meet: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::endpoints;
use super::status_endpoints::{self, StatusEndpoints};
use super::{
    Config, DockerOptsFile, EtcdConfig, FirewallConfig, IfaceConfig, OnLeaseLost, Pattern, Secret,
    TxChecksum,
};

/// What flags and environment said, typed but not yet checked against each other. Empty text means "not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// `-etcd-endpoints`: comma-separated.
    pub etcd_endpoints: String,
    pub etcd_prefix: String,
    pub etcd_cafile: PathBuf,
    pub etcd_certfile: PathBuf,
    pub etcd_keyfile: PathBuf,
    pub etcd_username: String,
    pub etcd_password: Secret,
    /// `-iface`, in order; an empty element asks for the default interface.
    pub ifaces: Vec<String>,
    /// `-iface-regex`, in order; empty elements ask for nothing.
    pub iface_regexes: Vec<String>,
    pub iface_can_reach: String,
    pub public_ip: String,
    pub public_ipv6: String,
    pub ip_blackhole_route: bool,
    pub tx_checksum: TxChecksum,
    pub subnet_file: PathBuf,
    /// `-subnet-lease-renew-margin`, in minutes.
    pub renew_margin: i64,
    pub docker_opts_file: PathBuf,
    pub docker_opts_key: String,
    pub state_file: PathBuf,
    pub on_lease_lost: OnLeaseLost,
    pub ip_masq: bool,
    pub fully_random_disable: bool,
    pub forward_rules: bool,
    /// `-iptables-resync`, in seconds.
    pub resync: i64,
    pub source_filter: bool,
    pub healthz_ip: String,
    /// `-healthz-port`; 0 and less: none.
    pub healthz_port: i64,
    pub status_socket: PathBuf,
    /// `-probe-interval`, in seconds; 0: none.
    pub probe_interval: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Name of the flag to change, without dashes: anyone who knows whether it was given as a flag or as a
    /// variable puts it in front of `why`.
    pub flag: &'static str,
    pub why: String,
}

impl Invalid {
    pub(super) fn new(flag: &'static str, why: impl Into<String>) -> Self {
        Self {
            flag,
            why: why.into(),
        }
    }
}

impl TryFrom<Flags> for Config {
    type Error = Invalid;

    fn try_from(flags: Flags) -> Result<Self, Invalid> {
        let subnet_file = flags.subnet_file.clone();
        let named_like =
            |path, directory, extension| named_like(path, &subnet_file, directory, extension);
        let names = flags.ifaces.into_iter();
        Ok(Self {
            etcd: EtcdConfig {
                endpoints: endpoints::parse_list(&flags.etcd_endpoints)
                    .map_err(|why| Invalid::new("etcd-endpoints", why))?,
                prefix: prefix(&flags.etcd_prefix)?,
                ca_file: set(flags.etcd_cafile),
                client_pair: client_pair(set(flags.etcd_certfile), set(flags.etcd_keyfile))?,
                login: login(flags.etcd_username, flags.etcd_password)?,
                renew_margin: renew_margin(flags.renew_margin)?,
            },
            iface: IfaceConfig {
                names: names.filter(|name| !name.is_empty()).collect(),
                patterns: patterns(&flags.iface_regexes)?,
                can_reach: can_reach(&flags.iface_can_reach)?,
                public_ip: public_ip(&flags.public_ip)?,
                public_ipv6: public_ipv6(&flags.public_ipv6)?,
            },
            blackhole: flags.ip_blackhole_route,
            tx_checksum: flags.tx_checksum,
            state_file: named_like(flags.state_file, "/var/lib/flannel", "json"),
            status_endpoints: StatusEndpoints {
                health: status_endpoints::health(&flags.healthz_ip, flags.healthz_port)?,
                status: named_like(flags.status_socket, "/run/flannel", "sock"),
                probe: status_endpoints::probe(flags.probe_interval)?,
            },
            subnet_file: set(flags.subnet_file)
                .ok_or_else(|| Invalid::new("subnet-file", "must name a file"))?,
            docker_opts: docker_opts(set(flags.docker_opts_file), flags.docker_opts_key)?,
            on_lease_lost: flags.on_lease_lost,
            firewall: FirewallConfig {
                ip_masq: flags.ip_masq,
                fully_random: !flags.fully_random_disable,
                forward: flags.forward_rules,
                resync: resync(flags.resync)?,
                source_filter: flags.source_filter,
            },
        })
    }
}

fn set(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// The root of all (`/`) becomes the empty string: keys then start with the slash that follows the prefix.
fn prefix(text: &str) -> Result<String, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(
            "etcd-prefix",
            "must not be empty: flannel's usual root is /coreos.com/network",
        ));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let is_rooted = text.starts_with('/') && !parts.is_empty();
    let root = if is_rooted { "/" } else { "" };
    Ok(format!("{root}{}", parts.join("/")))
}

fn client_pair(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Invalid> {
    let without = |other| format!("needs {other}: set both or neither");
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Invalid::new("etcd-certfile", without("-etcd-keyfile"))),
        (None, Some(_)) => Err(Invalid::new("etcd-keyfile", without("-etcd-certfile"))),
    }
}

fn login(user: String, password: Secret) -> Result<Option<(String, Secret)>, Invalid> {
    let without = |other| format!("needs {other}: set both or neither");
    match (user.is_empty(), password.reveal().is_empty()) {
        (false, false) => Ok(Some((user, password))),
        (true, true) => Ok(None),
        (false, true) => Err(Invalid::new("etcd-username", without("-etcd-password"))),
        (true, false) => Err(Invalid::new("etcd-password", without("-etcd-username"))),
    }
}

/// A lease lives for 24 hours: a margin outside 1..=1439 minutes would renew always or never.
fn renew_margin(minutes: i64) -> Result<Duration, Invalid> {
    match u64::try_from(minutes) {
        Ok(minutes @ 1..=1439) => Ok(Duration::from_secs(minutes * 60)),
        _ => {
            let why = "Invalid subnet-lease-renew-margin option, out of acceptable range";
            let why = format!("{why}: {minutes} is not within 1 to 1439 minutes");
            Err(Invalid::new("subnet-lease-renew-margin", why))
        }
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Invalid> {
    let parse = |text: &String| {
        let wrong = |why| format!("{text:?} is not a regular expression (RE2 syntax): {why}");
        text.parse()
            .map_err(|why: String| Invalid::new("iface-regex", wrong(why)))
    };
    let given = texts.iter().filter(|text| !text.is_empty());
    given.map(parse).collect()
}

fn can_reach(text: &str) -> Result<Option<IpAddr>, Invalid> {
    let host = |ip: &IpAddr| !(ip.is_unspecified() || ip.is_multicast());
    address("iface-can-reach", text, host, "the IP address of a host")
}

/// The address that a flag names, if it names one.
fn address<T: FromStr>(
    flag: &'static str,
    text: &str,
    fits: impl Fn(&T) -> bool,
    what: &str,
) -> Result<Option<T>, Invalid> {
    match text.parse().ok().filter(fits) {
        Some(ip) => Ok(Some(ip)),
        None if text.is_empty() => Ok(None),
        None => Err(Invalid::new(flag, format!("{text:?} must be {what}"))),
    }
}

fn public_ip(text: &str) -> Result<Option<Ipv4Addr>, Invalid> {
    let unicast = |ip: &Ipv4Addr| {
        !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.octets()[0] >= 240)
    };
    let what = "the IPv4 unicast address at which peers reach this host";
    address("public-ip", text, unicast, what)
}

fn public_ipv6(text: &str) -> Result<Option<Ipv6Addr>, Invalid> {
    let unicast = |ip: &Ipv6Addr| {
        !(ip.is_unspecified()
            || ip.is_loopback()
            || ip.is_multicast()
            || ip.is_unicast_link_local()
            || ip.to_ipv4_mapped().is_some())
    };
    let what = "the IPv6 unicast address at which peers reach this host";
    address("public-ipv6", text, unicast, what)
}

/// Zero would mean a check after the other.
fn resync(seconds: i64) -> Result<Duration, Invalid> {
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        Ok(0) | Err(_) => {
            let why = format!(
                "{seconds} is out of range: it must be a positive number of seconds; flannel's default is 5"
            );
            Err(Invalid::new("iptables-resync", why))
        }
    }
}

/// The subnet file that is meant where none is named.
const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// Two daemons of one host have different subnet files, and so different state files and sockets.
fn named_like(
    path: PathBuf,
    subnet_file: &Path,
    directory: &str,
    extension: &str,
) -> Option<PathBuf> {
    match path.to_str() {
        Some("") => {
            let name = if subnet_file == Path::new(SUBNET_FILE) {
                "subnet".to_owned()
            } else {
                as_name(subnet_file)
            };
            Some(Path::new(directory).join(format!("{name}.{extension}")))
        }
        Some("none") => None,
        _ => Some(path),
    }
}

/// A path as a file name, by the rules of `systemd-escape --path`: `/a/b-c` is `a-b\x2dc`.
fn as_name(path: &Path) -> String {
    let parts = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let escaped = parts.map(|part| {
        let bytes = part.as_os_str().as_encoded_bytes().iter();
        bytes
            .map(|byte| match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | b':' => {
                    char::from(*byte).to_string()
                }
                other => format!("\\x{other:02x}"),
            })
            .collect::<String>()
    });
    escaped.collect::<Vec<_>>().join("-")
}

fn docker_opts(path: Option<PathBuf>, key: String) -> Result<Option<DockerOptsFile>, Invalid> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(name) {
        let why = format!(
            "{key:?} is not the name of a variable: use letters, digits, and _, and no digit first"
        );
        return Err(Invalid::new("docker-opts-key", why));
    }
    if path.is_none() && key != DockerOptsFile::DEFAULT_KEY {
        return Err(Invalid::new(
            "docker-opts-key",
            "has no effect without -docker-opts-file: set both",
        ));
    }
    Ok(path.map(|path| DockerOptsFile { path, key }))
}

#[cfg(test)]
mod tests;
