//! What the daemon shows of itself: health and metrics over HTTP, and its whole state on a socket for root.
//!
//! No one collects anything here. Who does the work keeps plain numbers of his own; when someone asks, the loop and the
//! datastore's notebook are asked, and what they answer becomes one [`Report`]. So the hot path pays nothing, and a loop that no
//! longer turns cannot look healthy. [`verdict`] judges the report; health, metrics and status are three ways to write it down.

pub mod client;
mod connections;
mod health;
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
pub mod request;
mod socket;
pub mod summary;
pub mod text;
pub mod verdict;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, oneshot};

use crate::config::StatusEndpoints;
use crate::util::histogram::Histogram;
pub use names::Names;
use report::Overlay;
pub use report::Report;
pub use reporter::Reporter;

/// A question to the loop. Dropped without an answer while there is no loop yet.
#[derive(Debug)]
pub enum StatusRequest {
    Report(oneshot::Sender<Answer>),
    Peers(oneshot::Sender<PeerList>),
}

/// Where peers that can be used are probed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerList {
    /// Each family of each.
    pub targets: BTreeSet<Target>,
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
