//! The desired state as an operator asks about it: who contradicts whom, who is refused, whose an entry is: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::DesiredState;
use super::entry_table::Known;
use crate::backend::BadPeer;
use crate::kernel::Entry;
use crate::kernel::entry::EntryKey;
use crate::subnet::{LeaseAttrs, Subnets};

/// A lease that wants an entry key which a newer lease has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEntry {
    /// The one that has it.
    pub winner: Subnets,
    /// What the winner has put there.
    pub entry: Entry,
}

impl DesiredState {
    /// Returns the lease of another host that announces `ip`, if there is one. `is_own` tells leases that this host has left. A
    /// peer that only its grace period keeps has no lease.
    pub fn announcer(&self, ip: IpAddr, is_own: impl Fn(&LeaseAttrs) -> bool) -> Option<Subnets> {
        let has_key = |known: &&Known| known.priority.is_certain || !known.is_used;
        let others = self.announced.at(ip, &self.table).filter(has_key);
        let others = others.filter(|known| !is_own(&known.attrs));
        others.map(|known| known.priority.subnets).min()
    }

    /// What the lease of every other host announces, used or not.
    pub fn announcements(&self) -> impl Iterator<Item = &LeaseAttrs> {
        self.known().map(|known| &known.attrs)
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peer_count
    }

    /// How many leases are refused, or used in one family only although they have both.
    pub fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// Every entry key of the desired state, once, in no order.
    pub fn keys(&self) -> impl Iterator<Item = EntryKey> {
        self.local.iter().map(Entry::key).chain(self.table.keys())
    }

    /// Leases that do not have all that they want, each with the first thing that another one has.
    pub fn contests(&self) -> BTreeMap<Subnets, LostEntry> {
        let contests = self.table.waiting().rev().filter_map(|(priority, wanted)| {
            let (winner, entry) = self.table.holder(wanted.key())?;
            let is_lost = priority.is_certain && !entry.fulfilled_by(&wanted);
            is_lost.then_some((
                priority.subnets,
                LostEntry {
                    winner: winner.subnets,
                    entry,
                },
            ))
        });
        contests.collect()
    }

    /// Leases that cannot be used, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&Subnets, &BadPeer)> {
        self.refused.iter()
    }

    /// The peers that have these entry keys. The host's own entry keys belong to no peer.
    pub fn holders<'a>(&self, keys: impl IntoIterator<Item = &'a EntryKey>) -> BTreeSet<Subnets> {
        keys.into_iter()
            .filter_map(|key| self.holder(*key))
            .collect()
    }

    /// The peer that has this entry key.
    pub fn holder(&self, key: EntryKey) -> Option<Subnets> {
        self.table.holder(key).map(|(priority, _)| priority.subnets)
    }
}
