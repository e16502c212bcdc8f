//! Defines the evidence about the path to one peer. `diagnose` draws conclusions from it. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use flanneld::kernel::{Entry, Mac};
use flanneld::probe::Refusal;

/// Everything known about the path to one address family of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub lease: LeaseFact,
    /// What is wrong with this host's own lease, from which the peer learns the way back.
    pub own: Option<String>,
    pub device: DeviceFact,
    /// Entries of the peer that differ from the desired ones.
    pub broken: Vec<Broken>,
    /// Where packets to the peer's subnet go instead of into the overlay.
    pub shadow: Option<String>,
    /// The interface whose strict filter drops the peer's packets because this host would reply through another one.
    pub strict: Option<String>,
    /// What is wrong with the next hop to the peer in this host's neighbor table.
    pub next_hop: Option<String>,
    /// The peer as a neighbor on the underlay.
    pub neighbor: Neighbor,
    /// Whether the peer is reached without a tunnel.
    pub direct: bool,
    /// MAC of the peer's device according to its lease, if the peer is reached through a tunnel.
    pub mac: Option<Mac>,
    /// Smallest overlay packet that every path must carry: IPv4 and IPv6 require links of 576 and 1280 bytes.
    pub required: u32,
    /// Rules of this host's firewall that drop packets and name the device or the port.
    pub rules: Vec<String>,
    pub probes: Probes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseFact {
    Usable,
    Missing(String),
    /// Another lease or this host has the same public IP.
    Duplicate(String),
    /// The public IP is not directly connected, and the backend has no tunnel.
    NotConnected(String),
    /// The lease cannot be used for another reason.
    Unusable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceFact {
    Right,
    Missing,
    /// The device does not exist or does not work, and another device or program uses its VNI and port.
    Displaced(String),
    Down,
    Differs(String),
}

/// An entry that differs from the desired one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub wanted: Entry,
    /// The existing entries in its place.
    pub found: Vec<Entry>,
}

/// What ARP says about a host on the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbor {
    /// Nothing was asked.
    Unknown,
    /// The address is on a link of this host, and these MACs answer for it.
    OnLink(BTreeSet<Mac>),
    /// The host is behind a router.
    Beyond {
        /// Whether all other peers are on this host's link.
        alone: bool,
    },
}

impl Neighbor {
    /// Returns how many MACs answer for the address, if ARP was asked.
    pub fn owners(&self) -> Option<usize> {
        match self {
            Neighbor::OnLink(owners) => Some(owners.len()),
            Neighbor::Unknown | Neighbor::Beyond { .. } => None,
        }
    }
}

/// How far a request and its reply got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Echo {
    /// Nothing was sent.
    #[default]
    Untried,
    /// This host did not send the request.
    Refused(Refusal),
    /// No reply was captured.
    Silent,
    /// The reply arrived on the underlay interface and no further.
    AtNic,
    /// The reply left the tunnel on the overlay device and no further.
    AtDevice,
    /// The reply arrived, after this time.
    Answered(Duration),
}

impl Echo {
    pub fn is_answered(self) -> bool {
        matches!(self, Echo::Answered(_))
    }

    /// Returns the round-trip time.
    pub fn time(self) -> Option<Duration> {
        match self {
            Echo::Answered(time) => Some(time),
            Echo::Untried | Echo::Refused(_) | Echo::Silent | Echo::AtNic | Echo::AtDevice => None,
        }
    }

    /// Returns whether the reply reached this host but not the program.
    pub fn is_swallowed(self) -> bool {
        matches!(self, Echo::AtNic | Echo::AtDevice)
    }

    /// Returns whether a request was sent and no reply was captured.
    pub fn is_unanswered(self) -> bool {
        !matches!(self, Echo::Untried | Echo::Answered(_))
    }
}

/// Result of packets to the peer's VXLAN port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    #[default]
    Untried,
    /// Packets were sent, and no answer came. An open port does not answer, and neither does a firewall.
    Silent,
    /// The peer reports that the port is closed.
    Refused,
    /// This host's firewall dropped them.
    Blocked,
    NoRoute,
}

/// Whether checksums that the driver or hardware computes are correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Not tested, or nothing would have answered.
    #[default]
    Unknown,
    Right,
    /// A packet with a checksum computed here arrives; the same packet with a checksum computed on output does not.
    Wrong,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probes {
    /// Echo through the overlay to the peer's overlay address, the way that packets of pods take.
    pub overlay: Echo,
    /// Whether the overlay request was captured leaving through the tunnel; `None` without a capture.
    pub left: Option<bool>,
    /// Destination MAC of the reply, if it is not that of this host's device.
    pub answered_other_mac: Option<Mac>,
    /// Echo through the overlay as large as the device's MTU.
    pub full: Echo,
    /// The largest packet that passed, if not all did.
    pub largest: Option<u32>,
    /// Checksums of UDP packets in the overlay.
    pub checksum: Checksum,
    /// Echo to the given pod.
    pub pod: Echo,
    /// Echo on the underlay, from the tunnel's address.
    pub underlay: Echo,
    /// Echo on the underlay, from the address that the kernel chooses, if that is another one.
    pub any_source: Echo,
    /// Handmade frames to the peer's VXLAN port: what the port answers.
    pub port: Port,
    /// A handmade frame to the MAC of the lease was answered through the overlay.
    pub handmade: bool,
    /// A handmade frame was answered over the underlay, which needs no way back through the overlay.
    pub by_underlay: bool,
    /// MAC of the device that answers ARP requests for the peer's overlay address.
    pub owner: Option<Mac>,
}

/// Names and addresses of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathNames {
    /// The peer's host name, if known.
    pub host: Option<String>,
    pub subnet: String,
    /// The peer's overlay address.
    pub address: IpAddr,
    /// The peer's public IP.
    pub public: IpAddr,
    pub pod: Option<IpAddr>,
    /// This host's overlay device.
    pub device: String,
    pub mtu: u32,
    /// UDP port of the tunnel.
    pub port: u16,
    /// Bytes that the tunnel adds to a packet.
    pub overhead: u32,
    pub underlay: String,
    /// Address that the tunnel sends from.
    pub local: IpAddr,
}
