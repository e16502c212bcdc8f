//! What is waited for, said in few lines.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// How often a lasting reason to wait is repeated.
const REMINDER: Duration = Duration::from_secs(300);

/// Says what is waited for: once, when it changes, and rarely while it lasts.
#[derive(Debug, Default)]
pub struct RetryLog {
    said: Option<(String, Instant)>,
}

impl RetryLog {
    /// Waits for `reason` to pass.
    pub fn say(&mut self, reason: &str) {
        let now = Instant::now();
        let fresh =
            |(said, at): &(String, Instant)| said == reason && now.duration_since(*at) < REMINDER;
        if !self.said.as_ref().is_some_and(fresh) {
            warn!("{reason}; trying again until it works");
            self.said = Some((reason.to_owned(), now));
        }
    }
}
