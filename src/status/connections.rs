//! Connections: a bounded number at a time, each for a bounded time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Connections at a time. One more ends the oldest: those who idle go, those who ask are answered.
const LIMIT: usize = 64;
/// An answer takes milliseconds. The loop may take some seconds to give it.
const LONGEST: Duration = Duration::from_secs(10);

/// Those who are served now. They go with this value.
#[derive(Debug, Default)]
pub(super) struct Connections {
    visits: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves another one.
    pub(super) fn serve(&mut self, visit: impl Future<Output = ()> + Send + 'static) {
        while self.visits.try_join_next().is_some() {}
        self.oldest_first.retain(|visit| !visit.is_finished());
        if self.oldest_first.len() >= LIMIT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        let visit = async move { timeout(LONGEST, visit).await.unwrap_or_default() };
        self.oldest_first.push_back(self.visits.spawn(visit));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_is_served_however_many_idle() {
        let mut connections = Connections::default();
        for _ in 0..LIMIT * 3 {
            connections.serve(pending());
            tokio::task::yield_now().await;
        }
        assert!(
            connections.visits.len() <= LIMIT + 1,
            "{}",
            connections.visits.len()
        );
        let (done, asked) = oneshot::channel();
        connections.serve(async { done.send(()).unwrap() });
        asked.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn connections_end_after_the_limit() {
        let mut connections = Connections::default();
        connections.serve(pending());
        tokio::time::sleep(LONGEST * 2).await;
        connections.serve(pending());
        assert_eq!(
            (connections.oldest_first.len(), connections.visits.len()),
            (1, 1)
        );
    }
}
