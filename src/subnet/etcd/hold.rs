//! Keeping the own lease: renew it, look at the key, put right what is wrong with it.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::super::{Grant, Lease, LeaseAttrs, Lost, Revision};
use super::outage::Outage;
use super::registry::{Before, Commit, Registry, Seen, Write};
use super::{Error, utc};
use crate::retry::Backoff;

/// How often a key is looked at that has no etcd lease to renew.
const RESERVED_PERIOD: Duration = Duration::from_secs(3600);
/// Renewals are never closer than this, whatever the margin.
const SHORTEST_PERIOD: Duration = Duration::from_secs(60);

/// Keeps `lease` until another host owns its key.
///
/// What is wanted is the lease as it was given: subnets and value. The etcd lease that the key hangs on may change: a
/// new one takes the place of a dead one, and a key that an operator made a reservation (or no longer one) stays so. A
/// key that was deleted comes back with an etcd lease, also if it was a reservation: nothing here makes keys that never
/// expire.
pub(super) async fn hold(registry: &Registry, renew_margin: Duration, lease: Lease, check: &Notify) -> Lost {
    let mut holder = Holder { registry, renew_margin, lease, renewed: None, suspect: false };
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut outage = Outage::new("Error renewing lease", "The lease is renewed again");
    loop {
        match holder.round().await {
            Ok(Round::Fine) => {
                outage.over();
                backoff.reset();
                rest(holder.period(), check).await;
            }
            Ok(Round::Again) => sleep(backoff.delay(rand::random())).await,
            Ok(Round::Taken(by)) => return Lost::Taken { by },
            Err(error) => {
                let pause = backoff.delay(rand::random());
                outage.failed(&error, pause);
                sleep(pause).await;
            }
        }
    }
}

/// Waits for the next regular round, shortened by up to a half so that hosts do not renew in step, or for a hint.
async fn rest(period: Duration, check: &Notify) {
    let share = 1.0 - rand::random::<f64>() / 2.0;
    let _ = timeout(period.mul_f64(share), check.notified()).await;
}

struct Holder<'a> {
    registry: &'a Registry,
    renew_margin: Duration,
    lease: Lease,
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
fn judge(seen: &Seen, wanted: &LeaseAttrs, alive: bool) -> Verdict {
    match seen {
        Seen::Absent => Verdict::Create,
        Seen::Broken(modified) => Verdict::Rewrite(*modified),
        Seen::Lease(lease) => match other_owner(&lease.attrs, wanted) {
            Some(by) => Verdict::Taken(by),
            None if alive && lease.attrs == *wanted => Verdict::Fine,
            None => Verdict::Rewrite(lease.modified),
        },
    }
}

/// The host that a value announces, if it is not the wanted one. A value without an address is nobody's.
fn other_owner(attrs: &LeaseAttrs, wanted: &LeaseAttrs) -> Option<Ipv4Addr> {
    attrs.public_ip.filter(|ip| !ip.is_unspecified() && Some(*ip) != wanted.public_ip)
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
            && other_owner(&lease.attrs, &self.lease.attrs).is_none()
        {
            self.lease.grant = lease.grant;
        }
        let alive = self.renew().await?;
        let verdict = judge(&seen, &self.lease.attrs, alive);
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
            self.lease.modified = revision;
        }
        Ok(Round::Again)
    }

    fn report(&self, before: Before) {
        let subnets = self.lease.subnets;
        match before {
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
        let other = attrs([10, 0, 0, 2], "vxlan");
        for (name, seen, alive, verdict) in [
            ("as it should be", seen(wanted.clone()), true, Verdict::Fine),
            ("about to expire", seen(wanted.clone()), false, Verdict::Rewrite(9)),
            ("gone", Seen::Absent, true, Verdict::Create),
            ("gone with its etcd lease", Seen::Absent, false, Verdict::Create),
            ("scribbled over", Seen::Broken(7), true, Verdict::Rewrite(7)),
            ("ours, changed", seen(attrs([10, 0, 0, 1], "udp")), true, Verdict::Rewrite(9)),
            ("nobody's", seen(LeaseAttrs::default()), true, Verdict::Rewrite(9)),
            ("0.0.0.0", seen(attrs([0, 0, 0, 0], "vxlan")), true, Verdict::Rewrite(9)),
            ("another's", seen(other.clone()), true, Verdict::Taken([10, 0, 0, 2].into())),
            ("another's, ours dead", seen(other), false, Verdict::Taken([10, 0, 0, 2].into())),
        ] {
            assert_eq!(judge(&seen, &wanted, alive), verdict, "{name}");
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
