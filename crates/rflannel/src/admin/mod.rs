//! What those who administer a cluster ask for: leases listed, reserved, released and moved, the network configuration
//! changed, a bundle for anyone who is to help, and a host handed over to Go flannel.
//!
//! Decisions only; `cli` reads, shows and writes. A decision is made from a [`Inventory`], which is all that etcd holds as of one
//! moment, and is a transaction that compares what it was made from: what changed meanwhile makes it void.

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
