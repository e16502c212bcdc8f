//! When the host is compared with the desired state next.

use std::time::Duration;

use tokio::time::Instant;

use crate::util::backoff::Backoff;

/// A resync that took a second is followed by so many seconds without one: a storm of notifications costs a fifth of the
/// processor at most.
const REST: u32 = 4;
/// No repair waits longer than this for the next resync, however long the last one took.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// A comparison of all entries that took a second is followed by so many seconds without another one that nothing asks
/// for: with thousands of peers it takes tens of milliseconds, and notifications tell of changes.
const COMPARISON_REST: u32 = 1000;
/// However long a comparison takes, another one follows after this time.
const LONGEST_PERIOD: Duration = Duration::from_secs(300);

/// The next resync, and what it depends on.
#[derive(Debug)]
pub struct Schedule {
    next: Instant,
    earliest: Instant,
    /// After a notification, so that what belongs together is seen together.
    settle: Duration,
    backoff: Backoff,
    /// The resync under way has to compare all entries.
    is_complete: bool,
    /// The next one has to: something looks wrong.
    is_required: bool,
    /// When a comparison is due that nothing asks for.
    comparison_due: Instant,
}

impl Schedule {
    /// The first resync is due at once.
    pub fn new(now: Instant, settle: Duration, backoff: Backoff) -> Self {
        Self {
            next: now,
            earliest: now,
            settle,
            backoff,
            is_complete: true,
            is_required: true,
            comparison_due: now,
        }
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    /// A resync begins; the next one follows after `period`. What this one finds may bring that forward again.
    pub fn begin(&mut self, now: Instant, period: Duration) {
        self.next = now + period;
        self.is_complete = std::mem::take(&mut self.is_required) || now >= self.comparison_due;
    }

    /// The resync under way, or else the next one, has to compare all entries.
    pub fn require_comparison(&mut self) {
        self.is_required = true;
    }

    /// Whether the resync under way has to compare all entries.
    pub fn compares_entries(&self) -> bool {
        self.is_complete || self.is_required
    }

    /// All entries were compared.
    pub fn compared(&mut self, begin: Instant, now: Instant) {
        self.comparison_due = now + ((now - begin) * COMPARISON_REST).min(LONGEST_PERIOD);
    }

    /// The resync that began at `begin` has ended.
    pub fn end(&mut self, begin: Instant, now: Instant) {
        self.earliest = now + ((now - begin) * REST).min(LONGEST_REST);
    }

    /// Something looks wrong.
    pub fn soon(&mut self, now: Instant) {
        self.by((now + self.settle).max(self.earliest));
    }

    /// An attempt failed; `jitter` is a random number in `0.0..1.0`.
    pub fn failed(&mut self, now: Instant, jitter: f64) {
        let delay = self.backoff.delay(jitter);
        self.by(now + delay);
    }

    /// Nothing failed: the next failure is tried again soon.
    pub fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Not later than `limit`.
    pub fn by(&mut self, limit: Instant) {
        self.require_comparison();
        self.next = self.next.min(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);
    const SETTLE: Duration = Duration::from_millis(20);

    fn schedule(now: Instant) -> Schedule {
        Schedule::new(
            now,
            SETTLE,
            Backoff::new(Duration::from_millis(500), PERIOD),
        )
    }

    #[test]
    fn storm_of_notifications_costs_a_fifth_and_delays_a_second() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        for (took, rest) in [(0, 20), (4, 20), (100, 400), (250, 1000), (5_000, 1000)] {
            let end = start + Duration::from_millis(took);
            schedule.begin(start, PERIOD);
            schedule.end(start, end);
            schedule.soon(end);
            assert_eq!(
                schedule.next() - end,
                Duration::from_millis(rest),
                "{took} ms"
            );
        }
    }

    #[test]
    fn unprompted_comparisons_take_a_thousandth_of_the_time() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.begin(start, PERIOD);
        assert!(schedule.compares_entries(), "the first one");
        for (took, rounds) in [(0, 1), (29, 1), (31, 2), (240, 8), (60_000, 10)] {
            schedule.compared(start, start + Duration::from_millis(took));
            let mut now = start + Duration::from_millis(took);
            let mut count = 0;
            loop {
                (now, count) = (now + PERIOD, count + 1);
                schedule.begin(now, PERIOD);
                if schedule.compares_entries() {
                    break;
                }
            }
            assert_eq!(count, rounds, "{took} ms");
        }
        schedule.compared(start, start + PERIOD);
        schedule.soon(start + PERIOD);
        schedule.begin(start + PERIOD + SETTLE, PERIOD);
        assert!(schedule.compares_entries(), "something looks wrong");
    }

    #[test]
    fn failures_are_retried_with_backoff_within_the_period() {
        let now = Instant::now();
        let mut schedule = schedule(now);
        for expected in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            schedule.begin(now, PERIOD);
            schedule.failed(now, 0.0);
            assert_eq!(schedule.next() - now, Duration::from_millis(expected));
        }
        schedule.succeeded();
        schedule.failed(now, 0.0);
        assert_eq!(schedule.next() - now, Duration::from_millis(500));
    }
}
