//! Selects the most likely cause from the evidence about one path, by elimination in one table. Pure.

use super::evidence::{Checksum, DeviceFact, Echo, Evidence, LeaseFact, Neighbor, Port};
use flanneld::kernel::Entry;
use flanneld::kernel::Mac;
use flanneld::probe::Refusal;

/// Why a peer cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    None,
    LeaseMissing,
    /// Two hosts announce its public IP.
    DuplicateAddress,
    /// The peer is behind a router, and the backend has no tunnel.
    NotConnected,
    LeaseUnusable,
    /// Another device or program uses the VNI and port of this host's device.
    VxlanUser,
    DeviceMissing,
    DeviceDown,
    DeviceDiffers,
    /// The route to the peer is missing or different.
    Route,
    /// The neighbor entry of the peer is missing or has another MAC.
    Neighbor,
    /// The FDB entry of the peer is missing or has another destination.
    Fdb,
    /// Another route or rule takes the packets to the peer.
    Shadowed,
    /// This host's own lease is missing or in conflict.
    OwnLease,
    /// This host has no route to the peer's public IP.
    NoRoute,
    /// This host's firewall drops the packets.
    FirewallHere,
    /// The peer sends replies to a MAC that this host does not have.
    OwnMac,
    /// The strict reverse-path filter drops the replies.
    RpFilter,
    /// The peer's VXLAN port is closed.
    PeerDevice,
    /// The peer's device has another MAC than its lease.
    PeerMac,
    /// The peer's firewall drops packets from the tunnel.
    PeerFirewall,
    /// The peer has no entries for this host.
    PeerStale,
    /// The network between the hosts drops packets of pods that travel without a tunnel.
    SourceCheck,
    Loss,
    /// The VXLAN port is blocked on the path or at the peer.
    PortBlocked,
    /// Peers cannot reach the address that this host's tunnel sends from.
    WrongInterface,
    /// The public IP of the peer's lease cannot be reached.
    PublicAddress,
    PeerDown,
    /// Large packets are lost.
    Mtu,
    Checksum,
    /// The peer is reached, but its pod is not.
    Pod,
}

pub struct Row {
    pub cause: Cause,
    /// Whether the evidence shows the cause, if no earlier row matched.
    pub when: fn(&Evidence) -> bool,
}

const fn row(cause: Cause, when: fn(&Evidence) -> bool) -> Row {
    Row { cause, when }
}

/// The first row that matches selects the cause. The last row always matches.
pub const TABLE: &[Row] = &[
    row(Cause::LeaseMissing, |e| {
        matches!(e.lease, LeaseFact::Missing(_))
    }),
    // Packets reach one of the two hosts, and which one may change at any time.
    row(Cause::DuplicateAddress, |e| {
        matches!(e.lease, LeaseFact::Duplicate(_))
    }),
    // The peer is reached. These rows find what is still wrong.
    row(Cause::Mtu, |e| {
        e.probes.overlay.is_answered() && e.probes.largest.is_some_and(|size| size >= e.required)
    }),
    // No link has so small an MTU: packets of all sizes are lost at times.
    row(Cause::Loss, |e| {
        e.probes.overlay.is_answered() && e.probes.largest.is_some()
    }),
    row(Cause::Checksum, |e| {
        e.probes.overlay.is_answered() && e.probes.checksum == Checksum::Wrong
    }),
    row(Cause::Shadowed, |e| {
        e.probes.overlay.is_answered() && e.probes.pod.is_unanswered() && e.shadow.is_some()
    }),
    row(Cause::Pod, |e| {
        e.probes.overlay.is_answered() && e.probes.pod.is_unanswered()
    }),
    row(Cause::None, |e| e.probes.overlay.is_answered()),
    // The peer is not reached. What is read on this host is certain, so it comes first: leases, device, entries, routes.
    row(Cause::NotConnected, |e| {
        matches!(e.lease, LeaseFact::NotConnected(_))
    }),
    row(Cause::LeaseUnusable, |e| {
        matches!(e.lease, LeaseFact::Unusable(_))
    }),
    row(Cause::VxlanUser, |e| {
        matches!(e.device, DeviceFact::Displaced(_))
    }),
    row(Cause::DeviceMissing, |e| e.device == DeviceFact::Missing),
    row(Cause::DeviceDown, |e| e.device == DeviceFact::Down),
    row(Cause::DeviceDiffers, |e| {
        matches!(e.device, DeviceFact::Differs(_))
    }),
    row(Cause::Route, |e| {
        is_broken(e, |entry| matches!(entry, Entry::Route { .. }))
    }),
    row(Cause::Neighbor, |e| {
        is_broken(e, |entry| matches!(entry, Entry::Neigh { .. }))
    }),
    row(Cause::Fdb, |e| {
        is_broken(e, |entry| matches!(entry, Entry::Fdb { .. }))
    }),
    row(Cause::Shadowed, |e| e.shadow.is_some()),
    row(Cause::OwnLease, |e| e.own.is_some()),
    // Whether this host sends the request and accepts the reply.
    row(Cause::NoRoute, |e| {
        e.probes.port == Port::NoRoute || is_refused(e, Refusal::NoRoute)
    }),
    row(Cause::NoRoute, |e| e.next_hop.is_some()),
    row(Cause::FirewallHere, |e| {
        e.probes.port == Port::Blocked || is_refused(e, Refusal::Blocked)
    }),
    // If the peer does not answer ARP, nothing can leave, so that is no sign of a firewall.
    row(Cause::FirewallHere, |e| {
        e.probes.left == Some(false) && !e.direct && e.neighbor.owners() != Some(0)
    }),
    row(Cause::OwnMac, |e| {
        e.probes.overlay.is_swallowed() && e.probes.answered_other_mac.is_some()
    }),
    row(Cause::RpFilter, |e| is_swallowed(e) && e.strict.is_some()),
    row(Cause::FirewallHere, |e| e.probes.overlay.is_swallowed()),
    // The request left, and no reply arrived. These rows use what the peer does answer.
    row(Cause::DuplicateAddress, |e| {
        e.neighbor.owners().is_some_and(|owners| owners > 1)
    }),
    row(Cause::PeerDevice, |e| e.probes.port == Port::Refused),
    row(Cause::PeerMac, |e| {
        e.probes.owner.is_some_and(|mac| !is_of_lease(e, mac))
    }),
    row(Cause::Loss, |e| e.probes.handmade),
    row(Cause::PeerStale, |e| e.probes.by_underlay),
    row(Cause::PeerFirewall, |e| e.probes.owner.is_some()),
    // Nothing in the tunnel answers. These rows use the underlay.
    row(Cause::SourceCheck, |e| {
        let is_there =
            e.probes.underlay.is_answered() || e.neighbor.owners().is_some_and(|owners| owners > 0);
        e.direct && is_there
    }),
    row(Cause::PortBlocked, |e| {
        e.probes.underlay.is_answered() || e.probes.underlay.is_swallowed()
    }),
    row(Cause::WrongInterface, |e| e.probes.any_source.is_answered()),
    row(Cause::PortBlocked, |e| {
        e.neighbor.owners().is_some_and(|owners| owners > 0)
    }),
    row(Cause::PublicAddress, |e| {
        e.neighbor == Neighbor::Beyond { alone: true }
    }),
    row(Cause::PeerDown, |_| true),
];

pub fn diagnose(evidence: &Evidence) -> Cause {
    TABLE
        .iter()
        .find(|row| (row.when)(evidence))
        .map_or(Cause::PeerDown, |row| row.cause)
}

fn is_broken(e: &Evidence, kind: fn(&Entry) -> bool) -> bool {
    e.broken.iter().any(|broken| kind(&broken.wanted))
}

fn is_refused(e: &Evidence, why: Refusal) -> bool {
    e.probes.overlay == Echo::Refused(why)
}

fn is_swallowed(e: &Evidence) -> bool {
    e.probes.overlay.is_swallowed() || e.probes.underlay.is_swallowed()
}

fn is_of_lease(e: &Evidence, mac: Mac) -> bool {
    e.mac == Some(mac)
}

#[cfg(test)]
mod tests;
