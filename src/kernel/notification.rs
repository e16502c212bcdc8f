//! What a netlink notification says, and whether it is explained by what we want: pure.

use std::net::IpAddr;

use super::decode::{Message, Object, Owned};
use super::entry::{Entry, EntryKey, LinkRole};
use super::host_state::LinkFact;

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
        gone: bool,
    },
    /// An address of the link with this index, not one of our devices, came or went.
    Address {
        /// Index of the link.
        link: u32,
        ip: IpAddr,
    },
    /// Notifications were lost.
    Overrun,
}

impl Notification {
    /// Reads a notification. `dev_of` tells which part an interface plays at the moment.
    pub fn read(
        message: &Message<'_>,
        owned: &Owned,
        dev_of: impl Fn(u32) -> Option<LinkRole> + Copy,
    ) -> Option<Self> {
        let gone = message.is_deletion();
        let Some(object) = Object::read(message) else {
            let fact = message.link()?;
            return Some(Notification::Link { fact, gone });
        };
        match (object.key(dev_of), &object) {
            (Some(key), _) => Some(Notification::Entry {
                key,
                entry: owned.entry(&object, dev_of),
                gone,
            }),
            (None, Object::Addr(addr)) => Some(Notification::Address {
                link: addr.link,
                ip: addr.ip,
            }),
            (None, Object::Neigh(_) | Object::Route(_)) => None,
        }
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
