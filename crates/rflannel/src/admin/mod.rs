//! Decides what `rflannel` changes in a cluster: listing, reserving, releasing, and moving leases, changing the network
//! configuration, collecting a support bundle, and returning a host to Go flannel.
//!
//! This module only decides; `cli` reads, prints, and writes. A decision is made from an [`Inventory`], which is all that etcd holds at one
//! revision. It becomes one transaction that compares what it was made from, so a concurrent change makes it fail.

pub mod bundle;
pub mod handover;
pub mod inventory;
pub mod lint;
pub mod liveness;
pub mod lookup;
pub mod network;
pub mod plan;
pub mod redact;
pub mod show;
pub mod validate;

pub use inventory::{Expiry, Inventory, InventoryEntry};

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}: nothing to do")]
    Already(String),
    /// The change is not possible.
    #[error("{0}")]
    Wrong(String),
}
