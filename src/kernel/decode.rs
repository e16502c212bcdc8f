//! Netlink messages as entries and host state, read from the bytes that the kernel sends: pure, total.
//!
//! A dump has hundreds of thousands of messages. Of one about an address, a neighbor, or a route only the attributes that matter here
//! are read, in place. Links are few, and have many attributes: they are read through the types of `netlink_packet_route`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressFlags, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType};

use super::entry::{Entry, EntryKey, LinkRole, Mac};
use super::host_state::{AddrFact, LinkFact, Reachability, Route, VxlanFact};
use super::ownership::OffDeviceRoutes;
use crate::util::family::Family;

/// `NUD_PERMANENT` of `<linux/neighbor.h>`: never ages.
const PERMANENT: u16 = 0x80;
/// `NUD_NOARP`: not resolved, does not age either.
const NOARP: u16 = 0x40;
/// The main routing table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// `AF_INET`, `AF_BRIDGE`, and `AF_INET6` of `<linux/socket.h>`.
const INET: u8 = 2;
const BRIDGE: u8 = 7;
const INET6: u8 = 10;
/// Length of the header of a message.
const HEADER: usize = 16;
/// The flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` in the kind of an attribute.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Kinds of messages: `RTM_*` of `<linux/rtnetlink.h>`.
mod kind {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const DEL_LINK: u16 = 17;
    pub(super) const NEW_ADDR: u16 = 20;
    pub(super) const DEL_ADDR: u16 = 21;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const DEL_ROUTE: u16 = 25;
    pub(super) const NEW_NEIGH: u16 = 28;
    pub(super) const DEL_NEIGH: u16 = 29;
}

/// Attributes of addresses: `IFA_*` of `<linux/if_addr.h>`.
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const FLAGS: u16 = 8;
}

/// Attributes of neighbors: `NDA_*` of `<linux/neighbor.h>`.
mod nda {
    pub(super) const DST: u16 = 1;
    pub(super) const LLADDR: u16 = 2;
    pub(super) const PORT: u16 = 6;
    pub(super) const VNI: u16 = 7;
}

/// Attributes of routes: `RTA_*` of `<linux/rtnetlink.h>`.
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const VIA: u16 = 18;
    pub(super) const ENCAP_TYPE: u16 = 21;
    pub(super) const ENCAP: u16 = 22;
}

#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is about: `NLMSG_*` or `RTM_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// With its header.
    bytes: &'a [u8],
}

/// Returns the messages of a datagram, up to one that is not whole.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let bytes = rest.get(..usize::try_from(u32_at(rest, 0)?).ok()?)?;
        rest = rest
            .get(bytes.len().next_multiple_of(4)..)
            .unwrap_or_default();
        Message::parse(bytes)
    })
}

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        bytes.get(HEADER..)?;
        Some(Self {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            bytes,
        })
    }

    /// Returns what follows the header.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// Reads the link that it is about.
    pub fn link(&self) -> Option<LinkFact> {
        if !matches!(self.kind, kind::NEW_LINK | kind::DEL_LINK) {
            return None;
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.bytes).ok()?;
        let NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        ) = message.payload
        else {
            return None;
        };
        Some(link_fact(&link))
    }

    /// Whether what it is about is gone.
    pub fn is_deletion(&self) -> bool {
        matches!(
            self.kind,
            kind::DEL_LINK | kind::DEL_ADDR | kind::DEL_ROUTE | kind::DEL_NEIGH
        )
    }
}

/// Returns the attributes of a message, each with its kind, up to one that is not whole.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let (kind, value) = (u16_at(rest, 2)? & !ATTRIBUTE_FLAGS, rest.get(4..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().map(Mac)
}

/// What a message is about, unless it is a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Addr(AddrFact),
    /// A neighbor or a forwarding entry.
    Neigh(NeighborParts),
    Route(RouteParts),
}

impl Object {
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let body = message.body();
        match message.kind {
            kind::NEW_ADDR | kind::DEL_ADDR => address(body).map(Self::Addr),
            kind::NEW_NEIGH | kind::DEL_NEIGH => NeighborParts::read(body).map(Self::Neigh),
            kind::NEW_ROUTE | kind::DEL_ROUTE => RouteParts::read(body).map(Self::Route),
            _ => None,
        }
    }

    /// Returns the entry key that it is in, whether it is an owned entry or not; `None` on links and in tables of others.
    pub fn key(&self, dev_of: impl Fn(u32) -> Option<LinkRole>) -> Option<EntryKey> {
        let overlay = |index| dev_of(index).filter(|dev| dev.is_overlay());
        match self {
            Object::Addr(addr) => Some(EntryKey::Addr(
                overlay(addr.link)?,
                IpNetwork::new(addr.ip, addr.prefix_len).ok()?,
            )),
            Object::Neigh(neighbor) => {
                let dev = overlay(neighbor.link)?;
                if neighbor.is_fdb {
                    neighbor.mac.map(|mac| EntryKey::Fdb(dev, mac))
                } else {
                    neighbor.ip.map(|ip| EntryKey::Neigh(dev, ip))
                }
            }
            Object::Route(route) => {
                (route.table == MAIN).then_some(EntryKey::Route(route.dst, route.metric))
            }
        }
    }
}

/// What is ours in the kernel. On our own devices everything of the kinds and family we make is; what the kernel makes by itself
/// (link-local addresses, connected routes, resolved neighbors) and foreign addresses are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owned {
    /// The overlay networks. A foreign address (DHCP, zeroconf) outside them on our device is left alone.
    pub networks: Vec<IpNetwork>,
    /// What is ours beside our devices.
    pub off_device: OffDeviceRoutes,
}

impl Owned {
    /// The entry that `object` is, if it is ours. `dev_of` tells which part an interface plays at the moment.
    pub fn entry(
        &self,
        object: &Object,
        dev_of: impl Fn(u32) -> Option<LinkRole>,
    ) -> Option<Entry> {
        self.read(object, dev_of).filter(|entry| match entry.dev() {
            LinkRole::Overlay | LinkRole::Overlay6 => entry
                .family()
                .is_none_or(|family| entry.dev().carries(family)),
            LinkRole::Underlay => self.off_device.claims_direct(entry),
            LinkRole::Blackhole => self.off_device.claims_blackhole(entry),
        })
    }

    fn read(&self, object: &Object, dev_of: impl Fn(u32) -> Option<LinkRole>) -> Option<Entry> {
        let overlay = |index| dev_of(index).filter(|dev| dev.is_overlay());
        match object {
            Object::Addr(fact) => {
                let net = IpNetwork::new(fact.ip, fact.prefix_len).ok()?;
                let ours = !fact.link_local && self.claims(net);
                ours.then_some(Entry::Addr {
                    dev: overlay(fact.link)?,
                    net,
                })
            }
            Object::Neigh(neighbor) => neighbor.entry(overlay(neighbor.link)?),
            Object::Route(route) => route.entry(dev_of),
        }
    }

    /// flannel's own addresses are single hosts; anything inside an overlay network is in the way as well.
    fn claims(&self, net: IpNetwork) -> bool {
        let host = if net.is_ipv4() { 32 } else { 128 };
        net.prefix() == host || self.networks.iter().any(|own| own.contains(net.ip()))
    }
}

/// A neighbor or a forwarding entry, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborParts {
    /// Index of its link.
    pub link: u32,
    is_fdb: bool,
    state: u16,
    ip: Option<IpAddr>,
    mac: Option<Mac>,
    port: u16,
    vni: u32,
}

impl NeighborParts {
    /// `struct ndmsg`: family, three bytes of padding, index (4), state (2), flags, type.
    fn read(body: &[u8]) -> Option<Self> {
        let attributes = attributes(body.get(12..)?);
        let mut parts = Self {
            link: u32_at(body, 4)?,
            is_fdb: body.first() == Some(&BRIDGE),
            state: u16_at(body, 8)?,
            ip: None,
            mac: None,
            port: 0,
            vni: 0,
        };
        for (kind, value) in attributes {
            match kind {
                nda::DST => parts.ip = ip(value),
                nda::LLADDR => parts.mac = mac(value),
                // In network byte order, as the only one.
                nda::PORT => parts.port = array_at(value, 0).map_or(0, u16::from_be_bytes),
                nda::VNI => parts.vni = u32_at(value, 0).unwrap_or_default(),
                _ => {}
            }
        }
        Some(parts)
    }

    fn entry(&self, dev: LinkRole) -> Option<Entry> {
        let Self {
            is_fdb,
            state,
            port,
            vni,
            ..
        } = *self;
        let (ip, mac) = (self.ip?, self.mac?);
        let lasting = if is_fdb {
            state & (PERMANENT | NOARP) != 0
        } else {
            state & PERMANENT != 0
        };
        lasting.then_some(if is_fdb {
            Entry::Fdb {
                dev,
                mac,
                dst: ip,
                port,
                vni,
            }
        } else {
            Entry::Neigh { dev, ip, mac }
        })
    }
}

/// A route, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteParts {
    dst: IpNetwork,
    metric: u32,
    gateway: Option<IpAddr>,
    /// Index of the link that it leads to; none where there are several hops.
    pub link: Option<u32>,
    pub table: u32,
    /// Of what kind it is.
    pub kind: RouteType,
    protocol: u8,
    onlink: bool,
    /// The source address that it prefers.
    source: Option<IpAddr>,
    /// Index of the link of the first of several hops.
    first_hop: Option<u32>,
    /// A next hop of another family, or an encapsulation, takes the packets.
    is_relayed: bool,
}

impl RouteParts {
    /// `struct rtmsg`: family, length of destination and source, type of service, table, protocol, scope, type, flags (4).
    fn read(body: &[u8]) -> Option<Self> {
        let [family, dst_len, _, _, table, protocol, _, kind] = array_at(body, 0)?;
        let family = match family {
            INET => Family::V4,
            INET6 => Family::V6,
            _ => return None,
        };
        let flags = RouteFlags::from_bits_retain(u32_at(body, 8)?);
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let (mut dst, mut metric, mut gateway, mut link) = (any, 0, None, None);
        let (mut table, mut source) = (u32::from(table), None);
        let (mut first_hop, mut is_relayed) = (None, false);
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                rta::DST => dst = ip(value)?,
                rta::GATEWAY => gateway = ip(value),
                rta::OIF => link = u32_at(value, 0),
                rta::PRIORITY => metric = u32_at(value, 0)?,
                rta::TABLE => table = u32_at(value, 0)?,
                rta::PREFSRC => source = ip(value),
                // `struct rtnexthop`: length (2), flags, hops, index (4).
                rta::MULTIPATH => first_hop = u32_at(value, 4),
                rta::VIA | rta::ENCAP_TYPE | rta::ENCAP => is_relayed = true,
                _ => {}
            }
        }
        Some(Self {
            dst: IpNetwork::new(dst, dst_len).ok()?,
            metric,
            gateway,
            link,
            table,
            kind: RouteType::from(kind),
            protocol,
            onlink: flags.contains(RouteFlags::Onlink),
            source,
            first_hop,
            is_relayed,
        })
    }

    fn entry(&self, dev_of: impl Fn(u32) -> Option<LinkRole>) -> Option<Entry> {
        let made_by_kernel = matches!(
            RouteProtocol::from(self.protocol),
            RouteProtocol::Kernel | RouteProtocol::Ra
        );
        if self.table != MAIN || made_by_kernel {
            return None;
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "routes of no other kind are ours"
        )]
        let dev = match self.kind {
            RouteType::Unicast => dev_of(self.link?)?,
            RouteType::BlackHole => LinkRole::Blackhole,
            _ => return None,
        };
        Some(Entry::Route {
            dst: self.dst,
            metric: self.metric,
            dev,
            gateway: self.gateway,
            onlink: self.onlink,
            protocol: self.protocol,
        })
    }

    /// Link (of several, the first) and metric of a default route in the main table.
    pub fn default_route(&self) -> Option<(u32, u32)> {
        let link = self.link.or(self.first_hop);
        let is_default =
            self.dst.prefix() == 0 && self.kind == RouteType::Unicast && self.table == MAIN;
        is_default.then_some((link?, self.metric))
    }

    /// The way that a unicast route or a refusal of the main table stands for; of several hops the first.
    pub fn route_to_network(&self) -> Option<Route> {
        let link = self
            .link
            .or(self.first_hop)
            .filter(|_| self.kind == RouteType::Unicast);
        let is_direct = self.gateway.is_none() && self.link.is_some() && !self.is_relayed;
        (self.table == MAIN).then_some(Route {
            net: self.dst,
            metric: self.metric,
            link,
            is_direct,
        })
    }

    /// What the answer to a question for a route says.
    pub fn reach(&self) -> Option<Reachability> {
        let link = self.link?;
        (self.kind == RouteType::Unicast).then_some(Reachability {
            link,
            source: self.source,
            gateway: self.gateway,
        })
    }
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index (4).
fn address(body: &[u8]) -> Option<AddrFact> {
    let [_, prefix_len, _, scope] = array_at(body, 0)?;
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            ifa::LOCAL => local = Some(ip(value)?),
            ifa::ADDRESS => address = Some(ip(value)?),
            ifa::FLAGS => flags = AddressFlags::from_bits_retain(u32_at(value, 0)?),
            _ => {}
        }
    }
    // Of a tunnel with a peer, the address is the peer's.
    let ip = local.or(address)?;
    Some(AddrFact {
        link: u32_at(body, 4)?,
        ip,
        prefix_len,
        link_local: AddressScope::from(scope) != AddressScope::Universe,
        deprecated: flags.contains(AddressFlags::Deprecated),
        // An optimistic address is used while it is being checked.
        unconfirmed: flags.contains(AddressFlags::Dadfailed)
            || (flags.contains(AddressFlags::Tentative)
                && !flags.contains(AddressFlags::Optimistic)),
        permanent: flags.contains(AddressFlags::Permanent),
        // IPv4 has the same bit for addresses that are not the first of their network.
        temporary: ip.is_ipv6() && flags.contains(AddressFlags::Secondary),
    })
}

fn link_fact(message: &LinkMessage) -> LinkFact {
    let mut fact = LinkFact {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..LinkFact::default()
    };
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not needed")]
        match attribute {
            LinkAttribute::IfName(name) => fact.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => fact.mtu = *mtu,
            LinkAttribute::Address(bytes) => fact.mac = mac(bytes),
            LinkAttribute::LinkInfo(infos) => fact.vxlan = infos.iter().find_map(vxlan_fact),
            _ => {}
        }
    }
    fact
}

fn vxlan_fact(info: &LinkInfo) -> Option<VxlanFact> {
    let LinkInfo::Data(InfoData::Vxlan(attributes)) = info else {
        return None;
    };
    let mut fact = VxlanFact::default();
    for attribute in attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the rest does not tell devices apart"
        )]
        match attribute {
            InfoVxlan::Id(vni) => fact.vni = *vni,
            InfoVxlan::Link(parent) => fact.parent = *parent,
            InfoVxlan::Local(ip) => fact.local = Some(IpAddr::V4(*ip)),
            InfoVxlan::Local6(ip) => fact.local = Some(IpAddr::V6(*ip)),
            InfoVxlan::Group(ip) => fact.group = Some(IpAddr::V4(*ip)),
            InfoVxlan::Group6(ip) => fact.group = Some(IpAddr::V6(*ip)),
            InfoVxlan::Port(port) => fact.port = *port,
            InfoVxlan::Learning(on) => fact.learning = *on,
            InfoVxlan::Gbp => fact.gbp = true,
            InfoVxlan::L2Miss(on) => fact.l2miss = *on,
            InfoVxlan::CollectMetadata(on) => fact.external = *on,
            _ => {}
        }
    }
    Some(fact)
}

#[cfg(test)]
pub(super) mod tests;
