//! Which interface carries the overlay, and with which addresses: pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::IfaceConfig;
use crate::kernel::host_state::LinkFact;
use crate::subnet::{LeaseAttrs, Subnets};
use crate::util::family::Family;

mod choice;
mod in_use;

pub use choice::{Error, Reason, choose};
pub use in_use::{Follow, InUse};

/// Which addresses leases announce.
#[derive(Clone, Copy)]
pub struct Announced<'a> {
    /// By this machine's own lease.
    pub own: Addresses,
    /// Returns the other host's lease that announces an address.
    pub by_others: &'a dyn Fn(IpAddr) -> Option<Subnets>,
}

impl Announced<'_> {
    /// What the own lease announces; of others nothing is known.
    pub fn by(own: Addresses) -> Self {
        Self {
            own,
            by_others: &|_| None,
        }
    }
}

/// The interface that carries the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    /// The addresses that tunnel packets leave from: one of each family that the overlay has.
    pub addresses: Addresses,
}

impl Underlay {
    pub fn new(link: &LinkFact, addresses: Addresses) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            mtu: link.mtu,
            addresses,
        }
    }

    /// Whether a link is this interface, was it, or has its name now.
    pub fn is_meant_by(&self, fact: &LinkFact) -> bool {
        fact.name == self.name || fact.index == self.index
    }

    /// Whether a link that is as `fact` says gives no reason to choose again.
    pub fn is_untouched_by(&self, fact: &LinkFact) -> bool {
        let same = fact.name == self.name && fact.index == self.index && fact.mtu == self.mtu;
        same || !self.is_meant_by(fact)
    }
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl From<IpAddr> for Addresses {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self {
                v4: Some(ip),
                v6: None,
            },
            IpAddr::V6(ip) => Self {
                v4: None,
                v6: Some(ip),
            },
        }
    }
}

impl Addresses {
    /// What `-public-ip` and `-public-ipv6` name.
    pub fn published_by(config: &IfaceConfig) -> Self {
        Self {
            v4: config.public_ip,
            v6: config.public_ipv6,
        }
    }

    /// What a lease announces.
    pub fn announced_by(attrs: &LeaseAttrs) -> Self {
        Self {
            v4: attrs.public_ip,
            v6: attrs.public_ipv6,
        }
    }

    pub fn get(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Those that there are, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        Family::ALL
            .into_iter()
            .filter_map(move |family| self.get(family))
    }

    /// These; where there is none, that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4.or(other.v4),
            v6: self.v6.or(other.v6),
        }
    }

    /// Those that fit.
    #[must_use]
    pub fn filter(self, fits: impl Fn(IpAddr) -> bool) -> Self {
        Self {
            v4: self.v4.filter(|ip| fits((*ip).into())),
            v6: self.v6.filter(|ip| fits((*ip).into())),
        }
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        self.get(Family::of(ip)) == Some(ip)
    }

    /// Those of the families in question.
    #[must_use]
    pub fn of(self, families: Families) -> Self {
        Self {
            v4: self.v4.filter(|_| families.v4),
            v6: self.v6.filter(|_| families.v6),
        }
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
    pub v4: bool,
    pub v6: bool,
}

impl Families {
    /// IPv4 alone.
    pub const V4: Self = Self {
        v4: true,
        v6: false,
    };
}

#[cfg(test)]
mod tests;
