//! Changes of peers, and their log lines.

use std::fmt;
use std::net::IpAddr;

use tracing::{info, warn};

use crate::backend::BadPeer;
use crate::kernel::Entry;
use crate::subnet::{HostNames, Subnets};
use crate::util::family::Family;

/// A change of a peer, or of what is known about its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A peer is there.
    Joined(Subnets, Option<IpAddr>),
    /// A peer publishes something else than before.
    Changed(Subnets, Option<IpAddr>),
    /// A peer is gone.
    Left(Subnets),
    /// A lease cannot be used.
    Refused(Subnets, BadPeer),
    /// A lease can be used in this family only.
    Limited(Subnets, Family, BadPeer),
    /// Several hosts announce one public address.
    Duplicate(IpAddr, Vec<Announcer>),
    /// Two leases claim the same entry key, such as one MAC at two addresses.
    Conflict {
        /// The one that has it.
        winner: Subnets,
        /// The one that waits.
        loser: Subnets,
        /// What the winner put there.
        entry: Entry,
    },
}

/// A lease, and the name of its host where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcer {
    lease: Subnets,
    host: Option<String>,
}

impl From<Subnets> for Announcer {
    fn from(lease: Subnets) -> Self {
        Self { lease, host: None }
    }
}

impl fmt::Display for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{} ({host})", self.lease),
            None => self.lease.fmt(f),
        }
    }
}

impl PeerEvent {
    /// Adds the names of hosts that announce one address.
    #[must_use]
    pub fn with_hosts(mut self, names: &HostNames) -> Self {
        if let PeerEvent::Duplicate(_, announcers) = &mut self {
            announcers
                .iter_mut()
                .for_each(|one| one.host = names.of(&one.lease).map(str::to_owned));
        }
        self
    }

    /// Writes the log line, with its values as fields.
    pub fn log(&self) {
        match self {
            PeerEvent::Joined(peer, ip) | PeerEvent::Changed(peer, ip) => {
                info!(%peer, public_ip = ip.map(display), "{self}");
            }
            PeerEvent::Left(peer) => info!(%peer, "{self}"),
            PeerEvent::Refused(peer, why) | PeerEvent::Limited(peer, _, why) => {
                warn!(%peer, err = %why, "{self}");
            }
            PeerEvent::Duplicate(ip, leases) => {
                warn!(peer = joined(leases), public_ip = %ip, count = leases.len(), "{self}");
            }
            PeerEvent::Conflict {
                winner,
                loser,
                entry,
            } => warn!(peer = %loser, %winner, %entry, "{self}"),
        }
    }

    /// The peer that joined or left.
    pub(super) fn subject(&self) -> Option<Subnets> {
        match self {
            PeerEvent::Joined(subnets, _) | PeerEvent::Left(subnets) => Some(*subnets),
            PeerEvent::Changed(..)
            | PeerEvent::Refused(..)
            | PeerEvent::Limited(..)
            | PeerEvent::Duplicate(..)
            | PeerEvent::Conflict { .. } => None,
        }
    }
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |ip: &Option<IpAddr>| ip.map(|ip| format!(" at {ip}")).unwrap_or_default();
        match self {
            PeerEvent::Joined(subnets, ip) => write!(f, "peer {subnets} joined{}", at(ip)),
            PeerEvent::Changed(subnets, ip) => write!(f, "peer {subnets} changed{}", at(ip)),
            PeerEvent::Left(subnets) => write!(f, "peer {subnets} left"),
            PeerEvent::Refused(subnets, why) => write!(f, "lease {subnets} is not used: {why}"),
            PeerEvent::Limited(subnets, family, why) => {
                write!(f, "lease {subnets} is used for {family} only: {why}")
            }
            PeerEvent::Duplicate(ip, leases) => write!(
                f,
                "several hosts announce the public address {ip}: leases {}; give each host its own address (-iface or -public-ip)",
                joined(leases)
            ),
            PeerEvent::Conflict {
                winner,
                loser,
                entry,
            } => write!(
                f,
                "leases {winner} and {loser} conflict: both claim {entry}, and the newer lease {winner} gets it; delete the key of a stale lease, otherwise give each host its own MAC and public address"
            ),
        }
    }
}

fn joined(leases: &[Announcer]) -> String {
    let leases: Vec<String> = leases.iter().map(ToString::to_string).collect();
    leases.join(", ")
}
