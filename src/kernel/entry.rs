//! What the kernel holds for us, as values: pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::util::family::Family;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether a host can own it: not all zero, not a group address.
    pub fn is_unicast(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }

    /// Makes any six bytes a locally administered unicast address.
    pub fn local(mut bytes: [u8; 6]) -> Self {
        bytes[0] = bytes[0] & 0xfe | 0x02;
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or(())?, 16).map_err(|_| ())?;
        }
        parts.next().map_or(Ok(Self(bytes)), |_| Err(()))
    }
}

/// A link by the part it plays. The kernel shell knows which interface index plays it at the moment, so that a device
/// that was deleted and created again does not change the desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkRole {
    /// The overlay device for IPv4, `flannel.<VNI>`.
    Overlay,
    /// The overlay device for IPv6, `flannel-v6.<VNI>`.
    Overlay6,
    /// The interface that carries the overlay. Of what is on it only routes to peers are ours.
    Underlay,
    /// No link at all: packets are dropped (a blackhole route).
    Blackhole,
}

impl LinkRole {
    /// The overlay device for a family.
    pub fn overlay(family: Family) -> Self {
        match family {
            Family::V4 => Self::Overlay,
            Family::V6 => Self::Overlay6,
        }
    }

    /// Whether it is one of our own.
    pub fn is_overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::Overlay6)
    }

    /// Whether addresses, neighbors and routes of this family on it can be ours.
    pub fn carries(self, family: Family) -> bool {
        self == Self::overlay(family)
    }
}

/// One object in the kernel.
///
/// Declaration order of the kinds is programming order: a neighbor and an FDB entry are there before the route that
/// sends packets to them. Within a kind the members that make the [`EntryKey`] come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// An address of our own on `dev`.
    Addr {
        dev: LinkRole,
        /// Address and prefix length.
        net: IpNetwork,
    },
    Neigh {
        dev: LinkRole,
        /// The address that resolves.
        ip: IpAddr,
        /// What it resolves to.
        mac: Mac,
    },
    /// A permanent VXLAN forwarding entry.
    Fdb {
        dev: LinkRole,
        /// Inner destination.
        mac: Mac,
        /// Outer destination.
        dst: IpAddr,
        /// Outer UDP port where it is not the device's; else 0.
        port: u16,
        /// VNI where it is not the device's; else 0.
        vni: u32,
    },
    /// A unicast route in the main table.
    Route {
        /// Destination.
        dst: IpNetwork,
        /// Priority; IPv4 0, IPv6 1024 unless someone chose another.
        metric: u32,
        dev: LinkRole,
        /// Next hop; absent for a route straight to the link.
        gateway: Option<IpAddr>,
        /// The gateway counts as reachable although none of this host's addresses covers it.
        onlink: bool,
        /// Who made it, see `rtm_protocol`. Does not decide whether the route is right.
        protocol: u8,
    },
}

/// What the kernel's *replace* replaces: two entries with one entry key cannot both be there for long.
///
/// Measured: a neighbor by (link, address), an FDB entry by (link, MAC), a route by (destination, metric) across links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKey {
    /// See [`Entry::Addr`].
    Addr(LinkRole, IpNetwork),
    /// See [`Entry::Neigh`].
    Neigh(LinkRole, IpAddr),
    /// See [`Entry::Fdb`].
    Fdb(LinkRole, Mac),
    /// See [`Entry::Route`].
    Route(IpNetwork, u32),
}

impl Entry {
    pub fn dev(&self) -> LinkRole {
        match *self {
            Entry::Addr { dev, .. } | Entry::Neigh { dev, .. } => dev,
            Entry::Fdb { dev, .. } | Entry::Route { dev, .. } => dev,
        }
    }

    /// The family of what it carries; forwarding entries carry Ethernet.
    pub fn family(&self) -> Option<Family> {
        match *self {
            Entry::Addr { net, .. } => Some(Family::of(net.ip())),
            Entry::Neigh { ip, .. } => Some(Family::of(ip)),
            Entry::Route { dst, .. } => Some(Family::of(dst.ip())),
            Entry::Fdb { .. } => None,
        }
    }

    /// The next hop of a route that has one.
    pub fn gateway(&self) -> Option<IpAddr> {
        match *self {
            Entry::Route { gateway, .. } => gateway,
            Entry::Addr { .. } | Entry::Neigh { .. } | Entry::Fdb { .. } => None,
        }
    }

    /// The entry key it fills. Entries sorted by [`Ord`] are sorted by entry key as well.
    pub fn key(&self) -> EntryKey {
        match *self {
            Entry::Addr { dev, net } => EntryKey::Addr(dev, net),
            Entry::Neigh { dev, ip, .. } => EntryKey::Neigh(dev, ip),
            Entry::Fdb { dev, mac, .. } => EntryKey::Fdb(dev, mac),
            Entry::Route { dst, metric, .. } => EntryKey::Route(dst, metric),
        }
    }

    /// Whether finding `found` in the kernel fulfills this desired entry. A route's protocol number says who made it, not where it
    /// leads, so routes of Go flannel are adopted as they are.
    pub fn fulfilled_by(&self, found: &Entry) -> bool {
        self.without_protocol() == found.without_protocol()
    }

    fn without_protocol(mut self) -> Self {
        if let Entry::Route { protocol, .. } = &mut self {
            *protocol = 0;
        }
        self
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Addr { net, .. } => write!(f, "address {net}"),
            Entry::Neigh { ip, mac, .. } => write!(f, "neighbor {ip} lladdr {mac}"),
            Entry::Fdb { mac, dst, .. } => write!(f, "fdb {mac} dst {dst}"),
            Entry::Route {
                dst,
                dev: LinkRole::Blackhole,
                ..
            } => write!(f, "blackhole route {dst}"),
            Entry::Route {
                dst,
                gateway: Some(via),
                ..
            } => write!(f, "route {dst} via {via}"),
            Entry::Route {
                dst, gateway: None, ..
            } => write!(f, "route {dst}"),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One write to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Make the entry fill its entry key, whatever is there.
    Set(Entry),
    /// Remove exactly this entry.
    Delete(Entry),
}

impl Op {
    /// What it is about.
    pub fn entry(&self) -> &Entry {
        match self {
            Op::Set(entry) | Op::Delete(entry) => entry,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Set(entry) => write!(f, "set {entry}"),
            Op::Delete(entry) => write!(f, "delete {entry}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_round_trip_and_bad_ones_are_refused() {
        assert_eq!("0a:00:00:00:00:01".parse(), Ok(Mac([10, 0, 0, 0, 0, 1])));
        assert_eq!(Mac([10, 0, 0, 0, 0, 1]).to_string(), "0a:00:00:00:00:01");
        for bad in [
            "",
            "0a:00:00:00:00",
            "0a:00:00:00:00:01:02",
            "0a:00:00:00:00:0g",
            "a:0:0:0:0:1",
            "+a:00:00:00:00:01",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn only_unicast_macs_can_be_owned() {
        assert!(Mac::local([0xff; 6]).is_unicast());
        assert!(!Mac([0; 6]).is_unicast());
        assert!(!Mac([1, 0, 0x5e, 0, 0, 1]).is_unicast());
    }

    #[test]
    fn a_route_of_another_program_with_our_next_hop_is_fine() {
        let route = |protocol| Entry::Route {
            dst: "10.5.1.0/24".parse().unwrap(),
            metric: 0,
            dev: LinkRole::Overlay,
            gateway: Some("10.5.1.0".parse().unwrap()),
            onlink: true,
            protocol,
        };
        assert!(route(117).fulfilled_by(&route(3)));
        assert_ne!(route(117), route(3));
    }
}
