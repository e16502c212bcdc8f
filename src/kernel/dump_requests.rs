//! What the kernel is asked so that its answers hold all owned entries: pure.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode::Object;
use super::{LinkRole, Owned, encode};
use crate::util::family::Family;

/// The dumps that together hold all owned entries.
pub(super) fn dump_requests(
    indexes: &BTreeMap<LinkRole, u32>,
    owned: &Owned,
) -> Vec<RouteNetlinkMessage> {
    let on_ours = indexes.iter().filter(|(dev, _)| dev.is_overlay());
    let mut requests: Vec<_> = on_ours
        .flat_map(|(dev, index)| requests(*dev, *index))
        .collect();
    requests.extend(off_device(owned, indexes.get(&LinkRole::Underlay).copied()));
    requests
}

/// The dumps that together hold all owned entries on one link.
fn requests(dev: LinkRole, index: u32) -> Vec<RouteNetlinkMessage> {
    let families = || {
        Family::ALL
            .into_iter()
            .filter(|family| dev.carries(*family))
            .map(encode::family)
    };
    let mut fdb = NeighbourMessage::default();
    fdb.header.family = AddressFamily::Bridge;
    fdb.header.ifindex = index;
    let mut requests = vec![RouteNetlinkMessage::GetNeighbour(fdb)];
    requests.extend(families().map(|family| {
        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.index = index;
        RouteNetlinkMessage::GetAddress(message)
    }));
    requests.extend(families().map(|family| {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        RouteNetlinkMessage::GetNeighbour(message)
    }));
    requests.extend(
        families().map(|family| RouteNetlinkMessage::GetRoute(routes(family, Some(index)))),
    );
    requests
}

/// The dumps that hold what is ours beside our devices.
fn off_device(owned: &Owned, underlay: Option<u32>) -> Vec<RouteNetlinkMessage> {
    let families: BTreeSet<Family> = owned
        .networks
        .iter()
        .map(|net| Family::of(net.ip()))
        .collect();
    let families = families.into_iter().map(encode::family);
    let underlay = underlay.filter(|_| owned.off_device.direct);
    let question = |family| {
        let mut blackholes = routes(family, None);
        blackholes.header.kind = RouteType::BlackHole;
        let direct = underlay.map(|index| routes(family, Some(index)));
        direct
            .into_iter()
            .chain([blackholes])
            .map(RouteNetlinkMessage::GetRoute)
    };
    families.flat_map(question).collect()
}

/// A dump of the main table's routes, of one link if given.
pub(super) fn routes(family: AddressFamily, link: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message
        .attributes
        .push(RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN)));
    message.attributes.extend(link.map(RouteAttribute::Oif));
    message
}

/// Whether what a dump has is part of the answer. Kernels before 4.20 look at the family of a question only.
pub(super) fn is_answer(question: &RouteNetlinkMessage, found: &Object) -> bool {
    use RouteNetlinkMessage as Message;
    let either = |asked: u32, found: u32| asked == 0 || asked == found;
    match (question, found) {
        (Message::GetAddress(asked), Object::Addr(found)) => either(asked.header.index, found.link),
        (Message::GetNeighbour(asked), Object::Neigh(found)) => {
            either(neighbor_link(asked), found.link)
        }
        (Message::GetRoute(asked), Object::Route(found)) => {
            let (table, link) = table_and_link(asked);
            let any_kind = asked.header.kind == RouteType::Unspec;
            either(table, found.table)
                && either(link, found.link.unwrap_or_default())
                && (any_kind || asked.header.kind == found.kind)
        }
        _ => true,
    }
}

/// In the header or beside it: the kernel reads one for entries of bridges, and the other for neighbors.
fn neighbor_link(message: &NeighbourMessage) -> u32 {
    let attribute = message.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::IfIndex(index) = attribute else {
            return None;
        };
        Some(*index)
    });
    attribute.unwrap_or(message.header.ifindex)
}

/// What routes are selected by; zero for nothing.
fn table_and_link(message: &RouteMessage) -> (u32, u32) {
    let (mut table, mut link) = (message.header.table.into(), 0);
    for attribute in &message.attributes {
        if let RouteAttribute::Table(asked) = attribute {
            table = *asked;
        } else if let RouteAttribute::Oif(asked) = attribute {
            link = *asked;
        }
    }
    (table, link)
}

#[cfg(test)]
mod tests {
    use super::super::decode::tests::object;
    use super::*;
    use netlink_packet_route::address::AddressAttribute;
    use netlink_packet_route::route::RouteHeader;

    const LINK: u32 = 7;

    fn route(table: u8, link: u32, kind: RouteType) -> Object {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = table;
        message.header.kind = kind;
        message.attributes.push(RouteAttribute::Oif(link));
        object(RouteNetlinkMessage::NewRoute(message)).unwrap()
    }

    #[test]
    fn routes_of_other_tables_links_and_kinds_are_no_answers() {
        let main = RouteHeader::RT_TABLE_MAIN;
        let of_link = RouteNetlinkMessage::GetRoute(routes(AddressFamily::Inet, Some(LINK)));
        let mut blackholes = routes(AddressFamily::Inet, None);
        blackholes.header.kind = RouteType::BlackHole;
        let blackholes = RouteNetlinkMessage::GetRoute(blackholes);
        for (question, table, link, kind, answers) in [
            (&of_link, main, LINK, RouteType::Unicast, true),
            (&of_link, main, 8, RouteType::Unicast, false),
            (&of_link, 100, LINK, RouteType::Unicast, false),
            (&blackholes, main, 0, RouteType::BlackHole, true),
            (&blackholes, main, LINK, RouteType::Unicast, false),
        ] {
            assert_eq!(
                is_answer(question, &route(table, link, kind)),
                answers,
                "{table} {link} {kind:?}"
            );
        }
    }

    #[test]
    fn addresses_and_neighbors_of_other_links_are_no_answers() {
        for question in requests(LinkRole::Overlay, LINK) {
            for link in [LINK, 8] {
                let (mut address, mut neighbor) =
                    (AddressMessage::default(), NeighbourMessage::default());
                address.attributes = vec![AddressAttribute::Local([10, 0, 0, 1].into())];
                address.header.index = link;
                neighbor.header.ifindex = link;
                let answer = if let RouteNetlinkMessage::GetAddress(_) = question {
                    RouteNetlinkMessage::NewAddress(address)
                } else if let RouteNetlinkMessage::GetNeighbour(_) = question {
                    RouteNetlinkMessage::NewNeighbour(neighbor)
                } else {
                    continue;
                };
                let answer = object(answer).unwrap();
                assert_eq!(is_answer(&question, &answer), link == LINK, "{question:?}");
            }
        }
    }
}
