//! The promises.
//!
//! A daemon that is cut off longer than its lease lives cannot know what became of the lease. What can be promised:
//! no one ever writes over another host's key, or makes one that overlaps it; anyone who can reach the store learns of a loss
//! within a bound; and once the faults are over there is one owner for each subnet, and everybody knows.

use std::net::IpAddr;
use std::time::Duration;

use flanneld::subnet::{Lease, LeaseStatus, Subnets};
use tokio::time::Instant;

use crate::state::{Put, State};

/// A daemon that can reach the store learns within this: the longest pause between attempts, twice, and a challenge.
const BOUND: Duration = Duration::from_secs(240);
/// While every fourth request fails it takes longer.
const FAULTY_BOUND: Duration = Duration::from_secs(900);

fn overlap(one: Subnets, other: Subnets) -> bool {
    one.iter().any(|net| {
        other
            .iter()
            .any(|theirs| flanneld::util::family::overlap(net, theirs))
    })
}

impl State {
    fn violated(&mut self, what: String) {
        let now = Instant::now();
        self.broken
            .push(format!("{what} ({now:?}, revision {})", self.revision));
    }

    /// Before a transaction that will succeed.
    pub(crate) fn check_put(&mut self, put: &Put) {
        let Put { host, subnets, .. } = *put;
        let (ip, machine) = (self.hosts[host].ip, self.hosts[host].machine.clone());
        let is_strange = |lease: &Lease| lease.attrs.known_as() != ip;
        if put.attrs.known_as() != ip
            || put
                .owner
                .as_ref()
                .is_some_and(|owner| !owner.is_alike(&machine))
        {
            self.violated(format!("host {host} wrote another's value"));
        }
        if put.replaces.iter().any(is_strange) {
            self.violated(format!("host {host} deleted another's key"));
        }
        let is_taken = put.owner.is_some() && self.is_unasked(host, &subnets);
        if is_taken
            || put
                .replaces
                .iter()
                .any(|old| self.is_unasked(host, &old.subnets))
        {
            self.violated(format!(
                "host {host} took a key of another machine that it had not asked"
            ));
        }
        let overlaps = |lease: &&Lease| is_strange(lease) && overlap(lease.subnets, subnets);
        if let Some(other) = self.leases.values().find(overlaps).cloned() {
            self.violated(format!("host {host} wrote {subnets} over {other:?}"));
        }
    }

    /// Whether another machine has a key, and that was not written again since to see whether the machine answers.
    fn is_unasked(&self, host: usize, subnets: &Subnets) -> bool {
        let machine = &self.hosts[host].machine;
        let record = self
            .owners
            .get(subnets)
            .filter(|(owner, ..)| !owner.is_alike(machine));
        record
            .zip(self.leases.get(subnets))
            .is_some_and(|((_, at, _), lease)| *at == lease.modified)
    }

    /// Host `index` got `lease` by an attempt that began at `began`.
    pub(crate) fn check_move(&mut self, index: usize, lease: &Lease, began: Instant) {
        let host = &self.hosts[index];
        let Some(last) = host.last.filter(|last| *last != lease.subnets) else {
            return;
        };
        let ip = host.ip;
        // A host that takes over from its dead duplicate host moves.
        if self.hosts.iter().filter(|other| other.ip == ip).count() > 1 {
            return;
        }
        let was_forgotten = !host.remembers && self.was(last, began, |owner| owner.is_none());
        let mine = |lease: &&Lease| lease.attrs.known_as() == ip;
        let is_ambiguous = self.leases.values().filter(mine).count() > 1;
        let others: Vec<Subnets> = self
            .history
            .iter()
            .map(|(_, at, _)| *at)
            .filter(|at| overlap(*at, last))
            .collect();
        let was_taken = others
            .into_iter()
            .any(|at| self.was(at, began, |o| o.is_some_and(|o| o != ip)));
        let is_settled = self.config.0.fits(&last) && self.config.0.fits(&lease.subnets);
        if is_settled && !was_forgotten && !is_ambiguous && !was_taken {
            self.violated(format!(
                "host {index} moved from {last} to {} for nothing",
                lease.subnets
            ));
        }
    }

    /// Whether the owner of a subnet was one like `like` at any moment since `since`.
    fn was(&self, subnets: Subnets, since: Instant, like: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let mut current = None;
        for (at, _, owner) in self.history.iter().filter(|(_, key, _)| *key == subnets) {
            if *at > since && like(current) {
                return true;
            }
            current = *owner;
        }
        like(current)
    }

    fn has(&self, index: usize, subnets: Subnets) -> bool {
        let host = &self.hosts[index];
        let owner = self.owners.get(&subnets);
        self.leases
            .get(&subnets)
            .is_some_and(|lease| lease.attrs.known_as() == host.ip)
            && owner.is_none_or(|(owner, ..)| owner.is_alike(&host.machine))
    }

    fn another_has(&self, index: usize, subnets: Subnets) -> bool {
        self.leases.contains_key(&subnets) && !self.has(index, subnets)
    }

    /// Now and then: who believes to have what another has, though it can reach the store?
    pub(crate) fn check_beliefs(&mut self, step: Duration) {
        let now = Instant::now();
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let is_well = host.cut_until <= now && host.paused_until <= now;
            let believed = host
                .belief
                .filter(|(_, lease_status)| *lease_status == LeaseStatus::Held);
            let is_wrong = believed.is_some_and(|(subnets, _)| self.another_has(index, subnets));
            let host = &mut self.hosts[index];
            host.wrong_for = if is_well && is_wrong {
                host.wrong_for + step
            } else {
                Duration::ZERO
            };
            if host.wrong_for > if self.faulty { FAULTY_BOUND } else { BOUND } {
                host.wrong_for = Duration::ZERO;
                self.violated(format!(
                    "host {index} does not learn that its subnet is lost"
                ));
            }
        }
    }

    /// Long after the last fault.
    pub(crate) fn check_end(&mut self) {
        for index in 0..self.hosts.len() {
            let ip = self.hosts[index].ip;
            let duplicates: Vec<usize> = (0..self.hosts.len())
                .filter(|other| self.hosts[*other].ip == ip)
                .collect();
            let holds = |index: &&usize| match self.hosts[**index].belief {
                Some((subnets, LeaseStatus::Held)) => self.has(**index, subnets),
                _ => false,
            };
            let (holders, keys) = (
                duplicates.iter().filter(holds).count(),
                self.leases
                    .values()
                    .filter(|lease| lease.attrs.known_as() == ip)
                    .count(),
            );
            let believers = duplicates.iter().filter(|duplicate| {
                self.hosts[**duplicate]
                    .belief
                    .is_some_and(|(_, lease_status)| lease_status == LeaseStatus::Held)
            });
            if (holders, keys, believers.count()) != (1, 1, 1) {
                let beliefs: Vec<_> = self.hosts.iter().map(|host| host.belief).collect();
                self.violated(format!(
                    "{ip} has {keys} keys and {holders} holders in the end: {beliefs:?}"
                ));
            }
        }
        if self.lease_ids.len() != self.leases.len() {
            self.violated(format!(
                "{} grants for {} leases",
                self.lease_ids.len(),
                self.leases.len()
            ));
        }
    }
}
