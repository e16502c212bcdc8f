//! Addresses, names and paths in settings: pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

use crate::Error;
use crate::settings::Settings;
use flanneld::subnet::cidr;

/// Longest name of an interface: the kernel's IFNAMSIZ without its zero.
const INTERFACE: usize = 15;
/// Longest name of a node: a label of DNS, and a value of Kubernetes' labels.
const NODE: usize = 63;

/// A network, given by its own address.
pub(super) fn cidr(settings: &Settings, name: &str) -> Result<Ipv4Network, Error> {
    let text = needed(settings, name)?;
    let network = cidr::v4(text).ok_or_else(|| {
        Error::setting(
            name,
            format!(
                "{text:?} is no IPv4 network: give an address and a length, such as 172.30.0.0/16"
            ),
        )
    })?;
    if text != network.to_string() {
        return Err(Error::setting(
            name,
            format!("{text} has bits set beyond its length: {network} is the network"),
        ));
    }
    if network.prefix() == 0 {
        return Err(Error::setting(
            name,
            "0.0.0.0/0 is everything: give the network that is meant",
        ));
    }
    Ok(network)
}

/// An address that others can reach.
pub(super) fn unicast(settings: &Settings, name: &str) -> Result<IpAddr, Error> {
    let text = needed(settings, name)?;
    let wrong = |why: &str| Error::setting(name, format!("{text:?} {why}"));
    let ip: IpAddr = text.parse().map_err(|_| wrong("is no IP address"))?;
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if mapped {
        return Err(wrong(
            "is an IPv4 address in IPv6's clothes: give the IPv4 address",
        ));
    }
    if ip.is_loopback() {
        return Err(wrong(
            "is the loopback: pods and the API server that went there would reach themselves",
        ));
    }
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(wrong("is no address of a node"));
    }
    Ok(ip)
}

/// A node's name. Both programs cut blanks off and make letters small: what they would change is refused.
pub(super) fn node_name(settings: &Settings) -> Result<String, Error> {
    let name = needed(settings, "node-name")?;
    let wrong = |why: String| Err(Error::setting("node-name", format!("{name:.80?} {why}")));
    let small = name.trim().to_lowercase();
    if small != name {
        return wrong(format!(
            "is changed to {small:.80?} by kubelet and kube-proxy: give that"
        ));
    }
    if name.len() > NODE {
        return wrong(format!("is longer than {NODE} characters"));
    }
    let label = |label: &str| {
        let inside = label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    match name.split('.').all(label) {
        true => Ok(name.to_owned()),
        false => wrong("is no name of a node: a-z, 0-9 and -, with dots between parts".into()),
    }
}

/// A domain of services; one trailing dot is left as it is.
pub(super) fn domain(settings: &Settings) -> Result<String, Error> {
    let domain = needed(settings, "cluster-domain")?;
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    match name.split('.').all(label) && name.len() <= 253 {
        true => Ok(domain.to_owned()),
        false => Err(Error::setting(
            "cluster-domain",
            format!("{domain:.80?} is no domain: cluster.local is one"),
        )),
    }
}

/// An interface's name, or an address that it has.
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
        "{name:?} is no name of an interface: at most {INTERFACE} characters, none of / : * ? @ % or blank"
    );
    Err(Error::setting("iface", why))
}

/// An absolute path that is what it looks like.
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
            wrong("has a : or $ in it: nobody could name it in a unit or in PATH")
        }
        Some(_) => Ok(PathBuf::from(text)),
    }
}

/// A setting that has to be there.
pub(super) fn needed<'a>(settings: &'a Settings, name: &str) -> Result<&'a str, Error> {
    settings
        .text(name)
        .ok_or_else(|| Error::setting(name, "is needed and not given"))
}
