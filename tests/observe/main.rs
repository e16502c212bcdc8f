//! What the daemon shows of itself, asked from outside: real daemon, real etcd, real kernel. Needs root and what
//! `scripts/setup` installs.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "modules of a test program"
)]

mod ask;
mod connections;
mod health;
#[path = "../heal/host.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod host;
mod log;
mod metrics;
mod probes;
mod scrape;
mod status;
#[path = "../support/tool.rs"]
mod tool;

use std::time::Duration;

use lab::LabError;

type Test = Result<(), LabError>;

/// Generous for a loaded machine.
const SOON: Duration = Duration::from_secs(60);
