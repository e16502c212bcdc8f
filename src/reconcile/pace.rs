//! When the kernel is compared with the wish next.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Backoff;

/// How often although nothing seems to have happened.
pub(super) const AUDIT: Duration = Duration::from_secs(30);
/// After a notification, so that what belongs together is seen together.
const SETTLE: Duration = Duration::from_millis(20);
/// An audit that took a second is followed by so many seconds without one: a storm of notifications costs a fifth of the
/// processor at most.
const REST: u32 = 4;

/// The next audit, and what it depends on.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    earliest: Instant,
    backoff: Backoff,
}

impl Pace {
    /// The first audit is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, earliest: now, backoff: Backoff::new(Duration::from_millis(500), AUDIT) }
    }

    /// When the next audit is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// An audit begins. What it finds may bring the next one forward again.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next = now + AUDIT;
    }

    /// The audit that began at `begin` has ended.
    pub(super) fn end(&mut self, begin: Instant, now: Instant) {
        self.earliest = now + (now - begin) * REST;
    }

    /// Something looks wrong.
    pub(super) fn soon(&mut self, now: Instant) {
        self.by((now + SETTLE).max(self.earliest));
    }

    /// An attempt failed; `jitter` is a random number in `0.0..1.0`.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        let delay = self.backoff.delay(jitter);
        self.by(now + delay);
    }

    /// Nothing failed: the next failure is tried again soon.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Not later than `limit`.
    pub(super) fn by(&mut self, limit: Instant) {
        self.next = self.next.min(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_notifications_leaves_time_for_other_work() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let end = start + Duration::from_secs(1);
        pace.begin(start);
        pace.end(start, end);
        pace.soon(end);
        assert_eq!(pace.next(), end + Duration::from_secs(4));
        pace.begin(end);
        pace.end(end, end);
        pace.soon(end);
        assert_eq!(pace.next(), end + SETTLE);
    }

    #[test]
    fn failures_are_tried_again_ever_more_slowly_within_the_period() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for expected in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            pace.begin(now);
            pace.failed(now, 0.0);
            assert_eq!(pace.next() - now, Duration::from_millis(expected));
        }
        pace.succeeded();
        pace.failed(now, 0.0);
        assert_eq!(pace.next() - now, Duration::from_millis(500));
    }
}
