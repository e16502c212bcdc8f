//! What happens to hosts when something happens to etcd, to their own lease or to the daemon: real daemons and pods in a
//! lab, a real etcd of three members with mutual TLS. Needs root and what `scripts/setup` installs.
//!
//! In every outage pods ping each other without a gap, nothing in the kernel changes, the daemon goes on running, few
//! lines are logged, and what changed in etcd meanwhile is in the kernel soon after. `docs/internals/fault-matrix.md` lists all.
#![allow(clippy::expect_used, reason = "a helper fails its test")]

mod access;
mod clock;
mod fence;
mod growth;
mod history;
mod lease;
mod limits;
mod members;
mod monitor;
mod outage;
mod paths;
mod peers;
mod process;

use std::time::Duration;

use lab::{Lab, LabError, LabOptions, Node, wait_until};

type Test = Result<(), LabError>;

/// Root of all keys.
const PREFIX: &str = "/kubernetes/network";

/// Real hosts get the first subnets; those from 172.30.100.0 on are for peers that exist in etcd only.
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.1.0","SubnetMax":"172.30.9.0","Backend":{"Type":"vxlan"}}"#;

/// Bound of waits for things that take a moment: only a real fault reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bound of what etcd tells at once, and is repaired at once.
const SECONDS: Duration = Duration::from_secs(15);

/// A lab with hosts and three members.
fn options(hosts: u8) -> LabOptions {
    LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
        .hosts(hosts)
        .etcd_members(3)
        .prefix(PREFIX)
        .network(NETWORK)
}

/// Starts a lab and waits until all pods reach each other.
fn start(options: LabOptions) -> Result<Lab, LabError> {
    let lab = Lab::start(options)?;
    connected(&lab)?;
    lab.hosts().iter().for_each(|host| settled(host.node()));
    Ok(lab)
}

/// The kernel takes a second or two before it makes the link-local address usable, and says so then.
fn settled(host: &Node) {
    let tentative = || {
        host.sh("ip -6 addr show tentative")
            .is_ok_and(|text| text.is_empty())
    };
    must("no address is tentative", PATIENCE, tentative);
}

/// Waits until every pod reaches every other.
fn connected(lab: &Lab) -> Test {
    let missing: Vec<_> = lab.ping_all(PATIENCE)?.missing().collect();
    assert!(
        missing.is_empty(),
        "pods that do not reach each other: {missing:?}"
    );
    Ok(())
}

/// Waits for something that must happen within `bound`.
fn must(what: &str, bound: Duration, done: impl FnMut() -> bool) {
    assert!(wait_until(bound, done), "not within {bound:?}: {what}");
}

/// Breaks all connections of a host to etcd.
fn disconnect(host: &Node) -> Test {
    // `ss` complains and does it all the same.
    host.sh("ss -K dport = :2379 >/dev/null 2>&1 || true")
        .map(|_| ())
}

/// The log of all daemons that ran on this host.
fn log(host: &Node) -> String {
    host.read("/run/flanneld.log").unwrap_or_default()
}

/// The key of a subnet: `172.30.1.0` of `172.30.1.0/24`.
fn key(subnet: impl std::fmt::Display) -> String {
    format!("{PREFIX}/subnets/{}", subnet.to_string().replace('/', "-"))
}

/// The key of a host's lease.
fn own_key(lab: &Lab, index: usize) -> String {
    let pod = lab.hosts()[index - 1].pod().expect("the host has a pod");
    key(pod.subnet)
}

/// Whether a key has this value.
fn holds(lab: &Lab, key: &str, value: &Option<String>) -> bool {
    lab.etcd()
        .is_ok_and(|etcd| etcd.get(key).is_ok_and(|now| now == *value))
}

/// The etcd lease that a key hangs on, as `etcdctl lease` wants it.
fn lease_id_of(lab: &Lab, key: &str) -> Result<String, LabError> {
    let text = lab.etcd()?.ctl(["get", key, "--write-out=json"])?;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(format!(
        "{:x}",
        answer["kvs"][0]["lease"].as_u64().unwrap_or_default()
    ))
}
