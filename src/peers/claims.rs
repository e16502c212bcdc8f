//! Who has a slot, where several leases may want it: pure.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use crate::kernel::state::Slot;
use crate::subnet::{Revision, Subnets};

/// Who wins a contested slot: the lease that was created last. A host that comes back under another subnet while its old
/// lease still lives is reached in the new one. A lease whose key is missing wins from nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) is_certain: bool,
    pub(super) created: Revision,
    pub(super) subnets: Subnets,
}

/// All claims. Each is made once before it is taken back.
#[derive(Default)]
pub(super) struct Claims {
    /// The newest claim on each slot has it.
    holders: HashMap<Slot, Rank>,
    /// The others. Hardly ever is there one.
    waiting: BTreeSet<(Slot, Rank)>,
}

impl Claims {
    pub(super) fn len(&self) -> usize {
        self.holders.len() + self.waiting.len()
    }

    pub(super) fn holder(&self, slot: Slot) -> Option<Rank> {
        self.holders.get(&slot).copied()
    }

    /// Every claimed slot, once.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.holders.keys().copied()
    }

    /// Claims on slots that others have, sorted.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = (Slot, Rank)> {
        self.waiting.iter().copied()
    }

    pub(super) fn add(&mut self, slot: Slot, rank: Rank) {
        match self.holders.entry(slot) {
            Entry::Vacant(free) => {
                free.insert(rank);
            }
            Entry::Occupied(mut held) => {
                let loser = rank.min(*held.get());
                held.insert(rank.max(*held.get()));
                self.waiting.insert((slot, loser));
            }
        }
    }

    /// The newest of those that wait for the slot follows.
    pub(super) fn remove(&mut self, slot: Slot, rank: Rank) {
        if self.waiting.remove(&(slot, rank)) {
            return;
        }
        match self.next_in_line(slot) {
            Some(next) => {
                self.waiting.remove(&(slot, next));
                self.holders.insert(slot, next);
            }
            None => {
                self.holders.remove(&slot);
            }
        }
    }

    fn next_in_line(&self, slot: Slot) -> Option<Rank> {
        let bound = |is_certain, created| (slot, Rank { is_certain, created, subnets: Subnets::default() });
        let mut line = self.waiting.range(bound(false, Revision::MIN)..bound(true, Revision::MAX));
        line.next_back().map(|(_, rank)| *rank)
    }
}
