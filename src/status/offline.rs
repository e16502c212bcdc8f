//! What can be told where no daemon answers: from the kernel, the state file, and etcd if it was asked. Changes nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::leftovers;
use super::report::{FORMAT, Overlay, Report, State};
use super::summary;
use crate::config::Config;
use crate::desired::DesiredState;
use crate::files::Previous;
use crate::host_setup::{NodeConfig, ResolvedHost};
use crate::iface::{Addresses, Announced};
use crate::kernel::entry::EntryKey;
use crate::kernel::link::Fit;
use crate::kernel::netlink::Netlink;
use crate::kernel::plan::plan;
use crate::kernel::{Entry, HostState, Kernel, KernelError, LinkRole, LinkSpec, Op};
use crate::state_file::{self, Owner};
use crate::subnet::owner::MachineId;
use crate::subnet::{Lease, LeaseAttrs, LeaseEvent, NetworkConfig, PublicAddrs, Range, Subnets};
use crate::util::table::count;

#[derive(Debug, Clone)]
pub struct FromEtcd {
    pub network: NetworkConfig,
    pub leases: Vec<Lease>,
    /// Machines that recorded a lease as theirs.
    pub machines: Machines,
}

/// Machines by the subnets that they hold.
pub type Machines = BTreeMap<Subnets, MachineId>;

/// What is known about the overlay without the daemon.
pub struct Known {
    /// Machines of the leases; empty where etcd was not asked.
    pub machines: Machines,
    pub network: NetworkConfig,
    pub own: Lease,
    pub peers: Vec<Lease>,
    /// What is wrong with the own lease.
    pub lost: Option<String>,
    pub source: String,
}

/// This host's kernel beside what is known.
pub struct Comparison {
    /// Open, and it knows the devices.
    pub kernel: Netlink,
    pub host_state: HostState,
    pub node_config: NodeConfig,
    pub resolved: ResolvedHost,
    /// What is amiss with each device, by name.
    pub amiss: BTreeMap<String, Option<String>>,
    pub desired: DesiredState,
    /// What of that, and of the kind, it holds.
    pub have: Vec<Entry>,
}

/// The report of a host whose daemon does not run or does not answer, for this reason. `etcd` is what etcd says, if it was asked.
pub fn report(
    state: State,
    why: String,
    config: &Config,
    machine: &str,
    etcd: Option<FromEtcd>,
) -> Report {
    let mut report = Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        state,
        reasons: vec![why],
        ..Report::default()
    };
    let looked = |known: Known| Ok((look(config, machine, &known)?, known.machines));
    match known(config, machine, etcd).and_then(looked) {
        Ok(((overlay, found), machines)) => {
            report.overlay = Some(overlay);
            report.reasons.extend(found);
            let machines = machines
                .iter()
                .map(|(subnets, machine)| (*subnets, machine));
            report.name_hosts(&machines.collect());
        }
        Err(why) => report.reasons.push(why),
    }
    report
}

/// What etcd says, if it was asked, else the state file.
pub fn known(config: &Config, machine: &str, etcd: Option<FromEtcd>) -> Result<Known, String> {
    let remembered = remembered(config, machine);
    let Some(FromEtcd {
        network,
        leases,
        machines,
    }) = etcd
    else {
        let state_file::State {
            saved,
            network,
            own,
            peers,
        } = remembered?;
        let source = format!(
            "the state file, which is {}",
            state_file::age(saved, SystemTime::now())
        );
        return Ok(Known {
            machines: Machines::new(),
            network,
            own,
            peers,
            lost: None,
            source,
        });
    };
    let subnets = match &remembered {
        Ok(state) => state.own.subnets,
        Err(_) => Previous::read(&config.subnet_file).subnets(&network),
    };
    let (own, peers): (Vec<Lease>, Vec<Lease>) = leases
        .into_iter()
        .partition(|lease| lease.subnets == subnets);
    let remembered = remembered.ok().map(|state| state.own);
    let lost = lost(own.first(), remembered.as_ref());
    let own = remembered.or_else(|| own.into_iter().next());
    let own = own.ok_or_else(|| {
        let others = peers.len();
        format!("this host has no lease in its files or in etcd ({others} leases in etcd)")
    })?;
    Ok(Known {
        machines,
        network,
        own,
        peers,
        lost,
        source: "etcd".into(),
    })
}

/// What is wrong with the own lease, by the key there is and the lease that is remembered.
fn lost(found: Option<&Lease>, remembered: Option<&Lease>) -> Option<String> {
    let Some(found) = found else {
        return Some("LEASE LOST: its key is not in etcd".into());
    };
    let theirs = PublicAddrs::of(&found.attrs)?;
    let ours = PublicAddrs::of(&remembered?.attrs)?;
    let by = summary::texts(Addresses::announced_by(&found.attrs));
    (!theirs.is(&ours)).then(|| format!("LEASE LOST to {}", by.join(" ")))
}

fn remembered(config: &Config, machine: &str) -> Result<state_file::State, String> {
    let Some(path) = &config.state_file else {
        return Err("there is no state file (-state-file=none)".into());
    };
    let text =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let owner = Owner {
        machine,
        prefix: &config.etcd.prefix,
    };
    state_file::parse(&text, owner)
        .map_err(|error| format!("cannot use {}: {error}", path.display()))
}

/// Compares the kernel with what is known. Changes nothing.
pub fn compare(config: &Config, machine: &str, known: &Known) -> Result<Comparison, String> {
    let node_config = NodeConfig::new(known.network.clone(), config, machine);
    let text = |error: KernelError| error.to_string();
    let mut kernel = Netlink::open().map_err(text)?;
    let host_state = kernel.host_state(&node_config.query()).map_err(text)?;
    let own = &known.own;
    let leased = Announced::by(Addresses::announced_by(&own.attrs));
    let resolved = node_config
        .resolve(&host_state, leased, |_| Some(&own.attrs))
        .map_err(|error| error.to_string())?;
    kernel.use_underlay(resolved.underlay.index);
    let amiss = devices(&mut kernel, &resolved).map_err(text)?;
    let desired = desired(&node_config, own.clone(), known.peers.clone(), &resolved);
    let mut have = kernel.dump(&resolved.backend.owned()).map_err(text)?;
    have.sort();
    Ok(Comparison {
        kernel,
        host_state,
        node_config,
        resolved,
        amiss,
        desired,
        have,
    })
}

fn look(config: &Config, machine: &str, known: &Known) -> Result<(Overlay, Vec<String>), String> {
    let Comparison {
        host_state,
        node_config,
        resolved,
        amiss,
        desired,
        have,
        ..
    } = compare(config, machine, known)?;
    let ranges: Vec<Range> = node_config.network.ranges.iter().copied().collect();
    let links = resolved.backend.links();
    let Known {
        own, lost, source, ..
    } = known;
    let ops = plan(&desired.entries(), &have);
    let sets = ops.iter().filter(|op| matches!(op, Op::Set(_)));
    let missing = |entry: &Entry| (entry.key(), format!("{entry} is not in the kernel"));
    let missing: BTreeMap<EntryKey, String> = sets.map(|op| missing(op.entry())).collect();
    let surplus = ops.len() - missing.len();
    let found = summary::desired(&desired);
    let mut overlay = Overlay {
        lost: lost.clone(),
        public_ips: summary::texts(Addresses::announced_by(&own.attrs)),
        leftovers: leftovers::describe(
            &host_state,
            &ranges,
            &resolved.underlay,
            &links,
            &own.subnets,
        ),
        ..summary::overlay(found, &desired, &node_config.network, &resolved, &missing)
    };
    for device in &mut overlay.devices {
        device.amiss = amiss.get(&device.name).cloned().flatten();
    }
    let mut found: Vec<String> = lost.clone().into_iter().collect();
    let amiss = amiss.into_iter();
    found.extend(amiss.filter_map(|(name, amiss)| Some(format!("device {name}: {}", amiss?))));
    let entries = count(missing.len(), "entry", "entries");
    found.push(format!(
        "compared with {source}: {entries} missing, {surplus} surplus"
    ));
    Ok((overlay, found))
}

fn desired(
    node_config: &NodeConfig,
    own: Lease,
    peers: Vec<Lease>,
    resolved: &ResolvedHost,
) -> DesiredState {
    let mut desired = DesiredState::new(node_config.network.clone(), own, &*resolved.backend);
    let is_readable = |lease: &Lease| lease.attrs != LeaseAttrs::default();
    let mut list = vec![LeaseEvent::ListStart];
    list.extend(peers.into_iter().filter(is_readable).map(LeaseEvent::Put));
    list.push(LeaseEvent::ListEnd);
    desired.apply(list, &*resolved.backend);
    desired
}

fn devices(
    kernel: &mut Netlink,
    resolved: &ResolvedHost,
) -> Result<BTreeMap<String, Option<String>>, KernelError> {
    let links = resolved.backend.links().into_iter();
    links
        .map(|(dev, spec)| Ok((spec.name.clone(), device(kernel, dev, &spec)?)))
        .collect()
}

fn device(
    kernel: &mut Netlink,
    dev: LinkRole,
    spec: &LinkSpec,
) -> Result<Option<String>, KernelError> {
    Ok(match kernel.recognise(dev, &spec.name)? {
        None => Some("does not exist".into()),
        Some(found) => match spec.fit(&found) {
            Fit::Adopt(repairs) if repairs.is_empty() => None,
            Fit::Adopt(repairs) => {
                let each: Vec<String> = repairs.iter().map(ToString::to_string).collect();
                let each = each.join(", ");
                Some(format!("differs from the desired state: {each}"))
            }
            Fit::Rebuild(reason) => Some(format!("must be recreated: {reason}")),
        },
    })
}
