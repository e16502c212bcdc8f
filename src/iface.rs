//! Which interface carries the overlay, and with which addresses: pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::IfaceConfig;
use crate::family::Family;
use crate::kernel::Facts;
use crate::kernel::facts::{AddrFact, LinkFact};

/// The interface that carries the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The address that tunnel packets over IPv4 leave from; there if the overlay has IPv4.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Underlay {
    /// Whether a link that is as `fact` says gives no reason to choose again.
    pub fn is_untouched_by(&self, fact: &LinkFact) -> bool {
        let concerned = fact.name == self.name || fact.index == self.index;
        !concerned || (fact.name == self.name && fact.index == self.index && fact.mtu == self.mtu)
    }

    /// The addresses that tunnel packets leave from.
    pub fn addresses(&self) -> Addresses {
        Addresses { v4: self.v4, v6: self.v6 }
    }
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl From<IpAddr> for Addresses {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self { v4: Some(ip), v6: None },
            IpAddr::V6(ip) => Self { v4: None, v6: Some(ip) },
        }
    }
}

impl Addresses {
    /// What `-public-ip` and `-public-ipv6` name.
    pub fn published_by(config: &IfaceConfig) -> Self {
        Self { v4: config.public_ip, v6: config.public_ipv6 }
    }

    /// That of one family.
    pub fn get(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// One of them, IPv4 if there is a choice.
    pub fn first(self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or(self.v6.map(IpAddr::V6))
    }

    /// These; where there is none, that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { v4: self.v4.or(other.v4), v6: self.v6.or(other.v6) }
    }

    /// Those of the families in question.
    #[must_use]
    pub fn of(self, families: Families) -> Self {
        Self { v4: self.v4.filter(|_| families.v4), v6: self.v6.filter(|_| families.v6) }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4} and {v6}"),
            (Some(v4), None) => write!(f, "{v4}"),
            (None, Some(v6)) => write!(f, "{v6}"),
            (None, None) => f.write_str("none"),
        }
    }
}

/// Which address families the overlay has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// IPv4 alone.
    pub const V4: Self = Self { v4: true, v6: false };
}

/// Why no interface could be chosen. All of these may pass: interfaces and addresses come and go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No interface of that name and none with that address.
    #[error("-iface={wanted}: no such interface and no interface with that address; this host has {present}")]
    NoSuch {
        /// What was asked for.
        wanted: String,
        /// The interfaces there are.
        present: String,
    },
    /// The interface has no address that could be used.
    #[error(
        "interface {name} has no usable {family} address; give it one (ip addr add … dev {name}) or name another with -iface"
    )]
    NoAddress {
        /// The interface.
        name: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// Nothing was asked for and there is no default route.
    #[error("there is no {family} default route to tell the interface by; name one with -iface")]
    NoDefault {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The default routes of the two families lead to different interfaces.
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}; name the interface of the other hosts with -iface"
    )]
    TwoDefaults {
        /// Where the IPv4 default route leads.
        v4: String,
        /// Where the IPv6 default route leads.
        v6: String,
    },
    /// The public address alone was given and no interface has it.
    #[error(
        "-public-ip={wanted}: no interface has that address; name the interface with -iface as well if a router translates it"
    )]
    ForeignPublicIp {
        /// The address.
        wanted: IpAddr,
    },
}

/// Chooses: the first of the names (or addresses) that is there; else the interface with the public address; else that of
/// the default route. Only an interface with an address of each of `families` will do.
///
/// # Errors
/// Why nothing fits, in terms of what was asked for first.
pub fn choose(facts: &Facts, wish: &IfaceConfig, families: Families) -> Result<Underlay, Error> {
    if let Some(first) = wish.names.first() {
        let found = wish.names.iter().map(|name| named(facts, name, families)).find_map(Result::ok);
        return found.map_or_else(|| named(facts, first, families), Ok);
    }
    match Addresses::published_by(wish).of(families).first() {
        Some(wanted) => {
            let link = owner(facts, wanted).ok_or(Error::ForeignPublicIp { wanted })?;
            complete(facts, link, wanted.into(), families)
        }
        None => complete(facts, by_default_route(facts, families)?, Addresses::default(), families),
    }
}

fn named(facts: &Facts, wanted: &str, families: Families) -> Result<Underlay, Error> {
    if let Ok(ip) = wanted.parse::<IpAddr>() {
        let link = owner(facts, ip).ok_or_else(|| no_such(facts, wanted))?;
        return complete(facts, link, ip.into(), families);
    }
    let link = facts.link(wanted).ok_or_else(|| no_such(facts, wanted))?;
    complete(facts, link, Addresses::default(), families)
}

fn no_such(facts: &Facts, wanted: &str) -> Error {
    let present: Vec<&str> = facts.links.iter().map(|link| link.name.as_str()).collect();
    Error::NoSuch { wanted: wanted.into(), present: present.join(", ") }
}

fn owner(facts: &Facts, ip: IpAddr) -> Option<&LinkFact> {
    let addr = facts.addrs.iter().find(|addr| addr.ip == ip)?;
    facts.links.iter().find(|link| link.index == addr.link)
}

/// With both families, both default routes have to lead to one interface.
fn by_default_route(facts: &Facts, families: Families) -> Result<&LinkFact, Error> {
    let first = |links: &[u32], family| {
        let link = links.iter().find_map(|index| facts.links.iter().find(|link| link.index == *index));
        link.ok_or(Error::NoDefault { family })
    };
    if !families.v6 {
        return first(&facts.default_links, "IPv4");
    }
    let v6 = first(&facts.default_links_v6, "IPv6")?;
    if !families.v4 {
        return Ok(v6);
    }
    let v4 = first(&facts.default_links, "IPv4")?;
    match facts.default_links_v6.contains(&v4.index) {
        true => Ok(v4),
        false => Err(Error::TwoDefaults { v4: v4.name.clone(), v6: v6.name.clone() }),
    }
}

/// The link with the addresses that are `fixed`, else its best ones.
fn complete(facts: &Facts, link: &LinkFact, fixed: Addresses, families: Families) -> Result<Underlay, Error> {
    let found = fixed.or(best(facts, link)).of(families);
    let missing = |family| Error::NoAddress { name: link.name.clone(), family };
    match (found.v4, found.v6) {
        (None, _) if families.v4 => Err(missing("IPv4")),
        (_, None) if families.v6 => Err(missing("IPv6")),
        (v4, v6) => Ok(Underlay { index: link.index, name: link.name.clone(), mtu: link.mtu, v4, v6 }),
    }
}

/// Global before link-local, permanent before dynamic, lasting before temporary; in doubt the first.
fn best(facts: &Facts, link: &LinkFact) -> Addresses {
    let mut candidates: Vec<&AddrFact> =
        facts.addrs.iter().filter(|addr| addr.link == link.index && is_usable(addr)).collect();
    candidates.sort_by_key(|addr| (is_link_local(addr), !addr.permanent, addr.temporary));
    candidates.into_iter().fold(Addresses::default(), |best, addr| best.or(addr.ip.into()))
}

fn is_usable(addr: &AddrFact) -> bool {
    let ip = addr.ip;
    !(addr.deprecated || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

fn is_link_local(addr: &AddrFact) -> bool {
    addr.link_local
        || match addr.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests;
