//! What the kernel is asked so that its answers hold everything of ours: pure.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Dev, Owned};
use crate::family::Family;

/// The dumps that together hold everything of ours.
pub(super) fn questions(indexes: &BTreeMap<Dev, u32>, owned: &Owned) -> Vec<RouteNetlinkMessage> {
    let on_ours = indexes.iter().filter(|(dev, _)| dev.is_overlay());
    let mut questions: Vec<_> = on_ours.flat_map(|(dev, index)| requests(*dev, *index)).collect();
    questions.extend(elsewhere(owned, indexes.get(&Dev::Underlay).copied()));
    questions
}

/// The dumps that together hold everything of ours on one link.
fn requests(dev: Dev, index: u32) -> Vec<RouteNetlinkMessage> {
    let families = || Family::ALL.into_iter().filter(|family| dev.carries(*family)).map(address_family);
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
    requests.extend(families().map(|family| RouteNetlinkMessage::GetRoute(routes(family, Some(index)))));
    requests
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The dumps that hold what is ours beside our devices.
fn elsewhere(owned: &Owned, underlay: Option<u32>) -> Vec<RouteNetlinkMessage> {
    let families: BTreeSet<Family> = owned.networks.iter().map(|net| Family::of(net.ip())).collect();
    let families = families.into_iter().map(address_family);
    let underlay = underlay.filter(|_| owned.elsewhere.direct);
    let question = |family| {
        let mut blackholes = routes(family, None);
        blackholes.header.kind = RouteType::BlackHole;
        let direct = underlay.map(|index| routes(family, Some(index)));
        direct.into_iter().chain([blackholes]).map(RouteNetlinkMessage::GetRoute)
    };
    families.flat_map(question).collect()
}

/// A dump of the main table's routes, of one link if given.
pub(super) fn routes(family: AddressFamily, link: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.attributes.push(RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN)));
    message.attributes.extend(link.map(RouteAttribute::Oif));
    message
}
