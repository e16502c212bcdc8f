//! Changes of flannel's objects by other programs are repaired: real kernel, real etcd, the real daemon.
//!
//! The bound of every wait is far below the period of the regular resync (30 s), so that what passes was noticed, not
//! stumbled upon. Needs root and what `scripts/setup` installs.

#![allow(clippy::panic, unreachable_pub, reason = "modules of a test program")]

mod disturbances;
mod host;
mod inject;
mod ipv6;
mod lost;
mod off_device;
mod offload;
mod others;
mod ownership;
mod saved_state;
mod slow;
#[path = "../support/tool.rs"]
mod tool;
mod underlay;

use std::time::Duration;

use lab::LabError;

type Test = Result<(), LabError>;

/// Generous for a loaded machine, and less than the resync's period.
const SOON: Duration = Duration::from_secs(15);

/// The same where a peer is to be gone, whose key is missing for 10 s first.
const GONE: Duration = Duration::from_secs(30);
