//! Who has a slot, where several leases may want it: pure.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::kernel::Item;
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

/// What a lease needs, and how it ranks among those that need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) rank: Rank,
    pub(super) items: Box<[Item]>,
}

/// A lease's claim on the slot of one of its items. There are three a peer: what it is about is looked up.
#[derive(Debug, Clone)]
struct Claim {
    need: Arc<Need>,
    index: usize,
}

impl Claim {
    fn all(need: &Arc<Need>) -> impl Iterator<Item = Claim> {
        (0..need.items.len()).map(|index| Claim { need: need.clone(), index })
    }

    fn item(&self) -> Option<Item> {
        self.need.items.get(self.index).copied()
    }

    fn holding(&self) -> Option<(Rank, Item)> {
        Some((self.need.rank, self.item()?))
    }

    fn rival_of(&self, other: &Self) -> Option<Rival> {
        let (holder, held) = self.holding()?;
        Some(Rival { holder, held, wanted: other.item()? })
    }

    fn is_on(&self, slot: Option<Slot>) -> bool {
        self.slot() == slot
    }

    fn slot(&self) -> Option<Slot> {
        self.item().map(|item| item.slot())
    }

    fn place(&self) -> (Option<Slot>, Rank) {
        (self.slot(), self.need.rank)
    }
}

/// Whoever has a slot when another lease claims it.
pub(super) struct Rival {
    pub(super) holder: Rank,
    pub(super) held: Item,
    /// What the other one wants there.
    pub(super) wanted: Item,
}

/// All claims. Each is made once before it is taken back.
#[derive(Default)]
pub(super) struct Claims {
    /// The newest claim on each slot has it.
    holders: HashTable<Claim>,
    hasher: DefaultHashBuilder,
    /// The others. Hardly ever is there one.
    waiting: BTreeMap<(Option<Slot>, Rank), Claim>,
}

impl Claims {
    /// Who has the slot, and what is in it.
    pub(super) fn holder(&self, slot: Slot) -> Option<(Rank, Item)> {
        let slot = Some(slot);
        let claim = self.holders.find(self.hasher.hash_one(slot), |claim| claim.is_on(slot))?;
        claim.holding()
    }

    /// Every claimed slot, once.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.holders.iter().filter_map(Claim::slot)
    }

    /// What is claimed in slots that others have, sorted by slot.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = (Rank, Item)> {
        self.waiting.values().filter_map(Claim::holding)
    }

    /// Makes room for as many more.
    pub(super) fn expect(&mut self, count: usize) {
        let Self { holders, hasher, .. } = self;
        holders.reserve(count, |claim| hasher.hash_one(claim.slot()));
    }

    /// Whom it met.
    pub(super) fn add(&mut self, need: &Arc<Need>) -> Vec<Rival> {
        Claim::all(need).filter_map(|claim| self.enter(claim)).collect()
    }

    pub(super) fn remove(&mut self, need: &Arc<Need>) {
        Claim::all(need).for_each(|claim| self.leave(&claim));
    }

    fn enter(&mut self, claim: Claim) -> Option<Rival> {
        let Self { holders, hasher, waiting } = self;
        let slot = claim.slot();
        let hash = |claim: &Claim| hasher.hash_one(claim.slot());
        match holders.entry(hash(&claim), |other| other.is_on(slot), hash) {
            Entry::Vacant(free) => {
                free.insert(claim);
                None
            }
            Entry::Occupied(mut held) => {
                let rival = held.get().rival_of(&claim);
                let wins = claim.need.rank > held.get().need.rank;
                let loser = if wins { std::mem::replace(held.get_mut(), claim) } else { claim };
                waiting.insert(loser.place(), loser);
                rival
            }
        }
    }

    /// The newest of those that wait for the slot follows.
    fn leave(&mut self, claim: &Claim) {
        let slot = claim.slot();
        if self.waiting.remove(&claim.place()).is_some() {
            return;
        }
        let next = self.next_in_line(slot).and_then(|place| self.waiting.remove(&place));
        let Ok(mut held) = self.holders.find_entry(self.hasher.hash_one(slot), |other| other.is_on(slot))
        else {
            return;
        };
        match next {
            Some(next) => *held.get_mut() = next,
            None => drop(held.remove()),
        }
    }

    fn next_in_line(&self, slot: Option<Slot>) -> Option<(Option<Slot>, Rank)> {
        let bound = |is_certain, created| (slot, Rank { is_certain, created, subnets: Subnets::default() });
        let mut line = self.waiting.range(bound(false, Revision::MIN)..bound(true, Revision::MAX));
        line.next_back().map(|(place, _)| *place)
    }
}
