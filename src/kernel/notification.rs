//! What a netlink notification says, and whether it is explained by what we want: pure.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;

use super::decode::{self, Owned};
use super::entry::{Entry, EntryKey, LinkRole};
use super::host_state::{AddrFact, LinkFact};

/// One notification, as far as it can concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Something was written into or taken out of an entry key of the kinds we use.
    Entry {
        /// Which entry key.
        key: EntryKey,
        /// What was written or taken; `None` if it is nothing that we would make.
        entry: Option<Entry>,
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

impl Notification {
    /// Reads a notification. `dev_of` tells which part an interface plays at the moment.
    pub fn read(
        message: &RouteNetlinkMessage,
        owned: &Owned,
        dev_of: impl Fn(u32) -> Option<LinkRole> + Copy,
    ) -> Option<Self> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "these eight of some forty kinds concern us"
        )]
        let (gone, key) = match message {
            RouteNetlinkMessage::NewLink(m) => {
                return Some(Notification::Link {
                    fact: decode::link_fact(m),
                    gone: false,
                });
            }
            RouteNetlinkMessage::DelLink(m) => {
                return Some(Notification::Link {
                    fact: decode::link_fact(m),
                    gone: true,
                });
            }
            RouteNetlinkMessage::NewAddress(m) => match decode::addr_key(m, dev_of) {
                Some(key) => (false, key),
                None => return Notification::address(m),
            },
            RouteNetlinkMessage::DelAddress(m) => match decode::addr_key(m, dev_of) {
                Some(key) => (true, key),
                None => return Notification::address(m),
            },
            RouteNetlinkMessage::NewNeighbour(m) => (false, decode::neighbor_key(m, dev_of)?),
            RouteNetlinkMessage::DelNeighbour(m) => (true, decode::neighbor_key(m, dev_of)?),
            RouteNetlinkMessage::NewRoute(m) => (false, decode::route_key(m)?),
            RouteNetlinkMessage::DelRoute(m) => (true, decode::route_key(m)?),
            _ => return None,
        };
        Some(Notification::Entry {
            key,
            entry: owned.entry(message, dev_of),
            gone,
        })
    }

    fn address(message: &AddressMessage) -> Option<Self> {
        let AddrFact { link, ip, .. } = decode::addr_fact(message)?;
        Some(Notification::Address { link, ip })
    }
}

/// Whether a change of an entry key is what one would see if all is as `wanted`. Our own writes come back as notifications and
/// are explained; so are changes by others to entry keys that the daemon does not own.
pub fn is_expected(wanted: Option<&Entry>, entry: Option<&Entry>, gone: bool) -> bool {
    let fulfils = |desired: &Entry| entry.is_some_and(|entry| desired.fulfilled_by(entry));
    match (wanted, gone) {
        (Some(desired), false) => fulfils(desired),
        // What was taken out and is not recognised may have been ours.
        (Some(desired), true) => entry.is_some() && !fulfils(desired),
        (None, false) => entry.is_none(),
        (None, true) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Mac;
    use super::*;

    fn neighbor(mac: u8) -> Entry {
        Entry::Neigh {
            dev: LinkRole::Overlay,
            ip: [10, 5, 1, 0].into(),
            mac: Mac([2, 0, 0, 0, 0, mac]),
        }
    }

    #[test]
    fn only_contradictions_are_unexpected() {
        let (ours, other) = (neighbor(1), neighbor(2));
        let table = [
            (Some(&ours), Some(&ours), false, true, "our own write"),
            (Some(&ours), Some(&other), false, false, "overwritten"),
            (
                Some(&ours),
                None,
                false,
                false,
                "made into something foreign, as a blackhole",
            ),
            (Some(&ours), Some(&ours), true, false, "deleted"),
            (
                Some(&ours),
                None,
                true,
                false,
                "deleted, and the notification does not show what",
            ),
            (
                Some(&ours),
                Some(&other),
                true,
                true,
                "the value of before is deleted",
            ),
            (
                None,
                Some(&other),
                false,
                false,
                "an entry like the daemon's that is not desired",
            ),
            (None, None, false, true, "something foreign"),
            (None, Some(&other), true, true, "our own deletion"),
        ];
        for (wanted, entry, gone, expected, name) in table {
            assert_eq!(is_expected(wanted, entry, gone), expected, "{name}");
        }
    }
}
