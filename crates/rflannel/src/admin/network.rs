//! What becomes of a cluster whose network configuration changes: pure.
//!
//! Daemons read it when they start, and go on with what they have read; so a change makes a cluster of two kinds of hosts
//! until the last one has been restarted. What a host of the new kind makes of each lease is asked of the daemon's own code.

use std::collections::BTreeMap;

use super::{Inventory, InventoryEntry, validate};
use flanneld::backend::{self, Backend};
use flanneld::kernel::LinkSpec;
use flanneld::subnet::etcd::dump::{ConfigWrite, Record};
use flanneld::subnet::etcd::store::Before;
use flanneld::subnet::{Lease, NetworkConfig, Subnets};
use flanneld::util::family::Family;

/// What a new configuration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The transaction.
    pub write: ConfigWrite,
    /// What is there now, if anything is.
    pub old: Option<String>,
    /// What a change means for all hosts.
    pub changes: Vec<String>,
    /// What becomes of each lease.
    pub hosts: Vec<Host>,
    /// What breaks for all of them.
    pub breaks: Vec<String>,
}

/// What becomes of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The lease and whose it is.
    pub title: String,
    /// What its host does at its next start.
    pub fate: String,
    /// Why the change breaks it.
    pub breaks: Vec<String>,
}

/// Why a configuration is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is there already.
    #[error("the network configuration is this one: nothing to do")]
    Already,
    /// No daemon can use it.
    #[error("{0}")]
    Unusable(String),
}

impl Plan {
    /// Whether running leases break.
    pub fn is_harmful(&self) -> bool {
        !self.breaks.is_empty() || self.hosts.iter().any(|host| !host.breaks.is_empty())
    }
}

/// Reads a configuration as the daemon does, its backend's options as well.
///
/// # Errors
/// What the daemon would say.
pub fn parse(value: &[u8]) -> Result<(NetworkConfig, Box<dyn Backend>), String> {
    let config = NetworkConfig::parse(value).map_err(|why| why.to_string())?;
    let backend = validate::backend(&config).map_err(|why| why.to_string())?;
    Ok((config, backend))
}

/// What a configuration says, defaults filled in, a line each.
pub fn describe(config: &NetworkConfig, backend: &dyn Backend) -> Vec<String> {
    let ranges = config.ranges.iter().map(|range| {
        let [count, len] = [
            range.subnet_count().to_string(),
            range.subnet_len.to_string(),
        ];
        let (first, last) = (range.subnet_min, range.subnet_max);
        format!(
            "network   {}, {count} subnets of /{len} from {first} to {last}",
            range.network
        )
    });
    let link = backend.links().into_iter().next().map(|(_, link)| link);
    let details = link
        .as_ref()
        .map(|link| format!(", VNI {}, {}", link.vni, details(link)));
    let tunnel = Some(format!(
        "backend   {}{}",
        config.backend_type,
        details.unwrap_or_default()
    ));
    let direct = backend::reads_routes(config).then(|| match link {
        Some(_) => "routing   direct where hosts share a network".to_owned(),
        None => "routing   direct: hosts must share a network".to_owned(),
    });
    let firewall = format!(
        "firewall  {}",
        if config.nftables {
            "nftables"
        } else {
            "iptables"
        }
    );
    ranges
        .chain(tunnel)
        .chain(direct)
        .chain([firewall])
        .collect()
}

fn details(link: &LinkSpec) -> String {
    let port = if link.port == 0 {
        "the kernel's UDP port (8472)".into()
    } else {
        format!("UDP port {}", link.port)
    };
    let extras = [(link.gbp, ", GBP"), (link.learning, ", learning")];
    let extras: String = extras
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| *name)
        .collect();
    format!("{port}{extras}")
}

/// What writing `value` over `old` does to the cluster as it is.
///
/// # Errors
/// When no daemon could use it, or it is there already.
pub fn change(inventory: &Inventory, old: Option<&Record>, value: &[u8]) -> Result<Plan, Refusal> {
    let value = value.trim_ascii();
    let (config, backend) = parse(value).map_err(Refusal::Unusable)?;
    if old.is_some_and(|old| old.value.trim_ascii() == value) {
        return Err(Refusal::Already);
    }
    let before = old.and_then(|old| parse(&old.value).ok());
    let (changes, breaks) = match &before {
        Some((was, links)) => differences((was, &**links), (&config, &*backend)),
        None => (Vec::new(), Vec::new()),
    };
    let write = ConfigWrite {
        value: value.to_vec(),
        before: old.map_or(Before::Absent, |old| Before::At(old.modified)),
        leases_as_of: inventory.revision,
    };
    let hosts = hosts(inventory, before.as_ref().map(|(was, _)| was), &config);
    let breaks = if hosts.is_empty() { Vec::new() } else { breaks };
    let old = old.map(|old| String::from_utf8_lossy(&old.value).trim().to_owned());
    Ok(Plan {
        write,
        old,
        changes,
        hosts,
        breaks,
    })
}

/// What changes for all hosts, and what of it breaks the overlay while there are hosts of both kinds.
fn differences(
    (was, old): (&NetworkConfig, &dyn Backend),
    (config, new): (&NetworkConfig, &dyn Backend),
) -> (Vec<String>, Vec<String>) {
    let (mut changes, mut breaks) = (Vec::new(), Vec::new());
    for family in Family::ALL {
        changes.extend(network_change(was, config, family));
    }
    if let (Some((_, old)), Some((_, new))) = (
        old.links().into_iter().next(),
        new.links().into_iter().next(),
    ) {
        breaks.extend(splits(&old, &new));
        changes.extend(tunnel_changes(&old, &new));
    }
    if old.mtu() != new.mtu() {
        changes.push(
            "the MTU changes with the next start: docker and the pods have to be restarted after it".into(),
        );
    }
    if was.backend_type != config.backend_type {
        let (from, to) = (&was.backend_type, &config.backend_type);
        match backend::is_mixable(was) && backend::is_mixable(config) {
            true => changes.push(format!(
                "the backend changes from {from} to {to} with each host's next start; hosts of both kinds reach each other \
                 where they are directly connected"
            )),
            false => breaks.push(format!(
                "the backend changes from {from} to {to}: hosts of the old and of the new kind do not reach each other until \
                 the last host has been restarted{}",
                backend::between(was, config)
            )),
        }
    } else if backend::reads_routes(was) != backend::reads_routes(config) {
        changes.push(
            "DirectRouting changes with each host's next start; hosts of both kinds reach each other".into(),
        );
    }
    if was.nftables != config.nftables {
        changes.push(
            "the firewall's rules go to the other program with each host's next start, without a gap".into(),
        );
    }
    (changes, breaks)
}

fn network_change(was: &NetworkConfig, config: &NetworkConfig, family: Family) -> Option<String> {
    match (was.ranges.get(family), config.ranges.get(family)) {
        (Some(old), Some(new)) if old.network != new.network => Some(format!(
            "the network changes from {} to {}: until its restart a host does not use leases outside {}, and masquerades \
             what goes there if it masquerades",
            old.network, new.network, old.network
        )),
        (None, Some(new)) => Some(format!(
            "{family} comes with each host's next start, in {}; hosts of both kinds reach each other as before",
            new.network
        )),
        (Some(old), None) => Some(format!(
            "{family} goes with each host's next start, from {}",
            old.network
        )),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn splits(old: &LinkSpec, new: &LinkSpec) -> Option<String> {
    let apart = "hosts of the old and of the new kind do not reach each other: the overlay is in two parts until the last host \
                 has been restarted";
    if old.vni != new.vni {
        let name = &old.name;
        return Some(format!(
            "the VNI changes from {} to {}: {apart}; {name} stays on each host: ip link del {name}",
            old.vni, new.vni
        ));
    }
    (old.port != new.port).then(|| {
        format!(
            "the UDP port changes from {} to {}: {apart}",
            port(old),
            port(new)
        )
    })
}

fn port(link: &LinkSpec) -> String {
    if link.port == 0 {
        "the kernel's (8472)".into()
    } else {
        link.port.to_string()
    }
}

fn tunnel_changes(old: &LinkSpec, new: &LinkSpec) -> Vec<String> {
    let gbp = (old.gbp != new.gbp).then(|| {
        "GBP changes: each host's device is made anew at its next start, and packets with a group mark reach only hosts that have \
         it"
        .to_owned()
    });
    let learning = (old.learning != new.learning)
        .then(|| "learning changes with each host's next start".to_owned());
    gbp.into_iter().chain(learning).collect()
}

fn hosts(inventory: &Inventory, was: Option<&NetworkConfig>, config: &NetworkConfig) -> Vec<Host> {
    let leases: Vec<Lease> = inventory.leases().cloned().collect();
    let problems = |config: &NetworkConfig| validate::problems(config, &leases).unwrap_or_default();
    let (before, mut after) = (was.map(problems).unwrap_or_default(), problems(config));
    let in_use = inventory
        .entries
        .iter()
        .filter(|entry| !entry.public().is_empty());
    in_use
        .map(|entry| host(entry, config, &fresh(entry.subnets(), &before, &mut after)))
        .collect()
}

/// What is wrong with a lease only under the new configuration.
fn fresh(
    subnets: Subnets,
    before: &BTreeMap<Subnets, Vec<String>>,
    after: &mut BTreeMap<Subnets, Vec<String>>,
) -> Vec<String> {
    let known = before.get(&subnets);
    let all = after.remove(&subnets).unwrap_or_default();
    all.into_iter()
        .filter(|why| {
            why.starts_with("not used") && !known.is_some_and(|known| known.contains(why))
        })
        .collect()
}

fn host(entry: &InventoryEntry, config: &NetworkConfig, refused: &[String]) -> Host {
    let subnets = entry.subnets();
    let moves: Vec<String> = Family::ALL
        .into_iter()
        .filter_map(|family| moves(config, &subnets, family))
        .collect();
    let gains = Family::ALL
        .into_iter()
        .filter(|family| config.ranges.get(*family).is_some() && subnets.of(*family).is_none());
    let gains: Vec<String> = gains
        .map(|family| format!(", and gets one of {family}"))
        .collect();
    let fate = match moves.is_empty() {
        true => format!("keeps its subnet{}", gains.concat()),
        false => {
            "gets another subnet at its next start; docker and the pods there have to be restarted"
                .into()
        }
    };
    let others = refused
        .iter()
        .filter(|why| moves.is_empty() || !why.contains("not a /"));
    let breaks = moves
        .iter()
        .cloned()
        .chain(others.map(|why| format!("{why} (until its restart)")))
        .collect();
    Host {
        title: format!("{} of {}", entry.title(), entry.whose()),
        fate,
        breaks,
    }
}

fn moves(config: &NetworkConfig, subnets: &Subnets, family: Family) -> Option<String> {
    let subnet = subnets.of(family)?;
    match config.ranges.get(family) {
        None => Some(format!("{subnet} goes: {family} is off")),
        Some(range) if !range.contains(subnet) => Some(format!(
            "{subnet} is not a /{} of {}",
            range.subnet_len, range.network
        )),
        Some(range) if !range.fits(subnet) => Some(format!(
            "{subnet} is not from {} to {}",
            range.subnet_min, range.subnet_max
        )),
        Some(_) => None,
    }
}

/// A plan as people read it.
pub fn text(inventory: &Inventory, plan: &Plan) -> String {
    let mut lines = vec![format!("{}/config", inventory.prefix)];
    lines.extend(plan.old.iter().map(|old| format!("- {old}")));
    lines.push(format!("+ {}", String::from_utf8_lossy(&plan.write.value)));
    lines.extend(plan.changes.iter().map(|change| format!("note: {change}")));
    lines.extend(plan.breaks.iter().map(|why| format!("breaks: {why}")));
    for host in &plan.hosts {
        lines.push(format!("lease {}: {}", host.title, host.fate));
        lines.extend(host.breaks.iter().map(|why| format!("  breaks: {why}")));
    }
    lines.push(match plan.hosts.len() {
        0 => "nobody has a lease: nothing that runs changes".into(),
        count => format!(
            "{count} leases; each host goes on as before until its flanneld is restarted, new hosts start with the new configuration"
        ),
    });
    super::show::clean(&(lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests;
