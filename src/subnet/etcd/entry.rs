//! From a key and its value to a lease; what cannot be read is mentioned once.

use std::collections::HashSet;
use std::sync::Mutex;

use tracing::warn;

use super::super::{Lease, LeaseAttrs, LeaseEvent, LeaseId, Revision, Subnets, key};

use crate::util::lock;

/// A lease value is some 200 bytes; no one needs 64 KiB.
const MAX_VALUE: usize = 64 * 1024;
/// How much of a key a message shows: a key may be as long as a request.
const SHOWN: usize = 120;
/// How many unreadable keys are remembered, and so how many are named at most.
const MAX_NAMED: usize = 1024;

/// A key below `<prefix>/subnets/`, as the datastore has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// What follows `<prefix>/subnets/`.
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Revision of its creation.
    pub(super) created: Revision,
    /// Revision of its last change.
    pub(super) modified: Revision,
    /// The etcd lease it hangs on.
    pub(super) lease_id: Option<LeaseId>,
}

/// Why an entry is no lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The key is not a lease key: it concerns no one.
    Key(String),
    /// The key is, its value is not a lease.
    Value(Subnets, String),
}

/// Reads the name of a key.
pub(super) fn subnets(name: &[u8]) -> Result<Subnets, Unreadable> {
    let text = std::str::from_utf8(name)
        .map_err(|_| Unreadable::Key("not a lease key (not text)".into()))?;
    key::parse(text).map_err(|why| Unreadable::Key(why.to_string()))
}

/// Reads an entry.
pub(super) fn lease(entry: &Entry<'_>) -> Result<Lease, Unreadable> {
    let subnets = subnets(entry.name)?;
    let attrs = attrs(entry.value).map_err(|why| Unreadable::Value(subnets, why))?;
    Ok(Lease {
        subnets,
        attrs,
        created: entry.created,
        modified: entry.modified,
        lease_id: entry.lease_id,
    })
}

fn attrs(value: &[u8]) -> Result<LeaseAttrs, String> {
    if value.len() > MAX_VALUE {
        return Err(format!(
            "not a lease value ({} bytes, the maximum is {MAX_VALUE})",
            value.len()
        ));
    }
    LeaseAttrs::decode(value).map_err(|why| why.to_string())
}

/// Reads entries and remembers which ones it has complained about.
#[derive(Default)]
pub(super) struct Reader {
    named: Mutex<HashSet<Vec<u8>>>,
}

impl Reader {
    /// Who has the key of an entry. One that cannot be read belongs to no host, and still occupies the subnet.
    pub(super) fn occupant(&self, entry: &Entry<'_>) -> Option<Lease> {
        let Entry {
            created,
            modified,
            lease_id,
            ..
        } = *entry;
        match self.event(entry)? {
            LeaseEvent::Put(lease) => Some(lease),
            LeaseEvent::Missing(subnets) | LeaseEvent::Delete(subnets) => Some(Lease {
                subnets,
                attrs: LeaseAttrs::default(),
                created,
                modified,
                lease_id,
            }),
            LeaseEvent::ListStart | LeaseEvent::ListEnd => None,
        }
    }

    /// What an entry that was just put means for those who watch.
    pub(super) fn event(&self, entry: &Entry<'_>) -> Option<LeaseEvent> {
        match lease(entry) {
            // Such as `{}`.
            Ok(lease) if lease.attrs == LeaseAttrs::default() => {
                self.complain(entry.name, "it announces no public address");
                Some(LeaseEvent::Delete(lease.subnets))
            }
            Ok(lease) => {
                self.forget(entry.name);
                Some(LeaseEvent::Put(lease))
            }
            Err(Unreadable::Value(subnets, why)) => {
                self.complain(entry.name, &why);
                Some(LeaseEvent::Delete(subnets))
            }
            Err(Unreadable::Key(why)) => {
                self.complain(entry.name, &why);
                None
            }
        }
    }

    /// What the disappearance of a key means for those who watch.
    pub(super) fn deleted(&self, name: &[u8]) -> Option<LeaseEvent> {
        self.forget(name);
        subnets(name).ok().map(LeaseEvent::Delete)
    }

    fn complain(&self, name: &[u8], why: &str) {
        let mut named = lock(&self.named);
        if named.len() >= MAX_NAMED || !named.insert(shown(name).to_vec()) {
            return;
        }
        let key = shown(name).escape_ascii();
        warn!(%key, err = why, "ignoring lease key \"{key}\": {why}; delete or correct the key");
        if named.len() == MAX_NAMED {
            // log: self-explanatory
            warn!(
                count = MAX_NAMED,
                "{MAX_NAMED} lease keys are unreadable; further ones are ignored without a log line"
            );
        }
    }

    fn forget(&self, name: &[u8]) {
        let mut named = lock(&self.named);
        if !named.is_empty() {
            named.remove(shown(name));
        }
    }
}

fn shown(name: &[u8]) -> &[u8] {
    name.get(..SHOWN).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(name: &'a [u8], value: &'a [u8]) -> Entry<'a> {
        Entry {
            name,
            value,
            created: 3,
            modified: 7,
            lease_id: LeaseId::new(5),
        }
    }

    #[test]
    fn a_good_entry_is_a_lease() {
        let lease = lease(&entry(b"10.5.34.0-24", br#"{"PublicIP":"10.0.0.1"}"#)).unwrap();
        assert_eq!(lease.subnets.to_string(), "10.5.34.0/24");
        assert_eq!(
            (lease.created, lease.modified, lease.lease_id),
            (3, 7, LeaseId::new(5))
        );
        assert_eq!(lease.attrs.public_ip, Some([10, 0, 0, 1].into()));
    }

    #[test]
    fn broken_value_removes_lease_and_broken_key_is_ignored() {
        let reader = Reader::default();
        let huge = vec![b' '; MAX_VALUE + 1];
        for value in [&b"{"[..], b"", b"\xff", &huge, b"{}"] {
            assert!(matches!(
                reader.event(&entry(b"10.5.34.0-24", value)),
                Some(LeaseEvent::Delete(_))
            ));
            assert!(
                reader.named.lock().unwrap().remove(&b"10.5.34.0-24"[..]),
                "it is named"
            );
        }
        for name in [&b"x"[..], b"\xff", b"", b"10.5.34.0-24/x"] {
            assert_eq!(reader.event(&entry(name, b"{}")), None);
            assert_eq!(reader.deleted(name), None);
        }
    }

    #[test]
    fn complaints_are_made_once_and_never_without_bound() {
        let reader = Reader::default();
        for round in 0..2 * MAX_NAMED {
            reader.event(&entry(round.to_string().as_bytes(), b""));
            reader.event(&entry(&[b'x'; 100_000], b""));
        }
        let named = reader.named.lock().unwrap();
        assert_eq!(named.len(), MAX_NAMED);
        assert!(named.iter().all(|name| name.len() <= SHOWN));
    }
}
