//! Flags -> [`Config`]: every rule that a value or a pair of values must meet: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ArgMatches;

use super::flanneld::{int, list, on, path, text};
use crate::config::{
    Config, DockerOptsFile, Endpoint, EtcdConfig, FirewallConfig, IfaceConfig, OnLeaseLost,
    Pattern, Secret, StatusEndpoints, TxChecksum,
};
use crate::subnet_env;
use crate::util::env_file;

/// Longest pause between two probes of a peer, in seconds: a day.
const LONGEST_PROBE_INTERVAL: u64 = 86_400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Name of the flag to change, without dashes: anyone who knows whether it was given as a flag or as a
    /// variable puts it in front of `why`.
    pub(super) flag: &'static str,
    pub(super) why: String,
}

impl Invalid {
    fn new(flag: &'static str, why: impl Into<String>) -> Self {
        Self {
            flag,
            why: why.into(),
        }
    }
}

/// Reads what flags and environment said. Empty text means "not set".
pub(super) fn config(matches: &ArgMatches) -> Result<Config, Invalid> {
    let text = |name| text(matches, name);
    let file = |name| Some(path(matches, name)).filter(|path| !path.as_os_str().is_empty());
    let int = |name| int(matches, name);
    let on = |name| on(matches, name);
    let subnet_file = path(matches, "subnet-file");
    let named_like = |name, directory, extension| {
        named_like(path(matches, name), &subnet_file, directory, extension)
    };
    let ifaces = list(matches, "iface").into_iter();
    Ok(Config {
        etcd: EtcdConfig {
            endpoints: Endpoint::parse_list(&text("etcd-endpoints"))
                .map_err(|why| Invalid::new("etcd-endpoints", why))?,
            prefix: prefix(&text("etcd-prefix"))?,
            ca_file: file("etcd-cafile"),
            client_pair: client_pair(file("etcd-certfile"), file("etcd-keyfile"))?,
            login: login(text("etcd-username"), Secret::new(text("etcd-password")))?,
            renew_margin: renew_margin(int("subnet-lease-renew-margin"))?,
        },
        iface: IfaceConfig {
            // An empty name asks for the default interface.
            names: ifaces.filter(|name| !name.is_empty()).collect(),
            patterns: patterns(&list(matches, "iface-regex"))?,
            can_reach: can_reach(&text("iface-can-reach"))?,
            public_ip: public_ip(&text("public-ip"))?,
            public_ipv6: public_ipv6(&text("public-ipv6"))?,
        },
        blackhole: on("ip-blackhole-route"),
        tx_checksum: TxChecksum::from_name(&text("tx-checksum")).unwrap_or_default(),
        state_file: named_like("state-file", "/var/lib/flannel", "json"),
        status_endpoints: StatusEndpoints {
            health: health(&text("healthz-ip"), int("healthz-port"))?,
            status: named_like("status-socket", "/run/flannel", "sock"),
            probe: probe(int("probe-interval"))?,
        },
        subnet_file: file("subnet-file")
            .ok_or_else(|| Invalid::new("subnet-file", "must name a file"))?,
        docker_opts: docker_opts(file("docker-opts-file"), text("docker-opts-key"))?,
        on_lease_lost: OnLeaseLost::from_name(&text("on-lease-lost")).unwrap_or_default(),
        firewall: FirewallConfig {
            ip_masq: on("ip-masq"),
            fully_random: !on("ip-masq-fully-random-disable"),
            forward: on("iptables-forward-rules"),
            resync: resync(int("iptables-resync"))?,
            source_filter: on("vxlan-source-filter"),
        },
    })
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

/// `-healthz-ip` and `-healthz-port`. Zero and less mean no port, as in flannel.
fn health(ip: &str, port: i64) -> Result<Option<SocketAddr>, Invalid> {
    if port <= 0 {
        return Ok(None);
    }
    let port = u16::try_from(port).map_err(|_| {
        let why = format!("{port} is not a port: use 1 to 65535, or 0 for no port");
        Invalid::new("healthz-port", why)
    })?;
    let ip: IpAddr = ip.parse().map_err(|_| {
        let why =
            format!("{ip:?} is not an IP address: use an address of this host, 0.0.0.0, or ::");
        Invalid::new("healthz-ip", why)
    })?;
    Ok(Some(SocketAddr::new(ip, port)))
}

/// `-probe-interval`. Zero means no probes.
fn probe(seconds: i64) -> Result<Option<Duration>, Invalid> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= LONGEST_PROBE_INTERVAL => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let why = format!(
                "{seconds} is out of range: use 1 to {LONGEST_PROBE_INTERVAL} seconds, or 0 for no probes"
            );
            Err(Invalid::new("probe-interval", why))
        }
    }
}

/// Two daemons of one host have different subnet files, and so different state files and sockets.
fn named_like(
    path: PathBuf,
    subnet_file: &Path,
    directory: &str,
    extension: &str,
) -> Option<PathBuf> {
    match path.to_str() {
        Some("") => {
            let name = if subnet_file == Path::new(subnet_env::DEFAULT_PATH) {
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
    if !env_file::is_name(&key) {
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
