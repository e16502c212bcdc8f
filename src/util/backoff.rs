//! Delays between attempts: pure.

use std::time::Duration;

/// Delays that double from `first` up to `cap`, each shortened by a random share of up to a half, so that hosts which
/// failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            next: first,
        }
    }

    /// The next delay. `jitter` is a random number in `0.0..1.0`.
    pub fn delay(&mut self, jitter: f64) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        full.mul_f64(1.0 - jitter / 2.0)
    }

    /// After a success: the next delay is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn doubles_to_the_cap_and_starts_again() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let delays: Vec<u64> = (0..5).map(|_| backoff.delay(0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.delay(0.0), SECOND);
    }

    #[test]
    fn jitter_takes_up_to_half() {
        assert_eq!(Backoff::new(SECOND, SECOND).delay(1.0), SECOND / 2);
    }
}
