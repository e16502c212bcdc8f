//! Which interface carries the overlay, and with which address: pure.

use std::net::{IpAddr, Ipv4Addr};

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
    /// The address that tunnel packets leave from.
    pub ip: Ipv4Addr,
}

impl Underlay {
    /// Whether a link that is as `fact` says gives no reason to choose again.
    pub fn is_untouched_by(&self, fact: &LinkFact) -> bool {
        let concerned = fact.name == self.name || fact.index == self.index;
        !concerned || (fact.name == self.name && fact.index == self.index && fact.mtu == self.mtu)
    }
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
        "interface {name} has no usable IPv4 address; give it one (ip addr add … dev {name}) or name another with -iface"
    )]
    NoAddress {
        /// The interface.
        name: String,
    },
    /// Nothing was asked for and there is no default route.
    #[error("there is no IPv4 default route to tell the interface by; name one with -iface")]
    NoDefault,
    /// The public address alone was given and no interface has it.
    #[error(
        "-public-ip={wanted}: no interface has that address; name the interface with -iface as well if a router translates it"
    )]
    ForeignPublicIp {
        /// The address.
        wanted: Ipv4Addr,
    },
}

/// Chooses: the first of `wanted` (names or addresses) that is there; else the interface with the address `public_ip`; else
/// that of the default route.
///
/// # Errors
/// Why nothing fits, in terms of what was asked for first.
pub fn choose(facts: &Facts, wanted: &[String], public_ip: Option<Ipv4Addr>) -> Result<Underlay, Error> {
    if let Some(first) = wanted.first() {
        let found = wanted.iter().map(|name| named(facts, name)).find_map(Result::ok);
        return found.map_or_else(|| named(facts, first), Ok);
    }
    match public_ip {
        Some(ip) => owner(facts, ip).ok_or(Error::ForeignPublicIp { wanted: ip }),
        None => by_default_route(facts),
    }
}

fn named(facts: &Facts, wanted: &str) -> Result<Underlay, Error> {
    if let Ok(ip) = wanted.parse() {
        return owner(facts, ip).ok_or_else(|| no_such(facts, wanted));
    }
    let link = facts.link(wanted).ok_or_else(|| no_such(facts, wanted))?;
    with_best_address(facts, link)
}

fn no_such(facts: &Facts, wanted: &str) -> Error {
    let present: Vec<&str> = facts.links.iter().map(|link| link.name.as_str()).collect();
    Error::NoSuch { wanted: wanted.into(), present: present.join(", ") }
}

fn owner(facts: &Facts, ip: Ipv4Addr) -> Option<Underlay> {
    let addr = facts.addrs.iter().find(|addr| addr.ip == IpAddr::V4(ip))?;
    let link = facts.links.iter().find(|link| link.index == addr.link)?;
    Some(underlay(link, ip))
}

fn by_default_route(facts: &Facts) -> Result<Underlay, Error> {
    let index = facts.default_links.first().ok_or(Error::NoDefault)?;
    let link = facts.links.iter().find(|link| link.index == *index).ok_or(Error::NoDefault)?;
    with_best_address(facts, link)
}

/// Global before link-local, permanent before dynamic; never a deprecated or loopback address.
fn with_best_address(facts: &Facts, link: &LinkFact) -> Result<Underlay, Error> {
    let rank = |addr: &AddrFact, ip: Ipv4Addr| (addr.link_local || ip.is_link_local(), !addr.permanent);
    let candidates = facts.addrs.iter().filter(|addr| addr.link == link.index && !addr.deprecated);
    candidates
        .filter_map(|addr| match addr.ip {
            IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_multicast() => Some((rank(addr, ip), ip)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, ip)| underlay(link, ip))
        .ok_or_else(|| Error::NoAddress { name: link.name.clone() })
}

fn underlay(link: &LinkFact, ip: Ipv4Addr) -> Underlay {
    Underlay { index: link.index, name: link.name.clone(), mtu: link.mtu, ip }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> LinkFact {
        LinkFact { index, name: name.into(), mtu: 1500, up: true, ..LinkFact::default() }
    }

    fn addr(link: u32, ip: [u8; 4]) -> AddrFact {
        AddrFact {
            link,
            ip: ip.into(),
            prefix_len: 24,
            link_local: false,
            deprecated: false,
            permanent: true,
        }
    }

    fn facts() -> Facts {
        Facts {
            links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "eth2")],
            addrs: vec![
                addr(1, [127, 0, 0, 1]),
                AddrFact { permanent: false, ..addr(2, [10, 0, 0, 9]) },
                AddrFact { deprecated: true, ..addr(2, [10, 0, 0, 8]) },
                addr(2, [169, 254, 0, 1]),
                addr(2, [10, 0, 0, 1]),
                addr(3, [10, 1, 0, 1]),
            ],
            default_links: vec![3],
            ..Facts::default()
        }
    }

    fn chosen(wanted: &[&str], public_ip: Option<[u8; 4]>) -> Result<(String, Ipv4Addr), Error> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        choose(&facts(), &wanted, public_ip.map(Into::into)).map(|u| (u.name, u.ip))
    }

    #[test]
    fn by_name_takes_the_best_address() {
        assert_eq!(chosen(&["eth0"], None), Ok(("eth0".into(), [10, 0, 0, 1].into())));
    }

    #[test]
    fn by_address_takes_that_address() {
        assert_eq!(chosen(&["10.0.0.9"], None), Ok(("eth0".into(), [10, 0, 0, 9].into())));
    }

    #[test]
    fn the_first_that_is_there_wins_and_the_first_is_complained_about() {
        assert_eq!(chosen(&["nope", "eth1"], None), Ok(("eth1".into(), [10, 1, 0, 1].into())));
        assert_eq!(
            chosen(&["nope"], None),
            Err(Error::NoSuch { wanted: "nope".into(), present: "lo, eth0, eth1, eth2".into() })
        );
        assert_eq!(chosen(&["eth2"], None), Err(Error::NoAddress { name: "eth2".into() }));
    }

    #[test]
    fn without_a_name_the_public_address_or_the_default_route_decides() {
        assert_eq!(chosen(&[], Some([10, 0, 0, 9])), Ok(("eth0".into(), [10, 0, 0, 9].into())));
        assert_eq!(
            chosen(&[], Some([1, 2, 3, 4])),
            Err(Error::ForeignPublicIp { wanted: [1, 2, 3, 4].into() })
        );
        assert_eq!(chosen(&[], None), Ok(("eth1".into(), [10, 1, 0, 1].into())));
        assert_eq!(choose(&Facts::default(), &[], None), Err(Error::NoDefault));
    }

    #[test]
    fn a_public_address_of_a_router_goes_with_a_named_interface() {
        assert_eq!(chosen(&["eth0"], Some([203, 0, 113, 9])), Ok(("eth0".into(), [10, 0, 0, 1].into())));
    }
}
