//! The choice of the interface: pure.

use std::net::IpAddr;

use super::{Addresses, Families, Underlay};
use crate::config::{IfaceConfig, Pattern};
use crate::family::Family;
use crate::kernel::Facts;
use crate::kernel::facts::{AddrFact, LinkFact, Reach};

/// So many interfaces are listed where none fits.
const LISTED: usize = 16;

/// Why no interface could be chosen. All of it may pass: interfaces, addresses and routes come and go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; this host has {present}", list(reasons))]
pub struct Error {
    /// What is wrong with each of the ways that were asked for.
    pub reasons: Vec<Reason>,
    /// The interfaces that would do, with their addresses.
    pub present: String,
}

fn list(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why one way of asking leads to no interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No interface of that name and none with that address.
    #[error("-iface={0}: no such interface and no interface with that address")]
    NoSuch(String),
    /// Neither address nor name of any interface matches.
    #[error("-iface-regex={0}: no address and no name of an interface matches")]
    NoMatch(Pattern),
    /// The kernel knows no way there.
    #[error("-iface-can-reach={0}: no route leads there")]
    NoRoute(IpAddr),
    /// The interface has no address that could be used.
    #[error(
        "interface {name} has no usable {family} address; give it one (ip addr add … dev {name}) or name another with -iface"
    )]
    NoAddress {
        /// The interface.
        name: String,
        /// Of this family.
        family: Family,
    },
    /// Nothing was asked for and there is no default route.
    #[error("there is no {family} default route to tell the interface by; name one with -iface")]
    NoDefault {
        /// Of this family.
        family: Family,
    },
    /// The default routes of the two families lead to different interfaces.
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}; name the one towards the other hosts with -iface"
    )]
    TwoDefaults {
        /// Where the IPv4 default route leads.
        v4: String,
        /// Where the IPv6 default route leads.
        v6: String,
    },
}

/// Chooses: the first of the names (or addresses), patterns and destinations that leads to an interface; if nothing of that
/// kind was asked for, the one that has the public address, else that of the default route. Only an interface with an
/// address of each of `families` will do. Packets leave from the public address where this host has it.
///
/// # Errors
/// Why nothing fits, for everything that was asked for.
pub fn choose(facts: &Facts, wish: &IfaceConfig, families: Families) -> Result<Underlay, Error> {
    let host = Host { facts, families, public: Addresses::published_by(wish).of(families) };
    let names = wish.names.iter().map(|name| host.named(name));
    let patterns = wish.patterns.iter().map(|pattern| host.matching(pattern));
    let reached = wish.can_reach.iter().map(|ip| host.reaching(*ip));
    let mut reasons = Vec::new();
    for attempt in names.chain(patterns).chain(reached) {
        match attempt {
            Ok(underlay) => return Ok(underlay),
            Err(reason) => reasons.push(reason),
        }
    }
    match wish.names_an_interface() {
        true => Err(host.explain(reasons)),
        false => host.unnamed().map_err(|reason| host.explain(vec![reason])),
    }
}

/// The address is of use on its own link only.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Packets on the loopback and on what flannel made itself go to no other host.
fn leads_out(link: &LinkFact) -> bool {
    let is_overlay = link.vxlan.is_some() && link.name.starts_with("flannel");
    link.name != "lo" && !is_overlay
}

/// This host, as far as the choice goes.
struct Host<'a> {
    facts: &'a Facts,
    families: Families,
    /// What was said about the addresses to publish.
    public: Addresses,
}

impl<'a> Host<'a> {
    fn named(&self, wanted: &str) -> Result<Underlay, Reason> {
        let no_such = || Reason::NoSuch(wanted.to_owned());
        if let Ok(ip) = wanted.parse::<IpAddr>() {
            let link = self.facts.owner(ip).ok_or_else(no_such)?;
            return self.complete(link, ip.into());
        }
        self.complete(self.facts.link(wanted).ok_or_else(no_such)?, Addresses::default())
    }

    /// An interface with matching addresses, of each family one; else one with a matching name.
    fn matching(&self, pattern: &Pattern) -> Result<Underlay, Reason> {
        let mut failed = Reason::NoMatch(pattern.clone());
        for link in self.candidates() {
            let fixed = self.best(link, |ip| pattern.matches(&ip.to_string()));
            if self.lacks(fixed).is_none() {
                return self.complete(link, fixed);
            }
        }
        for link in self.candidates().filter(|link| pattern.matches(&link.name)) {
            match self.complete(link, Addresses::default()) {
                Ok(underlay) => return Ok(underlay),
                Err(reason) => failed = reason,
            }
        }
        Err(failed)
    }

    /// Where the kernel would send packets to `ip`, and from which address. An address of this host itself is reached
    /// through the loopback; meant is the interface that has it.
    fn reaching(&self, ip: IpAddr) -> Result<Underlay, Reason> {
        if let Some(link) = self.facts.owner(ip) {
            return self.complete(link, ip.into());
        }
        let Reach { link, source } = self.facts.reach.ok_or(Reason::NoRoute(ip))?;
        let link = self.candidates().find(|fact| fact.index == link).ok_or(Reason::NoRoute(ip))?;
        self.complete(link, source.map(Addresses::from).unwrap_or_default())
    }

    /// A public address that no interface has is one of a router's; the loopback has one that routers are told of.
    fn unnamed(&self) -> Result<Underlay, Reason> {
        let owner = |family| self.facts.owner(self.public.get(family)?).filter(|link| leads_out(link));
        match Family::ALL.into_iter().find_map(owner) {
            Some(link) => self.complete(link, Addresses::default()),
            None => self.complete(self.by_default_route()?, Addresses::default()),
        }
    }

    /// With both families, both default routes have to lead to one interface.
    fn by_default_route(&self) -> Result<&'a LinkFact, Reason> {
        let first = |links: &[u32], family| {
            let link = links.iter().find_map(|index| self.facts.links.iter().find(|l| l.index == *index));
            link.ok_or(Reason::NoDefault { family })
        };
        let v4 = || first(&self.facts.default_links, Family::V4);
        let v6 = || first(&self.facts.default_links_v6, Family::V6);
        match self.families {
            Families { v6: false, .. } => v4(),
            Families { v4: false, .. } => v6(),
            Families { v4: true, v6: true } => {
                let (v4, v6) = (v4()?, v6()?);
                let shared = self.facts.default_links_v6.contains(&v4.index);
                let apart = || Reason::TwoDefaults { v4: v4.name.clone(), v6: v6.name.clone() };
                shared.then_some(v4).ok_or_else(apart)
            }
        }
    }

    /// The link with the public addresses if they are this host's, else those that are `fixed`, else its best ones.
    fn complete(&self, link: &LinkFact, fixed: Addresses) -> Result<Underlay, Reason> {
        let mine = |ip: IpAddr| self.facts.owner(ip).is_some();
        let public = Addresses {
            v4: self.public.v4.filter(|ip| mine(IpAddr::V4(*ip))),
            v6: self.public.v6.filter(|ip| mine(IpAddr::V6(*ip))),
        };
        let Addresses { v4, v6 } = public.or(fixed).or(self.best(link, |_| true)).of(self.families);
        match self.lacks(Addresses { v4, v6 }) {
            Some(family) => Err(Reason::NoAddress { name: link.name.clone(), family }),
            None => Ok(Underlay { index: link.index, name: link.name.clone(), mtu: link.mtu, v4, v6 }),
        }
    }

    /// The family that is wanted and of which there is no address.
    fn lacks(&self, found: Addresses) -> Option<Family> {
        let wanted = |family| match family {
            Family::V4 => self.families.v4,
            Family::V6 => self.families.v6,
        };
        Family::ALL.into_iter().find(|family| wanted(*family) && found.get(*family).is_none())
    }

    /// Global before link-local, permanent before dynamic, lasting before temporary; in doubt the first.
    fn best(&self, link: &LinkFact, fits: impl Fn(IpAddr) -> bool) -> Addresses {
        let mut usable: Vec<&AddrFact> = self.usable(link).filter(|addr| fits(addr.ip)).collect();
        usable
            .sort_by_key(|addr| (addr.link_local || is_link_local(addr.ip), !addr.permanent, addr.temporary));
        usable.into_iter().fold(Addresses::default(), |best, addr| best.or(addr.ip.into()))
    }

    fn usable(&self, link: &LinkFact) -> impl Iterator<Item = &'a AddrFact> {
        let index = link.index;
        let is_usable = move |addr: &&AddrFact| {
            let ip = addr.ip;
            let is_host = !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified());
            addr.link == index && is_host && !addr.deprecated
        };
        self.facts.addrs.iter().filter(is_usable)
    }

    /// Links that may be taken without being named.
    fn candidates(&self) -> impl Iterator<Item = &'a LinkFact> {
        self.facts.links.iter().filter(|link| leads_out(link))
    }

    fn explain(&self, reasons: Vec<Reason>) -> Error {
        let shown = |link: &LinkFact| {
            let addrs = self.usable(link).filter(|addr| match addr.ip {
                IpAddr::V4(_) => self.families.v4,
                IpAddr::V6(ip) => self.families.v6 && !ip.is_unicast_link_local(),
            });
            let addrs: Vec<String> = addrs.map(|addr| addr.ip.to_string()).collect();
            (!addrs.is_empty()).then(|| format!("{} ({})", link.name, addrs.join(", ")))
        };
        let mut present: Vec<String> = self.candidates().filter_map(shown).collect();
        let more = present.len().saturating_sub(LISTED);
        present.truncate(LISTED);
        present.extend((more > 0).then(|| format!("{more} more")));
        let none = "no interface with an address".to_owned();
        Error { reasons, present: if present.is_empty() { none } else { present.join(", ") } }
    }
}
