//! What is read from bytes is what the types of `netlink_packet_route` say.
#![expect(clippy::wildcard_enum_match_arm, reason = "the rest is not read")]

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proptest::prelude::*;

use super::super::encode::encode;
use super::super::entry::Op;
use super::*;

const LINK: u32 = 7;

fn bytes(mut message: NetlinkMessage<RouteNetlinkMessage>) -> Vec<u8> {
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// What is read from a message of these types.
pub(in super::super) fn object(message: RouteNetlinkMessage) -> Option<Object> {
    let bytes = bytes(message.into());
    let message = messages(&bytes).next()?;
    Object::read(&message)
}

/// What the types say of an address.
fn typed_address(message: &AddressMessage) -> Option<Object> {
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    let ip = local.or(address)?;
    Some(Object::Addr(AddrFact {
        link: message.header.index,
        ip,
        prefix_len: message.header.prefix_len,
        link_local: message.header.scope != AddressScope::Universe,
        deprecated: flags.contains(AddressFlags::Deprecated),
        unconfirmed: flags.contains(AddressFlags::Dadfailed)
            || flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
        permanent: flags.contains(AddressFlags::Permanent),
        temporary: ip.is_ipv6() && flags.contains(AddressFlags::Secondary),
    }))
}

/// What the types say of a neighbor.
fn typed_neighbor(message: &NeighbourMessage) -> Object {
    let mut parts = NeighborParts {
        link: message.header.ifindex,
        is_fdb: message.header.family == AddressFamily::Bridge,
        state: message.header.state.into(),
        ip: None,
        mac: None,
        port: 0,
        vni: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                parts.ip = Some((*ip).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                parts.ip = Some((*ip).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => parts.ip = ip(bytes),
            NeighbourAttribute::LinkLayerAddress(bytes) => parts.mac = mac(bytes),
            NeighbourAttribute::Port(port) => parts.port = *port,
            NeighbourAttribute::Vni(vni) => parts.vni = *vni,
            _ => {}
        }
    }
    Object::Neigh(parts)
}

/// What the types say of a route.
fn typed_route(message: &RouteMessage) -> Option<Object> {
    let header = &message.header;
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let mut dst = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut metric, mut gateway, mut link, mut source) = (0, None, None, None);
    let (mut table, mut first_hop, mut is_relayed) = (u32::from(header.table), None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(ip) => dst = address(ip)?,
            RouteAttribute::Gateway(ip) => gateway = address(ip),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Priority(n) => metric = *n,
            RouteAttribute::Table(n) => table = *n,
            RouteAttribute::PrefSource(ip) => source = address(ip),
            RouteAttribute::MultiPath(hops) => {
                first_hop = hops.first().map(|hop| hop.interface_index);
            }
            RouteAttribute::Via(_) | RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) => {
                is_relayed = true;
            }
            _ => {}
        }
    }
    Some(Object::Route(RouteParts {
        dst: IpNetwork::new(dst, header.destination_prefix_length).ok()?,
        metric,
        gateway,
        link,
        table,
        kind: header.kind,
        protocol: header.protocol.into(),
        onlink: header.flags.contains(RouteFlags::Onlink),
        source,
        first_hop,
        is_relayed,
    }))
}

/// What the types say of a message; `None` where they cannot read it.
fn typed(bytes: &[u8]) -> Option<Option<Object>> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).ok()?;
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    Some(match &message {
        RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m) => typed_address(m),
        RouteNetlinkMessage::NewNeighbour(m) | RouteNetlinkMessage::DelNeighbour(m) => {
            Some(typed_neighbor(m))
        }
        RouteNetlinkMessage::NewRoute(m) | RouteNetlinkMessage::DelRoute(m) => typed_route(m),
        _ => None,
    })
}

fn address_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => any::<[u8; 4]>().prop_map(Vec::from),
        2 => any::<[u8; 16]>().prop_map(Vec::from),
        1 => any::<[u8; 3]>().prop_map(Vec::from),
    ]
}

/// Kind and value of an attribute, mostly one that some message has.
fn any_attribute() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let number = (0..16_u16, any::<[u8; 4]>()).prop_map(|(kind, value)| (kind, value.to_vec()));
    let address = (1..8_u16, address_bytes());
    let mac = any::<[u8; 6]>().prop_map(|mac| (nda::LLADDR, mac.to_vec()));
    let port = any::<[u8; 2]>().prop_map(|port| (nda::PORT, port.to_vec()));
    let hop = any::<[u8; 4]>().prop_map(|index| {
        let head = 8_u16.to_ne_bytes();
        let hop = [&head[..], &[0, 0], &index].concat();
        (rta::MULTIPATH, hop)
    });
    let via = any::<[u8; 4]>().prop_map(|ip| (rta::VIA, [&2_u16.to_ne_bytes()[..], &ip].concat()));
    let encap = any::<bool>().prop_map(|is_type| {
        if is_type {
            (rta::ENCAP_TYPE, vec![1, 0])
        } else {
            (rta::ENCAP, vec![])
        }
    });
    let other = (0..40_u16, prop::collection::vec(any::<u8>(), 0..9));
    prop_oneof![6 => number, 6 => address, 2 => mac, 1 => port, 1 => hop, 1 => via, 1 => encap, 1 => other]
}

/// A message that the kernel might send, perhaps cut off.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![
        kind::NEW_ADDR,
        kind::DEL_ADDR,
        kind::NEW_ROUTE,
        kind::DEL_ROUTE,
        kind::NEW_NEIGH,
        kind::DEL_NEIGH,
    ]);
    let family = prop::sample::select(vec![INET, INET6, BRIDGE]);
    let attributes = prop::collection::vec(any_attribute(), 0..6);
    (kind, family, any::<[u8; 11]>(), attributes, 0..4_usize).prop_map(
        |(kind, family, rest, attributes, cut)| {
            let is_addr = matches!(kind, kind::NEW_ADDR | kind::DEL_ADDR);
            let mut body = vec![family, rest[0] % 40];
            body.extend(&rest[1..if is_addr { 7 } else { 11 }]);
            for (kind, value) in attributes {
                let length = u16::try_from(4 + value.len()).unwrap();
                body.extend(length.to_ne_bytes());
                body.extend(kind.to_ne_bytes());
                body.extend(&value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            body.truncate(body.len() - cut.saturating_sub(2));
            let length = u32::try_from(HEADER + body.len()).unwrap();
            let head = [
                &length.to_ne_bytes()[..],
                &kind.to_ne_bytes(),
                &[0, 0],
                &[5, 0, 0, 0, 0, 0, 0, 0],
            ];
            [&head.concat()[..], &body].concat()
        },
    )
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let dev = |ip: IpAddr| LinkRole::overlay(Family::of(ip));
    let host = any_ip().prop_map(move |ip| Entry::Addr {
        dev: dev(ip),
        net: ip.into(),
    });
    let neighbor = (any_ip(), any::<[u8; 6]>()).prop_map(move |(ip, mac)| Entry::Neigh {
        dev: dev(ip),
        ip,
        mac: Mac(mac),
    });
    let fdb = (any_ip(), any::<[u8; 6]>(), any::<u16>(), any::<u32>()).prop_map(
        |(dst, mac, port, vni)| Entry::Fdb {
            dev: LinkRole::Overlay,
            mac: Mac(mac),
            dst,
            port,
            vni,
        },
    );
    let route = (any_ip(), 0..33_u8, any::<u32>(), any::<bool>(), 10..=255_u8).prop_map(
        move |(ip, len, metric, onlink, protocol)| Entry::Route {
            dst: IpNetwork::new(ip, len).unwrap(),
            metric,
            dev: dev(ip),
            gateway: onlink.then_some(ip),
            onlink,
            protocol,
        },
    );
    prop_oneof![host, neighbor, fdb, route]
}

proptest! {
    #[test]
    fn bytes_say_what_the_types_say(message in any_message()) {
        let found = messages(&message).next().and_then(|message| Object::read(&message));
        if let Some(expected) = typed(&message) {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn written_entry_is_read_back(entry in any_entry(), other in any::<bool>()) {
        let index = |dev| if dev == LinkRole::Overlay { LINK } else { LINK + 1 };
        let message = bytes(encode(&Op::Set(entry), index));
        let message = messages(&message).next().unwrap();
        let object = Object::read(&message).unwrap();
        let dev_of = |index| match index {
            _ if other => None,
            LINK => Some(LinkRole::Overlay),
            _ => Some(LinkRole::Overlay6),
        };
        let found = Owned::default().entry(&object, dev_of);
        prop_assert_eq!(found, (!other).then_some(entry));
        let is_route = matches!(entry, Entry::Route { .. });
        prop_assert_eq!(object.key(dev_of), (!other || is_route).then_some(entry.key()));
    }

    #[test]
    fn any_bytes_are_read_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0..64_u32) {
        for start in [&[][..], &length.to_ne_bytes()] {
            let bytes = [start, &bytes].concat();
            messages(&bytes).for_each(|message| drop((Object::read(&message), message.link())));
        }
    }
}

#[test]
fn datagram_ends_where_a_message_is_not_whole() {
    let message = bytes(RouteNetlinkMessage::NewRoute(RouteMessage::default()).into());
    let datagram = [&message[..], &message, &message[..message.len() - 1]].concat();
    assert_eq!(messages(&datagram).count(), 2);
    assert_eq!(messages(&[0; 64]).count(), 0);
}
