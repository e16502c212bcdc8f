//! Parses addresses, names, and paths in settings. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

use crate::Error;
use crate::settings::Settings;
use flanneld::subnet::cidr;

/// Maximum length of an interface name: the kernel's IFNAMSIZ without the zero byte.
const INTERFACE: usize = 15;
/// Maximum length of a node name: a DNS label, and a value of a Kubernetes label.
const NODE: usize = 63;

/// Parses a network, given by its own address.
pub(super) fn cidr(settings: &Settings, name: &str) -> Result<Ipv4Network, Error> {
    let text = needed(settings, name)?;
    let network = cidr::v4(text).ok_or_else(|| {
        Error::setting(
            name,
            format!(
                "{text:?} is not an IPv4 network: give an address and a length, such as 172.30.0.0/16"
            ),
        )
    })?;
    if text != network.to_string() {
        return Err(Error::setting(
            name,
            format!("{text} has host bits: the network is {network}"),
        ));
    }
    if network.prefix() == 0 {
        return Err(Error::setting(
            name,
            "0.0.0.0/0 contains every address: give a smaller network",
        ));
    }
    Ok(network)
}

/// Parses an address that other hosts can reach.
pub(super) fn unicast(settings: &Settings, name: &str) -> Result<IpAddr, Error> {
    let text = needed(settings, name)?;
    let wrong = |why: &str| Error::setting(name, format!("{text:?} {why}"));
    let ip: IpAddr = text.parse().map_err(|_| wrong("is not an IP address"))?;
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if mapped {
        return Err(wrong(
            "is an IPv4-mapped IPv6 address: give the IPv4 address",
        ));
    }
    if ip.is_loopback() {
        return Err(wrong(
            "is a loopback address, at which pods and the API server would reach themselves",
        ));
    }
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(wrong("cannot be the address of a node"));
    }
    Ok(ip)
}

/// Parses a node name. kubelet and kube-proxy trim blanks and convert to lower case; a name that they would change is rejected.
pub(super) fn node_name(settings: &Settings) -> Result<String, Error> {
    let name = needed(settings, "node-name")?;
    let wrong = |why: String| Err(Error::setting("node-name", format!("{name:.80?} {why}")));
    let small = name.trim().to_lowercase();
    if small != name {
        return wrong(format!(
            "is changed to {small:.80?} by kubelet and kube-proxy: use that name"
        ));
    }
    if name.len() > NODE {
        return wrong(format!("is longer than {NODE} characters"));
    }
    if is_dns_name(name) {
        Ok(name.to_owned())
    } else {
        wrong("is not a valid node name: use a-z, 0-9, and -, with dots between parts".into())
    }
}

/// Returns whether `name` is a DNS name in lower case.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let is_end = |label: &str| label.starts_with('-') || label.ends_with('-');
    name.len() <= 253
        && name
            .split('.')
            .all(|label| is_label(label) && !is_end(label))
}

fn is_label(label: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(is_inside)
}

/// Parses a domain of services; a trailing dot is kept.
pub(super) fn domain(settings: &Settings) -> Result<String, Error> {
    let domain = needed(settings, "cluster-domain")?;
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.split('.').all(is_label) && name.len() <= 253 {
        Ok(domain.to_owned())
    } else {
        Err(Error::setting(
            "cluster-domain",
            format!("{domain:.80?} is not a valid domain (example: cluster.local)"),
        ))
    }
}

/// Parses the name of an interface, or one of its addresses.
pub(super) fn interface(settings: &Settings) -> Result<Option<String>, Error> {
    let Some(name) = settings.text("iface") else {
        return Ok(None);
    };
    let fits = name.len() <= INTERFACE
        && !name.contains(['/', ':', '*', '?', '@', '%'])
        && !name.contains(char::is_whitespace);
    if fits && name != "." && name != ".." || name.parse::<IpAddr>().is_ok() {
        return Ok(Some(name.to_owned()));
    }
    let why = format!(
        "{name:?} is not a valid interface name: use at most {INTERFACE} characters, and none of / : * ? @ % or blank"
    );
    Err(Error::setting("iface", why))
}

/// Parses an absolute path in its canonical form.
pub(super) fn path(settings: &Settings, name: &str) -> Result<PathBuf, Error> {
    let text = needed(settings, name)?;
    let odd = text
        .split('/')
        .skip(1)
        .any(|part| part.is_empty() || part == "." || part == "..");
    let wrong = |why: &str| Err(Error::setting(name, format!("{text:?} {why}")));
    match text.strip_prefix('/') {
        None => wrong("must be an absolute path"),
        Some(_) if odd => wrong("must be written without //, /./, /../ and / at the end"),
        Some(_) if text.contains([':', '$']) => {
            wrong("contains : or $, which units and PATH cannot contain")
        }
        Some(_) => Ok(PathBuf::from(text)),
    }
}

pub(super) fn needed<'a>(settings: &'a Settings, name: &str) -> Result<&'a str, Error> {
    settings
        .text(name)
        .ok_or_else(|| Error::setting(name, "is required"))
}
