//! Writes as netlink messages: pure.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::entry::{Entry, LinkRole, Mac, Op};
use crate::util::family::Family;

/// The message for one write. `index_of` tells which interface plays a part at the moment.
pub fn encode(op: &Op, index_of: impl Fn(LinkRole) -> u32) -> NetlinkMessage<RouteNetlinkMessage> {
    let entry = op.entry();
    let payload = match (op, body(entry, index_of)) {
        (Op::Set(_), Body::Addr(m)) => RouteNetlinkMessage::NewAddress(m),
        (Op::Delete(_), Body::Addr(m)) => RouteNetlinkMessage::DelAddress(m),
        (Op::Set(_), Body::Neigh(m)) => RouteNetlinkMessage::NewNeighbour(m),
        (Op::Delete(_), Body::Neigh(m)) => RouteNetlinkMessage::DelNeighbour(m),
        (Op::Set(_), Body::Route(m)) => RouteNetlinkMessage::NewRoute(m),
        (Op::Delete(_), Body::Route(m)) => RouteNetlinkMessage::DelRoute(any_origin(m)),
    };
    let mut message = NetlinkMessage::from(payload);
    if let Op::Set(_) = op {
        message.header.flags = NLM_F_CREATE | NLM_F_REPLACE;
    }
    message
}

enum Body {
    Addr(AddressMessage),
    Neigh(NeighbourMessage),
    Route(RouteMessage),
}

fn body(entry: &Entry, index_of: impl Fn(LinkRole) -> u32) -> Body {
    match *entry {
        Entry::Addr { dev, net } => {
            let mut message = AddressMessage::default();
            message.header.family = family(Family::of(net.ip()));
            message.header.prefix_len = net.prefix();
            message.header.index = index_of(dev);
            message.attributes = vec![
                AddressAttribute::Local(net.ip()),
                AddressAttribute::Address(net.ip()),
            ];
            // No one else answers for it on this device; without the flag it is of no use for a second or two.
            message.attributes.extend(
                net.is_ipv6()
                    .then_some(AddressAttribute::Flags(AddressFlags::Nodad)),
            );
            Body::Addr(message)
        }
        Entry::Neigh { dev, ip, mac } => {
            let mut message = neighbor(index_of(dev), ip, mac);
            message.header.family = family(Family::of(ip));
            Body::Neigh(message)
        }
        Entry::Fdb {
            dev,
            mac,
            dst,
            port,
            vni,
        } => {
            let mut message = neighbor(index_of(dev), dst, mac);
            message.header.family = AddressFamily::Bridge;
            message.header.flags = NeighbourFlags::Own;
            message
                .attributes
                .extend((port != 0).then_some(NeighbourAttribute::Port(port)));
            message
                .attributes
                .extend((vni != 0).then_some(NeighbourAttribute::Vni(vni)));
            Body::Neigh(message)
        }
        Entry::Route {
            dst,
            metric,
            dev,
            gateway,
            onlink,
            protocol,
        } => {
            let mut message = RouteMessage::default();
            message.header.address_family = family(Family::of(dst.ip()));
            message.header.destination_prefix_length = dst.prefix();
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.header.protocol = protocol.into();
            message.header.scope = RouteScope::Universe;
            message.header.kind = if dev == LinkRole::Blackhole {
                RouteType::BlackHole
            } else {
                RouteType::Unicast
            };
            message.header.flags = if onlink {
                RouteFlags::Onlink
            } else {
                RouteFlags::empty()
            };
            message.attributes = vec![RouteAttribute::Destination(dst.ip().into())];
            message
                .attributes
                .extend((dev != LinkRole::Blackhole).then(|| RouteAttribute::Oif(index_of(dev))));
            message
                .attributes
                .extend(gateway.map(|via| RouteAttribute::Gateway(via.into())));
            message
                .attributes
                .extend((metric != 0).then_some(RouteAttribute::Priority(metric)));
            Body::Route(message)
        }
    }
}

fn neighbor(index: u32, ip: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address(ip)),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    message
}

/// A deletion names destination, metric, link and gateway; who made the route and in which scope does not matter.
fn any_origin(mut message: RouteMessage) -> RouteMessage {
    message.header.protocol = netlink_packet_route::route::RouteProtocol::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message
}

/// A deletion of whatever is in the entry key of a route, on any link.
pub fn eviction(entry: &Entry) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
    let Body::Route(mut message) = body(entry, |_| 0) else {
        return None;
    };
    message.attributes.retain(|a| {
        matches!(
            a,
            RouteAttribute::Destination(_) | RouteAttribute::Priority(_)
        )
    });
    Some(RouteNetlinkMessage::DelRoute(any_origin(message)).into())
}

fn address(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}

pub(super) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
