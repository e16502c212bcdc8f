//! Who has an entry key, where several leases may want it: pure.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::hash_table;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::ENTRIES;
use crate::kernel::Entry;
use crate::kernel::entry::EntryKey;
use crate::subnet::{LeaseAttrs, Revision, Subnets};

/// Who wins a contested entry key: the lease that was created last. A host that comes back under another subnet while its old
/// lease still lives is reached in the new one. A lease whose key is missing wins from no one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) is_certain: bool,
    pub(super) created: Revision,
    pub(super) subnets: Subnets,
}

/// A lease of another host, and what the kernel needs for it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) priority: Priority,
    /// In some family.
    pub(super) is_used: bool,
    pub(super) entries: Box<[Entry]>,
    pub(super) attrs: LeaseAttrs,
}

impl Known {
    /// Returns the entry keys that it claims.
    pub(super) fn keys(&self) -> impl Iterator<Item = EntryKey> {
        self.entries.iter().map(Entry::key)
    }
}

/// Where a table has a lease.
pub(super) type Slot = u32;

/// A lease's claim on the entry key of one of its entries. There are three a lease: the entry is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    slot: Slot,
    index: u8,
}

/// The lease that has an entry key when another lease claims it.
pub(super) struct Conflict {
    pub(super) holder: Priority,
    pub(super) held: Entry,
    /// What the other one wants there.
    pub(super) wanted: Entry,
}

/// Which entries of which leases the kernel has.
#[derive(Default)]
pub(super) struct Fulfilled {
    /// By the leases' slots.
    entries: Vec<[bool; ENTRIES as usize]>,
    count: usize,
}

impl Fulfilled {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn has(&self, claim: Claim) -> bool {
        let entries = self.entries.get(claim.slot as usize);
        entries.is_some_and(|found| found.get(usize::from(claim.index)) == Some(&true))
    }

    /// False if it was there before.
    fn insert(&mut self, claim: Claim, slots: usize) -> bool {
        if self.entries.is_empty() {
            self.entries = vec![[false; ENTRIES as usize]; slots];
        }
        let entries = self.entries.get_mut(claim.slot as usize);
        let found = entries.and_then(|found| found.get_mut(usize::from(claim.index)));
        let is_new = found.is_some_and(|found| !std::mem::replace(found, true));
        self.count += usize::from(is_new);
        is_new
    }
}

#[derive(Default)]
struct Leases {
    slots: Vec<Option<Known>>,
    /// Slots without a lease.
    free: Vec<Slot>,
}

impl Leases {
    fn get(&self, slot: Slot) -> Option<&Known> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn add(&mut self, known: Known) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX)
        });
        if let Some(free) = self.slots.get_mut(slot as usize) {
            *free = Some(known);
        }
        slot
    }

    fn remove(&mut self, slot: Slot) -> Option<Known> {
        let known = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(known)
    }

    fn entry(&self, claim: Claim) -> Option<Entry> {
        let known = self.get(claim.slot)?;
        known.entries.get(usize::from(claim.index)).copied()
    }

    fn key(&self, claim: Claim) -> Option<EntryKey> {
        self.entry(claim).map(|entry| entry.key())
    }

    fn priority(&self, claim: Claim) -> Option<Priority> {
        self.get(claim.slot).map(|known| known.priority)
    }

    fn holding(&self, claim: Claim) -> Option<(Priority, Entry)> {
        Some((self.priority(claim)?, self.entry(claim)?))
    }

    fn place(&self, claim: Claim) -> (Option<EntryKey>, Option<Priority>) {
        (self.key(claim), self.priority(claim))
    }

    /// The claims of one lease.
    fn claims(&self, slot: Slot) -> impl Iterator<Item = Claim> + use<> {
        let count = self.get(slot).map_or(0, |known| known.entries.len());
        (0..u8::try_from(count).unwrap_or(u8::MAX)).map(move |index| Claim { slot, index })
    }
}

/// All leases and their claims.
#[derive(Default)]
pub(super) struct EntryTable {
    leases: Leases,
    /// The newest claim on each entry key has it.
    holders: HashTable<Claim>,
    hasher: DefaultHashBuilder,
    /// The others. Hardly ever is there one.
    waiting: BTreeMap<(Option<EntryKey>, Option<Priority>), Claim>,
}

impl EntryTable {
    /// Returns a lease.
    pub(super) fn get(&self, slot: Slot) -> Option<&Known> {
        self.leases.get(slot)
    }

    /// Whether the lease there is `new`. What it announces counts even if it is not used: two hosts with one address are told apart by it.
    pub(super) fn is_same(&self, slot: Slot, new: &Known) -> bool {
        self.get(slot).is_some_and(|old| {
            (old.priority, old.is_used, &old.entries, &old.attrs)
                == (new.priority, new.is_used, &new.entries, &new.attrs)
        })
    }

    fn claim_on(&self, key: EntryKey) -> Option<Claim> {
        let key = Some(key);
        let is_on = |claim: &Claim| self.leases.key(*claim) == key;
        self.holders.find(self.hasher.hash_one(key), is_on).copied()
    }

    /// Who has the entry key, and what is in it.
    pub(super) fn holder(&self, key: EntryKey) -> Option<(Priority, Entry)> {
        self.leases.holding(self.claim_on(key)?)
    }

    /// How many entry keys are claimed.
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    /// Notes it if `found` fulfills the holder of its entry key, for the first time.
    pub(super) fn fulfill(&self, found: &Entry, fulfilled: &mut Fulfilled) -> bool {
        let Some(claim) = self.claim_on(found.key()) else {
            return false;
        };
        let wanted = self.leases.entry(claim);
        wanted.is_some_and(|wanted| wanted.fulfilled_by(found))
            && fulfilled.insert(claim, self.leases.slots.len())
    }

    /// Returns entry `index` of a lease, if the lease holds its entry key and it is not fulfilled.
    pub(super) fn unfulfilled(
        &self,
        slot: Slot,
        index: u8,
        fulfilled: &Fulfilled,
    ) -> Option<Entry> {
        let claim = Claim { slot, index };
        let entry = self.leases.entry(claim)?;
        let waits = || self.waiting.contains_key(&self.leases.place(claim));
        (!fulfilled.has(claim) && (self.waiting.is_empty() || !waits())).then_some(entry)
    }

    /// Every claimed entry key, once.
    pub(super) fn keys(&self) -> impl Iterator<Item = EntryKey> {
        self.holders
            .iter()
            .filter_map(|claim| self.leases.key(*claim))
    }

    /// What is claimed in entry keys that others have, sorted by entry key.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = (Priority, Entry)> {
        let waiting = self.waiting.values();
        waiting.filter_map(|claim| self.leases.holding(*claim))
    }

    /// Makes room for as many more leases.
    pub(super) fn expect(&mut self, count: usize, entries: usize) {
        let Self {
            leases,
            holders,
            hasher,
            ..
        } = self;
        leases.slots.reserve(count);
        holders.reserve(entries, |claim| hasher.hash_one(leases.key(*claim)));
    }

    /// Takes in a lease. Returns where it is, and whom it met.
    pub(super) fn add(&mut self, known: Known) -> (Slot, Vec<Conflict>) {
        let slot = self.leases.add(known);
        let claims = self.leases.claims(slot);
        (slot, claims.filter_map(|claim| self.enter(claim)).collect())
    }

    /// Takes out a lease.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Known> {
        let claims = self.leases.claims(slot);
        claims.for_each(|claim| self.leave(claim));
        self.leases.remove(slot)
    }

    fn enter(&mut self, claim: Claim) -> Option<Conflict> {
        let Self {
            leases,
            holders,
            hasher,
            waiting,
        } = self;
        let key = leases.key(claim);
        let hash = |claim: &Claim| hasher.hash_one(leases.key(*claim));
        match holders.entry(hash(&claim), |other| leases.key(*other) == key, hash) {
            hash_table::Entry::Vacant(free) => {
                free.insert(claim);
                None
            }
            hash_table::Entry::Occupied(mut occupied) => {
                let other = *occupied.get();
                let wins = leases.priority(claim) > leases.priority(other);
                let loser = if wins { other } else { claim };
                if wins {
                    *occupied.get_mut() = claim;
                }
                waiting.insert(leases.place(loser), loser);
                let (holder, held) = leases.holding(other)?;
                let wanted = leases.entry(claim)?;
                Some(Conflict {
                    holder,
                    held,
                    wanted,
                })
            }
        }
    }

    /// The newest of those that wait for the entry key follows.
    fn leave(&mut self, claim: Claim) {
        let Self {
            leases,
            holders,
            hasher,
            waiting,
        } = self;
        let place = leases.place(claim);
        if waiting.remove(&place).is_some() {
            return;
        }
        let (key, _) = place;
        let above_all = Priority {
            is_certain: true,
            created: Revision::MAX,
            subnets: Subnets::default(),
        };
        let mut line = waiting.range((key, None)..(key, Some(above_all)));
        let next = line.next_back().map(|(place, _)| *place);
        let next = next.and_then(|place| waiting.remove(&place));
        let hash = hasher.hash_one(key);
        if let Ok(mut held) = holders.find_entry(hash, |other| leases.key(*other) == key) {
            match next {
                Some(next) => *held.get_mut() = next,
                None => drop(held.remove()),
            }
        }
    }
}
