//! flannel's rules in the host's firewall: real kernel, real etcd, the real daemon, with iptables-legacy, iptables-nft and
//! nftables. Needs root and what `scripts/setup` installs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "modules of a test program"
)]

mod families;
mod host;
mod instances;
mod keep;
mod matrix;
mod missing;
mod packets;
mod rules;
mod sources;
#[path = "../support/mod.rs"]
mod support;

use lab::LabError;

type Test = Result<(), LabError>;
