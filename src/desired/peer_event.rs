//! What becomes of peers, in words: pure.

use std::fmt;
use std::net::IpAddr;

use crate::backend::BadPeer;
use crate::kernel::Entry;
use crate::subnet::{HostNames, Subnets};
use crate::util::family::Family;

/// A change in words.
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
    /// Two leases want different things in one place (as the same MAC at two addresses).
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

    /// The peer that came or went.
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
            PeerEvent::Changed(subnets, ip) => write!(f, "peer {subnets} changed, now{}", at(ip)),
            PeerEvent::Left(subnets) => write!(f, "peer {subnets} left"),
            PeerEvent::Refused(subnets, why) => write!(f, "lease {subnets} is not used: {why}"),
            PeerEvent::Limited(subnets, family, why) => {
                write!(f, "lease {subnets} is used for {family} only: {why}")
            }
            PeerEvent::Duplicate(ip, leases) => {
                let leases = leases
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                write!(
                    f,
                    "more than one host announces the public address {ip}, by the leases {leases}; give each host an address of its own (-iface or -public-ip)"
                )
            }
            PeerEvent::Conflict {
                winner,
                loser,
                entry,
            } => write!(
                f,
                "leases {winner} and {loser} contradict each other; {winner} is newer and gets {entry}. If one is stale, delete its key; else two hosts share an identity"
            ),
        }
    }
}
