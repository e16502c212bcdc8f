//! What the daemon says of itself, as one document: pure. This is the JSON of the status socket; ages and durations are
//! in seconds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::firewall::State as Firewall;
use crate::kernel::entry::EntryKey;
use crate::subnet::HostNames;

/// Version of the document. Members may be added to it; one that changes its meaning or goes makes another version.
pub const FORMAT: u32 = 1;

/// Peers, leases or things of one kind that a report names one by one.
pub const NAMED: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub format: u32,
    /// Version of the program that made it.
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    pub state: State,
    /// What keeps the state from being better, the worst first.
    pub reasons: Vec<String>,
    /// The daemon's process; absent if it does not run.
    pub pid: Option<u32>,
    /// For how long the process has been running.
    pub uptime: Option<f64>,
    /// What the service manager is told.
    pub status: String,
    /// What another program did to the status socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The datastore; absent if it was not asked.
    pub etcd: Option<Etcd>,
    /// The own lease, peers, and what the kernel holds; absent before there is a lease.
    pub overlay: Option<Overlay>,
    /// What came of probes; absent unless `-probe-interval` asks for them.
    pub probes: Option<Probes>,
}

/// What came of probing the peers through the overlay. It does not change the state: a peer that is down is not this host's fault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    /// Between two probes of a peer.
    pub interval: f64,
    /// Probes that were answered since the start of the daemon.
    pub answered: u64,
    pub lost: u64,
    pub reachable: usize,
    /// Peers that have not answered several times in a row.
    pub unreachable: usize,
    /// Which; the list ends after [`NAMED`].
    pub silent: Vec<Named>,
}

/// How it is, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Fine,
    /// This host serves, and something needs attention.
    Degraded,
    /// This host does not serve, or not as its peers expect.
    NotReady,
    /// There is no daemon.
    #[default]
    NotRunning,
    /// Its process is there and does not answer.
    Silent,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Fine => "fine",
            State::Degraded => "degraded",
            State::NotReady => "not ready",
            State::NotRunning => "not running",
            State::Silent => "does not answer",
        })
    }
}

/// The datastore, as this host sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Etcd {
    /// The endpoint that answered last; empty if none has.
    pub endpoint: String,
    /// Whether the watch of all leases stands.
    pub watching: bool,
    /// For how long it has been broken, and why.
    pub lost: Option<Trouble>,
    /// Since it was last heard of.
    pub silence: Option<f64>,
    /// The last change of the leases that this daemon knows.
    pub revision: i64,
    /// For how long changes have been waiting for being taken.
    pub backlog: Option<f64>,
    pub breaks: u64,
    pub lists: u64,
    /// Since the own lease was renewed.
    pub renewed: Option<f64>,
    /// Until the own key expires, unless it is renewed; absent for a reservation, which does not.
    pub expires: Option<f64>,
    /// For how long the own lease could not be renewed, and why.
    pub renewal: Option<Trouble>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// For how long.
    pub since: f64,
    pub why: String,
}

/// This host's part in the overlay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlay {
    pub subnet: String,
    /// Since the daemon leased it, or found that it has it.
    pub held: Option<f64>,
    /// Status of the own lease: `held`, `taken_over`, `duplicate_host`, `config_changed`, `moved`.
    pub lease_status: String,
    /// What is wrong with it.
    pub lost: Option<String>,
    /// The addresses that peers send to, one a family.
    pub public_ips: Vec<String>,
    /// How packets get to peers: the configuration's `Backend` `Type`.
    pub backend: String,
    pub network: String,
    pub underlay: Underlay,
    pub devices: Vec<Device>,
    /// Whether a complete list of leases has been seen.
    pub listed: bool,
    /// Whether the kernel has held all of it.
    pub settled: bool,
    /// The age of the state file that this daemon started from, until etcd answers.
    pub stale: Option<f64>,
    /// What keeps this host from following its interfaces.
    pub trouble: Option<String>,
    /// What other programs did to the daemon's files, and why the state file is not written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Why the kernel could not be read or written.
    pub kernel: Option<String>,
    pub peers: Peers,
    /// Public addresses that more than one host announces, this one included; the list ends after [`NAMED`].
    pub duplicates: Vec<Duplicate>,
    /// How many there are.
    pub duplicate_count: usize,
    /// Bridges and devices that earlier leases and configurations have left, with the remedy.
    pub leftovers: Vec<String>,
    pub entries: Entries,
    pub reconcile: Reconcile,
    /// The firewall's rules, as far as that is known.
    pub firewall: Option<Firewall>,
}

/// The interface that carries the overlay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Underlay {
    pub name: String,
    /// The addresses that the overlay sends from, one a family.
    pub ips: Vec<String>,
    pub mtu: u32,
}

/// A device of the overlay, as desired.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    pub name: String,
    pub mac: String,
    pub mtu: u32,
    pub vni: u32,
    pub port: u16,
    /// The address that it sends from.
    pub local: String,
    /// How the one that is there differs, where that is known.
    pub amiss: Option<String>,
}

/// The other hosts. Lists end after [`NAMED`]; the numbers count all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peers {
    /// Leases that are used.
    pub desired: usize,
    /// Of these, the ones whose every entry is in the kernel.
    pub installed: usize,
    /// Peers with an entry that is not.
    pub failing: Vec<Named>,
    /// Leases that are not used.
    pub refused: usize,
    /// Which, and why.
    pub refusals: Vec<Named>,
    /// Leases that want what a newer one has.
    pub contested: usize,
    /// Which, and what.
    pub contests: Vec<Named>,
}

/// A public address that more than one host announces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Duplicate {
    pub ip: String,
    /// The subnets of the hosts, this one's first.
    pub subnets: Vec<String>,
    /// The names of the hosts by their subnets, where they are known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subnets = self.subnets.iter();
        let each = subnets.map(|subnet| titled(subnet, self.hosts.get(subnet)));
        write!(f, "{} by {}", self.ip, each.collect::<Vec<_>>().join(", "))
    }
}

/// A lease, and what is the matter with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    pub subnet: String,
    /// The name of its host, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub why: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = titled(&self.subnet, self.host.as_ref());
        write!(f, "{lease}: {}", self.why)
    }
}

fn titled(subnet: &str, host: Option<&String>) -> String {
    host.map_or_else(|| subnet.to_owned(), |host| format!("{subnet} ({host})"))
}

impl Report {
    /// Whether it is about single hosts, which have names.
    pub fn names_hosts(&self) -> bool {
        let in_overlay = |Overlay {
                              peers, duplicates, ..
                          }: &Overlay| {
            let lists = [&peers.failing, &peers.refusals, &peers.contests];
            !duplicates.is_empty() || lists.iter().any(|list| !list.is_empty())
        };
        let in_probes = |probes: &Probes| !probes.silent.is_empty();
        self.overlay.as_ref().is_some_and(in_overlay) || self.probes.as_ref().is_some_and(in_probes)
    }

    pub fn name_hosts(&mut self, names: &HostNames) {
        let name = |subnet: &str| names.of_text(subnet).map(str::to_owned);
        if let Some(overlay) = &mut self.overlay {
            for Duplicate { subnets, hosts, .. } in &mut overlay.duplicates {
                let named = |subnet: &String| Some((subnet.clone(), name(subnet)?));
                *hosts = subnets.iter().filter_map(named).collect();
            }
            let peers = &mut overlay.peers;
            for list in [&mut peers.failing, &mut peers.refusals, &mut peers.contests] {
                list.iter_mut()
                    .for_each(|named| named.host = name(&named.subnet));
            }
        }
        for named in self.probes.iter_mut().flat_map(|probes| &mut probes.silent) {
            named.host = name(&named.subnet);
        }
    }
}

/// The desired state of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entries {
    /// How much of each kind.
    pub desired: ByKind,
    /// How much of that is not there, as far as is known.
    pub missing: ByKind,
}

/// How the kernel is kept as desired. Numbers count from the start of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconcile {
    /// Comparisons of all that is desired with all that is there, which found nothing to do.
    pub clean: u64,
    /// Those after which all was as desired.
    pub repaired: u64,
    /// Those that left something undone.
    pub failed: u64,
    /// Since the last one ended.
    pub last: Option<f64>,
    pub took: f64,
    /// Changes of leases.
    pub events: u64,
    /// What other programs had changed or removed, and was repaired.
    pub repairs: ByKind,
    /// Writes that the kernel refused or did not answer.
    pub failures: ByKind,
    /// What another program keeps modifying now.
    pub flapping: Vec<String>,
}

/// A number for each kind of object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByKind {
    pub device: u64,
    pub address: u64,
    pub neighbor: u64,
    pub fdb: u64,
    pub route: u64,
}

impl ByKind {
    /// The number for entries of this kind.
    pub fn of(&mut self, key: EntryKey) -> &mut u64 {
        match key {
            EntryKey::Addr(..) => &mut self.address,
            EntryKey::Neigh(..) => &mut self.neighbor,
            EntryKey::Fdb(..) => &mut self.fdb,
            EntryKey::Route(..) => &mut self.route,
        }
    }

    pub fn each(&self) -> [(&'static str, u64); 5] {
        [
            ("device", self.device),
            ("address", self.address),
            ("neighbor", self.neighbor),
            ("fdb", self.fdb),
            ("route", self.route),
        ]
    }

    pub fn total(&self) -> u64 {
        self.each().iter().map(|(_, number)| number).sum()
    }
}

impl FromIterator<EntryKey> for ByKind {
    fn from_iter<I: IntoIterator<Item = EntryKey>>(keys: I) -> Self {
        let mut counts = Self::default();
        keys.into_iter().for_each(|key| *counts.of(key) += 1);
        counts
    }
}

/// What is asked on the status socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    Status,
}

/// Why a request was not answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

impl Request {
    /// The error says how to ask.
    pub fn read(line: &str) -> Result<Self, String> {
        let how = "send one line, {\"ask\":\"status\"}";
        serde_json::from_str(line).map_err(|error| format!("{error}: {how}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_what_clients_write() {
        let text = serde_json::to_string(&Request::Status).unwrap();
        assert_eq!(
            (text.as_str(), Request::read(&text)),
            (r#"{"ask":"status"}"#, Ok(Request::Status))
        );
        for bad in [
            "",
            "{}",
            "null",
            "status",
            r#"{"ask":"Status"}"#,
            r#"{"ask":"status"}{"ask":"status"}"#,
        ] {
            assert!(
                Request::read(bad)
                    .unwrap_err()
                    .ends_with("send one line, {\"ask\":\"status\"}"),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn request_of_any_text_does_not_panic(text in ".*") {
            let _ = Request::read(&text);
        }
    }
}
