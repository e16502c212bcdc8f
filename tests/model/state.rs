//! The store's contents, its rules, and what is checked at every write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use flanneld::subnet::etcd::store::{Before, Commit};
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{
    Lease, LeaseAttrs, LeaseEvent, LeaseId, LeaseStatus, NetworkConfig, Revision, Subnets,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a lease lives: Go's day, shortened.
pub(crate) const TTL: Duration = Duration::from_secs(240);

/// Everything that the daemons share.
pub(crate) struct World {
    state: Mutex<State>,
    /// The newest revision.
    pub(crate) changed: watch::Sender<Revision>,
}

pub(crate) struct State {
    pub(crate) rng: StdRng,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) config: (NetworkConfig, Revision),
    pub(crate) leases: BTreeMap<Subnets, Lease>,
    pub(crate) owners: BTreeMap<Subnets, (MachineId, Revision, Option<LeaseId>)>,
    pub(crate) lease_ids: BTreeMap<LeaseId, Instant>,
    pub(crate) log: Vec<(Revision, LeaseEvent)>,
    /// Who had which subnet from when on; no one after a deletion.
    pub(crate) history: Vec<(Instant, Subnets, Option<IpAddr>)>,
    pub(crate) hosts: Vec<Host>,
    /// Whether requests and answers get lost.
    pub(crate) faulty: bool,
    /// Whether etcd makes leases and is too slow to say so.
    pub(crate) slow_lease_ids: bool,
    /// Every etcd lease that was asked for.
    pub(crate) asked: BTreeSet<LeaseId>,
    pub(crate) broken: Vec<String>,
}

/// A host, as an all-knowing observer sees it.
pub(crate) struct Host {
    pub(crate) ip: IpAddr,
    pub(crate) machine: MachineId,
    pub(crate) cut_until: Instant,
    pub(crate) paused_until: Instant,
    /// What the running daemon believes.
    pub(crate) belief: Option<(Subnets, LeaseStatus)>,
    /// The subnet of the last lease, and whether the next life remembers it.
    pub(crate) last: Option<Subnets>,
    pub(crate) remembers: bool,
    /// When the first life began that has sought a lease since the last one was found: a life may die while it seeks.
    pub(crate) seeking_since: Option<Instant>,
    /// For how long it has believed what is not so, though it could know.
    pub(crate) wrong_for: Duration,
}

/// A transaction in flight.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) host: usize,
    pub(crate) subnets: Subnets,
    pub(crate) attrs: LeaseAttrs,
    pub(crate) lease_id: Option<LeaseId>,
    pub(crate) before: Before,
    pub(crate) owner: Option<MachineId>,
    pub(crate) config: Option<Revision>,
    pub(crate) replaces: Vec<Lease>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (now, count) = (Instant::now(), rng.random_range(2..6u8));
        let duplicates = seed % 4 == 3 || seed % 8 == 6;
        let shape = match seed % 8 {
            2 | 6 => Shape::Wide,
            5 | 7 => Shape::Six,
            _ => Shape::Narrow,
        };
        let host = |index: u8| Host {
            ip: shape.host(if duplicates && index == 1 {
                1
            } else {
                index + 1
            }),
            machine: MachineId::new(
                &format!("machine {index}"),
                "boot 0",
                &format!("host{index}"),
            ),
            cut_until: now,
            paused_until: now,
            belief: None,
            last: None,
            remembers: false,
            seeking_since: None,
            wrong_for: Duration::ZERO,
        };
        let hosts: Vec<Host> = (0..count).map(host).collect();
        let config = (config(shape, count, 24), 1);
        let state = State {
            rng,
            revision: 1,
            compacted: 0,
            config,
            leases: BTreeMap::new(),
            owners: BTreeMap::new(),
            lease_ids: BTreeMap::new(),
            log: Vec::new(),
            history: Vec::new(),
            hosts,
            faulty: true,
            slow_lease_ids: false,
            asked: BTreeSet::new(),
            broken: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            changed: watch::channel(1).0,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does something to the store, at this moment.
    pub(crate) fn act<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        state.expire();
        let result = act(&mut state);
        let revision = state.revision;
        drop(state);
        self.changed
            .send_if_modified(|known| std::mem::replace(known, revision) != revision);
        result
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        let state = self.state();
        if state.broken.is_empty() {
            Ok(())
        } else {
            Err(state.broken.join("\n    "))
        }
    }
}

/// What the network is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nearly full.
    Narrow,
    /// Its subnets may change their length.
    Wide,
    /// As narrow, with IPv6 alone.
    Six,
}

impl Shape {
    fn host(self, number: u8) -> IpAddr {
        match self {
            Shape::Narrow | Shape::Wide => Ipv4Addr::new(192, 0, 2, number).into(),
            Shape::Six => Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

/// The network's configuration for so many hosts, with subnets of this length where that may change.
pub(crate) fn config(shape: Shape, hosts: u8, len: u8) -> NetworkConfig {
    let last = hosts + 1;
    let text = match shape {
        Shape::Wide => format!(r#"{{"Network":"10.5.0.0/20","SubnetLen":{len}}}"#),
        Shape::Narrow => format!(
            r#"{{"Network":"10.5.0.0/20","SubnetLen":24,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.{last}.0"}}"#
        ),
        Shape::Six => format!(
            r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48","IPv6SubnetMin":"fd05:0:0:1::","IPv6SubnetMax":"fd05:0:0:{last:x}::"}}"#
        ),
    };
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

/// What a host at `ip` publishes.
pub(crate) fn published(ip: IpAddr) -> LeaseAttrs {
    let (public_ip, public_ipv6) = match ip {
        IpAddr::V4(ip) => (Some(ip), None),
        IpAddr::V6(ip) => (None, Some(ip)),
    };
    LeaseAttrs {
        public_ip,
        public_ipv6,
        ..LeaseAttrs::default()
    }
}

impl State {
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        let dead: Vec<LeaseId> = self
            .lease_ids
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(id, _)| *id)
            .collect();
        dead.into_iter().for_each(|lease_id| self.revoke(lease_id));
    }

    pub(crate) fn revoke(&mut self, lease_id: LeaseId) {
        self.lease_ids.remove(&lease_id);
        let on = |lease: &&Lease| lease.lease_id == Some(lease_id);
        let gone: Vec<Subnets> = self
            .leases
            .values()
            .filter(on)
            .map(|lease| lease.subnets)
            .collect();
        self.revision += i64::from(!gone.is_empty());
        gone.into_iter().for_each(|subnets| self.delete(subnets));
        self.owners.retain(|_, (_, _, on)| *on != Some(lease_id));
    }

    /// In the current revision.
    fn delete(&mut self, subnets: Subnets) {
        self.leases.remove(&subnets);
        self.log.push((self.revision, LeaseEvent::Delete(subnets)));
        self.history.push((Instant::now(), subnets, None));
    }

    /// As an operator would.
    pub(crate) fn remove(&mut self, subnets: Subnets) {
        self.revision += 1;
        self.delete(subnets);
    }

    /// A transaction, by etcd's rules. `None`: an error.
    pub(crate) fn put(&mut self, put: &Put) -> Option<Commit> {
        if put
            .lease_id
            .is_some_and(|lease_id| !self.lease_ids.contains_key(&lease_id))
        {
            return None;
        }
        let modified = |subnets| {
            self.leases
                .get(subnets)
                .map_or(0, |lease: &Lease| lease.modified)
        };
        let expected = match put.before {
            Before::Absent => 0,
            Before::At(revision) => revision,
        };
        let holds = modified(&put.subnets) == expected
            && put.config.is_none_or(|at| at == self.config.1)
            && put
                .replaces
                .iter()
                .all(|old| modified(&old.subnets) == old.modified);
        if !holds {
            return Some(Commit::Lost);
        }
        self.check_put(put);
        self.revision += 1;
        self.store(put);
        Some(Commit::Done(self.revision))
    }

    fn store(&mut self, put: &Put) {
        let revision = self.revision;
        for old in &put.replaces {
            self.delete(old.subnets);
            self.owners.remove(&old.subnets);
        }
        let created = self
            .leases
            .get(&put.subnets)
            .map_or(revision, |lease| lease.created);
        let (subnets, lease_id, attrs) = (put.subnets, put.lease_id, put.attrs.clone());
        let lease = Lease {
            subnets,
            attrs,
            created,
            modified: revision,
            lease_id,
        };
        self.log.push((revision, LeaseEvent::Put(lease.clone())));
        self.history
            .push((Instant::now(), subnets, Some(lease.attrs.known_as())));
        self.leases.insert(subnets, lease);
        if let Some(owner) = &put.owner {
            self.owners
                .insert(subnets, (owner.clone(), revision, lease_id));
        }
    }
}
