//! Keeping the own lease: renew it, look at the key, put right what is wrong with it.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::super::{Grant, Lease, LeaseAttrs, Revision, Standing};
use super::outage::Outage;
use super::registry::{Before, Commit, Registry, Seen, Write};
use super::{Error, utc};
use crate::retry::Backoff;

/// How often a key is looked at that has no etcd lease to renew.
const RESERVED_PERIOD: Duration = Duration::from_secs(3600);
/// How often a key of another host is looked at, besides when it changes.
const TAKEN_PERIOD: Duration = Duration::from_secs(300);
/// Renewals are never closer than this, whatever the margin.
const SHORTEST_PERIOD: Duration = Duration::from_secs(60);

/// Keeps `lease`, whose value follows `wanted`.
///
/// The etcd lease that the key hangs on may change: a new one takes the place of a dead one, and a key that an operator
/// made a reservation (or no longer one) stays so. A key that was deleted comes back with an etcd lease, also if it was a
/// reservation: nothing here makes keys that never expire. A key of another host is left alone until it is gone.
pub(super) async fn hold(
    registry: &Registry,
    renew_margin: Duration,
    lease: Lease,
    mut wanted: watch::Receiver<LeaseAttrs>,
    standing: &watch::Sender<Standing>,
) -> Infallible {
    let mut holder = Holder {
        registry,
        renew_margin,
        published: lease.attrs.clone(),
        lease,
        renewed: None,
        suspect: false,
    };
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut outage = Outage::new("Error renewing lease", "The lease is renewed again");
    loop {
        holder.lease.attrs = wanted.borrow_and_update().clone();
        match holder.round().await {
            Ok(Round::Fine) => {
                outage.over();
                backoff.reset();
                standing.send_if_modified(|standing| {
                    std::mem::replace(standing, Standing::Held) != Standing::Held
                });
                rest(holder.period(), &mut wanted).await;
            }
            Ok(Round::Again) => sleep(backoff.delay(rand::random())).await,
            Ok(Round::Taken(by)) => {
                let taken = Standing::Taken { by };
                standing.send_if_modified(|standing| std::mem::replace(standing, taken) != taken);
                rest(TAKEN_PERIOD, &mut wanted).await;
            }
            Err(error) => {
                let pause = backoff.delay(rand::random());
                outage.failed(&error, pause);
                sleep(pause).await;
            }
        }
    }
}

/// Waits for the next regular round, shortened by up to a half so that hosts do not renew in step, or for a hint. Without
/// anybody to give hints it is the period alone.
async fn rest(period: Duration, hints: &mut watch::Receiver<LeaseAttrs>) {
    let share = 1.0 - rand::random::<f64>() / 2.0;
    let pause = period.mul_f64(share);
    if let Ok(Err(_)) = timeout(pause, hints.changed()).await {
        sleep(pause).await;
    }
}

struct Holder<'a> {
    registry: &'a Registry,
    renew_margin: Duration,
    /// What the key shall hold.
    lease: Lease,
    /// What it was seen to hold, or made to: with the old public address it is still ours.
    published: LeaseAttrs,
    /// The etcd lease that was renewed last, and for how long it is granted.
    renewed: Option<(Grant, Duration)>,
    /// The last look saw another owner.
    suspect: bool,
}

enum Round {
    /// All is as it should be.
    Fine,
    /// Something was put right, or is in doubt: look again soon.
    Again,
    /// Two looks in a row saw another owner.
    Taken(Ipv4Addr),
}

/// What is to be done about the own key.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It is gone: create it.
    Create,
    /// It is nobody else's, and not what it should be: write it over this revision.
    Rewrite(Revision),
    /// It announces another host. Never overwritten.
    Taken(Ipv4Addr),
}

/// Judges the own key as it was seen. `alive`: whether the etcd lease that it should hang on exists.
fn judge(seen: &Seen, wanted: &LeaseAttrs, published: &LeaseAttrs, alive: bool) -> Verdict {
    match seen {
        Seen::Absent => Verdict::Create,
        Seen::Broken(modified) => Verdict::Rewrite(*modified),
        Seen::Lease(lease) => match other_owner(&lease.attrs, [wanted, published]) {
            Some(by) => Verdict::Taken(by),
            None if alive && lease.attrs == *wanted => Verdict::Fine,
            None => Verdict::Rewrite(lease.modified),
        },
    }
}

/// The host that a value announces, if that is none of our own. A value without an address is nobody's.
fn other_owner(attrs: &LeaseAttrs, own: [&LeaseAttrs; 2]) -> Option<Ipv4Addr> {
    attrs.public_ip.filter(|ip| !ip.is_unspecified() && own.iter().all(|own| own.public_ip != Some(*ip)))
}

/// How often to renew an etcd lease of `ttl` so that it never gets closer to its end than `margin`: 24 times in its
/// life, more often for a large margin.
fn period(ttl: Duration, margin: Duration) -> Duration {
    let usual = ttl / 24;
    ttl.saturating_sub(margin).clamp(SHORTEST_PERIOD.min(usual), usual)
}

impl Holder<'_> {
    fn period(&self) -> Duration {
        self.renewed.map_or(RESERVED_PERIOD, |(_, ttl)| period(ttl, self.renew_margin))
    }

    async fn round(&mut self) -> Result<Round, Error> {
        let seen = self.registry.look(&self.lease.subnets).await?;
        if let Seen::Lease(lease) = &seen
            && other_owner(&lease.attrs, [&self.lease.attrs, &self.published]).is_none()
        {
            self.lease.grant = lease.grant;
        }
        let alive = self.renew().await?;
        let verdict = judge(&seen, &self.lease.attrs, &self.published, alive);
        let was_suspect = std::mem::replace(&mut self.suspect, matches!(verdict, Verdict::Taken(_)));
        match verdict {
            Verdict::Fine => Ok(Round::Fine),
            Verdict::Taken(by) if was_suspect => Ok(Round::Taken(by)),
            Verdict::Taken(_) => Ok(Round::Again),
            Verdict::Create => self.restore(Before::Absent, alive).await,
            Verdict::Rewrite(modified) => self.restore(Before::At(modified), alive).await,
        }
    }

    /// Renews the etcd lease. `false` if it is gone; a reservation has none to lose.
    async fn renew(&mut self) -> Result<bool, Error> {
        let Some(grant) = self.lease.grant else {
            self.renewed = None;
            return Ok(true);
        };
        if !self.registry.keep_alive(grant).await? {
            self.renewed = None;
            return Ok(false);
        }
        let ttl = match self.renewed {
            Some((renewed, ttl)) if renewed == grant => ttl,
            _ => match self.registry.granted_ttl(grant).await? {
                Some(ttl) => ttl,
                None => return Ok(false),
            },
        };
        self.renewed = Some((grant, ttl));
        debug!("Lease renewed, new expiration: {}", utc::format(SystemTime::now() + ttl));
        Ok(true)
    }

    async fn restore(&mut self, before: Before, alive: bool) -> Result<Round, Error> {
        let grant = match (self.lease.grant, before) {
            (Some(grant), _) if alive => Some(grant),
            (None, Before::At(_)) => None,
            (None, Before::Absent) | (Some(_), _) => Some(self.registry.grant().await?),
        };
        let Lease { subnets, attrs, .. } = &self.lease;
        let write = Write { subnets, attrs, grant, before, replaces: &[] };
        let done = self.registry.write(&write).await?;
        self.lease.grant = grant;
        if let Commit::Done(revision) = done {
            self.report(before);
            self.published = self.lease.attrs.clone();
            self.lease.modified = revision;
        }
        Ok(Round::Again)
    }

    fn report(&self, before: Before) {
        let subnets = self.lease.subnets;
        match before {
            Before::At(_) if self.published != self.lease.attrs => {
                info!("the lease of {subnets} announces what has changed on this host");
            }
            Before::Absent => warn!("the lease of {subnets} was gone from etcd and is back"),
            Before::At(_) => warn!(
                "the lease of {subnets} was changed in etcd by somebody else and is as it was again; does another host announce the same public address?"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn attrs(ip: [u8; 4], backend: &str) -> LeaseAttrs {
        LeaseAttrs { public_ip: Some(ip.into()), backend_type: backend.into(), ..LeaseAttrs::default() }
    }

    fn seen(attrs: LeaseAttrs) -> Seen {
        let subnet: ipnetwork::Ipv4Network = "10.5.34.0/24".parse().unwrap();
        Seen::Lease(Lease { subnets: subnet.into(), attrs, created: 2, modified: 9, grant: Grant::new(1) })
    }

    #[test]
    fn the_own_key_is_judged() {
        let wanted = attrs([10, 0, 0, 1], "vxlan");
        let before = attrs([10, 0, 0, 9], "vxlan");
        let other = attrs([10, 0, 0, 2], "vxlan");
        for (name, seen, alive, verdict) in [
            ("as it should be", seen(wanted.clone()), true, Verdict::Fine),
            ("about to expire", seen(wanted.clone()), false, Verdict::Rewrite(9)),
            ("gone", Seen::Absent, true, Verdict::Create),
            ("gone with its etcd lease", Seen::Absent, false, Verdict::Create),
            ("scribbled over", Seen::Broken(7), true, Verdict::Rewrite(7)),
            ("ours, changed", seen(attrs([10, 0, 0, 1], "udp")), true, Verdict::Rewrite(9)),
            ("ours, with the address of before", seen(before.clone()), true, Verdict::Rewrite(9)),
            ("nobody's", seen(LeaseAttrs::default()), true, Verdict::Rewrite(9)),
            ("0.0.0.0", seen(attrs([0, 0, 0, 0], "vxlan")), true, Verdict::Rewrite(9)),
            ("another's", seen(other.clone()), true, Verdict::Taken([10, 0, 0, 2].into())),
            ("another's, ours dead", seen(other), false, Verdict::Taken([10, 0, 0, 2].into())),
        ] {
            assert_eq!(judge(&seen, &wanted, &before, alive), verdict, "{name}");
        }
    }

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
}
