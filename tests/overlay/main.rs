//! The overlay end to end: the real daemon on hosts made of namespaces, the real kernel, a real etcd. Needs root and what
//! `scripts/setup` installs.

mod address;
mod adopt;
mod assertions;
mod cni;
mod command;
mod direct;
mod families;
mod go;
mod host_gw;
mod hostile;
mod iface;
mod inside;
mod instances;
mod mesh;
mod mistakes;
mod restart;
mod retry;
mod runbook;
mod secure;
mod service;
#[path = "../support/mod.rs"]
mod support;

use lab::{Lab, LabError, LabOptions, wait_until};
use support::PATIENCE;

type Test = Result<(), LabError>;

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Hosts lease from 172.30.240.0 on: subnets below are free for leases that a test invents.
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"vxlan"}}"#;

fn options() -> LabOptions {
    LabOptions::new(FLANNELD).network(NETWORK)
}

/// Hosts and etcd with the network configuration; no daemon yet.
fn prepared(options: LabOptions, hosts: u8) -> Result<Lab, LabError> {
    let mut lab = Lab::bare(options)?;
    lab.start_etcd()?;
    lab.add_hosts(hosts)?;
    lab.configure()?;
    Ok(lab)
}

/// Waits for what must come.
#[track_caller]
fn eventually(what: &str, done: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, done), "waited in vain: {what}");
}
