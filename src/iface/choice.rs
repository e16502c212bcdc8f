//! The choice of the interface and its addresses: pure.

use std::net::IpAddr;

use super::{Addresses, Announced, Families, Underlay};
use crate::config::{IfaceConfig, Pattern};
use crate::kernel::HostState;
use crate::kernel::host_state::{AddrFact, LinkFact, Reachability};
use crate::subnet::Subnets;
use crate::util::family::Family;

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
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

/// Why one way of asking leads to no interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("-iface={0}: no interface has this name or address")]
    NoSuch(String),
    #[error("-iface-regex={0}: no interface has a matching address or name")]
    NoMatch(Pattern),
    #[error("-iface-can-reach={0}: there is no route to this address")]
    NoRoute(IpAddr),
    #[error(
        "interface {name} has no usable {family} address; add one (ip addr add … dev {name}), or select another interface with -iface"
    )]
    NoAddress { name: String, family: Family },
    #[error(
        "interface {name} has no {family} address of its own: the lease of {by} announces {ip}; give each host its own address"
    )]
    Announced {
        name: String,
        family: Family,
        ip: IpAddr,
        by: Subnets,
    },
    #[error(
        "cannot choose the interface: there is no {family} default route; select an interface with -iface"
    )]
    NoDefault { family: Family },
    #[error(
        "v6 default route interface {v6} must be the same with v4 default route interface {v4}; select the interface for traffic between hosts with -iface"
    )]
    TwoDefaults { v4: String, v6: String },
}

/// Chooses: what the own lease announces, if the flags allow that; else the first of the names (or addresses), patterns and
/// destinations that leads to an interface; if nothing of that kind was asked for, the one that has the public address, else
/// that of the default route. Only an interface with an address of each of `families` will do. Packets leave from the public
/// address where this host has it. What another host announces is not taken.
pub fn choose(
    host_state: &HostState,
    config: &IfaceConfig,
    families: Families,
    announced: Announced<'_>,
) -> Result<Underlay, Error> {
    let host = Host::new(host_state, config, families, announced);
    if let Some(underlay) = host.leased() {
        return Ok(underlay);
    }
    let names = config.names.iter().map(|name| host.named(name));
    let patterns = config.patterns.iter().map(|pattern| host.matching(pattern));
    let reached = config.can_reach.iter().map(|ip| host.reaching(*ip));
    let mut reasons = Vec::new();
    for attempt in names.chain(patterns).chain(reached) {
        match attempt {
            Ok(underlay) => return Ok(underlay),
            Err(reason) => reasons.push(reason),
        }
    }
    if config.names_an_interface() {
        Err(host.explain(reasons))
    } else {
        host.unnamed().map_err(|reason| host.explain(vec![reason]))
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

/// Better is less: global before link-local, lasting before temporary, of a network before a single host's, permanent before
/// dynamic. A virtual address, which moves from host to host, is usually a single host's.
fn rank(addr: &AddrFact) -> impl Ord + Copy + use<> {
    (
        addr.link_local || is_link_local(addr.ip),
        addr.temporary,
        addr.is_single(),
        !addr.permanent,
    )
}

/// This host, as far as the choice goes.
pub(super) struct Host<'a> {
    pub(super) host_state: &'a HostState,
    config: &'a IfaceConfig,
    families: Families,
    /// What was said about the addresses to publish.
    public: Addresses,
    announced: Announced<'a>,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        host_state: &'a HostState,
        config: &'a IfaceConfig,
        families: Families,
        announced: Announced<'a>,
    ) -> Self {
        Self {
            host_state,
            config,
            families,
            public: Addresses::published_by(config).of(families),
            announced,
        }
    }

    pub(super) fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let Families { v4, v6 } = self.families;
        Family::ALL.into_iter().filter(move |family| match family {
            Family::V4 => v4,
            Family::V6 => v6,
        })
    }

    /// Returns the address that a flag names, of this family, where this host has it.
    pub(super) fn explicit(&self, family: Family) -> Option<IpAddr> {
        let named = self.public.get(family);
        named.filter(|ip| self.host_state.owner(*ip).is_some())
    }

    /// Returns the interface that has the addresses of the own lease, with them.
    fn leased(&self) -> Option<Underlay> {
        let own = self
            .announced
            .own
            .filter(|ip| self.public.get(Family::of(ip)).is_none());
        let mut ips = self.families().filter_map(|family| own.get(family));
        let link = ips.find_map(|ip| self.holder(ip).filter(|link| self.allows(link, ip)))?;
        let found = self.complete(link, Addresses::default()).ok()?;
        let is_allowed = |family: Family| {
            let ip = found.addresses.get(family);
            self.explicit(family).is_some() || ip.is_some_and(|ip| self.allows(link, ip))
        };
        self.families().all(is_allowed).then_some(found)
    }

    /// The interface on which `ip` can be used.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&'a LinkFact> {
        self.candidates().find(|link| self.is_on(link, ip))
    }

    /// Whether `ip` is on `link` and may stay in use. One that is being phased out may while there is no other, or if a flag
    /// names it.
    pub(super) fn is_on(&self, link: &LinkFact, ip: IpAddr) -> bool {
        let is_named = || {
            self.config.names.iter().any(|name| name.parse() == Ok(ip))
                || self.config.can_reach == Some(ip)
        };
        let is_it = |addr: &AddrFact| addr.link == link.index && addr.ip == ip && !addr.unconfirmed;
        let is_there = || self.host_state.addrs.iter().any(is_it);
        let is_sole = || self.best(link, |_| true).get(Family::of(ip)).is_none();
        self.present(link).any(|addr| addr.ip == ip) || (is_there() && (is_named() || is_sole()))
    }

    /// Whether `ip` is on `link` and no other host's.
    pub(super) fn has(&self, link: &LinkFact, ip: IpAddr) -> bool {
        self.usable(link).any(|addr| addr.ip == ip)
    }

    /// Whether a host that publishes `ip` may use `link`: not if no flag names it and the address has moved on to another one.
    pub(super) fn may_be_on(&self, link: &LinkFact, ip: IpAddr) -> bool {
        let is_here = |holder: &LinkFact| holder.index == link.index;
        self.config.names_an_interface() || self.holder(ip).is_none_or(is_here)
    }

    /// Whether the flags allow `link` with the address `ip`.
    pub(super) fn allows(&self, link: &LinkFact, ip: IpAddr) -> bool {
        let config = self.config;
        let named = |name: &String| match name.parse::<IpAddr>() {
            Ok(wanted) => self.is_or_is_beside(link, ip, wanted),
            Err(_) => *name == link.name,
        };
        let matched =
            |pattern: &Pattern| pattern.matches(&ip.to_string()) || pattern.matches(&link.name);
        let leads_here = |reach: Reachability| reach.link == link.index;
        let reached = |wanted: IpAddr| match self.host_state.owner(wanted) {
            Some(_) => self.is_or_is_beside(link, ip, wanted),
            None => self.host_state.reach.is_some_and(leads_here),
        };
        if config.names_an_interface() {
            let by_flag = config.names.iter().any(named) || config.patterns.iter().any(matched);
            return by_flag || config.can_reach.is_some_and(reached);
        }
        let mut families = Family::ALL.into_iter();
        let public = families.find_map(|family| self.explicit(family));
        let owner = public.and_then(|public| self.host_state.owner(public));
        let owner = owner.filter(|owner| leads_out(owner));
        leads_out(link) && owner.is_none_or(|owner| owner.index == link.index)
    }

    /// Whether `ip` is `wanted`, or of the other family on the link that has it.
    fn is_or_is_beside(&self, link: &LinkFact, ip: IpAddr, wanted: IpAddr) -> bool {
        let is_link = |owner: &LinkFact| owner.index == link.index;
        let is_beside = || self.host_state.owner(wanted).is_some_and(is_link);
        ip == wanted || (Family::of(ip) != Family::of(wanted) && is_beside())
    }

    fn named(&self, wanted: &str) -> Result<Underlay, Reason> {
        let no_such = || Reason::NoSuch(wanted.to_owned());
        if let Ok(ip) = wanted.parse::<IpAddr>() {
            let link = self.host_state.owner(ip).ok_or_else(no_such)?;
            return self.complete(link, ip.into());
        }
        let link = self.host_state.link(wanted).ok_or_else(no_such)?;
        self.complete(link, Addresses::default())
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
        if let Some(link) = self.host_state.owner(ip) {
            return self.complete(link, ip.into());
        }
        let Reachability { link, source, .. } = self.host_state.reach.ok_or(Reason::NoRoute(ip))?;
        let link = self.candidates().find(|fact| fact.index == link);
        let link = link.ok_or(Reason::NoRoute(ip))?;
        self.complete(link, source.map(Addresses::from).unwrap_or_default())
    }

    /// A public address that no interface has is one of a router's; the loopback has one that routers are told of.
    fn unnamed(&self) -> Result<Underlay, Reason> {
        let owner = |family| self.host_state.owner(self.public.get(family)?);
        let owner = |family| owner(family).filter(|link| leads_out(link));
        let link = match Family::ALL.into_iter().find_map(owner) {
            Some(link) => link,
            None => self.by_default_route()?,
        };
        self.complete(link, Addresses::default())
    }

    /// With both families, both default routes have to lead to one interface.
    fn by_default_route(&self) -> Result<&'a LinkFact, Reason> {
        let first = |links: &[u32], family| {
            let of = |index| {
                self.host_state
                    .links
                    .iter()
                    .find(|link| link.index == index)
            };
            let link = links.iter().find_map(|index| of(*index));
            link.ok_or(Reason::NoDefault { family })
        };
        let v4 = || first(&self.host_state.default_links, Family::V4);
        let v6 = || first(&self.host_state.default_links_v6, Family::V6);
        match self.families {
            Families { v6: false, .. } => v4(),
            Families { v4: false, .. } => v6(),
            Families { v4: true, v6: true } => {
                let (v4, v6) = (v4()?, v6()?);
                let shared = self.host_state.default_links_v6.contains(&v4.index);
                let apart = || Reason::TwoDefaults {
                    v4: v4.name.clone(),
                    v6: v6.name.clone(),
                };
                shared.then_some(v4).ok_or_else(apart)
            }
        }
    }

    /// The link with the public addresses if they are this host's, else those that are `fixed`, else those of the own lease,
    /// else its best ones.
    fn complete(&self, link: &LinkFact, fixed: Addresses) -> Result<Underlay, Reason> {
        let on_link = |ip: IpAddr| self.has(link, ip);
        let public = self.public.filter(|ip| self.host_state.owner(ip).is_some());
        let leased = self.announced.own.filter(on_link);
        let found = public.or(fixed).or(leased);
        let found = found.or(self.best(link, |_| true)).of(self.families);
        match self.lacks(found) {
            Some(family) => Err(self.without_address(link, family)),
            None => Ok(Underlay::new(link, found)),
        }
    }

    fn without_address(&self, link: &LinkFact, family: Family) -> Reason {
        let ips = self.present(link).map(|addr| addr.ip);
        let mut ips = ips.filter(|ip| Family::of(*ip) == family);
        let name = link.name.clone();
        match ips.find_map(|ip| Some((ip, self.announcer(ip)?))) {
            Some((ip, by)) => Reason::Announced {
                name,
                family,
                ip,
                by,
            },
            None => Reason::NoAddress { name, family },
        }
    }

    /// The family that is wanted and of which there is no address.
    fn lacks(&self, found: Addresses) -> Option<Family> {
        self.families().find(|family| found.get(*family).is_none())
    }

    /// The best address of each family; of equal ones that which was there first.
    pub(super) fn best(&self, link: &LinkFact, fits: impl Fn(IpAddr) -> bool) -> Addresses {
        let usable = self.usable(link).filter(|addr| fits(addr.ip));
        let (mut addrs, v6): (Vec<&AddrFact>, Vec<&AddrFact>) =
            usable.partition(|addr| addr.ip.is_ipv4());
        // The kernel lists the newest IPv6 address first.
        addrs.extend(v6.into_iter().rev());
        addrs.sort_by_key(|addr| rank(addr));
        let each = addrs.iter().map(|addr| Addresses::from(addr.ip));
        each.fold(Addresses::default(), Addresses::or)
    }

    /// The addresses that packets to other hosts can leave from, and that are no other host's.
    fn usable(&self, link: &LinkFact) -> impl Iterator<Item = &'a AddrFact> {
        let present = self.present(link);
        present.filter(|addr| self.announcer(addr.ip).is_none())
    }

    /// The addresses that packets to other hosts can leave from.
    fn present(&self, link: &LinkFact) -> impl Iterator<Item = &'a AddrFact> + use<'a> {
        let index = link.index;
        let is_usable = move |addr: &&AddrFact| {
            let ip = addr.ip;
            let is_host = !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified());
            addr.link == index && is_host && !addr.deprecated && !addr.unconfirmed
        };
        self.host_state.addrs.iter().filter(is_usable)
    }

    /// The other host's lease that announces `ip`. Where a flag says what is published, that does not matter.
    fn announcer(&self, ip: IpAddr) -> Option<Subnets> {
        match self.public.get(Family::of(ip)) {
            Some(_) => None,
            None => (self.announced.by_others)(ip),
        }
    }

    /// Links that may be taken without being named.
    fn candidates(&self) -> impl Iterator<Item = &'a LinkFact> {
        self.host_state.links.iter().filter(|link| leads_out(link))
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
        let present = match present.join(", ") {
            none if none.is_empty() => "no interface with an address".to_owned(),
            some => some,
        };
        Error { reasons, present }
    }
}
