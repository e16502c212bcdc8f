//! From lease events to what the kernel shall hold: pure.
//!
//! [`Desired`] is the wish. It changes by lease events only, and depends on nothing but the set of leases that results from
//! them, never on the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::backend::{Backend, BadPeer};
use crate::family::Family;
use crate::kernel::Item;
use crate::kernel::state::Slot;
use crate::subnet::{Identity, Lease, LeaseAttrs, LeaseEvent, NetworkConfig, Range, Revision, Subnets};

/// What the kernel shall hold.
pub struct Desired {
    config: NetworkConfig,
    own: Lease,
    local: Vec<Item>,
    peers: BTreeMap<Subnets, Peer>,
    /// Leases of which some or all cannot be used.
    refused: BTreeMap<Subnets, BadPeer>,
    /// Every peer's claim on every slot it needs. Of several on one slot the last, the newest, wins; the others wait.
    claims: BTreeSet<(Slot, Rank)>,
    /// While a list is read: what was known before and has not been seen in it.
    unseen: Option<BTreeSet<Subnets>>,
    complete: bool,
}

/// An accepted lease.
struct Peer {
    rank: Rank,
    items: Box<[Item]>,
    /// Where it sends from.
    sources: [Option<IpAddr>; 2],
    /// The lease's value, for those who ask.
    value: Box<str>,
}

impl Peer {
    fn lease(&self) -> Option<Lease> {
        let Rank { created, subnets } = self.rank;
        let attrs = LeaseAttrs::decode(self.value.as_bytes()).ok()?;
        Some(Lease { subnets, attrs, created, modified: created, grant: None })
    }

    fn item(&self, slot: Slot) -> Option<Item> {
        self.items.iter().find(|item| item.slot() == slot).copied()
    }
}

/// What a lease means for this host.
#[derive(Default)]
struct Reading {
    items: Vec<Item>,
    /// The families in which it can be used.
    families: Vec<Family>,
    /// Why some or all of it cannot.
    bad: Option<BadPeer>,
}

/// Who wins a contested slot: the lease that was created last. A host that comes back under another subnet while its old
/// lease still lives is reached in the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    created: Revision,
    subnets: Subnets,
}

/// What a batch of events changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What the touched slots held before, sorted.
    pub before: Vec<Item>,
    /// What they shall hold now, sorted.
    pub after: Vec<Item>,
    /// What an operator would want to read.
    pub news: Vec<News>,
    /// This host's own key was written or deleted, by whomever.
    pub own_key: bool,
    /// A complete list has been seen with this batch: what is in the kernel and not desired may go.
    pub listed: bool,
}

/// A change in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A peer is there.
    Joined(Subnets, Option<IpAddr>),
    /// A peer publishes something else than before.
    Changed(Subnets, Option<IpAddr>),
    /// A peer is gone.
    Left(Subnets),
    /// A lease cannot be used.
    Refused(Subnets, BadPeer),
    /// A lease can be used in this family only.
    Limited(Subnets, Family, BadPeer),
    /// Two leases want different things in one place (as the same MAC at two addresses).
    Contested {
        /// The one that has it.
        winner: Subnets,
        /// The one that waits.
        loser: Subnets,
        /// What the winner put there.
        item: Item,
    },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |ip: &Option<IpAddr>| ip.map(|ip| format!(" at {ip}")).unwrap_or_default();
        match self {
            News::Joined(subnets, ip) => write!(f, "peer {subnets} joined{}", at(ip)),
            News::Changed(subnets, ip) => write!(f, "peer {subnets} changed, now{}", at(ip)),
            News::Left(subnets) => write!(f, "peer {subnets} left"),
            News::Refused(subnets, why) => write!(f, "lease {subnets} is not used: {why}"),
            News::Limited(subnets, family, why) => {
                write!(f, "lease {subnets} is used for {family} only: {why}")
            }
            News::Contested { winner, loser, item } => write!(
                f,
                "leases {winner} and {loser} contradict each other; {winner} is newer and gets {item}. If one is stale, delete its key; else two hosts share an identity"
            ),
        }
    }
}

/// What the slots that a batch touches held before it; nothing where nobody asks.
type Touched = Option<BTreeMap<Slot, Option<Item>>>;

impl Desired {
    /// Nothing but what the own lease needs.
    pub fn new(config: NetworkConfig, own: Lease, backend: &dyn Backend) -> Self {
        let local = backend.local(&own.subnets);
        Self {
            config,
            own,
            local,
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
            claims: BTreeSet::new(),
            unseen: None,
            complete: false,
        }
    }

    /// Everything, sorted, one item a slot.
    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::with_capacity(self.claims.len() + self.local.len());
        for item in self.claims.iter().filter_map(|(slot, rank)| self.claimed(*slot, *rank)) {
            match items.last_mut() {
                Some(last) if last.slot() == item.slot() => *last = item,
                _ => items.push(item),
            }
        }
        items.extend(&self.local);
        items.sort_unstable();
        items
    }

    fn claimed(&self, slot: Slot, rank: Rank) -> Option<Item> {
        self.peers.get(&rank.subnets)?.item(slot)
    }

    /// The public addresses of the peers, which they send from: also of those that this host reaches without a tunnel.
    pub fn sources(&self) -> BTreeSet<IpAddr> {
        self.peers.values().flat_map(|peer| peer.sources).flatten().collect()
    }

    /// Whether a complete list of leases has been seen. Before that nothing may be deleted.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The lease of this host, as it was acquired.
    pub fn own(&self) -> &Lease {
        &self.own
    }

    /// What shall be in `slot`.
    pub fn item(&self, slot: Slot) -> Option<Item> {
        let local = self.local.iter().find(|item| item.slot() == slot).copied();
        local.or_else(|| self.winner(slot).map(|(_, item)| item))
    }

    /// Every peer: subnets, revision of creation, value.
    pub fn peers(&self) -> impl Iterator<Item = (&Subnets, Revision, &str)> {
        self.peers.iter().map(|(subnets, peer)| (subnets, peer.rank.created, &*peer.value))
    }

    /// The own lease is another one now. What is in the old subnet is known after the next list.
    pub fn relocate(&mut self, own: Lease, backend: &dyn Backend) {
        self.local = backend.local(&own.subnets);
        self.remove(own.subnets, &mut Change::default(), &mut None);
        self.own = own;
    }

    /// The backend sees this host otherwise than before: every peer is read again.
    pub fn reconsider(&mut self, backend: &dyn Backend) {
        let leases: Vec<Lease> = self.peers.values().filter_map(Peer::lease).collect();
        self.local = backend.local(&self.own.subnets);
        for lease in leases {
            self.put(&lease, backend, &mut Change::default(), &mut None);
        }
    }

    /// Takes a batch of events as one change. With the first complete list that is everything, and not named.
    pub fn apply(&mut self, events: Vec<LeaseEvent>, backend: &dyn Backend) -> Change {
        let is_first = !self.complete && events.contains(&LeaseEvent::Listed);
        let (mut change, mut touched) = (Change::default(), (!is_first).then(BTreeMap::new));
        for event in events {
            match event {
                LeaseEvent::Listing => {
                    self.unseen = Some(self.peers.keys().chain(self.refused.keys()).copied().collect());
                    // The list may be of a restored backup that does not know the own key: nobody will say that it is gone.
                    change.own_key = true;
                }
                LeaseEvent::Listed => {
                    for gone in self.unseen.take().unwrap_or_default() {
                        self.remove(gone, &mut change, &mut touched);
                    }
                    (self.complete, change.listed) = (true, true);
                }
                LeaseEvent::Put(lease) if lease.subnets == self.own.subnets => change.own_key = true,
                LeaseEvent::Delete(subnets) if subnets == self.own.subnets => change.own_key = true,
                LeaseEvent::Put(lease) => self.put(&lease, backend, &mut change, &mut touched),
                LeaseEvent::Delete(subnets) => self.remove(subnets, &mut change, &mut touched),
            }
        }
        let touched = touched.unwrap_or_default();
        change.after = touched.keys().filter_map(|slot| self.winner(*slot)).map(|(_, item)| item).collect();
        change.before = touched.into_values().flatten().collect();
        change
    }

    fn put(&mut self, lease: &Lease, backend: &dyn Backend, change: &mut Change, touched: &mut Touched) {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&lease.subnets);
        }
        let rank = Rank { created: lease.created, subnets: lease.subnets };
        let Reading { items, families, bad } = self.read(lease, backend);
        match families.first() {
            Some(_) => {
                let LeaseAttrs { public_ip, public_ipv6, .. } = lease.attrs;
                let sources = [public_ip.map(IpAddr::V4), public_ipv6.map(IpAddr::V6)];
                let peer = Peer { rank, items: items.into(), sources, value: lease.attrs.encode().into() };
                let at = Identity::of(&lease.attrs).map(|host| host.ip());
                self.install(peer, at, change, touched);
            }
            None => self.leave(lease.subnets, change, touched),
        }
        let Some(bad) = bad else { return drop(self.refused.remove(&lease.subnets)) };
        if self.refused.insert(lease.subnets, bad.clone()).as_ref() != Some(&bad) {
            change.news.push(match families.first() {
                Some(family) => News::Limited(lease.subnets, *family, bad),
                None => News::Refused(lease.subnets, bad),
            });
        }
    }

    /// One family's part of a lease may be of use where the other one is not. What this overlay does not have is not asked
    /// for: while IPv6 is switched on in a cluster, host by host, both kinds of leases live in it.
    fn read(&self, lease: &Lease, backend: &dyn Backend) -> Reading {
        let (mut reading, mut reasons) = (Reading::default(), Vec::new());
        let ranges = self.config.ranges.iter();
        for (range, subnet) in ranges.filter_map(|range| Some((range, lease.subnets.of(range.family())?))) {
            let family = range.family();
            match self.accept(range, subnet, &lease.attrs).and_then(|()| backend.peer(lease, family)) {
                Ok(mut items) => {
                    reading.items.append(&mut items);
                    reading.families.push(family);
                }
                Err(why) => reasons.push((family, why)),
            }
        }
        if reasons.is_empty() && reading.families.is_empty() {
            let families = self.config.ranges.iter().map(|range| range.family().to_string());
            let families = families.collect::<Vec<_>>().join(" or ");
            reading.bad = Some(BadPeer(format!("not an {families} lease")));
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
        let named = reasons.iter().map(|(family, why)| format!("{family}: {why}"));
        Some(BadPeer(named.collect::<Vec<_>>().join("; ")))
    }

    /// A subnet of this network that is not ours, at an address where a host can be.
    fn accept(&self, range: &Range, subnet: IpNetwork, attrs: &LeaseAttrs) -> Result<(), BadPeer> {
        let Range { network, subnet_len, .. } = *range;
        let no = |why: String| Err(BadPeer(why));
        if !range.contains(subnet) {
            return no(format!("not a /{subnet_len} of {network}"));
        }
        if self.own.subnets.of(range.family()) == Some(subnet) {
            return no(format!("subnet {subnet} is this host's own"));
        }
        let Some(ip) = attrs.public(range.family()) else {
            return no("no public address".into());
        };
        if self.own.attrs.public(range.family()) == Some(ip) {
            return no(format!("public address {ip} is this host's own"));
        }
        if !can_be_a_host(ip) {
            return no(format!("public address {ip} cannot be a host's"));
        }
        if network.contains(ip) {
            return no(format!("public address {ip} lies inside the overlay network {network}"));
        }
        Ok(())
    }

    fn install(&mut self, peer: Peer, at: Option<IpAddr>, change: &mut Change, touched: &mut Touched) {
        let (rank, subnets) = (peer.rank, peer.rank.subnets);
        let same = |old: &&mut Peer| old.rank == rank && old.items == peer.items;
        if let Some(old) = self.peers.get_mut(&subnets).filter(same) {
            return *old = peer;
        }
        let known = self.withdraw(subnets, touched);
        for item in &peer.items {
            self.touch(item.slot(), touched);
            change.news.extend(self.contest(rank, item));
            self.claims.insert((item.slot(), rank));
        }
        change.news.push(known.map_or(News::Joined(subnets, at), |_| News::Changed(subnets, at)));
        self.peers.insert(subnets, peer);
    }

    fn remove(&mut self, subnets: Subnets, change: &mut Change, touched: &mut Touched) {
        self.refused.remove(&subnets);
        self.leave(subnets, change, touched);
    }

    fn leave(&mut self, subnets: Subnets, change: &mut Change, touched: &mut Touched) {
        change.news.extend(self.withdraw(subnets, touched).map(|_| News::Left(subnets)));
    }

    fn withdraw(&mut self, subnets: Subnets, touched: &mut Touched) -> Option<Peer> {
        // While the peer is there: its items are what its slots hold.
        self.peers.get(&subnets)?.items.iter().for_each(|item| self.touch(item.slot(), touched));
        let peer = self.peers.remove(&subnets)?;
        for item in &peer.items {
            self.claims.remove(&(item.slot(), peer.rank));
        }
        Some(peer)
    }

    fn touch(&self, slot: Slot, touched: &mut Touched) {
        if let Some(touched) = touched {
            touched.entry(slot).or_insert_with(|| self.winner(slot).map(|(_, item)| item));
        }
    }

    fn winner(&self, slot: Slot) -> Option<(Rank, Item)> {
        let rank = |created| Rank { created, subnets: Subnets::default() };
        let mut claims = self.claims.range((slot, rank(Revision::MIN))..(slot, rank(Revision::MAX)));
        let (_, rank) = claims.next_back()?;
        Some((*rank, self.claimed(slot, *rank)?))
    }

    /// Whether `item`, which is about to be claimed, is at odds with the claim that wins now.
    fn contest(&self, rank: Rank, item: &Item) -> Option<News> {
        let (holder, held) = self.winner(item.slot())?;
        if held.fulfilled_by(item) {
            return None;
        }
        let (winner, loser, item) = if rank > holder { (rank, holder, *item) } else { (holder, rank, held) };
        Some(News::Contested { winner: winner.subnets, loser: loser.subnets, item })
    }
}

/// Unicast, and not this host or "this network". Of IPv6 nothing that stands for IPv4 or is valid on one link only: the
/// kernel does not know on which.
fn can_be_a_host(ip: IpAddr) -> bool {
    let this_network = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 8);
    let is_useless = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || this_network.is_ok_and(|net| net.contains(ip)),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local() || ip.to_ipv4().is_some(),
    };
    !(is_useless || ip.is_loopback() || ip.is_multicast())
}

mod view;

pub use view::Contest;

#[cfg(test)]
mod tests;
