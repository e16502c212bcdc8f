//! Parts of a report from the things themselves: pure. The daemon and who looks without one write them alike.

use std::collections::BTreeMap;

use super::report::{Device, Duplicate, Entries, NAMED, Named, Overlay, Peers, Underlay};
use crate::backend::Backend;
use crate::desired::DesiredState;
use crate::host_setup::ResolvedHost;
use crate::iface::Addresses;
use crate::kernel::LinkSpec;
use crate::kernel::entry::EntryKey;
use crate::subnet::NetworkConfig;

/// Returns what follows from the desired state alone: a walk over all of it.
pub fn desired(desired: &DesiredState) -> Overlay {
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
    Overlay {
        peers: Peers {
            contested: contests.len(),
            contests: named.collect(),
            ..Peers::default()
        },
        duplicates: duplicates.collect(),
        duplicate_count: desired.duplicate_count(),
        entries: Entries {
            desired: desired.keys().collect(),
            ..Entries::default()
        },
        ..Overlay::default()
    }
}

/// Adds this host, its other peers, and what is missing in the kernel to a [`desired`] part.
pub fn overlay(
    found: Overlay,
    desired: &DesiredState,
    network: &NetworkConfig,
    resolved: &ResolvedHost,
    missing: &BTreeMap<EntryKey, String>,
) -> Overlay {
    let count = desired.peer_count();
    let failing = missing.iter();
    let failing = failing.filter_map(|(key, why)| Some(named(desired.holder(*key)?, why.clone())));
    let refusals = desired.refusals();
    let refusals = refusals.map(|(subnets, why)| named(subnets, why.to_string()));
    Overlay {
        subnet: desired.own().subnets.to_string(),
        backend: network.backend_type.clone(),
        network: network.source.get().to_owned(),
        underlay: Underlay {
            name: resolved.underlay.name.clone(),
            ips: texts(resolved.underlay.addresses),
            mtu: resolved.underlay.mtu,
        },
        devices: devices(&*resolved.backend),
        peers: Peers {
            desired: count,
            installed: count.saturating_sub(desired.holders(missing.keys()).len()),
            failing: failing.take(NAMED).collect(),
            refused: desired.refused_count(),
            refusals: refusals.take(NAMED).collect(),
            ..found.peers
        },
        entries: Entries {
            missing: missing.keys().copied().collect(),
            ..found.entries
        },
        ..found
    }
}

fn named(subnets: impl ToString, why: String) -> Named {
    Named {
        subnet: subnets.to_string(),
        host: None,
        why,
    }
}

fn devices(backend: &dyn Backend) -> Vec<Device> {
    let device = |spec: LinkSpec| Device {
        name: spec.name,
        mac: spec.mac.to_string(),
        mtu: spec.mtu,
        vni: spec.vni,
        port: spec.port,
        local: spec.local.to_string(),
        amiss: None,
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
    addresses.iter().map(|ip| ip.to_string()).collect()
}
