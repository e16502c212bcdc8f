//! The wish as an operator asks about it: who contradicts whom, who is refused, whose an entry is: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Rank};
use crate::backend::BadPeer;
use crate::kernel::Item;
use crate::kernel::state::Slot;
use crate::subnet::Subnets;

/// A lease that wants a slot which a newer lease has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// The one that has it.
    pub winner: Subnets,
    /// What the winner has put there.
    pub item: Item,
}

impl Desired {
    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How many leases are refused, or used in one family only although they have both.
    pub fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// Every slot of the wish, once, in the order of the items.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let mut last = None;
        let claimed = self.claims.iter().map(|(slot, _)| *slot);
        let once = claimed.filter(move |slot| last.replace(*slot) != Some(*slot));
        self.local.iter().map(Item::slot).chain(once)
    }

    /// Leases that do not have all that they want, each with the first thing that another one has. A walk over all claims.
    pub fn contests(&self) -> BTreeMap<Subnets, Contest> {
        let mut contests = BTreeMap::new();
        let mut holder: Option<(Slot, Rank)> = None;
        for (slot, rank) in self.claims.iter().rev() {
            match holder.filter(|(held, _)| held == slot) {
                Some((_, winner)) => {
                    let (won, wanted) = (self.claimed(*slot, winner), self.claimed(*slot, *rank));
                    if let Some(item) = won
                        && rank.is_certain
                        && !wanted.is_some_and(|wanted| item.fulfilled_by(&wanted))
                    {
                        contests.insert(rank.subnets, Contest { winner: winner.subnets, item });
                    }
                }
                None => holder = Some((*slot, *rank)),
            }
        }
        contests
    }

    /// Leases that cannot be used, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&Subnets, &BadPeer)> {
        self.refused.iter()
    }

    /// The peers that have these slots. Slots of the host's own are nobody's.
    pub fn holders<'a>(&self, slots: impl IntoIterator<Item = &'a Slot>) -> BTreeSet<Subnets> {
        slots.into_iter().filter_map(|slot| self.holder(*slot)).collect()
    }

    /// The peer that has this slot.
    pub fn holder(&self, slot: Slot) -> Option<Subnets> {
        self.winner(slot).map(|(rank, _)| rank.subnets)
    }
}
