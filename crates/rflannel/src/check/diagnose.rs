//! From what is known about the way to a peer to the one most likely cause: pure. By elimination, in one table.

use super::evidence::{Checksum, DeviceFact, Echo, Evidence, LeaseFact, Neighbor, Port};
use flanneld::kernel::Entry;
use flanneld::kernel::Mac;
use flanneld::probe::Refusal;

/// Why a peer cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It is reached.
    None,
    /// No lease is of it.
    LeaseMissing,
    /// Two hosts claim its public address.
    DuplicateAddress,
    /// It is behind a router, which a backend without a tunnel does not cross.
    NotConnected,
    /// Its lease cannot be used.
    LeaseUnusable,
    /// Another program has VNI and port of this host's device.
    VxlanUser,
    /// This host's device is not there.
    DeviceMissing,
    /// This host's device is down.
    DeviceDown,
    /// This host's device is not as desired.
    DeviceDiffers,
    /// The peer's route is missing or another one.
    Route,
    /// The peer's neighbor entry is missing or has another MAC.
    Neighbor,
    /// The peer's forwarding entry is missing or leads elsewhere.
    Fdb,
    /// Another route or rule takes the packets.
    Shadowed,
    /// The own lease is not as peers need it.
    OwnLease,
    /// This host has no way to the peer's public address.
    NoRoute,
    /// This host's firewall drops.
    FirewallHere,
    /// The peer sends to a MAC that this host does not have.
    OwnMac,
    /// The strict reverse-path filter drops.
    RpFilter,
    /// No one listens at the peer's VXLAN port.
    PeerDevice,
    /// The peer's device has another MAC than its lease says.
    PeerMac,
    /// The peer's firewall drops what comes out of the tunnel.
    PeerFirewall,
    /// The peer does not know the way back.
    PeerStale,
    /// Something between drops packets of pods that travel without a tunnel.
    SourceCheck,
    /// Some packets come through.
    Loss,
    /// VXLAN's port is blocked on the way or at the peer.
    PortBlocked,
    /// Peers cannot answer to the address that this host's tunnel sends from.
    WrongInterface,
    /// The public address of the peer's lease cannot be reached.
    PublicAddress,
    /// The peer is down.
    PeerDown,
    /// Large packets are lost.
    Mtu,
    /// Checksums arrive wrong.
    Checksum,
    /// The peer is reached, its pod is not.
    Pod,
}

/// One step of the elimination.
pub struct Row {
    /// What it is then.
    pub cause: Cause,
    /// When; nothing above it being the case.
    pub when: fn(&Evidence) -> bool,
}

const fn row(cause: Cause, when: fn(&Evidence) -> bool) -> Row {
    Row { cause, when }
}

/// The first row that is the case names the cause. The last one always is.
pub const TABLE: &[Row] = &[
    row(Cause::LeaseMissing, |e| {
        matches!(e.lease, LeaseFact::Missing(_))
    }),
    // Packets reach one of the two hosts, and which one may change at any time.
    row(Cause::DuplicateAddress, |e| {
        matches!(e.lease, LeaseFact::Duplicate(_))
    }),
    // The peer is reached. Is it in every respect?
    row(Cause::Mtu, |e| {
        e.probes.overlay.is_answered() && e.probes.largest.is_some_and(|size| size >= e.required)
    }),
    // No link may be that small: packets of all sizes are lost at times.
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
    // It is not. What can be seen on this host is certain, so it comes first: leases, device, entries, routes.
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
    // Does this host let the question go, and the answer in?
    row(Cause::NoRoute, |e| {
        e.probes.port == Port::NoRoute || is_refused(e, Refusal::NoRoute)
    }),
    row(Cause::NoRoute, |e| e.next_hop.is_some()),
    row(Cause::FirewallHere, |e| {
        e.probes.port == Port::Blocked || is_refused(e, Refusal::Blocked)
    }),
    // To a host that does not say its MAC nothing can leave.
    row(Cause::FirewallHere, |e| {
        e.probes.left == Some(false) && !e.direct && e.neighbor.owners() != Some(0)
    }),
    row(Cause::OwnMac, |e| {
        e.probes.overlay.is_swallowed() && e.probes.answered_other_mac.is_some()
    }),
    row(Cause::RpFilter, |e| is_swallowed(e) && e.strict.is_some()),
    row(Cause::FirewallHere, |e| e.probes.overlay.is_swallowed()),
    // The question left, and no answer came. Did it go to the right host? What of the peer does answer?
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
    // Nothing in the tunnel does. And on the underlay?
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

/// The one most likely cause.
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
