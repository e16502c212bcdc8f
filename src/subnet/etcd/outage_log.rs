//! Few words about a long outage.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// How often a lasting outage is mentioned.
const REMINDER: Duration = Duration::from_secs(60);

/// Speaks when something starts to fail, once more when the next attempt fails for another reason (what broke is one thing,
/// why it does not come back another), once a minute while it lasts, and when it works again.
pub(super) struct Outage {
    trouble: &'static str,
    relief: &'static str,
    since: Option<Instant>,
    said: Option<(Instant, String)>,
    /// A second reason was given.
    explained: bool,
}

impl Outage {
    /// `trouble` and `relief` begin the lines about failure and success.
    pub(super) fn new(trouble: &'static str, relief: &'static str) -> Self {
        Self {
            trouble,
            relief,
            since: None,
            said: None,
            explained: false,
        }
    }

    /// It failed; the next attempt comes after `pause`.
    pub(super) fn failed(&mut self, cause: &dyn Display, pause: Duration) {
        let cause = cause.to_string();
        if self.should_speak(Instant::now(), &cause) {
            let every = REMINDER.as_secs();
            warn!(
                "{} (trying again in {pause:.1?}, reminding every {every} s): {cause}",
                self.trouble
            );
        }
    }

    /// It works.
    pub(super) fn over(&mut self) {
        (self.said, self.explained) = (None, false);
        if let Some(since) = self.since.take() {
            info!("{} after {:.1?}", self.relief, since.elapsed());
        }
    }

    fn should_speak(&mut self, now: Instant, cause: &str) -> bool {
        self.since.get_or_insert(now);
        let speak = self.said.as_ref().is_none_or(|(at, said)| {
            let explains = said != cause && !std::mem::replace(&mut self.explained, true);
            explains || now.duration_since(*at) >= REMINDER
        });
        if speak {
            self.said = Some((now, cause.to_owned()));
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
        let mut speaks_at =
            |second: u64, cause| outage.should_speak(start + Duration::from_secs(second), cause);
        let spoken: Vec<u64> = (0..150)
            .filter(|second| speaks_at(*second, "same"))
            .collect();
        assert_eq!(spoken, [0, 60, 120]);
        outage.over();
        assert!(outage.should_speak(start + Duration::from_secs(150), "same"));
    }

    #[tokio::test(start_paused = true)]
    async fn says_once_why_it_does_not_come_back() {
        let mut outage = Outage::new("lost", "back");
        let now = Instant::now();
        let spoken = ["broken", "broken", "refused", "broken", "refused"]
            .map(|c| outage.should_speak(now, c));
        assert_eq!(spoken, [true, false, true, false, false]);
        outage.over();
        assert_eq!(
            ["broken", "refused"].map(|c| outage.should_speak(now, c)),
            [true, true]
        );
    }
}
