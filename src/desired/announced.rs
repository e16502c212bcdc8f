//! Which leases announce which public address: pure.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::entry_table::{EntryTable, Known, Slot};
use super::{DesiredState, PeerEvent};
use crate::backend;
use crate::kernel::Mac;
use crate::subnet::{LeaseAttrs, Range, Subnets};
use crate::util::family::{Family, PerFamily};

/// The leases of other hosts by public address, and the addresses that several hosts announce.
#[derive(Default)]
pub(super) struct Announced {
    /// By address. Most are alone at theirs.
    v4: HashTable<Slot>,
    v6: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    /// How many of them are at addresses inside the overlay network.
    inside: usize,
    duplicates: BTreeSet<IpAddr>,
    /// Addresses whose leases have changed.
    changed: BTreeSet<IpAddr>,
}

fn public(slot: Slot, family: Family, table: &EntryTable) -> Option<IpAddr> {
    table.get(slot)?.attrs.public(family)
}

impl Announced {
    /// Makes room for as many more.
    pub(super) fn expect(&mut self, leases: usize, table: &EntryTable) {
        let hasher = &self.hasher;
        let hash = |slot: &Slot| hasher.hash_one(public(*slot, Family::V4, table));
        self.v4.reserve(leases, hash);
    }

    /// Notes a lease of the table.
    pub(super) fn add(&mut self, slot: Slot, table: &EntryTable, overlay: &PerFamily<Range>) {
        for family in Family::ALL {
            let Some(ip) = public(slot, family, table) else {
                continue;
            };
            if self.at(ip, table).next().is_some() {
                self.changed.insert(ip);
            }
            self.inside += usize::from(is_inside(ip, overlay));
            let hasher = &self.hasher;
            let hash = |slot: &Slot| hasher.hash_one(public(*slot, family, table));
            let leases = match family {
                Family::V4 => &mut self.v4,
                Family::V6 => &mut self.v6,
            };
            leases.insert_unique(hash(&slot), slot, hash);
        }
    }

    /// Forgets a lease that is in the table still.
    pub(super) fn remove(&mut self, slot: Slot, table: &EntryTable, overlay: &PerFamily<Range>) {
        for family in Family::ALL {
            let Some(ip) = public(slot, family, table) else {
                continue;
            };
            let hash = self.hasher.hash_one(Some(ip));
            let leases = match family {
                Family::V4 => &mut self.v4,
                Family::V6 => &mut self.v6,
            };
            if let Ok(found) = leases.find_entry(hash, |other| *other == slot) {
                found.remove();
                self.inside -= usize::from(is_inside(ip, overlay));
            }
        }
    }

    /// The leases that announce `ip`, in no order.
    pub(super) fn at<'a>(
        &'a self,
        ip: IpAddr,
        table: &'a EntryTable,
    ) -> impl Iterator<Item = &'a Known> {
        let family = Family::of(ip);
        let leases = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let same_hash = leases.iter_hash(self.hasher.hash_one(Some(ip)));
        let known = same_hash.filter_map(|slot| table.get(*slot));
        known.filter(move |known| known.attrs.public(family) == Some(ip))
    }

    /// Whether a lease announces an address inside the overlay network.
    pub(super) fn is_any_inside(&self) -> bool {
        self.inside > 0
    }
}

fn is_inside(ip: IpAddr, overlay: &PerFamily<Range>) -> bool {
    let range = overlay.get(Family::of(ip));
    range.is_some_and(|range| range.network.contains(ip))
}

impl DesiredState {
    /// Public addresses that several hosts announce, with their leases: of two hosts at one address one is not reached.
    pub fn duplicates(&self) -> impl Iterator<Item = (IpAddr, Vec<Subnets>)> {
        self.announced.duplicates.iter().map(|ip| {
            let leases = self.announcers(*ip).into_iter();
            (*ip, leases.map(|(lease, _)| lease).collect())
        })
    }

    /// How many addresses several hosts announce.
    pub fn duplicate_count(&self) -> usize {
        self.announced.duplicates.len()
    }

    /// Finds addresses that have become duplicates, or no longer are.
    pub(super) fn resolve_duplicates(&mut self) -> Vec<PeerEvent> {
        let mut changed = std::mem::take(&mut self.announced.changed);
        let own = Family::ALL
            .into_iter()
            .filter_map(|family| self.protected.public.get(family));
        // This host's own address may be another one than before, and leases there are few.
        changed.extend(own);
        changed.extend(&self.announced.duplicates);
        let mut news = Vec::new();
        for ip in changed {
            let leases = self.announcers(ip);
            let macs: BTreeSet<_> = leases.iter().map(|(_, mac)| *mac).collect();
            match leases.len() > 1 && macs.len() > 1 {
                false => drop(self.announced.duplicates.remove(&ip)),
                true if self.announced.duplicates.insert(ip) => {
                    news.push(PeerEvent::Duplicate(
                        ip,
                        leases.into_iter().map(|(lease, _)| lease.into()).collect(),
                    ));
                }
                true => {}
            }
        }
        news
    }

    /// The leases that announce `ip`, the own one first, each with its host's MAC: leases of one MAC are one host's.
    fn announcers(&self, ip: IpAddr) -> Vec<(Subnets, Option<Mac>)> {
        let family = Family::of(ip);
        let mac = move |attrs: &LeaseAttrs| backend::published_mac(attrs, family);
        let own = (self.protected.public.get(family) == Some(ip))
            .then(|| (self.own.subnets, mac(&self.own.attrs)));
        let others = self.announced.at(ip, &self.table);
        let others = others.map(|known| (known.priority.subnets, mac(&known.attrs)));
        let mut others: Vec<_> = others.collect();
        others.sort();
        own.into_iter().chain(others).collect()
    }
}
