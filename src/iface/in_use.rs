//! The interface and addresses in use, and what takes their place when they are gone: pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::choice::{Error, Host, choose, is_link_local};
use super::{Addresses, Announced, Families, Underlay};
use crate::config::IfaceConfig;
use crate::kernel::HostState;
use crate::kernel::host_state::{AddrFact, LinkFact};
use crate::util::family::Family;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Those that this host is known by. They are returned to whenever they are there.
    home: Underlay,
    /// The addresses that `home`'s interface had when it last had those of `home`: any other one is new.
    known: BTreeSet<IpAddr>,
    /// Those of them whose prefix is a single address.
    single: BTreeSet<IpAddr>,
    /// What serves while those of `home` are gone.
    substitute: Option<Underlay>,
}

/// What follows from the host's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    Use(InUse),
    /// Addresses are gone that may return in a moment, and only others are left that were there before.
    Wait(Gone),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    addresses: Addresses,
    from: String,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addresses, from } = self;
        write!(
            f,
            "address {addresses} disappeared from {from}, waiting for it to return"
        )
    }
}

impl InUse {
    /// The interface and addresses that were chosen at start.
    pub fn new(home: Underlay, host_state: &HostState) -> Self {
        let on_link = || {
            host_state
                .addrs
                .iter()
                .filter(|addr| addr.link == home.index)
        };
        let single = on_link().filter(|addr| addr.is_single());
        Self {
            known: on_link().map(|addr| addr.ip).collect(),
            single: single.map(|addr| addr.ip).collect(),
            home,
            substitute: None,
        }
    }

    /// What packets leave from now.
    pub fn underlay(&self) -> &Underlay {
        self.substitute.as_ref().unwrap_or(&self.home)
    }

    /// Whether this host waits for its addresses to return, or for new ones in their place.
    pub fn is_substitute(&self) -> bool {
        self.substitute.is_some()
    }

    /// Whether this host waits for what a link that is as `fact` says may bring.
    pub fn awaits_link(&self, fact: &LinkFact) -> bool {
        self.is_substitute() && self.home.is_meant_by(fact)
    }

    /// Whether this host waits for an address, or for any on this link.
    pub fn awaits_address(&self, link: u32, ip: IpAddr) -> bool {
        let is_home = self.home.addresses.get(Family::of(ip)) == Some(ip);
        self.is_substitute() && (link == self.home.index || is_home)
    }

    /// Works out what to use. In this order:
    ///
    /// 1. the addresses of before, as long as they are there, whatever else has come;
    /// 2. a new address on the same interface in place of one that is gone: the interface was renumbered;
    /// 3. the same addresses on another interface that the flags allow;
    /// 4. a substitute that was chosen before, see [`Self::substituted`].
    ///
    /// An address that a flag names is used as soon as this host has it.
    pub fn follow(
        &self,
        host_state: &HostState,
        config: &IfaceConfig,
        families: Families,
        announced: Announced<'_>,
    ) -> Follow {
        let host = Host::new(host_state, config, families, announced);
        if let Some(home) = self.at_home(&host).or_else(|| self.elsewhere(&host)) {
            return Follow::Use(Self::new(home, host_state));
        }
        let substitute = self.substitute.as_ref();
        if let Some(underlay) = substitute.and_then(|underlay| still(&host, underlay)) {
            return Follow::Use(self.with_substitute(underlay));
        }
        let link = host_state.link(&self.home.name);
        let is_gone = |ip| !link.is_some_and(|link| host.is_on(link, ip));
        let addresses = self.home.addresses.filter(is_gone);
        let from = self.home.name.clone();
        Follow::Wait(Gone { addresses, from })
    }

    /// Chooses what serves until the addresses of before return: what a start would choose.
    pub fn substituted(
        &self,
        host_state: &HostState,
        config: &IfaceConfig,
        families: Families,
        announced: Announced<'_>,
    ) -> Result<Self, Error> {
        let announced = Announced {
            own: self.home.addresses,
            ..announced
        };
        choose(host_state, config, families, announced).map(|found| self.with_substitute(found))
    }

    fn with_substitute(&self, underlay: Underlay) -> Self {
        let substitute = Some(underlay);
        Self {
            substitute,
            ..self.clone()
        }
    }

    /// Whether an address of `home` is on `link`, and was not taken by another host while it was gone.
    fn is_ours(&self, host: &Host<'_>, link: &LinkFact, ip: IpAddr) -> bool {
        if self.is_substitute() {
            host.has(link, ip)
        } else {
            host.is_on(link, ip)
        }
    }

    /// The interface of before with the addresses of before, or new ones in their place.
    fn at_home(&self, host: &Host<'_>) -> Option<Underlay> {
        let link = host.host_state.link(&self.home.name)?;
        let mut found = Addresses::default();
        for family in host.families() {
            let before = self.home.addresses.get(family);
            let explicit = host
                .explicit(family)
                .filter(|ip| before != Some(*ip) || host.may_be_on(link, *ip));
            let kept = explicit.or_else(|| before.filter(|ip| self.is_ours(host, link, *ip)));
            found = found.or(kept.or_else(|| self.newcomer(host, link, family))?.into());
        }
        Some(Underlay::new(link, found))
    }

    /// The best address that has come since. A single host's address takes the place of another such one only: it may be a
    /// virtual one that has come at the same moment.
    fn newcomer(&self, host: &Host<'_>, link: &LinkFact, family: Family) -> Option<IpAddr> {
        let home = self.home.addresses.get(family);
        let was_single = home.is_some_and(|ip| self.single.contains(&ip));
        let is_fit = |addr: &&AddrFact| {
            let is_new = addr.link == link.index && !self.known.contains(&addr.ip);
            let is_lasting = !is_link_local(addr.ip) && !addr.link_local && !addr.temporary;
            is_new && is_lasting && (was_single || !addr.is_single())
        };
        let fit = host.host_state.addrs.iter().filter(is_fit);
        let fit: BTreeSet<IpAddr> = fit.map(|addr| addr.ip).collect();
        let best = host.best(link, |ip| fit.contains(&ip) && host.allows(link, ip));
        best.get(family)
    }

    /// The addresses of before on an interface that has them now.
    fn elsewhere(&self, host: &Host<'_>) -> Option<Underlay> {
        let addresses = self.home.addresses;
        let mut ips = host.families().filter_map(|family| addresses.get(family));
        let link = host.holder(ips.next()?)?;
        let is_there = |ip| self.is_ours(host, link, ip) && host.allows(link, ip);
        let all = |family| addresses.get(family).is_some_and(is_there);
        host.families()
            .all(all)
            .then(|| Underlay::new(link, addresses))
    }
}

/// The interface and addresses of `underlay`, if they are still there.
fn still(host: &Host<'_>, underlay: &Underlay) -> Option<Underlay> {
    let link = host.host_state.link(&underlay.name)?;
    let mut found = Addresses::default();
    for family in host.families() {
        let before = underlay.addresses.get(family);
        let kept = before.filter(|ip| host.is_on(link, *ip));
        found = found.or(host.explicit(family).or(kept)?.into());
    }
    Some(Underlay::new(link, found))
}
