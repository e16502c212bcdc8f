//! What must hold soon after the last fault: every pair of pods reaches each other, kernels hold what the leases say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Cluster, Done, PREFIX};
use crate::host::Status;
use crate::kernel;

/// How long a host may say that another host has its key before an operator starts its daemon again.
const OPERATOR: Duration = Duration::from_secs(3);
/// Between two looks.
const POLL: Duration = Duration::from_millis(400);

/// All leases by the last component of their key.
pub type Leases = BTreeMap<String, Value>;

/// Waits until all is well; else returns what is not. Does meanwhile what an operator would do: starts a daemon again whose
/// lease is lost, and makes a new pod on a host that has another subnet.
pub fn becomes_quiet(cluster: &mut Cluster, bound: Duration) -> Done<Result<(), String>> {
    let begin = Instant::now();
    let mut lost: BTreeMap<usize, Instant> = BTreeMap::new();
    loop {
        let Some(wrong) = first_wrong(cluster)? else {
            return Ok(Ok(()));
        };
        let is_over = begin.elapsed() > bound;
        if is_over {
            return Ok(Err(format!(
                "not well {:.0?} after the last fault: {wrong}",
                begin.elapsed()
            )));
        }
        start_again_where_lost(cluster, &mut lost)?;
        std::thread::sleep(POLL);
    }
}

/// The first thing that is wrong: the cheap questions first.
fn first_wrong(cluster: &mut Cluster) -> Done<Option<String>> {
    if let Some(wrong) = (1..=cluster.hosts()).find_map(|host| status_wrong(cluster, host)) {
        return Ok(Some(wrong));
    }
    let Some(leases) = leases(cluster) else {
        return Ok(Some("etcd does not answer".into()));
    };
    for host in 1..=cluster.hosts() {
        let wrong = match lease_wrong(cluster, host, &leases) {
            Some(wrong) => Some(wrong),
            None => kernel::wrong(cluster, host, &leases)?,
        };
        if wrong.is_some() {
            return Ok(wrong);
        }
        follow_subnet(cluster, host)?;
    }
    let missing: Vec<String> = cluster
        .lab
        .ping_all(Duration::ZERO)?
        .missing()
        .map(|(from, to)| format!("h{} to h{}", from + 1, to + 1))
        .collect();
    Ok((!missing.is_empty())
        .then(|| format!("pods do not reach each other: {}", missing.join(", "))))
}

fn status_wrong(cluster: &Cluster, host: usize) -> Option<String> {
    cluster.with_host(host, |known| {
        let name = known.name().to_owned();
        if known.is_other {
            return (!known.is_live()).then(|| format!("{name} is not ready"));
        }
        let Some(status) = &known.status else {
            return Some(format!("{name} has no status yet"));
        };
        let reasons = status.reasons.join("; ");
        let is_said = |wrong: &str| Some(format!("{name} {wrong}: {}, {reasons}", status.state));
        match status {
            _ if !known.is_live() || !known.serves() => is_said("is not ready"),
            status if !status.is_watching() => is_said("does not watch the leases"),
            status if status.missing() > 0 => is_said("lacks entries in its kernel"),
            status if status.public_ip() != Some(known.home) => Some(format!(
                "{name} publishes {:?} and not {}",
                status.public_ip(),
                known.home
            )),
            _ if !cluster.disk(host, "state.json").exists() => is_said("has no state file yet"),
            status if firewall_trouble(status) => is_said("lacks firewall rules"),
            _ => None,
        }
    })
}

fn firewall_trouble(status: &Status) -> bool {
    let firewall = status
        .overlay
        .as_ref()
        .and_then(|overlay| overlay.firewall.as_ref());
    firewall.is_none_or(|firewall| firewall.trouble.is_some())
}

/// Every host has one lease, of the subnet that it says it has.
fn lease_wrong(cluster: &Cluster, host: usize, leases: &Leases) -> Option<String> {
    let (name, home, key) = cluster.with_host(host, |known| {
        (known.name().to_owned(), known.home, known.key())
    });
    let home = home.to_string();
    let own: Vec<&String> = leases
        .iter()
        .filter(|(_, lease)| lease["PublicIP"] == home.as_str())
        .map(|(key, _)| key)
        .collect();
    let is_right = own.len() == 1 && Some(own[0]) == key.as_ref();
    (!is_right).then(|| format!("{name} at {home} serves {key:?}, and etcd has its leases {own:?}"))
}

fn leases(cluster: &Cluster) -> Option<Leases> {
    let prefix = format!("{PREFIX}/subnets/");
    let text = cluster.ctl(&["get", "--prefix", &prefix]).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| {
        Some((
            pair[0].strip_prefix(&prefix)?.to_owned(),
            serde_json::from_str(pair[1]).ok()?,
        ))
    });
    Some(pairs.collect())
}

/// Makes the pods of a host that has none, or has another subnet now.
fn follow_subnet(cluster: &mut Cluster, host: usize) -> Done {
    let subnet = cluster
        .with_host(host, |known| known.subnet())
        .unwrap_or_default();
    let pod = cluster.lab.hosts()[host - 1]
        .pod()
        .map(|pod| pod.subnet.to_string().replace(".0/", ".1/"));
    let is_there = cluster.node(host).path("/sys/class/net/cni0").exists();
    if !is_there || pod.as_ref() != Some(&subnet) {
        cluster.lab.wire_pod(host)?;
    }
    Ok(())
}

fn start_again_where_lost(cluster: &mut Cluster, lost: &mut BTreeMap<usize, Instant>) -> Done {
    for host in 1..=cluster.hosts() {
        let says = cluster.with_host(host, |known| {
            let overlay = known
                .status
                .as_ref()
                .and_then(|status| status.overlay.as_ref());
            overlay.and_then(|overlay| overlay.lost.clone())
        });
        let Some(says) = says else {
            lost.remove(&host);
            continue;
        };
        if lost.entry(host).or_insert_with(Instant::now).elapsed() > OPERATOR {
            lost.remove(&host);
            cluster.record(&format!(
                "h{host} says {says:?}: an operator starts its daemon again"
            ));
            cluster.start_daemon(host)?;
        }
    }
    Ok(())
}
