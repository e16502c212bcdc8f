//! Who has an entry key, where several leases may want it: pure.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::kernel::Entry;
use crate::kernel::entry::EntryKey;
use crate::subnet::{Revision, Subnets};

/// Who wins a contested entry key: the lease that was created last. A host that comes back under another subnet while its old
/// lease still lives is reached in the new one. A lease whose key is missing wins from no one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) is_certain: bool,
    pub(super) created: Revision,
    pub(super) subnets: Subnets,
}

/// What a lease needs, and how it ranks among those that need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerEntries {
    pub(super) priority: Priority,
    pub(super) entries: Box<[Entry]>,
}

/// A lease's claim on the entry key of one of its entries. There are three a peer: what it is about is looked up.
#[derive(Debug, Clone)]
struct Claim {
    peer_entries: Arc<PeerEntries>,
    index: usize,
}

impl Claim {
    fn all(peer_entries: &Arc<PeerEntries>) -> impl Iterator<Item = Claim> {
        (0..peer_entries.entries.len()).map(|index| Claim {
            peer_entries: peer_entries.clone(),
            index,
        })
    }

    fn entry(&self) -> Option<Entry> {
        self.peer_entries.entries.get(self.index).copied()
    }

    fn holding(&self) -> Option<(Priority, Entry)> {
        Some((self.peer_entries.priority, self.entry()?))
    }

    fn conflict_with(&self, other: &Self) -> Option<Conflict> {
        let (holder, held) = self.holding()?;
        Some(Conflict {
            holder,
            held,
            wanted: other.entry()?,
        })
    }

    fn is_on(&self, key: Option<EntryKey>) -> bool {
        self.key() == key
    }

    fn key(&self) -> Option<EntryKey> {
        self.entry().map(|entry| entry.key())
    }

    fn place(&self) -> (Option<EntryKey>, Priority) {
        (self.key(), self.peer_entries.priority)
    }
}

/// The lease that has an entry key when another lease claims it.
pub(super) struct Conflict {
    pub(super) holder: Priority,
    pub(super) held: Entry,
    /// What the other one wants there.
    pub(super) wanted: Entry,
}

/// All claims. Each is made once before it is taken back.
#[derive(Default)]
pub(super) struct EntryTable {
    /// The newest claim on each entry key has it.
    holders: HashTable<Claim>,
    hasher: DefaultHashBuilder,
    /// The others. Hardly ever is there one.
    waiting: BTreeMap<(Option<EntryKey>, Priority), Claim>,
}

impl EntryTable {
    /// Who has the entry key, and what is in it.
    pub(super) fn holder(&self, key: EntryKey) -> Option<(Priority, Entry)> {
        let key = Some(key);
        let claim = self
            .holders
            .find(self.hasher.hash_one(key), |claim| claim.is_on(key))?;
        claim.holding()
    }

    /// Every claimed entry key, once.
    pub(super) fn keys(&self) -> impl Iterator<Item = EntryKey> {
        self.holders.iter().filter_map(Claim::key)
    }

    /// What is claimed in entry keys that others have, sorted by entry key.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = (Priority, Entry)> {
        self.waiting.values().filter_map(Claim::holding)
    }

    /// Makes room for as many more.
    pub(super) fn expect(&mut self, count: usize) {
        let Self {
            holders, hasher, ..
        } = self;
        holders.reserve(count, |claim| hasher.hash_one(claim.key()));
    }

    /// Whom it met.
    pub(super) fn add(&mut self, peer_entries: &Arc<PeerEntries>) -> Vec<Conflict> {
        Claim::all(peer_entries)
            .filter_map(|claim| self.enter(claim))
            .collect()
    }

    pub(super) fn remove(&mut self, peer_entries: &Arc<PeerEntries>) {
        Claim::all(peer_entries).for_each(|claim| self.leave(&claim));
    }

    fn enter(&mut self, claim: Claim) -> Option<Conflict> {
        let Self {
            holders,
            hasher,
            waiting,
        } = self;
        let key = claim.key();
        let hash = |claim: &Claim| hasher.hash_one(claim.key());
        match holders.entry(hash(&claim), |other| other.is_on(key), hash) {
            hash_table::Entry::Vacant(free) => {
                free.insert(claim);
                None
            }
            hash_table::Entry::Occupied(mut held) => {
                let conflict = held.get().conflict_with(&claim);
                let wins = claim.peer_entries.priority > held.get().peer_entries.priority;
                let loser = if wins {
                    std::mem::replace(held.get_mut(), claim)
                } else {
                    claim
                };
                waiting.insert(loser.place(), loser);
                conflict
            }
        }
    }

    /// The newest of those that wait for the entry key follows.
    fn leave(&mut self, claim: &Claim) {
        let key = claim.key();
        if self.waiting.remove(&claim.place()).is_some() {
            return;
        }
        let next = self
            .next_in_line(key)
            .and_then(|place| self.waiting.remove(&place));
        let Ok(mut held) = self
            .holders
            .find_entry(self.hasher.hash_one(key), |other| other.is_on(key))
        else {
            return;
        };
        match next {
            Some(next) => *held.get_mut() = next,
            None => drop(held.remove()),
        }
    }

    fn next_in_line(&self, key: Option<EntryKey>) -> Option<(Option<EntryKey>, Priority)> {
        let bound = |is_certain, created| {
            (
                key,
                Priority {
                    is_certain,
                    created,
                    subnets: Subnets::default(),
                },
            )
        };
        let mut line = self
            .waiting
            .range(bound(false, Revision::MIN)..bound(true, Revision::MAX));
        line.next_back().map(|(place, _)| *place)
    }
}
