//! What a netlink notification says, and whether it is explained by what we want: pure.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;

use super::decode::{self, Owned};
use super::facts::{AddrFact, LinkFact};
use super::state::{Dev, Item, Slot};

/// One notification, as far as it can concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something was written into or taken out of a slot of the kinds we use.
    Slot {
        /// Which slot.
        slot: Slot,
        /// What was written or taken; `None` if it is nothing that we would make.
        item: Option<Item>,
        /// It was taken out.
        gone: bool,
    },
    /// A link changed or went.
    Link {
        /// The link, as it is or was.
        fact: LinkFact,
        /// It went.
        gone: bool,
    },
    /// An address of the link with this index, not one of our devices, came or went.
    Address {
        /// Index of the link.
        link: u32,
        /// The address.
        ip: IpAddr,
    },
    /// Notifications were lost.
    Overrun,
}

impl Notice {
    /// Reads a notification. `dev_of` tells which part an interface plays at the moment.
    pub fn read(
        message: &RouteNetlinkMessage,
        owned: &Owned,
        dev_of: impl Fn(u32) -> Option<Dev> + Copy,
    ) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "these eight of some forty kinds concern us")]
        let (gone, slot) = match message {
            RouteNetlinkMessage::NewLink(m) => {
                return Some(Notice::Link { fact: decode::link_fact(m), gone: false });
            }
            RouteNetlinkMessage::DelLink(m) => {
                return Some(Notice::Link { fact: decode::link_fact(m), gone: true });
            }
            RouteNetlinkMessage::NewAddress(m) => match decode::addr_slot(m, dev_of) {
                Some(slot) => (false, slot),
                None => return Notice::address(m),
            },
            RouteNetlinkMessage::DelAddress(m) => match decode::addr_slot(m, dev_of) {
                Some(slot) => (true, slot),
                None => return Notice::address(m),
            },
            RouteNetlinkMessage::NewNeighbour(m) => (false, decode::neighbour_slot(m, dev_of)?),
            RouteNetlinkMessage::DelNeighbour(m) => (true, decode::neighbour_slot(m, dev_of)?),
            RouteNetlinkMessage::NewRoute(m) => (false, decode::route_slot(m)?),
            RouteNetlinkMessage::DelRoute(m) => (true, decode::route_slot(m)?),
            _ => return None,
        };
        Some(Notice::Slot { slot, item: owned.item(message, dev_of), gone })
    }

    fn address(message: &AddressMessage) -> Option<Self> {
        let AddrFact { link, ip, .. } = decode::addr_fact(message)?;
        Some(Notice::Address { link, ip })
    }
}

/// Whether a change of a slot is what one would see if all is as `wanted`. Our own writes come back as notifications and
/// are explained; so is whatever others do in slots that are none of ours.
pub fn explained(wanted: Option<&Item>, item: Option<&Item>, gone: bool) -> bool {
    let fulfils = |wish: &Item| item.is_some_and(|item| wish.fulfilled_by(item));
    match (wanted, gone) {
        (Some(wish), false) => fulfils(wish),
        // What was taken out and is not recognised may have been ours.
        (Some(wish), true) => item.is_some() && !fulfils(wish),
        (None, false) => item.is_none(),
        (None, true) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Mac;
    use super::*;

    fn neighbour(mac: u8) -> Item {
        Item::Neigh { dev: Dev::Overlay, ip: [10, 5, 1, 0].into(), mac: Mac([2, 0, 0, 0, 0, mac]) }
    }

    #[test]
    fn only_what_contradicts_the_wish_is_unexplained() {
        let (ours, other) = (neighbour(1), neighbour(2));
        let table = [
            (Some(&ours), Some(&ours), false, true, "our own write"),
            (Some(&ours), Some(&other), false, false, "overwritten"),
            (Some(&ours), None, false, false, "made into something foreign, as a blackhole"),
            (Some(&ours), Some(&ours), true, false, "deleted"),
            (Some(&ours), None, true, false, "deleted, and the notification does not show what"),
            (Some(&ours), Some(&other), true, true, "the value of before is deleted"),
            (None, Some(&other), false, false, "something like ours that nobody wants"),
            (None, None, false, true, "something foreign"),
            (None, Some(&other), true, true, "our own deletion"),
        ];
        for (wanted, item, gone, expected, name) in table {
            assert_eq!(explained(wanted, item, gone), expected, "{name}");
        }
    }
}
