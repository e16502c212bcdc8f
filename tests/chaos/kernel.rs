//! Whether the kernel of a host holds what the leases say, looked at from outside.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::{Cluster, Done};
use crate::quiet::Leases;

/// Bytes that VXLAN needs.
const OVERHEAD: u32 = 50;

/// The first thing that is wrong in the kernel of a host.
pub fn wrong(cluster: &Cluster, host: usize, leases: &Leases) -> Done<Option<String>> {
    let (name, home, is_other) = cluster.with_host(host, |known| {
        (
            known.name().to_owned(),
            known.home.to_string(),
            known.is_other,
        )
    });
    if is_other {
        return Ok(None);
    }
    let (want, have) = (wanted(leases, &home), held(cluster, host)?);
    let first = |set: Vec<&String>| {
        format!(
            "{} ({:?}…)",
            set.len(),
            set.iter().take(3).collect::<Vec<_>>()
        )
    };
    if want != have {
        let missing = first(want.difference(&have).collect());
        let surplus = first(have.difference(&want).collect());
        return Ok(Some(format!(
            "the kernel of {name} lacks {missing}, and has too many: {surplus}"
        )));
    }
    let shown = cluster.sh(
        host,
        "cat /sys/class/net/eth0/mtu /sys/class/net/flannel.1/mtu; sed -n 's/FLANNEL_MTU=//p' /run/flannel/subnet.env",
    )?;
    let mtu: Vec<u32> = shown.lines().filter_map(|line| line.parse().ok()).collect();
    if !matches!(mtu[..], [eth0, device, file] if device == file && device + OVERHEAD == eth0) {
        return Ok(Some(format!(
            "{name}: the MTUs of eth0, flannel.1, and subnet.env are {mtu:?}"
        )));
    }
    let rules = cluster.sh(
        host,
        "{ nft list ruleset; iptables-save; } 2>/dev/null | grep -ci flannel || true",
    )?;
    Ok((rules.trim() == "0").then(|| format!("{name} has no firewall rules")))
}

/// The entries that the leases of others mean for a host.
fn wanted(leases: &Leases, own: &str) -> BTreeSet<String> {
    let others = leases.iter().filter(|(_, lease)| lease["PublicIP"] != own);
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
fn held(cluster: &Cluster, host: usize) -> Done<BTreeSet<String>> {
    let text = cluster.sh(
        host,
        "for what in route neigh; do ip -4 -j $what show dev flannel.1 || true; done; bridge -j fdb show dev flannel.1 || true",
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
