//! Parts of a report from the things themselves: pure. The daemon and who looks without one write them alike.

use std::collections::BTreeMap;

use super::report::{ByKind, Device, Duplicate, NAMED, Named, Peers, Underlay};
use crate::backend::Backend;
use crate::desired::DesiredState;
use crate::iface::{self, Addresses};
use crate::kernel::LinkSpec;
use crate::kernel::entry::EntryKey;

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
            named(
                subnets,
                format!("{} is newer and has {}", contest.winner, contest.entry),
            )
        });
        let duplicates = desired
            .duplicates()
            .take(NAMED)
            .map(|(ip, leases)| Duplicate {
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
    let held = missing
        .iter()
        .filter_map(|(key, why)| Some((desired.holder(*key)?, why)));
    let failing = held
        .take(NAMED)
        .map(|(subnets, why)| named(subnets, why.clone()));
    let count = desired.peer_count();
    let refusals = desired
        .refusals()
        .take(NAMED)
        .map(|(subnets, why)| named(subnets, why.to_string()));
    Peers {
        desired: count,
        installed: count.saturating_sub(desired.holders(missing.keys()).len()),
        failing: failing.collect(),
        refused: desired.refused_count(),
        refusals: refusals.collect(),
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
    backend
        .links()
        .into_iter()
        .map(|(_, spec)| spec)
        .map(device)
        .collect()
}

/// Returns a text that cannot move a terminal's cursor, whatever etcd or the kernel said.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// An address of each family, as far as there is one.
pub fn texts(addresses: Addresses) -> Vec<String> {
    let Addresses { v4, v6 } = addresses;
    v4.map(|ip| ip.to_string())
        .into_iter()
        .chain(v6.map(|ip| ip.to_string()))
        .collect()
}
