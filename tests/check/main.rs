//! `rflannel check` on hosts that are well and on hosts where one thing was broken: real daemon, real etcd, real kernel. Each
//! fault is a test, and each asserts the cause by its name, and the exit code. Needs root and what `scripts/setup` installs.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "modules of a test program"
)]

mod fixture;
mod healthy;
mod host_gw;
mod leases;
mod local_faults;
mod path_faults;
mod peer;
#[path = "../support/tool.rs"]
mod tool;

use std::time::Duration;

use lab::LabError;

type Test = Result<(), LabError>;

/// Generous for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
