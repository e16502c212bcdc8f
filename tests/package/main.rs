//! The packages: the Debian one on hosts that systemd runs: what it holds, its life from installation to purge, and the migration of a host
//! of Go flannel's and back; the RPM one in a root directory of its own. Needs root and what `scripts/setup` and `scripts/test` install.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod build;
mod contents;
mod lifecycle;
mod migration;
mod release;
mod rpm;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use lab::{Lab, LabOptions};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// A lab with etcd and one plain host, which has the certificates for the others; no network configuration yet.
fn cluster(options: LabOptions) -> Lab {
    let mut lab = Lab::bare(options).unwrap();
    lab.start_etcd().unwrap();
    lab.add_hosts(1).unwrap();
    lab
}
