//! What those who administer a cluster ask for: leases listed, reserved, released and moved, the network configuration
//! changed, a bundle for whoever is to help, and a host handed over to Go flannel.
//!
//! Decisions only; `cli` reads, shows and writes. A decision is made from a [`Roll`], which is all that etcd holds as of one
//! moment, and is a transaction that compares what it was made from: what changed meanwhile makes it void.

pub mod bundle;
pub mod bystander;
pub mod change;
pub mod handover;
pub mod life;
pub mod lint;
pub mod network;
pub mod redact;
pub mod roll;
pub mod show;
pub mod which;

pub use roll::{Expiry, InventoryEntry, Roll};
