//! Judges whether the host of a lease is alive, from what etcd holds. Pure.

use std::time::Duration;

use super::{Expiry, InventoryEntry};
use flanneld::status::text::time;

/// rflannel's daemon renews its lease of 24 hours at least once an hour. Half an hour more allows for retries.
const HOURLY: Duration = Duration::from_secs(5400);

/// Whether the host of a lease is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// The daemon answered a challenge.
    Answered(String),
    /// The host may be alive.
    Possible(String),
    /// Nothing indicates that the host is alive.
    Gone(String),
}

impl Liveness {
    pub fn why(&self) -> &str {
        match self {
            Liveness::Answered(why) | Liveness::Possible(why) | Liveness::Gone(why) => why,
        }
    }
}

/// Result of challenging a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeResult {
    /// No challenge was made: there is no owner record, or nothing is to be changed yet.
    NotChallenged,
    Alive,
    Silent,
}

/// Judges from the time of the last renewal and the daemon's answer. flannel renews a lease `margin` before its end.
pub fn judge(entry: &InventoryEntry, voice: ChallengeResult, margin: Duration) -> Liveness {
    let host = entry.whose();
    let told = by_time(entry, margin);
    match (voice, told) {
        (ChallengeResult::Alive, _) => Liveness::Answered(format!("the daemon of {host} answers")),
        (ChallengeResult::NotChallenged, told) => told,
        (ChallengeResult::Silent, Liveness::Gone(why)) => {
            Liveness::Gone(format!("{why}; it did not answer a challenge"))
        }
        (ChallengeResult::Silent, told) => Liveness::Possible(format!(
            "{}; its daemon did not answer a challenge: it is stopped, or it runs without etcd",
            told.why()
        )),
    }
}

fn by_time(entry: &InventoryEntry, margin: Duration) -> Liveness {
    let (age, left) = match entry.expiry {
        Expiry::Never => {
            return Liveness::Possible(
                "a reservation is never renewed, so whether its host is alive is unknown".into(),
            );
        }
        Expiry::Over => return Liveness::Gone("it has just expired".into()),
        Expiry::In(times) => (times.granted.saturating_sub(times.left), times.left),
    };
    let renewed = format!("renewed {} ago", text(age));
    match (entry.owner.is_some(), age > HOURLY, left < margin) {
        (true, true, _) => {
            Liveness::Gone(format!("{renewed}, but its daemon renews it every hour"))
        }
        (false, _, true) => Liveness::Gone(format!(
            "{renewed}, but flannel renews a lease when {} are left",
            text(margin)
        )),
        (true, false, _) => Liveness::Possible(renewed),
        (false, _, false) => Liveness::Possible(format!(
            "{renewed}; it has no owner record, and Go flannel renews once a day: whether the host is alive is unknown until less than {} are left",
            text(margin)
        )),
    }
}

/// Returns a problem worth listing, if there is one.
pub fn complaint(entry: &InventoryEntry, margin: Duration) -> Option<String> {
    let has_host = !entry.public().is_empty();
    match by_time(entry, margin) {
        Liveness::Gone(why) if has_host => {
            Some(format!("its host is down or cannot reach etcd: {why}"))
        }
        Liveness::Gone(_) | Liveness::Possible(_) | Liveness::Answered(_) => None,
    }
}

fn text(duration: Duration) -> String {
    time(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::entry;
    use super::*;
    use flanneld::subnet::etcd::dump::TimeLeft;

    const HOUR: u64 = 3600;

    fn expiry(left: u64) -> Expiry {
        Expiry::In(TimeLeft {
            left: Duration::from_secs(left),
            granted: Duration::from_secs(24 * HOUR),
        })
    }

    fn judged(owned: bool, expiry: Expiry, voice: ChallengeResult) -> Liveness {
        let mut entry = entry(
            "10.5.1.0-24",
            r#"{"PublicIP":"192.0.2.9"}"#,
            owned.then_some("h1"),
        );
        entry.expiry = expiry;
        judge(&entry, voice, Duration::from_secs(HOUR))
    }

    #[test]
    fn only_who_neither_renews_nor_answers_is_gone() {
        use ChallengeResult::{Alive, NotChallenged, Silent};
        for (owned, expiry, voice, gone, words) in [
            (
                true,
                expiry(24 * HOUR - 60),
                NotChallenged,
                false,
                "renewed 60 s ago",
            ),
            (
                true,
                expiry(24 * HOUR - 60),
                Silent,
                false,
                "did not answer a challenge: it is stopped, or it runs",
            ),
            (
                true,
                expiry(22 * HOUR),
                NotChallenged,
                true,
                "renewed 2 h ago, but its daemon renews it every hour",
            ),
            (true, expiry(22 * HOUR), Silent, true, "did not answer"),
            (
                true,
                expiry(22 * HOUR),
                Alive,
                false,
                "the daemon of h1 (192.0.2.9) answers",
            ),
            (
                false,
                expiry(2 * HOUR),
                NotChallenged,
                false,
                "unknown until less than 60 min are left",
            ),
            (
                false,
                expiry(HOUR / 2),
                NotChallenged,
                true,
                "flannel renews a lease when 60 min are left",
            ),
            (
                true,
                Expiry::Never,
                Silent,
                false,
                "a reservation is never renewed",
            ),
            (false, Expiry::Over, NotChallenged, true, "expired"),
        ] {
            let life = judged(owned, expiry, voice);
            assert_eq!(matches!(life, Liveness::Gone(_)), gone, "{life:?}");
            assert!(life.why().contains(words), "{life:?}");
        }
    }
}
