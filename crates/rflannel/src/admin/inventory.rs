//! Holds all leases of a cluster at one revision, each with its owner and its problems. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{liveness, validate};
use flanneld::backend;
use flanneld::subnet::etcd::dump::{Dump, Record, TimeLeft};
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Lease, LeaseAttrs, LeaseId, NetworkConfig, Revision, Subnets, key};
use flanneld::util::family::Family;

#[derive(Debug, Clone)]
pub struct Inventory {
    pub prefix: String,
    /// The revision at which everything was read.
    pub revision: Revision,
    /// The network configuration and its revision, or why there is none.
    pub network: Result<(NetworkConfig, Revision), String>,
    /// The keys: lease keys in the order of their subnets, then others.
    pub entries: Vec<InventoryEntry>,
    /// Owner records without a lease.
    pub strays: Vec<String>,
}

/// A key below `<prefix>/subnets/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryEntry {
    /// Last component of the key.
    pub name: String,
    pub value: String,
    /// The lease; `None` if the key is not a lease key. It has no attributes if the value is not a lease value.
    pub lease: Option<Lease>,
    /// The recorded owner and the revision of the record.
    pub owner: Option<(MachineId, Revision)>,
    /// The revision of the owner record, whatever it contains.
    pub recorded: Option<Revision>,
    pub expiry: Expiry,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never: it is a reservation.
    Never,
    /// After this time, unless it is renewed.
    In(TimeLeft),
    /// Its etcd lease has ended, so the key has expired by now.
    Over,
}

impl Expiry {
    /// Returns the time since the last renewal.
    pub fn age(self) -> Option<Duration> {
        match self {
            Expiry::In(TimeLeft { left, granted }) => Some(granted.saturating_sub(left)),
            Expiry::Never | Expiry::Over => None,
        }
    }
}

impl Inventory {
    /// Builds the inventory from what etcd holds. `times` are the remaining times of the etcd leases. A lease is renewed `margin` before its end.
    pub fn read(dump: Dump, times: &BTreeMap<LeaseId, TimeLeft>, margin: Duration) -> Self {
        let Dump {
            prefix,
            config,
            leases,
            owners,
            revision,
        } = dump;
        let network = network(&prefix, config.as_ref());
        let mut owners: BTreeMap<String, Record> = owners
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        let mut entries: Vec<InventoryEntry> = leases
            .iter()
            .map(|record| entry(record, owners.remove(&record.name).as_ref(), times))
            .collect();
        entries.sort_by_key(|entry| (entry.lease.is_none(), entry.subnets(), entry.name.clone()));
        let mut inventory = Self {
            prefix,
            revision,
            network,
            entries,
            strays: owners.into_keys().collect(),
        };
        inventory.look_for_problems(margin);
        inventory
    }

    /// Returns the entries whose key is a lease key.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.entries.iter().filter_map(|entry| entry.lease.as_ref())
    }

    /// Returns the entry of the lease with these subnets.
    pub fn entry_of(&self, subnets: &Subnets) -> Option<&InventoryEntry> {
        let is_meant = |entry: &&InventoryEntry| {
            let lease = entry.lease.as_ref();
            lease.is_some_and(|lease| lease.subnets == *subnets)
        };
        self.entries.iter().find(is_meant)
    }

    /// Returns the full key of a lease.
    pub fn key(&self, subnets: &Subnets) -> String {
        format!("{}/subnets/{}", self.prefix, key::format(subnets))
    }

    /// Returns the full key of a lease's owner record.
    pub fn owners_key(&self, subnets: &Subnets) -> String {
        format!("{}/owners/{}", self.prefix, key::format(subnets))
    }

    fn look_for_problems(&mut self, margin: Duration) {
        let leases: Vec<Lease> = self.leases().cloned().collect();
        let network = self.network.as_ref().ok();
        let mut found = network
            .and_then(|(config, _)| validate::problems(config, &leases).ok())
            .unwrap_or_default();
        for entry in &mut self.entries {
            let problems = found.remove(&entry.subnets()).unwrap_or_default();
            entry
                .problems
                .extend(problems.iter().map(ToString::to_string));
            entry.problems.extend(liveness::complaint(entry, margin));
        }
    }
}

fn network(prefix: &str, config: Option<&Record>) -> Result<(NetworkConfig, Revision), String> {
    let record =
        config.ok_or_else(|| format!("there is no network configuration at {prefix}/config"))?;
    NetworkConfig::parse(&record.value)
        .map(|network| (network, record.modified))
        .map_err(|why| format!("the network configuration at {prefix}/config is not usable: {why}"))
}

fn entry(
    record: &Record,
    owner: Option<&Record>,
    times: &BTreeMap<LeaseId, TimeLeft>,
) -> InventoryEntry {
    let (lease, problems) = read(record);
    let expiry = match record.lease_id {
        None => Expiry::Never,
        Some(lease_id) => times
            .get(&lease_id)
            .copied()
            .map_or(Expiry::Over, Expiry::In),
    };
    InventoryEntry {
        name: record.name.clone(),
        value: String::from_utf8_lossy(&record.value).into_owned(),
        lease,
        owner: owner.and_then(|record| Some((MachineId::decode(&record.value)?, record.modified))),
        recorded: owner.map(|record| record.modified),
        expiry,
        problems,
    }
}

/// Parses a key. If its value is invalid, the key occupies its subnet but belongs to no host.
fn read(record: &Record) -> (Option<Lease>, Vec<String>) {
    let subnets = match key::parse(&record.name) {
        Ok(subnets) => subnets,
        Err(why) => return (None, vec![why.to_string()]),
    };
    let (attrs, problems) = match LeaseAttrs::decode(&record.value) {
        Ok(attrs) => (attrs, Vec::new()),
        Err(why) => (LeaseAttrs::default(), vec![why.to_string()]),
    };
    let lease = Lease {
        subnets,
        attrs,
        created: record.created,
        modified: record.modified,
        lease_id: record.lease_id,
    };
    (Some(lease), problems)
}

impl InventoryEntry {
    pub fn subnets(&self) -> Subnets {
        self.lease
            .as_ref()
            .map(|lease| lease.subnets)
            .unwrap_or_default()
    }

    pub fn title(&self) -> String {
        self.lease
            .as_ref()
            .map_or_else(|| self.name.clone(), |lease| lease.subnets.to_string())
    }

    pub fn public(&self) -> Vec<String> {
        self.published(LeaseAttrs::public)
    }

    pub fn macs(&self) -> Vec<String> {
        self.published(backend::published_mac)
    }

    fn published<T: ToString>(&self, of: fn(&LeaseAttrs, Family) -> Option<T>) -> Vec<String> {
        let families = Family::ALL.into_iter();
        let attrs = self.lease.as_ref().map(|lease| &lease.attrs);
        let found = families.filter_map(|family| of(attrs?, family));
        found.map(|one| one.to_string()).collect()
    }

    /// Returns the host name in the owner record.
    pub fn host(&self) -> Option<&str> {
        self.owner.as_ref().map(|(machine, _)| machine.host())
    }

    /// Describes the host by its name and address, as far as known.
    pub fn whose(&self) -> String {
        match (self.host(), self.public().join(" and ")) {
            (_, ip) if ip.is_empty() => "no host".into(),
            (Some(host), ip) if !host.is_empty() => format!("{host} ({ip})"),
            (_, ip) => ip,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What etcd holds: names, values, owners. Who announces no backend is reserved for.
    pub(in crate::admin) fn dump(keys: &[(&str, &str, Option<&str>)], config: &str) -> Dump {
        let lives = |value: &str| value.contains("BackendType") || value == "{";
        let record = |name: &str, value: &str, at| Record {
            name: name.into(),
            value: value.into(),
            created: at,
            modified: at,
            lease_id: LeaseId::new(at).filter(|_| lives(value)),
        };
        let of = |host: &str| MachineId::new(host, "boot", host).encode();
        let owners = keys
            .iter()
            .filter_map(|(name, _, owner)| Some(record(name, &of((*owner)?), 9)));
        Dump {
            prefix: "/net".into(),
            config: Some(record("config", config, 1)),
            leases: keys
                .iter()
                .zip(10..)
                .map(|((name, value, _), at)| record(name, value, at))
                .collect(),
            owners: owners.collect(),
            revision: 99,
        }
    }

    pub(in crate::admin) fn times() -> BTreeMap<LeaseId, TimeLeft> {
        let day = TimeLeft {
            left: Duration::from_secs(86_000),
            granted: Duration::from_secs(86_400),
        };
        (10..60)
            .filter_map(|lease_id| Some((LeaseId::new(lease_id)?, day)))
            .collect()
    }

    pub(in crate::admin) fn inventory(keys: &[(&str, &str, Option<&str>)]) -> Inventory {
        let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
        Inventory::read(dump(keys, config), &times(), Duration::from_secs(3600))
    }

    pub(in crate::admin) fn entry(name: &str, value: &str, owner: Option<&str>) -> InventoryEntry {
        inventory(&[(name, value, owner)]).entries.remove(0)
    }

    #[test]
    fn every_key_has_its_line_and_what_cannot_be_read_comes_last() {
        let inventory = inventory(&[
            ("10.5.9.0-24", "{", None),
            ("0-rubbish", "{}", None),
            ("10.5.10.0-24", r#"{"PublicIP":"192.0.2.1"}"#, Some("h1")),
        ]);
        let shown: Vec<String> = inventory
            .entries
            .iter()
            .map(InventoryEntry::title)
            .collect();
        assert_eq!(shown, ["10.5.9.0/24", "10.5.10.0/24", "0-rubbish"]);
        assert!(
            inventory.entries[0].problems[0].contains("not a lease value"),
            "{:?}",
            inventory.entries[0]
        );
        assert!(inventory.entries[2].problems[0].contains("not a lease key"));
        assert_eq!(inventory.entries[1].whose(), "h1 (192.0.2.1)");
        assert_eq!(inventory.entries[0].whose(), "no host");
    }

    #[test]
    fn a_record_without_a_lease_is_a_stray() {
        let mut dump = dump(&[("10.5.9.0-24", "{}", Some("h1"))], "{}");
        dump.leases.clear();
        let inventory = Inventory::read(dump, &times(), Duration::ZERO);
        assert_eq!(inventory.strays, ["10.5.9.0-24"]);
        assert!(
            inventory
                .network
                .unwrap_err()
                .contains("/net/config is not usable")
        );
    }
}
