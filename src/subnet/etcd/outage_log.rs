//! Log lines about an outage: few, however long it lasts.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// How often a lasting outage is logged again.
const REMINDER: Duration = Duration::from_secs(60);

/// Logs when something starts to fail, once more when the next attempt fails for another reason (what broke is one thing,
/// why it does not come back another), once a minute while it lasts, and when it works again.
pub(super) struct Outage {
    trouble: &'static str,
    relief: &'static str,
    since: Option<Instant>,
    logged: Option<(Instant, String)>,
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
            logged: None,
            explained: false,
        }
    }

    /// It failed; the next attempt comes after `pause`.
    pub(super) fn failed(&mut self, cause: &dyn Display, pause: Duration) {
        let cause = cause.to_string();
        if self.should_log(Instant::now(), &cause) {
            warn!(
                err = cause,
                retry_in_s = pause.as_secs_f64(),
                "{} (trying again in {pause:.1?}): {cause}",
                self.trouble
            );
        }
    }

    pub(super) fn over(&mut self) {
        (self.logged, self.explained) = (None, false);
        if let Some(since) = self.since.take() {
            let took = since.elapsed();
            info!(
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "{} after {took:.1?}", self.relief
            );
        }
    }

    fn should_log(&mut self, now: Instant, cause: &str) -> bool {
        self.since.get_or_insert(now);
        let is_due = self.logged.as_ref().is_none_or(|(at, logged)| {
            let explains = logged != cause && !std::mem::replace(&mut self.explained, true);
            explains || now.duration_since(*at) >= REMINDER
        });
        if is_due {
            self.logged = Some((now, cause.to_owned()));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn logs_at_once_then_once_a_minute_then_at_once_again() {
        let mut outage = Outage::new("lost", "back");
        let start = Instant::now();
        let mut logs_at =
            |second: u64, cause| outage.should_log(start + Duration::from_secs(second), cause);
        let logged_lines: Vec<u64> = (0..150).filter(|second| logs_at(*second, "same")).collect();
        assert_eq!(logged_lines, [0, 60, 120]);
        outage.over();
        assert!(outage.should_log(start + Duration::from_secs(150), "same"));
    }

    #[tokio::test(start_paused = true)]
    async fn logs_once_why_it_does_not_come_back() {
        let mut outage = Outage::new("lost", "back");
        let now = Instant::now();
        let logged_lines =
            ["broken", "broken", "refused", "broken", "refused"].map(|c| outage.should_log(now, c));
        assert_eq!(logged_lines, [true, false, true, false, false]);
        outage.over();
        assert_eq!(
            ["broken", "refused"].map(|c| outage.should_log(now, c)),
            [true, true]
        );
    }
}
