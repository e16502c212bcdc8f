//! Turns lease events into the desired state of the kernel: pure.
//!
//! [`DesiredState`] is the desired state. It changes by lease events only, and depends on nothing but the set of leases that results from
//! them, never on the order in which they came.

use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use self::announced::Announced;
use self::entry_table::{Conflict, EntryTable, PeerEntries, Priority};
use self::overlaps::Overlaps;
use self::protected_addrs::ProtectedAddrs;
use crate::backend::{Backend, BadPeer};
use crate::kernel::Entry;
use crate::kernel::entry::EntryKey;
use crate::subnet::{
    Lease, LeaseAttrs, LeaseEvent, NetworkConfig, PublicAddrs, Range, Revision, Subnets,
};
use crate::util::family::Family;

/// The desired state of the kernel.
pub struct DesiredState {
    config: NetworkConfig,
    own: Lease,
    local: Vec<Entry>,
    peers: BTreeMap<Subnets, Peer>,
    /// Leases of which some or all cannot be used.
    refused: BTreeMap<Subnets, Refused>,
    protected: ProtectedAddrs,
    announced: Announced,
    overlaps: Overlaps,
    /// Every peer's claim on every entry key it needs.
    table: EntryTable,
    /// While a list is read: what was known before and has not been seen in it.
    unseen: Option<BTreeSet<Subnets>>,
    complete: bool,
}

/// Most entries of a peer in one family: neighbor, FDB entry, route.
const ENTRIES: usize = 3;

/// An accepted lease.
struct Peer {
    peer_entries: Arc<PeerEntries>,
    attrs: Box<LeaseAttrs>,
}

impl Peer {
    fn entries(&self) -> &[Entry] {
        &self.peer_entries.entries
    }

    fn lease(&self) -> Lease {
        let Priority {
            subnets, created, ..
        } = self.peer_entries.priority;
        Lease {
            subnets,
            attrs: LeaseAttrs::clone(&self.attrs),
            created,
            modified: created,
            lease_id: None,
        }
    }

    /// Where it sends from.
    fn sources(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.attrs.publics()
    }
}

/// A lease that cannot be used, or not in both families. That may change with this host's addresses and with other leases.
struct Refused {
    why: BadPeer,
    lease: Lease,
    /// Its key is there.
    is_certain: bool,
}

/// What a lease means for this host.
#[derive(Default)]
struct Reading {
    entries: Vec<Entry>,
    /// The families in which it can be used.
    families: Vec<Family>,
    /// Those in which it could be if there were no other leases.
    claimed: Vec<Family>,
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
    pub news: Vec<PeerEvent>,
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
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
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
        // Each peer's first, each peer's second and so on: long runs that are in order already.
        let mut entries: Vec<Entry> =
            Vec::with_capacity(self.local.len() + ENTRIES * self.peers.len());
        for n in 0..2 * ENTRIES {
            entries.extend(self.peers.values().filter_map(|peer| peer.entries().get(n)));
        }
        entries.extend(&self.local);
        entries.sort();
        entries.dedup_by(|other, entry| {
            let is_contested = other.key() == entry.key();
            if let Some((_, winner)) = is_contested
                .then(|| self.table.holder(entry.key()))
                .flatten()
            {
                *entry = winner;
            }
            is_contested
        });
        entries
    }

    /// The public addresses of the peers, which they send from: also of those that this host reaches without a tunnel.
    pub fn sources(&self) -> BTreeSet<IpAddr> {
        self.peers.values().flat_map(Peer::sources).collect()
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
        self.peers
            .iter()
            .map(|(subnets, peer)| (subnets, peer.peer_entries.priority.created, &*peer.attrs))
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
            self.table
                .expect(events.len() * self.config.ranges.iter().count() * ENTRIES);
        }
        let (mut change, mut touched) = (Change::default(), (!is_first).then(BTreeMap::new));
        for event in events {
            match event {
                LeaseEvent::ListStart => {
                    self.unseen = Some(
                        self.peers
                            .keys()
                            .chain(self.refused.keys())
                            .copied()
                            .collect(),
                    );
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
        change.news.extend(self.resolve_duplicates());
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
        self.withdraw_announcement(lease.subnets);
        self.announced.add(lease.subnets, &lease.attrs);
        let Reading {
            entries,
            families,
            claimed,
            bad,
        } = self.read(&lease, backend);
        for range in self.config.ranges.iter() {
            let family = range.family();
            let claim = claimed.contains(&family).then_some(&lease);
            let claim = claim.and_then(|lease| {
                protected_addrs::claim(family, lease.subnets, &lease.attrs, lease.created)
            });
            self.overlaps.set(range, lease.subnets, claim);
        }
        let refused = bad.is_some().then(|| lease.clone());
        let Lease {
            subnets,
            attrs,
            created,
            ..
        } = lease;
        match families.first() {
            Some(_) => {
                let priority = Priority {
                    is_certain: true,
                    created,
                    subnets,
                };
                let peer_entries = Arc::new(PeerEntries {
                    priority,
                    entries: entries.into(),
                });
                self.install(
                    Peer {
                        peer_entries,
                        attrs: attrs.into(),
                    },
                    change,
                    touched,
                );
            }
            None => self.leave(subnets, change, touched),
        }
        let (Some(why), Some(lease)) = (bad, refused) else {
            return drop(self.refused.remove(&subnets));
        };
        let before = self.refused.insert(
            subnets,
            Refused {
                why: why.clone(),
                lease,
                is_certain: true,
            },
        );
        if before.is_none_or(|before| before.why != why) {
            change.news.push(match families.first() {
                Some(family) => PeerEvent::Limited(subnets, *family, why),
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
            reading.claimed.extend(usable.is_ok().then_some(family));
            match usable.and_then(|entries| obstacle.map_or(Ok(entries), Err)) {
                Ok(mut entries) => {
                    reading.entries.append(&mut entries);
                    reading.families.push(family);
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

    fn install(&mut self, peer: Peer, change: &mut Change, touched: &mut Touched) {
        let (peer_entries, at) = (
            peer.peer_entries.clone(),
            PublicAddrs::of(&peer.attrs).map(|host| host.ip()),
        );
        let subnets = peer_entries.priority.subnets;
        let known = match self.peers.entry(subnets) {
            btree_map::Entry::Vacant(free) => {
                free.insert(peer);
                None
            }
            btree_map::Entry::Occupied(mut old) if old.get().peer_entries == peer_entries => {
                return old.get_mut().attrs = peer.attrs;
            }
            btree_map::Entry::Occupied(mut old) => Some(old.insert(peer)),
        };
        known
            .iter()
            .for_each(|old| self.disclaim(&old.peer_entries, touched));
        change.news.extend(match known {
            None => Some(PeerEvent::Joined(subnets, at)),
            Some(old) if old.entries() == &*peer_entries.entries => None,
            Some(_) => Some(PeerEvent::Changed(subnets, at)),
        });
        let conflicts = self.claim(&peer_entries, touched).into_iter();
        change.news.extend(
            conflicts.filter_map(|conflict| conflict_event(peer_entries.priority, conflict)),
        );
    }

    /// Its key is missing: it stays, and gives way to any lease that wants what it has.
    fn mark_missing(&mut self, subnets: Subnets, touched: &mut Touched) {
        self.refused
            .entry(subnets)
            .and_modify(|refused| refused.is_certain = false);
        if let Some(Peer {
            peer_entries,
            attrs,
        }) = self.withdraw(subnets, touched)
        {
            let PeerEntries { priority, entries } = Arc::unwrap_or_clone(peer_entries);
            let peer_entries = Arc::new(PeerEntries {
                priority: Priority {
                    is_certain: false,
                    ..priority
                },
                entries,
            });
            self.claim(&peer_entries, touched);
            self.peers.insert(
                subnets,
                Peer {
                    peer_entries,
                    attrs,
                },
            );
        }
    }

    fn withdraw_announcement(&mut self, subnets: Subnets) {
        if let Some(attrs) = self.attrs_of(&subnets).cloned() {
            self.announced.remove(subnets, &attrs);
        }
    }

    fn remove(&mut self, subnets: Subnets, change: &mut Change, touched: &mut Touched) {
        self.withdraw_announcement(subnets);
        self.config
            .ranges
            .iter()
            .for_each(|range| self.overlaps.remove(range, subnets));
        self.refused.remove(&subnets);
        self.leave(subnets, change, touched);
    }

    fn leave(&mut self, subnets: Subnets, change: &mut Change, touched: &mut Touched) {
        change.news.extend(
            self.withdraw(subnets, touched)
                .map(|_| PeerEvent::Left(subnets)),
        );
    }

    fn withdraw(&mut self, subnets: Subnets, touched: &mut Touched) -> Option<Peer> {
        let peer = self.peers.remove(&subnets)?;
        self.disclaim(&peer.peer_entries, touched);
        Some(peer)
    }

    /// Whom it met.
    fn claim(&mut self, peer_entries: &Arc<PeerEntries>, touched: &mut Touched) -> Vec<Conflict> {
        peer_entries
            .entries
            .iter()
            .for_each(|entry| self.touch(entry.key(), touched));
        self.table.add(peer_entries)
    }

    fn disclaim(&mut self, peer_entries: &Arc<PeerEntries>, touched: &mut Touched) {
        peer_entries
            .entries
            .iter()
            .for_each(|entry| self.touch(entry.key(), touched));
        self.table.remove(peer_entries);
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
