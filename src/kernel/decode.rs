//! Netlink messages as entries and facts: pure, total.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::entry::{Entry, EntryKey, LinkRole, Mac};
use super::host_state::{AddrFact, LinkFact, Reachability, Route, VxlanFact};
use super::ownership::OffDeviceRoutes;

/// `NUD_PERMANENT` of `<linux/neighbor.h>`: never ages.
const PERMANENT: u16 = 0x80;
/// `NUD_NOARP`: not resolved, does not age either.
const NOARP: u16 = 0x40;
/// The main routing table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

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
    /// The entry in `message`, if it is ours. `dev_of` tells which part an interface plays at the moment.
    pub fn entry(
        &self,
        message: &RouteNetlinkMessage,
        dev_of: impl Fn(u32) -> Option<LinkRole>,
    ) -> Option<Entry> {
        self.read(message, dev_of)
            .filter(|entry| match entry.dev() {
                LinkRole::Overlay | LinkRole::Overlay6 => entry
                    .family()
                    .is_none_or(|family| entry.dev().carries(family)),
                LinkRole::Underlay => self.off_device.claims_direct(entry),
                LinkRole::Blackhole => self.off_device.claims_blackhole(entry),
            })
    }

    fn read(
        &self,
        message: &RouteNetlinkMessage,
        dev_of: impl Fn(u32) -> Option<LinkRole>,
    ) -> Option<Entry> {
        let overlay = |index| dev_of(index).filter(|dev| dev.is_overlay());
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "three of some forty message kinds are ours"
        )]
        match message {
            RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m) => {
                let fact = addr_fact(m)?;
                let net = IpNetwork::new(fact.ip, fact.prefix_len).ok()?;
                let ours = !fact.link_local && self.claims(net);
                ours.then_some(Entry::Addr {
                    dev: overlay(fact.link)?,
                    net,
                })
            }
            RouteNetlinkMessage::NewNeighbour(m) | RouteNetlinkMessage::DelNeighbour(m) => {
                neighbor(m, overlay(m.header.ifindex)?)
            }
            RouteNetlinkMessage::NewRoute(m) | RouteNetlinkMessage::DelRoute(m) => route(m, dev_of),
            _ => None,
        }
    }

    /// flannel's own addresses are single hosts; anything inside an overlay network is in the way as well.
    fn claims(&self, net: IpNetwork) -> bool {
        let host = if net.is_ipv4() { 32 } else { 128 };
        net.prefix() == host || self.networks.iter().any(|own| own.contains(net.ip()))
    }
}

/// What identifies a neighbor or forwarding entry.
#[derive(Default)]
struct NeighborParts {
    ip: Option<IpAddr>,
    mac: Option<Mac>,
    port: u16,
    vni: u32,
}

impl NeighborParts {
    fn of(message: &NeighbourMessage) -> Self {
        let mut parts = Self::default();
        for attribute in &message.attributes {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the rest does not identify an entry"
            )]
            match attribute {
                NeighbourAttribute::Destination(address) => parts.ip = neighbor_ip(address),
                NeighbourAttribute::LinkLayerAddress(bytes) => parts.mac = mac(bytes),
                NeighbourAttribute::Port(port) => parts.port = *port,
                NeighbourAttribute::Vni(vni) => parts.vni = *vni,
                _ => {}
            }
        }
        parts
    }
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().map(Mac)
}

fn is_fdb(message: &NeighbourMessage) -> bool {
    message.header.family == AddressFamily::Bridge
}

fn neighbor(message: &NeighbourMessage, dev: LinkRole) -> Option<Entry> {
    let NeighborParts { ip, mac, port, vni } = NeighborParts::of(message);
    let (ip, mac) = (ip?, mac?);
    let state = u16::from(message.header.state);
    let lasting = match is_fdb(message) {
        // Made by a program, as opposed to learned.
        true => state & (PERMANENT | NOARP) != 0,
        // The kernel makes neighbors without ARP by itself, for multicast.
        false => state & PERMANENT != 0,
    };
    lasting.then_some(match is_fdb(message) {
        true => Entry::Fdb {
            dev,
            mac,
            dst: ip,
            port,
            vni,
        },
        false => Entry::Neigh { dev, ip, mac },
    })
}

/// The entry key that a neighbor message is about, whether what is in it would be ours or not.
pub fn neighbor_key(
    message: &NeighbourMessage,
    dev_of: impl Fn(u32) -> Option<LinkRole>,
) -> Option<EntryKey> {
    let dev = dev_of(message.header.ifindex).filter(|dev| dev.is_overlay())?;
    let parts = NeighborParts::of(message);
    match is_fdb(message) {
        true => parts.mac.map(|mac| EntryKey::Fdb(dev, mac)),
        false => parts.ip.map(|ip| EntryKey::Neigh(dev, ip)),
    }
}

/// The entry key that an address message is about; `None` if it is about another link.
pub fn addr_key(
    message: &AddressMessage,
    dev_of: impl Fn(u32) -> Option<LinkRole>,
) -> Option<EntryKey> {
    let fact = addr_fact(message)?;
    let dev = dev_of(fact.link).filter(|dev| dev.is_overlay())?;
    Some(EntryKey::Addr(
        dev,
        IpNetwork::new(fact.ip, fact.prefix_len).ok()?,
    ))
}

/// In the bridge family the crate leaves addresses undecoded.
fn neighbor_ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice())
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
            .ok(),
        _ => None,
    }
}

/// What identifies a route.
struct RouteParts {
    dst: IpNetwork,
    metric: u32,
    gateway: Option<IpAddr>,
    oif: Option<u32>,
    table: u32,
}

impl RouteParts {
    fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let (mut dst, mut metric, mut gateway, mut oif) = (None, 0, None, None);
        let mut table = u32::from(header.table);
        for attribute in &message.attributes {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the rest does not identify a route"
            )]
            match attribute {
                RouteAttribute::Destination(address) => dst = route_ip(address),
                RouteAttribute::Gateway(address) => gateway = route_ip(address),
                RouteAttribute::Oif(index) => oif = Some(*index),
                RouteAttribute::Priority(n) => metric = *n,
                RouteAttribute::Table(n) => table = *n,
                _ => {}
            }
        }
        let any = match header.address_family == AddressFamily::Inet6 {
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let dst = IpNetwork::new(dst.unwrap_or(any), header.destination_prefix_length).ok()?;
        Some(Self {
            dst,
            metric,
            gateway,
            oif,
            table,
        })
    }
}

fn route(message: &RouteMessage, dev_of: impl Fn(u32) -> Option<LinkRole>) -> Option<Entry> {
    let RouteParts {
        dst,
        metric,
        gateway,
        oif,
        table,
    } = RouteParts::of(message)?;
    let header = &message.header;
    let made_by_kernel = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra);
    if table != MAIN || made_by_kernel {
        return None;
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "routes of no other kind are ours"
    )]
    let dev = match header.kind {
        RouteType::Unicast => dev_of(oif?)?,
        RouteType::BlackHole => LinkRole::Blackhole,
        _ => return None,
    };
    Some(Entry::Route {
        dst,
        metric,
        dev,
        gateway,
        onlink: header.flags.contains(RouteFlags::Onlink),
        protocol: header.protocol.into(),
    })
}

/// The entry key that a route message is about, whatever is in it; `None` outside the main table.
pub fn route_key(message: &RouteMessage) -> Option<EntryKey> {
    let RouteParts {
        dst, metric, table, ..
    } = RouteParts::of(message)?;
    (table == MAIN).then_some(EntryKey::Route(dst, metric))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "other families carry no IP address"
)]
fn route_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// Link (of several, the first) and metric of a default route in the main table.
pub fn default_route(message: &RouteMessage) -> Option<(u32, u32)> {
    let RouteParts {
        dst,
        metric,
        oif,
        table,
        ..
    } = RouteParts::of(message)?;
    let oif = oif.or_else(|| first_hop(message));
    let is_default =
        dst.prefix() == 0 && message.header.kind == RouteType::Unicast && table == MAIN;
    is_default.then_some((oif?, metric))
}

fn first_hop(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| {
        let RouteAttribute::MultiPath(hops) = attribute else {
            return None;
        };
        Some(hops.first()?.interface_index)
    })
}

/// Whether a next hop of another family, or an encapsulation, takes the packets.
fn is_relayed(message: &RouteMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Via(_) | RouteAttribute::EncapType(_) | RouteAttribute::Encap(_)
        )
    })
}

/// The way that a unicast route or a refusal of the main table stands for; of several hops the first.
pub fn route_to_network(message: &RouteMessage) -> Option<Route> {
    let RouteParts {
        dst,
        metric,
        gateway,
        oif,
        table,
    } = RouteParts::of(message)?;
    let link = oif
        .or_else(|| first_hop(message))
        .filter(|_| message.header.kind == RouteType::Unicast);
    let is_direct = gateway.is_none() && oif.is_some() && !is_relayed(message);
    (table == MAIN).then_some(Route {
        net: dst,
        metric,
        link,
        is_direct,
    })
}

/// What the answer to a question for a route says.
pub fn reach(message: &RouteMessage) -> Option<Reachability> {
    let source = message.attributes.iter().find_map(|attribute| {
        let RouteAttribute::PrefSource(address) = attribute else {
            return None;
        };
        route_ip(address)
    });
    let RouteParts { oif, gateway, .. } = RouteParts::of(message)?;
    let link = oif?;
    (message.header.kind == RouteType::Unicast).then_some(Reachability {
        link,
        source,
        gateway,
    })
}

/// The address in `message`.
pub fn addr_fact(message: &AddressMessage) -> Option<AddrFact> {
    let (mut ip, mut flags) = (None, AddressFlags::empty());
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not needed")]
        match attribute {
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    let ip = ip?;
    Some(AddrFact {
        link: message.header.index,
        ip,
        prefix_len: message.header.prefix_len,
        link_local: message.header.scope != AddressScope::Universe,
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

/// The link in `message`.
pub fn link_fact(message: &LinkMessage) -> LinkFact {
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
