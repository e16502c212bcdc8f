//! Keeping the own lease: renew it, look at the key, repair what is wrong with it.

mod log;

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info};

use super::super::{Lease, LeaseAttrs, LeaseId, LeaseStatus, NetworkConfig, Revision};
use super::key_state::{KeyState, Own};
use super::liveness::{self, Answer, RelatedLeases};
use super::outage_log::Outage;
use super::store::{self, Before, Commit, Seen, Sight, Store, Write};
use super::{Error, EtcdManager, MachineId};
use crate::util::backoff::Backoff;
use crate::util::family::{Family, overlap};
use crate::util::lock;
use crate::util::timestamp;

/// Renewals are never closer than this, whatever the margin.
const SHORTEST_PERIOD: Duration = Duration::from_secs(60);
/// So many times in `REWRITE_WINDOW` a key is repaired; who has changed it again by then is a daemon, not an operator.
const REWRITE_LIMIT: usize = 3;
const REWRITE_WINDOW: Duration = Duration::from_secs(600);
/// How often a key is looked at that has no etcd lease to renew.
const RESERVED_PERIOD: Duration = Duration::from_secs(3600);
/// How often a key of another host is looked at, besides when it changes; and about how often a duplicate host is challenged.
const TAKEN_PERIOD: Duration = Duration::from_secs(300);

/// The pause after something was repaired, and the first after a failure: shorter than a challenger's patience.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps `lease`, whose value follows `wanted`.
///
/// The etcd lease that the key hangs on may change: a new one takes the place of a dead one, and a key that an operator
/// made a reservation (or no longer one) stays so. A key that was deleted comes back with an etcd lease, also if it was a
/// reservation: nothing here makes keys that never expire. A key of another host is left alone until it is gone, and so
/// is one that another live machine with this host's address has.
pub(super) async fn hold<S: Store>(
    manager: &EtcdManager<S>,
    lease: Lease,
    mut wanted: watch::Receiver<LeaseAttrs>,
    lease_status: &watch::Sender<LeaseStatus>,
) -> Infallible {
    let related = lock(&manager.related).take();
    let mut holder = Holder {
        manager,
        published: lease.attrs.clone(),
        is_reservation: related.as_ref().map(|_| lease.lease_id.is_none()),
        lease,
        renewed: None,
        suspect: false,
        is_unchanged: false,
        rewrite_limit: RewriteLimit::default(),
        duplicate_met_at: None,
        unverified: true,
        related,
    };
    let mut is_first = true;
    let mut backoff = Backoff::new(FIRST_PAUSE, Duration::from_secs(60));
    let mut outage = Outage::new("Error renewing lease", "renewed the lease again");
    loop {
        holder.lease.attrs = wanted.borrow_and_update().clone();
        let round = holder.round().await;
        let share = manager.random.share();
        let found = match round {
            Ok(Round::Status(found)) => found,
            Ok(Round::Again) => {
                sleep(backoff.delay(share)).await;
                continue;
            }
            // However often a challenger asks: who answers later and later is taken for dead.
            Ok(Round::Written) => {
                backoff.reset();
                sleep(backoff.delay(share)).await;
                continue;
            }
            Err(error) => {
                let pause = backoff.delay(share);
                manager.telemetry.kept(Some(&error.to_string()));
                outage.failed(&error, pause);
                // A hint comes from a watch, which has found etcd again.
                sleep(pause.min(FIRST_PAUSE)).await;
                rest(pause.saturating_sub(FIRST_PAUSE), 0.0, &mut wanted).await;
                continue;
            }
        };
        lease_status.send_if_modified(|lease_status| {
            std::mem::replace(lease_status, found) != found || std::mem::take(&mut is_first)
        });
        manager.telemetry.kept(None);
        outage.over();
        backoff.reset();
        rest(holder.period(found), share, &mut wanted).await;
    }
}

/// Waits for the next regular round, shortened by up to a half (by `share`) so that hosts do not renew in step, or for a
/// hint. Without anybody to give hints it is the period alone.
async fn rest(period: Duration, share: f64, hints: &mut watch::Receiver<LeaseAttrs>) {
    let pause = period.mul_f64(1.0 - share / 2.0);
    if let Ok(Err(_)) = timeout(pause, hints.changed()).await {
        sleep(pause).await;
    }
}

struct Holder<'a, S> {
    manager: &'a EtcdManager<S>,
    /// What the key must hold.
    lease: Lease,
    /// What it was seen to hold, or made to: with the old public address it is still ours.
    published: LeaseAttrs,
    /// Whether the key was last seen without an etcd lease; unknown after a start from the state file.
    is_reservation: Option<bool>,
    /// The etcd lease that was renewed last, and for how long it is granted.
    renewed: Option<(LeaseId, Duration)>,
    /// The last look saw another owner.
    suspect: bool,
    /// The key was last written with the value that it has to have: its owner is asked to confirm it.
    is_unchanged: bool,
    rewrite_limit: RewriteLimit,
    /// When a machine with this host's address was last found alive.
    duplicate_met_at: Option<Instant>,
    /// A duplicate host may have made another key at the moment when this one was made.
    unverified: bool,
    /// From when the lease was acquired. None once the key was made again.
    related: Option<RelatedLeases>,
}

enum Round {
    /// The claim stands so, and there is nothing to do about it now.
    Status(LeaseStatus),
    /// Something is uncertain: look again soon.
    Again,
    /// Something was repaired: look whether it stays so.
    Written,
}

impl<S: Store> Holder<'_, S> {
    fn period(&self, lease_status: LeaseStatus) -> Duration {
        let usual = self.renewed.map_or(RESERVED_PERIOD, |(_, ttl)| {
            period(ttl, self.manager.renew_margin)
        });
        if lease_status == LeaseStatus::Held {
            usual
        } else {
            TAKEN_PERIOD.min(usual.max(SHORTEST_PERIOD))
        }
    }

    fn own(&self) -> Own<'_> {
        let machine = self.manager.machine.known();
        Own {
            wanted: &self.lease.attrs,
            published: &self.published,
            machine,
        }
    }

    async fn round(&mut self) -> Result<Round, Error> {
        let sight = self.manager.store.look(&self.lease.subnets).await?;
        let was_reservation = self.is_reservation;
        let alive = self.adopt_lease_id(&sight) && self.renew().await?;
        let verdict = self.own().judge(&sight, alive);
        let was_suspect =
            std::mem::replace(&mut self.suspect, matches!(verdict, KeyState::Taken(_)));
        match verdict {
            KeyState::Fine if self.unverified => self.verify().await,
            KeyState::Fine => Ok(Round::Status(LeaseStatus::Held)),
            KeyState::Taken(by) if was_suspect => Ok(Round::Status(LeaseStatus::TakenOver { by })),
            KeyState::Taken(_) => Ok(Round::Again),
            KeyState::Unclear => Err(Error::Unavailable(format!(
                "the lease of {} has an unreadable value and an owner record of another machine; delete the key",
                self.lease.subnets
            ))),
            KeyState::Create => self.create(alive).await,
            KeyState::Rewrite(_) if self.is_fought_over(&sight) => {
                Ok(Round::Status(self.duplicate_host()))
            }
            KeyState::Rewrite(modified) => {
                self.is_unchanged =
                    matches!(&sight.seen, Seen::Lease(now) if now.attrs == self.lease.attrs);
                let is_announced = self.is_unchanged && self.is_reservation != was_reservation;
                self.restore(Before::At(modified), None, alive, is_announced)
                    .await
            }
            KeyState::OtherOwner(other_owner, recorded) => {
                self.contend(sight.seen, other_owner, recorded).await
            }
        }
    }

    fn duplicate_host(&self) -> LeaseStatus {
        LeaseStatus::DuplicateHost {
            ip: self.lease.attrs.known_as(),
        }
    }

    /// A key of our own says which etcd lease it hangs on, and when it was made. `false` if the key is another's: then there is none to renew.
    fn adopt_lease_id(&mut self, sight: &Sight) -> bool {
        let Seen::Lease(lease) = &sight.seen else {
            return true;
        };
        let is_ours = self.own().stranger(&lease.attrs).is_none()
            && liveness::other_owner(sight, self.manager.machine.known()).is_none();
        if is_ours {
            (self.lease.lease_id, self.lease.created) = (lease.lease_id, lease.created);
            self.note_reservation(lease.lease_id.is_none());
        }
        is_ours
    }

    /// Whether someone keeps writing another value with our address, as fast as we put it right.
    fn is_fought_over(&mut self, sight: &Sight) -> bool {
        let Seen::Lease(lease) = &sight.seen else {
            return false;
        };
        let is_foreign = lease.attrs != self.lease.attrs && lease.attrs != self.published;
        let fight = is_foreign && !self.rewrite_limit.may_write(Instant::now());
        if fight
            && self
                .duplicate_met_at
                .is_none_or(|at| at.elapsed() > TAKEN_PERIOD)
        {
            self.duplicate_met_at = Some(Instant::now());
            let (theirs, ours) = (lease.attrs.encode(), self.lease.attrs.encode());
            // log: self-explanatory
            error!(
                subnet = %lease.subnets, public_ip = %self.lease.attrs.known_as(),
                "another host keeps replacing {ours} by {theirs} in the lease of {}: both hosts announce the same public address; give each host its own address (-iface or -public-ip)",
                lease.subnets
            );
        }
        fight
    }

    /// Another machine with our address has the key: finds out whether it is alive, and takes the key over if not.
    async fn contend(
        &mut self,
        seen: Seen,
        other_owner: MachineId,
        recorded: Revision,
    ) -> Result<Round, Error> {
        let Seen::Lease(lease) = seen else {
            return Ok(Round::Again);
        };
        if self
            .duplicate_met_at
            .is_some_and(|at| at.elapsed() < TAKEN_PERIOD / 2)
        {
            return Ok(Round::Status(self.duplicate_host()));
        }
        match liveness::challenge(
            &self.manager.store,
            self.manager.machine.known(),
            &lease,
            recorded,
        )
        .await?
        {
            Answer::Moved => Ok(Round::Again),
            Answer::Silent(modified) => {
                info!(
                    subnet = %lease.subnets, host = other_owner.host(),
                    "taking over the lease of {1}: its former host {0:?} does not answer",
                    other_owner.host(),
                    lease.subnets
                );
                // A new one: the other machine may come back and renew the one that it knows.
                self.lease.lease_id = lease.lease_id;
                self.restore(Before::At(modified), None, false, false).await
            }
            Answer::Alive(other_owner) => {
                self.duplicate_met_at = Some(Instant::now());
                // log: self-explanatory
                error!(
                    subnet = %lease.subnets, host = other_owner.host(), public_ip = %lease.attrs.known_as(),
                    "host {:?} holds the lease of {} and announces the same public address as this host; give each host its own address (-iface or -public-ip)",
                    other_owner.host(),
                    lease.subnets
                );
                Ok(Round::Status(self.duplicate_host()))
            }
        }
    }

    /// Renews the etcd lease. `false` if it is gone; a reservation has none to lose.
    async fn renew(&mut self) -> Result<bool, Error> {
        let Some(lease_id) = self.lease.lease_id else {
            self.renewed = None;
            self.manager.telemetry.renewed(None);
            return Ok(true);
        };
        if !self.manager.store.keep_alive(lease_id).await? {
            self.renewed = None;
            return Ok(false);
        }
        let ttl = match self.renewed {
            Some((renewed, ttl)) if renewed == lease_id => ttl,
            _ => match self.manager.store.granted_ttl(lease_id).await? {
                Some(ttl) => ttl,
                None => return Ok(false),
            },
        };
        self.renewed = Some((lease_id, ttl));
        self.manager.telemetry.renewed(Some(ttl));
        debug!(
            subnet = %self.lease.subnets,
            "Lease renewed, new expiration: {}",
            timestamp::format(SystemTime::now() + ttl)
        );
        Ok(true)
    }

    /// Brings a key back that is gone, if the network configuration still allows it: every key is created under the
    /// configuration that holds at that moment, so what is created at the same time is equal or disjoint, and what is
    /// older is in the list.
    async fn create(&mut self, alive: bool) -> Result<Round, Error> {
        let (config, written) = match self.manager.store.config().await {
            Ok((config, written)) => (Some(config), Some(written)),
            Err(Error::NoConfig { .. }) => (None, Some(0)),
            Err(Error::BadConfig { .. }) => (None, None),
            Err(error) => return Err(error),
        };
        if config
            .as_ref()
            .is_some_and(|config| !config.fits(&self.lease.subnets))
        {
            return self.release(LeaseStatus::ConfigChanged).await;
        }
        let leases = store::snapshot(&self.manager.store).await?.leases;
        let is_next = |lease: &Lease| {
            self.manager.gives_way
                && config
                    .as_ref()
                    .is_some_and(|config| config.fits(&lease.subnets))
                && self.own().is(&lease.attrs)
        };
        // The etcd lease is left alone: the new key may hang on it.
        if let Some(to) =
            liveness::first_unclaimed(&self.manager.store, self.own().machine, &leases, is_next)
                .await?
        {
            return Ok(Round::Status(LeaseStatus::Moved { to }));
        }
        match leases
            .iter()
            .find_map(|lease| self.overlapper(lease, config.as_ref()))
        {
            Some(by) => self.release(LeaseStatus::TakenOver { by }).await,
            None => match self.older_duplicate(Revision::MAX, &leases).await? {
                Some(Answer::Alive(_)) => self.release(self.duplicate_host()).await,
                Some(Answer::Moved) => Ok(Round::Again),
                None | Some(Answer::Silent(_)) => {
                    self.restore(Before::Absent, written, alive, false).await
                }
            },
        }
    }

    /// Looks for a duplicate host that made another key at the same moment as ours was made: the younger key goes. A silent duplicate host may
    /// only be cut off, so it is looked for again. No list is read where the last one has the key and no one like it.
    async fn verify(&mut self) -> Result<Round, Error> {
        let Lease {
            subnets, created, ..
        } = self.lease;
        let is_alone =
            |related: RelatedLeases| created <= related.revision && related.leases.is_empty();
        // What was in the way then may be gone by now: nothing is given up without a fresh look.
        let leases = if self.related.take().is_some_and(is_alone) {
            Vec::new()
        } else {
            store::snapshot(&self.manager.store).await?.leases
        };
        let older_duplicate = self.older_duplicate(created, &leases).await?;
        match older_duplicate {
            Some(Answer::Alive(_)) => return self.release(self.duplicate_host()).await,
            Some(Answer::Moved) => return Ok(Round::Again),
            None | Some(Answer::Silent(_)) => {}
        }
        if let Some(other) = liveness::earlier_claimant(&subnets, created, &leases) {
            return self
                .release(LeaseStatus::TakenOver {
                    by: other.attrs.known_as(),
                })
                .await;
        }
        self.unverified = older_duplicate.is_some();
        Ok(Round::Status(LeaseStatus::Held))
    }

    /// Asks the machine that has a lease with our address under another key, created before `created`; `None` if there is
    /// none.
    async fn older_duplicate(
        &self,
        created: Revision,
        leases: &[Lease],
    ) -> Result<Option<Answer>, Error> {
        let (store, me) = (&self.manager.store, self.manager.machine.known());
        let Some((lease, recorded)) =
            liveness::older_duplicate(store, me, &self.lease, created, leases).await?
        else {
            return Ok(None);
        };
        liveness::challenge(store, me, &lease, recorded)
            .await
            .map(Some)
    }

    /// The other host that leases some of our subnets under another key. No one leases all of a network, or more: such a
    /// key is someone's mistake.
    fn overlapper(&self, lease: &Lease, config: Option<&NetworkConfig>) -> Option<IpAddr> {
        let widest = |family| {
            config
                .and_then(|config| config.ranges.get(family))
                .map_or(0, |r| r.network.prefix())
        };
        let is_in_the_way = |net: &IpNetwork| {
            net.prefix() > widest(Family::of(net.ip()))
                && self.lease.subnets.iter().any(|ours| overlap(ours, *net))
        };
        let is_duplicate = lease.subnets != self.lease.subnets
            && lease.subnets.iter().any(|net| is_in_the_way(&net));
        self.own().stranger(&lease.attrs).filter(|_| is_duplicate)
    }

    async fn restore(
        &mut self,
        before: Before,
        config: Option<Revision>,
        alive: bool,
        is_announced: bool,
    ) -> Result<Round, Error> {
        let (lease_id, is_new) = match (self.lease.lease_id, before) {
            (Some(lease_id), _) if alive => (Some(lease_id), false),
            (None, Before::At(_)) => (None, false),
            (None, Before::Absent) | (Some(_), _) => {
                (Some(self.manager.take_lease_id().await?), true)
            }
        };
        let Lease { subnets, attrs, .. } = &self.lease;
        let owner = self.manager.machine.known();
        let write = Write {
            subnets,
            attrs,
            lease_id,
            before,
            owner,
            config,
            replaces: &[],
        };
        // Also when the answer gets lost: the key may be there then.
        if before == Before::Absent {
            (self.unverified, self.related) = (true, None);
        }
        let done = self.manager.store.write(&write).await;
        if let Some(unused) =
            lease_id.filter(|_| is_new && matches!(done, Ok(Commit::Lost) | Err(_)))
        {
            self.manager.lease_ids().spare.push(unused);
            return done.map(|_| Round::Again);
        }
        self.lease.lease_id = lease_id;
        let Commit::Done(revision) = done? else {
            return Ok(Round::Again);
        };
        if before == Before::Absent {
            self.is_reservation = Some(false);
        }
        if !is_announced {
            self.report(before);
        }
        self.published = self.lease.attrs.clone();
        self.lease.modified = revision;
        Ok(Round::Written)
    }

    /// Ends the etcd lease, and the key if there is one.
    async fn release(&self, lease_status: LeaseStatus) -> Result<Round, Error> {
        if let Some(lease_id) = self.lease.lease_id {
            self.manager.store.revoke(lease_id).await?;
        }
        Ok(Round::Status(lease_status))
    }
}

/// How often to renew an etcd lease of `ttl` so that it never gets closer to its end than `margin`: 24 times in its
/// life, more often for a large margin.
fn period(ttl: Duration, margin: Duration) -> Duration {
    let usual = ttl / 24;
    ttl.saturating_sub(margin)
        .clamp(SHORTEST_PERIOD.min(usual), usual)
}

/// The times at which a key was repaired.
#[derive(Debug, Default)]
struct RewriteLimit(Vec<Instant>);

impl RewriteLimit {
    /// Whether to put the key right once more, which counts.
    fn may_write(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < REWRITE_WINDOW);
        let may = self.0.len() < REWRITE_LIMIT;
        if may {
            self.0.push(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewals_keep_the_margin_and_never_spin() {
        for (ttl, margin, expected) in [
            (24 * HOUR, HOUR, HOUR),
            (24 * HOUR, 23 * HOUR + HOUR / 2, HOUR / 2),
            (24 * HOUR, 24 * HOUR, SHORTEST_PERIOD),
            (24 * HOUR, 1000 * HOUR, SHORTEST_PERIOD),
            (Duration::from_secs(48), HOUR, Duration::from_secs(2)),
            (24 * HOUR, Duration::ZERO, HOUR),
        ] {
            assert_eq!(period(ttl, margin), expected, "{ttl:?} {margin:?}");
        }
    }

    #[test]
    fn three_times_in_ten_minutes() {
        let (mut rewrite_limit, start) = (RewriteLimit::default(), Instant::now());
        let wrote = (0..1300).filter(|s| rewrite_limit.may_write(start + Duration::from_secs(*s)));
        assert_eq!(
            wrote.collect::<Vec<_>>(),
            [0, 1, 2, 600, 601, 602, 1200, 1201, 1202]
        );
    }
}
