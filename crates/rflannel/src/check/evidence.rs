//! What is known about the way to one peer: pure. Values only; what follows from them is decided in `diagnose`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use flanneld::kernel::{Entry, Mac};
use flanneld::probe::Refusal;

/// All that is known about the way to one family of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What its lease says.
    pub lease: LeaseFact,
    /// What is wrong with this host's own lease, by which the peer knows the way back.
    pub own: Option<String>,
    /// This host's device.
    pub device: DeviceFact,
    /// Entries of the peer that are not as desired.
    pub broken: Vec<Broken>,
    /// Where packets to the peer's subnet go instead of into the overlay.
    pub shadow: Option<String>,
    /// The interface that drops what the peer sends, because this host would answer over another one.
    pub strict: Option<String>,
    /// What is wrong with the next hop to the peer on the underlay, by this host's neighbor table.
    pub next_hop: Option<String>,
    /// The peer, as a neighbor on the underlay.
    pub neighbor: Neighbor,
    /// It is reached without a tunnel.
    pub direct: bool,
    /// The MAC of its device by its lease, if it is reached through a tunnel.
    pub mac: Option<Mac>,
    /// Smallest packet in the overlay that every path must carry: IPv4 and IPv6 require links of 576 and 1280 bytes.
    pub required: u32,
    /// Rules of this host's firewall that drop, and name the device or the port.
    pub rules: Vec<String>,
    /// What came through.
    pub probes: Probes,
}

/// A lease, as far as it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseFact {
    /// It can.
    Usable,
    /// There is none.
    Missing(String),
    /// Its public address is also another lease's, or this host's own.
    Duplicate(String),
    /// Its public address is not directly connected, and the backend has no tunnel.
    NotConnected(String),
    /// Something else is wrong with it.
    Unusable(String),
}

/// A device of the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceFact {
    /// As desired.
    Right,
    /// It is not there.
    Missing,
    /// It is not there, and this is in its place: another device with its VNI and port, or the program that has the port.
    Displaced(String),
    /// It is down.
    Down,
    /// It differs in this.
    Differs(String),
}

/// An entry that is not as desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The desired content.
    pub wanted: Entry,
    /// What is there instead.
    pub found: Vec<Entry>,
}

/// A host on the underlay, as it is seen on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbor {
    /// No one has looked.
    Unknown,
    /// Its address is on a link of this host, where these say that they have it.
    OnLink(BTreeSet<Mac>),
    /// It is behind a router.
    Beyond {
        /// All other peers are on this host's link.
        alone: bool,
    },
}

impl Neighbor {
    /// How many have its address, where that can be seen.
    pub fn owners(&self) -> Option<usize> {
        match self {
            Neighbor::OnLink(owners) => Some(owners.len()),
            Neighbor::Unknown | Neighbor::Beyond { .. } => None,
        }
    }
}

/// How far a question and its answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Echo {
    /// No one asked.
    #[default]
    Untried,
    /// This host did not send it.
    Refused(Refusal),
    /// No answer was seen.
    Silent,
    /// The answer came to this host's interface and no further.
    AtNic,
    /// It came out of the tunnel at the overlay's device and no further.
    AtDevice,
    /// It came to the host that asked, after so long.
    Answered(Duration),
}

impl Echo {
    /// It came to the host that asked.
    pub fn is_answered(self) -> bool {
        matches!(self, Echo::Answered(_))
    }

    /// How long it took.
    pub fn time(self) -> Option<Duration> {
        match self {
            Echo::Answered(time) => Some(time),
            Echo::Untried | Echo::Refused(_) | Echo::Silent | Echo::AtNic | Echo::AtDevice => None,
        }
    }

    /// It came to this host, and not to the host that asked.
    pub fn is_swallowed(self) -> bool {
        matches!(self, Echo::AtNic | Echo::AtDevice)
    }

    /// Someone asked, and heard nothing.
    pub fn is_unanswered(self) -> bool {
        !matches!(self, Echo::Untried | Echo::Answered(_))
    }
}

/// What became of datagrams to the peer's VXLAN port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// None was sent.
    #[default]
    Untried,
    /// They were sent; a port that is open says nothing, and so does a firewall.
    Silent,
    /// The peer says that no one listens.
    Refused,
    /// This host's firewall did not let them go.
    Blocked,
    /// This host has no way there.
    NoRoute,
}

/// Checksums that hardware or the driver has to put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// No one asked, or no one would have answered.
    #[default]
    Unknown,
    /// They arrive right.
    Right,
    /// The same datagram is taken with a checksum from here, and not with one put in on the way out.
    Wrong,
}

/// What came through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probes {
    /// Through the overlay to the peer's address in it, as pods' packets go.
    pub overlay: Echo,
    /// Whether its question was seen leaving this host in the tunnel; unknown without a tap.
    pub left: Option<bool>,
    /// The answer was meant for another device than this host's.
    pub answered_other_mac: Option<Mac>,
    /// The same, as large as the device allows.
    pub full: Echo,
    /// The largest packet that came through, if not all did.
    pub largest: Option<u32>,
    /// Checksums of datagrams in the overlay.
    pub checksum: Checksum,
    /// To the pod that was asked for.
    pub pod: Echo,
    /// On the underlay, from the address that the tunnel sends from.
    pub underlay: Echo,
    /// On the underlay, from the address that the kernel chooses, if that is another.
    pub any_source: Echo,
    /// Frames made by hand: to the peer's VXLAN port.
    pub port: Port,
    /// To the MAC of its lease; the answer came back to this host.
    pub handmade: bool,
    /// The same, with an answer that needs no way back through the overlay.
    pub by_underlay: bool,
    /// The MAC of the device that has the peer's address in the overlay, as it says itself.
    pub owner: Option<Mac>,
}

/// Who is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathNames {
    /// The peer's host name, where it is known.
    pub host: Option<String>,
    /// The peer's subnet.
    pub subnet: String,
    /// Its address in the overlay.
    pub address: IpAddr,
    /// Its public address.
    pub public: IpAddr,
    /// The pod that was asked for.
    pub pod: Option<IpAddr>,
    /// The overlay's device here.
    pub device: String,
    /// Its MTU.
    pub mtu: u32,
    /// The tunnel's port.
    pub port: u16,
    /// Bytes that the tunnel adds.
    pub overhead: u32,
    /// The interface that carries it.
    pub underlay: String,
    /// The address that the tunnel sends from.
    pub local: IpAddr,
}
