//! Peers that exist in etcd only, and whether a host's kernel holds exactly what the leases say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab::{Etcd, Lab, LabError, Node};
use serde_json::Value;

use crate::{PATIENCE, PREFIX, Test, key};

/// A peer that a change takes away, one that gets another MAC, one that is new.
const LEAVES: u8 = 101;
const MOVES: u8 = 102;
const JOINS: u8 = 103;

/// The value of a peer's lease. `variant` is part of its MAC.
pub(crate) fn value(number: u8, variant: u8) -> String {
    format!(
        r#"{{"PublicIP":"10.64.1.{number}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:01:00:00:{variant:02x}:{number:02x}"}}}}"#
    )
}

/// The key of a peer's lease.
pub(crate) fn key_of(number: u8) -> String {
    key(format!("172.30.{number}.0/24"))
}

fn put(etcd: &Etcd, number: u8, variant: u8) -> Test {
    etcd.put(&key_of(number), value(number, variant))
}

/// Makes the peers that [`change`] changes, and waits until all hosts know them.
pub(crate) fn prepare(lab: &Lab) -> Test {
    let etcd = lab.etcd()?;
    etcd.delete(&key_of(JOINS))?;
    put(etcd, LEAVES, 0)?;
    put(etcd, MOVES, 0)?;
    all_converged(lab, PATIENCE)
}

/// One peer leaves, one has another MAC, one is new.
pub(crate) fn change(lab: &Lab) -> Test {
    let etcd = lab.etcd()?;
    etcd.delete(&key_of(LEAVES))?;
    put(etcd, MOVES, 1)?;
    put(etcd, JOINS, 0)
}

/// Waits until the kernels of all hosts hold what the leases say.
pub(crate) fn all_converged(lab: &Lab, bound: Duration) -> Test {
    let leases = leases(lab.etcd()?)?;
    lab.hosts()
        .iter()
        .try_for_each(|host| converged(host.node(), &leases, bound))
}

/// Waits until the kernel of one host holds what these leases say, and nothing else.
pub(crate) fn converged(host: &Node, leases: &BTreeMap<String, Value>, bound: Duration) -> Test {
    let want = wanted(host, leases);
    let mut have = BTreeSet::new();
    let done = lab::wait_until(bound, || {
        have = kernel(host).unwrap_or_default();
        have == want
    });
    let missing: Vec<_> = want.difference(&have).take(5).collect();
    let surplus: Vec<_> = have.difference(&want).take(5).collect();
    let name = host.name();
    assert!(
        done,
        "{name} is not as the leases say within {bound:?}: missing {missing:?}, surplus {surplus:?}"
    );
    Ok(())
}

/// All leases: `172.30.101.0-24` and its value.
pub(crate) fn leases(etcd: &Etcd) -> Result<BTreeMap<String, Value>, LabError> {
    let prefix = format!("{PREFIX}/subnets/");
    let text = etcd.ctl(["get", "--prefix", &prefix])?;
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| {
        Some((
            pair[0].strip_prefix(&prefix)?.to_owned(),
            serde_json::from_str(pair[1]).ok()?,
        ))
    });
    Ok(pairs.collect())
}

/// The entries that the leases of others mean for a host.
fn wanted(host: &Node, leases: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let own = host.address().to_string();
    let others = leases
        .iter()
        .filter(|(_, lease)| lease["PublicIP"] != own.as_str());
    let entries = others.filter_map(|(name, lease)| {
        let (net, length) = name.split_once('-')?;
        let mac = lease["BackendData"]["VtepMAC"].as_str()?;
        let ip = lease["PublicIP"].as_str()?;
        Some([
            format!("route {net}/{length} via {net}"),
            format!("neigh {net} {mac}"),
            format!("fdb {mac} {ip}"),
        ])
    });
    entries.flatten().collect()
}

/// The entries that a host has on its overlay device.
fn kernel(host: &Node) -> Result<BTreeSet<String>, LabError> {
    let text = host.sh(
        "ip -4 -j route show dev flannel.1; echo; ip -4 -j neigh show dev flannel.1; echo; bridge -j fdb show dev flannel.1",
    )?;
    let lists: Vec<Value> = serde_json::Deserializer::from_str(&text)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    let field = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let entry = |entry: &Value| {
        let pair = |a, b| Some((field(entry, a)?, field(entry, b)?));
        (pair("dst", "gateway").map(|(dst, gateway)| format!("route {dst} via {gateway}")))
            .or_else(|| pair("dst", "lladdr").map(|(dst, mac)| format!("neigh {dst} {mac}")))
            .or_else(|| pair("mac", "dst").map(|(mac, dst)| format!("fdb {mac} {dst}")))
    };
    Ok(lists
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(entry)
        .collect())
}
