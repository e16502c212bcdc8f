//! Logs what is waited for, in few lines.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// How often a lasting reason to wait is repeated.
const REMINDER: Duration = Duration::from_secs(300);

/// Logs the reason to wait: once, again when it changes, and every five minutes while it lasts.
#[derive(Debug, Default)]
pub struct RetryLog {
    logged: Option<(String, Instant)>,
}

impl RetryLog {
    /// Logs that `reason` holds up the work, which is retried.
    pub fn log(&mut self, reason: &str) {
        let now = Instant::now();
        let fresh = |(logged, at): &(String, Instant)| {
            logged == reason && now.duration_since(*at) < REMINDER
        };
        if !self.logged.as_ref().is_some_and(fresh) {
            warn!(err = reason, "{reason}; retrying");
            self.logged = Some((reason.to_owned(), now));
        }
    }
}
