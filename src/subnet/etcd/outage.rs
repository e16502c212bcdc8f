//! Few words about a long outage.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// How often a lasting outage is mentioned.
const REMINDER: Duration = Duration::from_secs(60);

/// Speaks when something starts to fail, once a minute while it lasts, and when it works again.
pub(super) struct Outage {
    trouble: &'static str,
    relief: &'static str,
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Outage {
    /// `trouble` and `relief` begin the lines about failure and success.
    pub(super) fn new(trouble: &'static str, relief: &'static str) -> Self {
        Self { trouble, relief, since: None, said: None }
    }

    /// It failed; the next attempt comes after `pause`.
    pub(super) fn failed(&mut self, cause: &dyn Display, pause: Duration) {
        if self.should_speak(Instant::now()) {
            let every = REMINDER.as_secs();
            warn!("{} (trying again in {pause:.1?}, reminding every {every} s): {cause}", self.trouble);
        }
    }

    /// It works.
    pub(super) fn over(&mut self) {
        self.said = None;
        if let Some(since) = self.since.take() {
            info!("{} after {:.1?}", self.relief, since.elapsed());
        }
    }

    fn should_speak(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let speak = self.said.is_none_or(|said| now.duration_since(said) >= REMINDER);
        if speak {
            self.said = Some(now);
        }
        speak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn speaks_at_once_then_once_a_minute_then_at_once_again() {
        let mut outage = Outage::new("lost", "back");
        let start = Instant::now();
        let heard: Vec<u64> =
            (0..150).filter(|second| outage.should_speak(start + Duration::from_secs(*second))).collect();
        assert_eq!(heard, [0, 60, 120]);
        outage.over();
        assert!(outage.should_speak(start + Duration::from_secs(150)));
    }
}
