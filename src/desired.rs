//! Turns lease events into the desired state of the kernel: pure.
//!
//! [`DesiredState`] is the desired state. It changes by lease events only, and depends on nothing but the set of leases that results from
//! them, never on the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use self::announced::Announced;
use self::entry_table::{Conflict, EntryTable, Fulfilled, Known, Priority, Slot};
use self::overlaps::Overlaps;
use self::protected_addrs::ProtectedAddrs;
use crate::backend::{Backend, BadPeer};
use crate::kernel::entry::EntryKey;
use crate::kernel::plan::plan;
use crate::kernel::{Entry, Op};
use crate::subnet::{
    Lease, LeaseAttrs, LeaseEvent, NetworkConfig, PublicAddrs, Range, Revision, Subnets,
};
use crate::util::family::{Family, PerFamily};

/// The desired state of the kernel.
pub struct DesiredState {
    config: NetworkConfig,
    own: Lease,
    local: Vec<Entry>,
    /// The leases of other hosts.
    leases: BTreeMap<Subnets, Slot>,
    /// Why some of them, or one family of them, cannot be used. That may change with this host's addresses and with other leases.
    refused: BTreeMap<Subnets, BadPeer>,
    /// How many of them are used.
    peer_count: usize,
    protected: ProtectedAddrs,
    announced: Announced,
    overlaps: Overlaps,
    /// Every lease, and its claim on every entry key that it needs.
    table: EntryTable,
    /// While a list is read: what was known before and has not been seen in it.
    unseen: Option<BTreeSet<Subnets>>,
    complete: bool,
}

/// Most entries of a peer: in each family a neighbor, an FDB entry, and a route.
const ENTRIES: u8 = 6;

impl Known {
    fn lease(&self) -> Lease {
        let Priority {
            subnets, created, ..
        } = self.priority;
        Lease {
            subnets,
            attrs: self.attrs.clone(),
            created,
            modified: created,
            lease_id: None,
        }
    }
}

/// What a lease means for this host.
#[derive(Default)]
struct Reading {
    entries: Vec<Entry>,
    /// The families in which it can be used.
    families: PerFamily<()>,
    /// Those in which it could be if there were no other leases.
    claimed: PerFamily<()>,
    /// Why some or all of it cannot.
    bad: Option<BadPeer>,
}

/// What a batch of events changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What the touched entry keys held before, sorted.
    pub before: Vec<Entry>,
    /// What they must hold now, sorted.
    pub after: Vec<Entry>,
    /// What an operator would want to read.
    pub events: Vec<PeerEvent>,
    /// This host's own key was written or deleted, by any program.
    pub own_key: bool,
    /// A complete list has been seen with this batch: what is in the kernel and not desired may go.
    pub listed: bool,
}

/// What the entry keys that a batch touches held before it; nothing where no one asks.
type Touched = Option<BTreeMap<EntryKey, Option<Entry>>>;

impl DesiredState {
    /// Nothing but what the own lease needs.
    pub fn new(config: NetworkConfig, own: Lease, backend: &dyn Backend) -> Self {
        let local = backend.local(&own.subnets);
        Self {
            config,
            own,
            local,
            leases: BTreeMap::new(),
            refused: BTreeMap::new(),
            peer_count: 0,
            protected: ProtectedAddrs::new(backend, BTreeSet::new()),
            announced: Announced::default(),
            overlaps: Overlaps::default(),
            table: EntryTable::default(),
            unseen: None,
            complete: false,
        }
    }

    /// All entries, sorted, one per entry key.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries_beside(&Fulfilled::default())
    }

    /// The writes that turn `have`, all owned entries in any order, into the desired state.
    ///
    /// Nearly always nearly all of them are as desired. These are found by their keys, and only the others are sorted and compared.
    pub fn plan(&self, have: &[Entry]) -> Vec<Op> {
        let mut fulfilled = Fulfilled::default();
        let is_other = |entry: &&Entry| !self.table.fulfill(entry, &mut fulfilled);
        let mut others: Vec<Entry> = have.iter().filter(is_other).copied().collect();
        others.sort();
        plan(&self.entries_beside(&fulfilled), &others)
    }

    /// All entries but the fulfilled ones of peers, sorted, one per entry key.
    fn entries_beside(&self, fulfilled: &Fulfilled) -> Vec<Entry> {
        let missing = self.table.len() - fulfilled.count();
        let mut entries = Vec::with_capacity(self.local.len() + missing);
        // Each peer's first, each peer's second and so on: long runs that are in order already.
        let runs = if missing > 0 { 0..ENTRIES } else { 0..0 };
        for index in runs {
            let slots = self.leases.values();
            entries
                .extend(slots.filter_map(|slot| self.table.unfulfilled(*slot, index, fulfilled)));
        }
        entries.extend(&self.local);
        entries.sort();
        entries
    }

    /// The public addresses of the peers, which they send from: also of those that this host reaches without a tunnel.
    pub fn sources(&self) -> BTreeSet<IpAddr> {
        self.peers()
            .flat_map(|(_, _, attrs)| attrs.publics())
            .collect()
    }

    /// Whether a complete list of leases has been seen. Before that nothing may be deleted.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The lease of this host, as it was acquired.
    pub fn own(&self) -> &Lease {
        &self.own
    }

    /// The desired entry of `key`.
    pub fn entry(&self, key: EntryKey) -> Option<Entry> {
        let local = self.local.iter().find(|entry| entry.key() == key).copied();
        local.or_else(|| self.table.holder(key).map(|(_, entry)| entry))
    }

    /// Every peer: subnets, revision of creation, what it announces.
    pub fn peers(&self) -> impl Iterator<Item = (&Subnets, Revision, &LeaseAttrs)> + Clone {
        let known = self.known().filter(|known| known.is_used);
        known.map(|known| {
            (
                &known.priority.subnets,
                known.priority.created,
                &known.attrs,
            )
        })
    }

    /// The own lease is another one now. What is in the old subnet is known after the next list.
    pub fn relocate(&mut self, own: Lease, backend: &dyn Backend) {
        self.local = backend.local(&own.subnets);
        self.remove(own.subnets, &mut Change::default(), &mut None);
        self.own = own;
    }

    /// Takes a batch of events as one change. With the first complete list that is everything, and not named.
    pub fn apply(&mut self, events: Vec<LeaseEvent>, backend: &dyn Backend) -> Change {
        let is_first = !self.complete && events.contains(&LeaseEvent::ListEnd);
        if is_first {
            let entries =
                events.len() * self.config.ranges.iter().count() * usize::from(ENTRIES / 2);
            self.table.expect(events.len(), entries);
            self.announced.expect(events.len(), &self.table);
        }
        let (mut change, mut touched) = (Change::default(), (!is_first).then(BTreeMap::new));
        for event in events {
            match event {
                LeaseEvent::ListStart => {
                    self.unseen = Some(self.leases.keys().copied().collect());
                    // The list may be of a restored backup that does not know the own key: no one will say that it is gone.
                    change.own_key = true;
                }
                LeaseEvent::ListEnd => {
                    for gone in self.unseen.take().unwrap_or_default() {
                        self.remove(gone, &mut change, &mut touched);
                    }
                    (self.complete, change.listed) = (true, true);
                }
                LeaseEvent::Put(lease) if lease.subnets == self.own.subnets => {
                    change.own_key = true
                }
                LeaseEvent::Missing(subnets) | LeaseEvent::Delete(subnets)
                    if subnets == self.own.subnets =>
                {
                    change.own_key = true;
                }
                LeaseEvent::Put(lease) if lease.is_reservation_for_absent_host() => {
                    self.remove(lease.subnets, &mut change, &mut touched);
                }
                LeaseEvent::Put(lease) => self.put(lease, backend, &mut change, &mut touched),
                LeaseEvent::Missing(subnets) => self.mark_missing(subnets, &mut touched),
                LeaseEvent::Delete(subnets) => self.remove(subnets, &mut change, &mut touched),
            }
        }
        self.resolve_overlaps(backend, &mut change, &mut touched);
        change.events.extend(self.resolve_duplicates());
        let touched = touched.unwrap_or_default();
        change.after = touched
            .keys()
            .filter_map(|key| self.table.holder(*key))
            .map(|(_, entry)| entry)
            .collect();
        change.before = touched.into_values().flatten().collect();
        change
    }

    fn put(
        &mut self,
        lease: Lease,
        backend: &dyn Backend,
        change: &mut Change,
        touched: &mut Touched,
    ) {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&lease.subnets);
        }
        let Reading {
            entries,
            families,
            claimed,
            bad,
        } = self.read(&lease, backend);
        for range in self.config.ranges.iter() {
            let family = range.family();
            let claim = claimed.get(family).map(|()| &lease);
            let claim = claim.and_then(|lease| {
                protected_addrs::claim(family, lease.subnets, &lease.attrs, lease.created)
            });
            self.overlaps.set(range, lease.subnets, claim);
        }
        let first = Family::ALL
            .into_iter()
            .find(|family| families.get(*family).is_some());
        let Lease {
            subnets,
            attrs,
            created,
            ..
        } = lease;
        let priority = Priority {
            is_certain: true,
            created,
            subnets,
        };
        let known = Known {
            priority,
            is_used: first.is_some(),
            entries: entries.into(),
            attrs,
        };
        self.install(known, change, touched);
        let Some(why) = bad else {
            return drop(self.refused.remove(&subnets));
        };
        if self.refused.insert(subnets, why.clone()).as_ref() != Some(&why) {
            change.events.push(match first {
                Some(family) => PeerEvent::Limited(subnets, family, why),
                None => PeerEvent::Refused(subnets, why),
            });
        }
    }

    /// One family's part of a lease may be of use where the other one is not. What this overlay does not have is not asked
    /// for: while IPv6 is switched on in a cluster, host by host, both kinds of leases live in it.
    fn read(&self, lease: &Lease, backend: &dyn Backend) -> Reading {
        let (mut reading, mut reasons) = (Reading::default(), Vec::new());
        let ranges = self.config.ranges.iter();
        for (range, subnet) in
            ranges.filter_map(|range| Some((range, lease.subnets.of(range.family())?)))
        {
            let family = range.family();
            let obstacle = self.overlaps.of(family, &lease.subnets);
            let usable = self.usable(range, subnet, lease, backend);
            reading.claimed.set(family, usable.is_ok().then_some(()));
            match usable.and_then(|entries| obstacle.map_or(Ok(entries), Err)) {
                Ok(entries) => {
                    if reading.families.is_empty() {
                        reading.entries = entries
                    } else {
                        reading.entries.extend(entries)
                    }
                    reading.families.set(family, Some(()));
                }
                Err(why) => reasons.push((family, why)),
            }
        }
        if reasons.is_empty() && reading.families.is_empty() {
            let families = self
                .config
                .ranges
                .iter()
                .map(|range| range.family().to_string());
            let families = families.collect::<Vec<_>>().join(" or ");
            reading.bad = Some(BadPeer(format!("it has no {families} subnet")));
        }
        reading.bad = reading.bad.or_else(|| self.sum_up(&reasons));
        reading
    }

    fn sum_up(&self, reasons: &[(Family, BadPeer)]) -> Option<BadPeer> {
        let (_, first) = reasons.first()?;
        let is_all = reasons.len() == self.config.ranges.iter().count();
        if is_all && reasons.iter().all(|(_, why)| why == first) {
            return Some(first.clone());
        }
        let named = reasons
            .iter()
            .map(|(family, why)| format!("{family}: {why}"));
        Some(BadPeer(named.collect::<Vec<_>>().join("; ")))
    }

    /// What the kernel needs for one family's half of a lease, without regard to other leases.
    fn usable(
        &self,
        range: &Range,
        subnet: IpNetwork,
        lease: &Lease,
        backend: &dyn Backend,
    ) -> Result<Vec<Entry>, BadPeer> {
        self.accept(range, subnet, &lease.attrs)?;
        backend.peer(lease, range.family())
    }

    fn install(&mut self, new: Known, change: &mut Change, touched: &mut Touched) {
        let (priority, is_used) = (new.priority, new.is_used);
        let subnets = priority.subnets;
        let slot = self.leases.get(&subnets).copied();
        if slot.is_some_and(|slot| self.table.is_same(slot, &new)) {
            return;
        }
        let at = PublicAddrs::of(&new.attrs).map(|host| host.ip());
        let old = slot.and_then(|slot| self.disclaim(slot, touched));
        change.events.extend(match old.filter(|old| old.is_used) {
            None => is_used.then_some(PeerEvent::Joined(subnets, at)),
            Some(_) if !is_used => Some(PeerEvent::Left(subnets)),
            Some(old) if old.entries == new.entries => None,
            Some(_) => Some(PeerEvent::Changed(subnets, at)),
        });
        let conflicts = self.claim(new, touched).into_iter();
        let conflicts = conflicts.filter_map(|conflict| conflict_event(priority, conflict));
        change.events.extend(conflicts);
    }

    /// Its key is missing: it stays, and gives way to any lease that wants what it has.
    fn mark_missing(&mut self, subnets: Subnets, touched: &mut Touched) {
        if let Some(mut known) = self.withdraw(subnets, touched) {
            known.priority.is_certain = false;
            self.claim(known, touched);
        }
    }

    fn remove(&mut self, subnets: Subnets, change: &mut Change, touched: &mut Touched) {
        self.config
            .ranges
            .iter()
            .for_each(|range| self.overlaps.remove(range, subnets));
        self.refused.remove(&subnets);
        let old = self.withdraw(subnets, touched).filter(|old| old.is_used);
        change.events.extend(old.map(|_| PeerEvent::Left(subnets)));
    }

    fn withdraw(&mut self, subnets: Subnets, touched: &mut Touched) -> Option<Known> {
        let slot = self.leases.remove(&subnets)?;
        self.disclaim(slot, touched)
    }

    /// Whom it met.
    fn claim(&mut self, known: Known, touched: &mut Touched) -> Vec<Conflict> {
        known.keys().for_each(|key| self.touch(key, touched));
        self.peer_count += usize::from(known.is_used);
        let subnets = known.priority.subnets;
        let (slot, conflicts) = self.table.add(known);
        self.announced.add(slot, &self.table, &self.config.ranges);
        self.leases.insert(subnets, slot);
        conflicts
    }

    fn disclaim(&mut self, slot: Slot, touched: &mut Touched) -> Option<Known> {
        let keys = self.table.get(slot)?.keys();
        keys.for_each(|key| self.touch(key, touched));
        self.announced
            .remove(slot, &self.table, &self.config.ranges);
        let known = self.table.remove(slot)?;
        self.peer_count -= usize::from(known.is_used);
        Some(known)
    }

    fn known(&self) -> impl Iterator<Item = &Known> + Clone {
        let slots = self.leases.values();
        slots.filter_map(|slot| self.table.get(*slot))
    }

    fn known_as(&self, subnets: &Subnets) -> Option<&Known> {
        self.table.get(*self.leases.get(subnets)?)
    }

    fn touch(&self, key: EntryKey, touched: &mut Touched) {
        if let Some(touched) = touched {
            touched
                .entry(key)
                .or_insert_with(|| self.table.holder(key).map(|(_, entry)| entry));
        }
    }
}

/// Whether a lease of this rank is at odds with whom it met.
fn conflict_event(
    priority: Priority,
    Conflict {
        holder,
        held,
        wanted,
    }: Conflict,
) -> Option<PeerEvent> {
    if held.fulfilled_by(&wanted) || !holder.is_certain {
        return None;
    }
    let (winner, loser, entry) = if priority > holder {
        (priority, holder, wanted)
    } else {
        (holder, priority, held)
    };
    Some(PeerEvent::Conflict {
        winner: winner.subnets,
        loser: loser.subnets,
        entry,
    })
}

mod announced;
mod entry_table;
mod overlaps;
mod peer_event;
mod protected_addrs;
mod view;

pub use peer_event::{Announcer, PeerEvent};
pub use view::LostEntry;

#[cfg(test)]
mod tests;
