//! What the daemon shows of itself: health and metrics over HTTP, and its whole state on a socket for root.
//!
//! No one collects anything here. Who does the work keeps plain numbers of his own; when someone asks, the loop and the
//! datastore's notebook are asked, and what they answer becomes one [`Report`]. So the hot path pays nothing, and a loop that no
//! longer turns cannot look healthy. [`verdict`] judges the report; health, metrics and status are three ways to write it down.

pub mod client;
mod http;
pub mod leftovers;
mod metrics;
mod names;
pub mod offline;
pub mod peers;
mod probe_stats;
mod prober;
mod process;
pub mod report;
mod reporter;
mod socket;
pub mod summary;
pub mod text;
pub mod verdict;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::config::StatusEndpoints;
use crate::util::histogram::Histogram;
pub use names::Names;
use report::Overlay;
pub use report::Report;
pub use reporter::Reporter;

/// Connections at a time. One more ends the oldest: those who idle go, those who ask are answered.
const LIMIT: usize = 64;
/// An answer takes milliseconds. The loop may take some seconds to give it.
const LONGEST: Duration = Duration::from_secs(10);

/// A question to the loop. Dropped without an answer while there is no loop yet.
#[derive(Debug)]
pub enum StatusRequest {
    Report(oneshot::Sender<Answer>),
    /// Where peers that can be used are probed: each family of each.
    Peers(oneshot::Sender<BTreeSet<Target>>),
}

/// One family of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub subnet: IpNetwork,
    /// The address in it that answers.
    pub to: IpAddr,
    /// The address that a probe leaves from; the kernel's choice where the host has none in the overlay.
    pub from: Option<IpAddr>,
}

/// What the loop knows.
#[derive(Debug, Clone)]
pub struct Answer {
    pub overlay: Overlay,
    pub timings: Timings,
}

#[derive(Debug, Clone, Default)]
pub struct Timings {
    /// From sending a batch of writes to the kernel up to its last acknowledgement.
    pub batches: Histogram,
    /// From the arrival of changes up to the kernel's answer.
    pub delays: Histogram,
}

/// Opens the windows that are asked for, and serves every client.
pub async fn serve(status_endpoints: &StatusEndpoints, reporter: Reporter) -> Infallible {
    let health = async {
        match status_endpoints.health {
            Some(address) => http::serve(address, reporter.clone()).await,
            None => pending().await,
        }
    };
    let status = async {
        match &status_endpoints.status {
            Some(path) => socket::serve(path, reporter.clone()).await,
            None => pending().await,
        }
    };
    let probing = reporter.probe();
    tokio::select! { never = health => never, never = status => never, never = probing => never }
}

/// Answers for a loop that has yet to begin.
pub async fn not_yet(requests: &mut mpsc::Receiver<StatusRequest>) -> Infallible {
    while let Some(ask) = requests.recv().await {
        drop(ask);
    }
    pending().await
}

/// Connections that are served now. They end with this value.
#[derive(Debug, Default)]
struct Connections {
    visits: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves another one.
    fn serve(&mut self, visit: impl Future<Output = ()> + Send + 'static) {
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
