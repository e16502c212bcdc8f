//! Predicts the effects of a new network configuration on a cluster. Pure.
//!
//! Daemons read the configuration only at startup, so a change divides a cluster into restarted and other hosts until the last
//! host is restarted. The daemon's own code decides what a restarted host does with each lease.

use std::collections::BTreeMap;

use super::{Inventory, InventoryEntry, Refusal, validate};
use flanneld::backend::{self, Backend};
use flanneld::kernel::LinkSpec;
use flanneld::subnet::etcd::dump::{ConfigWrite, Record};
use flanneld::subnet::etcd::store::Before;
use flanneld::subnet::{Lease, NetworkConfig, Subnets};
use flanneld::util::family::Family;

/// Effects of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub write: ConfigWrite,
    pub old: Option<String>,
    /// Effects on all hosts.
    pub changes: Vec<String>,
    /// Effects on each lease.
    pub hosts: Vec<Host>,
    /// What breaks for all hosts.
    pub breaks: Vec<String>,
}

/// Effects on one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The lease and its host.
    pub title: String,
    /// What the host does at its next start.
    pub fate: String,
    /// What breaks for the host.
    pub breaks: Vec<String>,
}

impl Plan {
    /// Returns whether running leases break.
    pub fn is_harmful(&self) -> bool {
        !self.breaks.is_empty() || self.hosts.iter().any(|host| !host.breaks.is_empty())
    }
}

/// Parses a configuration as the daemon does, including the options of its backend.
pub fn parse(value: &[u8]) -> Result<(NetworkConfig, Box<dyn Backend>), String> {
    let config = NetworkConfig::parse(value).map_err(|why| why.to_string())?;
    let backend = validate::backend(&config).map_err(|why| why.to_string())?;
    Ok((config, backend))
}

/// Describes a configuration with all defaults, one line for each fact.
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
    let extras = [(link.gbp, ", GBP"), (link.learning, ", learning")];
    let extras: String = extras
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| *name)
        .collect();
    format!("UDP port {}{extras}", port(link))
}

/// Predicts what writing `value` over `old` does to the cluster. Fails if no daemon could use it, or etcd holds it already.
pub fn change(inventory: &Inventory, old: Option<&Record>, value: &[u8]) -> Result<Plan, Refusal> {
    let value = value.trim_ascii();
    let (config, backend) = parse(value).map_err(Refusal::Wrong)?;
    if old.is_some_and(|old| old.value.trim_ascii() == value) {
        return Err(Refusal::Already(
            "etcd already holds this network configuration".into(),
        ));
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

/// Returns what changes for all hosts, and what of it breaks the overlay until the last host is restarted.
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
            "the MTU changes with the next start of each host's flanneld; restart docker and the pods after it".into(),
        );
    }
    if was.backend_type != config.backend_type {
        let (from, to) = (&was.backend_type, &config.backend_type);
        if backend::is_mixable(was) && backend::is_mixable(config) {
            changes.push(format!(
            "the backend changes from {from} to {to} with the next start of each host's flanneld; restarted hosts and other hosts reach \
             each other where they are directly connected"
        ))
        } else {
            breaks.push(format!(
            "the backend changes from {from} to {to}: restarted hosts and other hosts do not reach each other until the last host is \
             restarted{}",
            backend::between(was, config)
        ))
        }
    } else if backend::reads_routes(was) != backend::reads_routes(config) {
        changes.push(
            "DirectRouting changes with the next start of each host's flanneld; all hosts still reach each other".into(),
        );
    }
    if was.nftables != config.nftables {
        changes.push(
            "the firewall rules move to the other program with the next start of each host's flanneld, without a gap".into(),
        );
    }
    (changes, breaks)
}

fn network_change(was: &NetworkConfig, config: &NetworkConfig, family: Family) -> Option<String> {
    match (was.ranges.get(family), config.ranges.get(family)) {
        (Some(old), Some(new)) if old.network != new.network => Some(format!(
            "the network changes from {} to {}: a host whose flanneld was not restarted ignores leases outside {}, and one whose \
             flanneld was restarted ignores leases outside {}; with -ip-masq, a host also masquerades packets to subnets that it ignores",
            old.network, new.network, old.network, new.network
        )),
        (None, Some(new)) => Some(format!(
            "{family} is added with the next start of each host's flanneld, in {}; all hosts still reach each other",
            new.network
        )),
        (Some(old), None) => Some(format!(
            "{family} is removed with the next start of each host's flanneld, from {}",
            old.network
        )),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn splits(old: &LinkSpec, new: &LinkSpec) -> Option<String> {
    let apart =
        "restarted hosts and other hosts do not reach each other until the last host is restarted";
    if old.vni != new.vni {
        let name = &old.name;
        return Some(format!(
            "the VNI changes from {} to {}: {apart}; {name} remains on each host: ip link del {name}",
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
        "8472 (the kernel's default)".into()
    } else {
        link.port.to_string()
    }
}

fn tunnel_changes(old: &LinkSpec, new: &LinkSpec) -> Vec<String> {
    let gbp = (old.gbp != new.gbp).then(|| {
        "GBP changes: each host's device is created again at its next start, and packets with a group mark reach only hosts \
         that have GBP"
        .to_owned()
    });
    let learning = (old.learning != new.learning)
        .then(|| "learning changes with the next start of each host's flanneld".to_owned());
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

/// Returns why the new configuration rejects a lease that the old one accepts.
fn fresh(
    subnets: Subnets,
    before: &BTreeMap<Subnets, Vec<validate::Problem>>,
    after: &mut BTreeMap<Subnets, Vec<validate::Problem>>,
) -> Vec<String> {
    let known = before.get(&subnets);
    let is_new = |problem: &validate::Problem| !known.is_some_and(|known| known.contains(problem));
    let all = after.remove(&subnets).unwrap_or_default();
    all.into_iter()
        .filter(is_new)
        .filter_map(|problem| match problem {
            validate::Problem::Rejected(why) => Some(why),
            validate::Problem::Conflict(_) | validate::Problem::SharedAddress(_) => None,
        })
        .collect()
}

fn host(entry: &InventoryEntry, config: &NetworkConfig, rejected: &[String]) -> Host {
    let subnets = entry.subnets();
    let moves: Vec<String> = Family::ALL
        .into_iter()
        .filter_map(|family| moves(config, &subnets, family))
        .collect();
    let gains = Family::ALL
        .into_iter()
        .filter(|family| config.ranges.get(*family).is_some() && subnets.of(*family).is_none());
    let gains: Vec<String> = gains
        .map(|family| format!(", and gets an {family} subnet"))
        .collect();
    let fate = if moves.is_empty() {
        format!("keeps its subnet{}", gains.concat())
    } else {
        "gets another subnet at its next start; then restart docker and the pods there".into()
    };
    // A subnet outside the network is rejected for that reason, which `moves` states already.
    let is_outside = |family: Family| {
        let range = config.ranges.get(family);
        subnets
            .of(family)
            .is_some_and(|subnet| range.is_none_or(|range| !range.contains(subnet)))
    };
    let is_moved_out = Family::ALL.into_iter().any(is_outside);
    let others = rejected.iter().filter(|_| !is_moved_out);
    let breaks = moves
        .iter()
        .cloned()
        .chain(
            others.map(|why| format!("until its restart, restarted hosts reject its lease: {why}")),
        )
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
        None => Some(format!("{subnet} is removed: {family} is off")),
        Some(range) if !range.contains(subnet) => Some(format!(
            "{subnet} is not a /{} of {}",
            range.subnet_len, range.network
        )),
        Some(range) if !range.fits(subnet) => Some(format!(
            "{subnet} is not between {} and {}",
            range.subnet_min, range.subnet_max
        )),
        Some(_) => None,
    }
}

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
        0 => "no host has a lease, so nothing that runs changes".into(),
        count => format!(
            "{count} leases; each host keeps the old configuration until its flanneld is restarted; new hosts start with the new one"
        ),
    });
    super::show::clean(&(lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests;
