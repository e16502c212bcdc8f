//! Parts of a report from the things themselves: pure. The daemon and who looks without one write them alike.

use std::collections::BTreeMap;

use super::report::{ByKind, Device, Duplicate, NAMED, Named, Peers, Underlay};
use crate::backend::Backend;
use crate::desired::DesiredState;
use crate::iface::{self, Addresses};
use crate::kernel::LinkSpec;
use crate::kernel::entry::EntryKey;
use crate::util::family::Family;

/// What follows from the desired state alone.
#[derive(Debug, Clone, Default)]
pub struct DesiredSummary {
    pub entries: ByKind,
    /// How many leases do not have all that they want.
    pub contested: usize,
    pub contests: Vec<Named>,
    /// How many public addresses more than one host announces.
    pub duplicate_count: usize,
    pub duplicates: Vec<Duplicate>,
}

impl DesiredSummary {
    /// A walk over all that is desired.
    pub fn of(desired: &DesiredState) -> Self {
        let contests = desired.contests();
        let named = contests.iter().take(NAMED).map(|(subnets, contest)| {
            let (winner, entry) = (&contest.winner, &contest.entry);
            named(subnets, format!("{winner} is newer and has {entry}"))
        });
        let duplicates = desired.duplicates().take(NAMED);
        let duplicates = duplicates.map(|(ip, leases)| Duplicate {
            ip: ip.to_string(),
            subnets: leases.iter().map(ToString::to_string).collect(),
            hosts: BTreeMap::new(),
        });
        Self {
            entries: desired.keys().collect(),
            contested: contests.len(),
            contests: named.collect(),
            duplicate_count: desired.duplicate_count(),
            duplicates: duplicates.collect(),
        }
    }
}

/// The other hosts, and why entries of some are missing.
pub fn peers(
    desired: &DesiredState,
    desired_summary: &DesiredSummary,
    missing: &BTreeMap<EntryKey, String>,
) -> Peers {
    let count = desired.peer_count();
    let failing = missing.iter();
    let failing = failing.filter_map(|(key, why)| Some(named(desired.holder(*key)?, why.clone())));
    let refusals = desired.refusals();
    let refusals = refusals.map(|(subnets, why)| named(subnets, why.to_string()));
    Peers {
        desired: count,
        installed: count.saturating_sub(desired.holders(missing.keys()).len()),
        failing: failing.take(NAMED).collect(),
        refused: desired.refused_count(),
        refusals: refusals.take(NAMED).collect(),
        contested: desired_summary.contested,
        contests: desired_summary.contests.clone(),
    }
}

fn named(subnets: impl ToString, why: String) -> Named {
    Named {
        subnet: subnets.to_string(),
        host: None,
        why,
    }
}

pub fn underlay(underlay: &iface::Underlay) -> Underlay {
    Underlay {
        name: underlay.name.clone(),
        ips: texts(underlay.addresses()),
        mtu: underlay.mtu,
    }
}

/// The devices, each with what `amiss` says about it.
pub fn devices(
    backend: &dyn Backend,
    mut amiss: impl FnMut(&LinkSpec) -> Option<String>,
) -> Vec<Device> {
    let device = |spec: LinkSpec| Device {
        amiss: amiss(&spec),
        name: spec.name,
        mac: spec.mac.to_string(),
        mtu: spec.mtu,
        vni: spec.vni,
        port: spec.port,
        local: spec.local.to_string(),
    };
    let specs = backend.links().into_iter().map(|(_, spec)| spec);
    specs.map(device).collect()
}

/// Returns a text that cannot move a terminal's cursor, whatever etcd or the kernel said.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// An address of each family, as far as there is one.
pub fn texts(addresses: Addresses) -> Vec<String> {
    let each = Family::ALL.into_iter();
    each.filter_map(|family| Some(addresses.get(family)?.to_string()))
        .collect()
}
