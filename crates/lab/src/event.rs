//! Defines the progress events of a lab that is being built.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// One step done on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Name of the node: `h1`, `e1`.
    pub node: String,
    pub stage: Stage,
}

/// Stages of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Its namespaces exist, and it is connected to the switch.
    Booted(Ipv4Addr),
    /// The etcd member answers.
    EtcdUp,
    /// `flanneld` runs.
    FlanneldStarted,
    /// `flanneld` sent READY=1; its subnet, as in `subnet.env`.
    FlanneldReady(String),
    /// The pod has this address.
    PodUp(IpAddr),
}

/// Receiver of events.
#[derive(Clone)]
pub struct Report(Arc<dyn Fn(Event) + Send + Sync>);

impl Report {
    /// Calls `observer` with each event, in the thread where it happens.
    pub fn to(observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    pub(super) fn send(&self, node: &str, stage: Stage) {
        (self.0)(Event {
            node: node.to_owned(),
            stage,
        });
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::to(|_| ())
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}
