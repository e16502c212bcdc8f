//! All faults, in one table: name, group, weight, and how one is drawn.

mod address;
mod datastore;
mod entries;
mod lease;
mod network;
mod process;

use std::fmt::Display;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::cluster::{Cluster, Done};

/// All is well within this time after the last fault is over.
const QUIET: Duration = Duration::from_secs(30);
/// The same where etcd and the network were not touched: a repair waits a second at most, and the look takes a few more.
const PROMPT: Duration = Duration::from_secs(8);

/// Something that goes wrong, or changes.
pub trait Fault: Display {
    /// What it is done to. Two faults at the same time have nothing in common.
    fn uses(&self) -> Vec<Part>;

    fn inject(&mut self, cluster: &mut Cluster) -> Done;

    /// Ends it. All that is wrong afterwards is the daemons' to repair.
    fn heal(&mut self, _cluster: &mut Cluster) -> Done {
        Ok(())
    }

    /// How soon all has to be well after it is over.
    fn repaired_within(&self) -> Duration {
        QUIET
    }

    /// Whether all has to be well while it lasts, and not only afterwards.
    fn lasts(&self) -> bool {
        false
    }
}

/// A part of the cluster. Hosts are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The daemon's process.
    Daemon(usize),
    /// The cable, and what passes through it.
    Path(usize),
    /// Addresses and routes of the underlay.
    Address(usize),
    /// The overlay device, its entries, and the firewall.
    Entries(usize),
    /// The lease.
    Lease(usize),
    /// etcd: its members, its alarms, the network configuration.
    Etcd,
}

/// Kinds of faults, to run some of them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Process,
    Lease,
    Etcd,
    Network,
    Address,
    Kernel,
}

impl Group {
    pub const ALL: [Self; 6] = [
        Self::Process,
        Self::Lease,
        Self::Etcd,
        Self::Network,
        Self::Address,
        Self::Kernel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Lease => "lease",
            Self::Etcd => "etcd",
            Self::Network => "network",
            Self::Address => "address",
            Self::Kernel => "kernel",
        }
    }

    pub fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|group| group.name() == name);
        found.unwrap_or_else(|| panic!("no group of faults is called {name}"))
    }
}

/// Whom a fault may be done to.
pub struct Target {
    pub hosts: usize,
    /// Hosts that run this project's daemon. The other ones only die and lose packets.
    pub ours: Vec<usize>,
}

impl Target {
    fn any(&self, random: &mut StdRng) -> usize {
        random.random_range(1..=self.hosts)
    }

    fn ours(&self, random: &mut StdRng) -> usize {
        self.ours[random.random_range(0..self.ours.len())]
    }

    /// Two different hosts that run this project's daemon.
    fn two(&self, random: &mut StdRng) -> (usize, usize) {
        let one = random.random_range(0..self.ours.len());
        let step = random.random_range(1..self.ours.len());
        (self.ours[one], self.ours[(one + step) % self.ours.len()])
    }
}

/// A row of the table.
pub struct Kind {
    /// Part of what the fault says of itself.
    pub name: &'static str,
    pub group: Group,
    /// How often it is drawn, compared with the others.
    pub weight: u32,
    pub make: fn(&mut StdRng, &Target) -> Box<dyn Fault>,
}

macro_rules! table {
    ($($name:literal, $group:ident, $weight:literal, $make:path;)*) => {
        &[$(Kind {
            name: $name,
            group: Group::$group,
            weight: $weight,
            make: |random, target| Box::new($make(random, target)),
        },)*]
    };
}

pub const TABLE: &[Kind] = table! {
    "daemon killed", Process, 4, process::Killed::draw;
    "daemon stopped and started", Process, 2, process::Restarted::draw;
    "daemon suspended", Process, 3, process::Suspended::draw;
    "crash loop", Process, 2, process::CrashLoop::draw;
    "reboot", Process, 3, process::Reboot::draw;
    "log reader stalled", Process, 3, process::ReaderStalled::draw;
    "slow disk", Process, 2, process::SlowDisk::draw;
    "key deleted", Lease, 2, lease::KeyDeleted::draw;
    "lease expired", Lease, 3, lease::Expired::draw;
    "subnet taken", Lease, 3, lease::Taken::draw;
    "cloned from", Lease, 3, lease::Cloned::draw;
    "member killed", Etcd, 2, datastore::MemberKilled::draw;
    "member hangs", Etcd, 2, datastore::MemberHangs::draw;
    "majority lost", Etcd, 2, datastore::MajorityLost::draw;
    "no space", Etcd, 3, datastore::NoSpace::draw;
    "history compacted", Etcd, 2, datastore::Compacted::draw;
    "configuration rewritten", Etcd, 2, datastore::ConfigRewritten::draw;
    "packets dropped", Network, 5, network::Dropped::draw;
    "cable pulled", Network, 2, network::CablePulled::draw;
    "address changed", Address, 3, address::Renumbered::draw;
    "virtual address", Address, 3, address::Virtual::draw;
    "address removed", Address, 3, address::Removed::draw;
    "better default route", Address, 3, address::DefaultRoute::draw;
    "flannel.1 flaps", Kernel, 4, entries::DeviceFlaps::draw;
    "flannel.1 deleted", Kernel, 3, entries::DeviceDeleted::draw;
    "eth0 flaps", Kernel, 2, entries::UplinkFlaps::draw;
    "entries flushed", Kernel, 3, entries::Flushed::draw;
    "MTU changed", Kernel, 2, entries::MtuChanged::draw;
    "firewall flushed", Kernel, 3, entries::FirewallFlushed::draw;
};
