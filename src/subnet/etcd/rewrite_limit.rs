//! Not fighting over a key.

use std::time::Duration;

use tokio::time::Instant;

/// So many times in `WINDOW` a key is repaired; who has changed it again by then is a daemon, not an operator.
const LIMIT: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

/// The times at which a key was repaired.
#[derive(Debug, Default)]
pub(super) struct RewriteLimit(Vec<Instant>);

impl RewriteLimit {
    /// Whether to put the key right once more, which counts.
    pub(super) fn may_write(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WINDOW);
        let may = self.0.len() < LIMIT;
        if may {
            self.0.push(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_in_ten_minutes() {
        let (mut rewrite_limit, start) = (RewriteLimit::default(), Instant::now());
        let wrote = (0..1300).filter(|s| rewrite_limit.may_write(start + Duration::from_secs(*s)));
        assert_eq!(
            wrote.collect::<Vec<_>>(),
            [0, 1, 2, 600, 601, 602, 1200, 1201, 1202]
        );
    }
}
