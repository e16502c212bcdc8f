//! Which leases announce which public address: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{DesiredState, PeerEvent};
use crate::backend;
use crate::kernel::Mac;
use crate::subnet::{LeaseAttrs, Range, Subnets};
use crate::util::family::Family;

/// The leases of other hosts by public address, and the addresses that several hosts announce.
#[derive(Default)]
pub(super) struct Announced {
    leases: BTreeSet<(IpAddr, Subnets)>,
    duplicates: BTreeSet<IpAddr>,
    /// Addresses whose leases have changed.
    changed: BTreeSet<IpAddr>,
}

impl Announced {
    pub(super) fn add(&mut self, subnets: Subnets, attrs: &LeaseAttrs) {
        for ip in attrs.publics() {
            self.leases.insert((ip, subnets));
            // Most are alone at their address.
            if self.at(ip).nth(1).is_some() {
                self.changed.insert(ip);
            }
        }
    }

    pub(super) fn remove(&mut self, subnets: Subnets, attrs: &LeaseAttrs) {
        for ip in attrs.publics() {
            self.leases.remove(&(ip, subnets));
        }
    }

    /// The leases that announce `ip`.
    pub(super) fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Subnets> {
        self.leases
            .range((ip, Subnets::default())..)
            .take_while(move |(at, _)| *at == ip)
            .map(|(_, lease)| lease)
    }

    /// Whether a lease announces an address inside the network.
    pub(super) fn is_any_inside(&self, range: &Range) -> bool {
        let first = (range.network.network(), Subnets::default());
        self.leases
            .range(first..)
            .next()
            .is_some_and(|(ip, _)| range.network.contains(*ip))
    }
}

impl DesiredState {
    /// Public addresses that several hosts announce, with their leases: of two hosts at one address one is not reached.
    pub fn duplicates(&self) -> impl Iterator<Item = (IpAddr, Vec<Subnets>)> {
        self.announced
            .duplicates
            .iter()
            .map(|ip| (*ip, self.announcers(*ip).map(|(lease, _)| lease).collect()))
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
            let leases: Vec<_> = self.announcers(ip).collect();
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
    fn announcers(&self, ip: IpAddr) -> impl Iterator<Item = (Subnets, Option<Mac>)> {
        let family = Family::of(ip);
        let mac = move |attrs: &LeaseAttrs| backend::published_mac(attrs, family);
        let own = (self.protected.public.get(family) == Some(ip))
            .then(|| (self.own.subnets, mac(&self.own.attrs)));
        let others = self
            .announced
            .at(ip)
            .filter_map(move |subnets| Some((*subnets, mac(self.attrs_of(subnets)?))));
        own.into_iter().chain(others)
    }

    /// What a lease of another host announces, used or not.
    pub(super) fn attrs_of(&self, subnets: &Subnets) -> Option<&LeaseAttrs> {
        let refused = || {
            self.refused
                .get(subnets)
                .map(|refused| &refused.lease.attrs)
        };
        self.peers
            .get(subnets)
            .map(|peer| &*peer.attrs)
            .or_else(refused)
    }
}
