//! Plans the change of one lease (reserve, unreserve, release, move) as one transaction, or returns why it is refused. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Inventory, InventoryEntry, Refusal};
use flanneld::subnet::etcd::dump::Removal;
use flanneld::subnet::etcd::store::{Before, Write};
use flanneld::subnet::{Lease, LeaseAttrs, LeaseId, NetworkConfig, PublicAddrs, Revision, Subnets};
use flanneld::util::family::overlap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub change: Change,
    /// What the operator needs to know first.
    pub notes: Vec<String>,
    /// Whether the change takes a subnet from a host that may be alive. It is made only if that host is gone, or with `--force`.
    pub takes_from_live_host: bool,
}

/// A transaction in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(Put),
    Remove(Removal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub subnets: Subnets,
    pub attrs: LeaseAttrs,
    /// The etcd lease of the key.
    pub lease_id: KeyLease,
    /// The required state of the key before the write.
    pub before: Before,
    /// The required revision of the network configuration.
    pub config: Option<Revision>,
    /// Leases to delete in the same transaction, as they were read.
    pub replaces: Vec<Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLease {
    /// None: the key does not expire.
    Reservation,
    /// An existing etcd lease.
    Old(LeaseId),
    /// A new etcd lease of 24 hours.
    New,
}

impl Put {
    /// Converts the change for the datastore. `new` is the etcd lease that was granted for it.
    pub fn as_write(&self, new: Option<LeaseId>) -> Write<'_> {
        let lease_id = match self.lease_id {
            KeyLease::Reservation => None,
            KeyLease::Old(lease_id) => Some(lease_id),
            KeyLease::New => new,
        };
        let Self {
            subnets,
            attrs,
            before,
            config,
            replaces,
            ..
        } = self;
        Write {
            subnets,
            attrs,
            lease_id,
            before: *before,
            owner: None,
            config: *config,
            replaces,
        }
    }
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(why.into()))
}

/// Turns a lease into a reservation. Fails if it is a reservation already, or not a lease.
pub fn reserve(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.lease_id.is_none() {
        return Err(Refusal::Already(format!(
            "{} is a reservation",
            entry.title()
        )));
    }
    let note = match &entry.owner {
        Some(_) => "its daemon keeps the reservation; the lease needs no renewal from now on".to_owned(),
        None => "Go flannel turns it into a lease of 24 hours when it starts; rflannel keeps the reservation"
            .to_owned(),
    };
    Ok(rewrite(lease, KeyLease::Reservation, note))
}

/// Turns a reservation into a lease that expires. Fails if it is not a reservation, or not a lease.
pub fn unreserve(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.lease_id.is_some() {
        return Err(Refusal::Already(format!(
            "{} is not a reservation",
            entry.title()
        )));
    }
    Ok(rewrite(
        lease,
        KeyLease::New,
        "it expires in 24 hours unless its host renews it".to_owned(),
    ))
}

fn rewrite(lease: &Lease, lease_id: KeyLease, note: String) -> Plan {
    let before = Before::At(lease.modified);
    let Lease { subnets, attrs, .. } = lease.clone();
    let put = Put {
        subnets,
        attrs,
        lease_id,
        before,
        config: None,
        replaces: Vec::new(),
    };
    harmless(put, note)
}

fn harmless(put: Put, note: String) -> Plan {
    Plan {
        change: Change::Put(put),
        notes: vec![note],
        takes_from_live_host: false,
    }
}

/// Reserves a subnet for a future host. Fails if the host cannot have the subnet.
pub fn reserve_for(
    inventory: &Inventory,
    subnets: Subnets,
    public_ip: Option<Ipv4Addr>,
    public_ipv6: Option<Ipv6Addr>,
) -> Result<Plan, Refusal> {
    let (network, written) = network(inventory)?;
    let attrs = LeaseAttrs {
        public_ip,
        public_ipv6,
        ..LeaseAttrs::default()
    };
    let Some(host) = PublicAddrs::of(&attrs) else {
        return wrong(format!(
            "no host has {subnets}: give the address that the future host will announce, with --public-ip"
        ));
    };
    if let Some(other) = inventory
        .leases()
        .find(|lease| PublicAddrs::of(&lease.attrs).is_some_and(|other| other.is(&host)))
    {
        return wrong(format!(
            "{} already has {}: `lease reserve {}` turns that lease into a reservation, `lease move` gives the host another subnet",
            host.ip(),
            other.subnets,
            host.ip()
        ));
    }
    check_free(inventory, network, &subnets, None)?;
    let put = Put {
        subnets,
        attrs,
        lease_id: KeyLease::Reservation,
        before: Before::Absent,
        config: Some(*written),
        replaces: Vec::new(),
    };
    let note = format!(
        "the daemon of {} leases it when it starts; no other host gets it",
        host.ip()
    );
    Ok(harmless(put, note))
}

/// Deletes a lease, whatever its value. Fails if the key is not a lease key.
pub fn release(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let Some(lease) = &entry.lease else {
        return wrong(format!(
            "{:?} is not a lease key and has no effect: delete it with etcdctl del",
            entry.name
        ));
    };
    let owner = entry.recorded.map_or(Before::Absent, Before::At);
    let removal = Removal {
        lease: lease.clone(),
        owner,
    };
    let has_host =
        PublicAddrs::of(&lease.attrs).is_some() && !lease.is_reservation_for_absent_host();
    let notes = if has_host {
        vec![
            format!(
                "the other hosts remove their entries for {} (Go flannel at once, rflannel after 10 s)",
                entry.title()
            ),
            "if rflannel's daemon runs there, it creates its key again; Go flannel's daemon exits"
                .to_owned(),
        ]
    } else {
        vec![format!("{} becomes free; no host uses it", entry.title())]
    };
    Ok(Plan {
        change: Change::Remove(removal),
        notes,
        takes_from_live_host: has_host,
    })
}

/// Gives a host other subnets. Fails if the lease cannot be moved there.
pub fn relocate(
    inventory: &Inventory,
    entry: &InventoryEntry,
    to: Subnets,
) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.subnets == to {
        return Err(Refusal::Already(format!(
            "{} already has {to}",
            entry.whose()
        )));
    }
    let (network, written) = network(inventory)?;
    check_free(inventory, network, &to, Some(lease))?;
    let put = Put {
        subnets: to,
        attrs: lease.attrs.clone(),
        lease_id: lease.lease_id.map_or(KeyLease::Reservation, KeyLease::Old),
        before: Before::Absent,
        config: Some(*written),
        replaces: vec![lease.clone()],
    };
    let notes = if lease.is_reservation_for_absent_host() {
        vec![format!(
            "the daemon of {} leases {to} when it starts",
            entry.whose()
        )]
    } else {
        moving(entry, &to)
    };
    Ok(Plan {
        change: Change::Put(put),
        notes,
        takes_from_live_host: !lease.is_reservation_for_absent_host(),
    })
}

fn moving(entry: &InventoryEntry, to: &Subnets) -> Vec<String> {
    let old = entry.title();
    vec![
        format!("the other hosts route {to} to {} at once and remove their entries for {old} (rflannel after 10 s)", entry.whose()),
        format!(
            "if its daemon starts afterwards, it finds {to} by its address and writes it to subnet.env; then restart docker and the \
             pods there, whose addresses belong to {old}"
        ),
        "if rflannel's daemon runs meanwhile: with -on-lease-lost=move it moves at once; with exit it exits and uses the new subnet \
         at its next start; with hold (the default) it takes the old subnet back, which undoes this move"
            .to_owned(),
        "if Go flannel's daemon runs meanwhile, it exits and uses the new subnet at its next start".to_owned(),
    ]
}

fn readable(entry: &InventoryEntry) -> Result<&Lease, Refusal> {
    match &entry.lease {
        Some(lease) if PublicAddrs::of(&lease.attrs).is_some() => Ok(lease),
        Some(_) => wrong(format!(
            "the lease of {} announces no host ({}): release it",
            entry.title(),
            entry
                .problems
                .first()
                .map_or("no public address", String::as_str)
        )),
        None => wrong(format!("{:?} is not a lease key", entry.name)),
    }
}

fn network(inventory: &Inventory) -> Result<&(NetworkConfig, Revision), Refusal> {
    inventory
        .network
        .as_ref()
        .map_err(|why| Refusal::Wrong(why.clone()))
}

/// Checks that a daemon would lease the subnets: inside the network and its bounds, of the same families, and free.
fn check_free(
    inventory: &Inventory,
    network: &NetworkConfig,
    subnets: &Subnets,
    except: Option<&Lease>,
) -> Result<(), Refusal> {
    if !network.fits(subnets) {
        let ranges: Vec<String> = network
            .ranges
            .iter()
            .map(|range| {
                format!(
                    "a /{} from {} to {}",
                    range.subnet_len, range.subnet_min, range.subnet_max
                )
            })
            .collect();
        return wrong(format!(
            "{subnets} cannot be leased: a host leases {}",
            ranges.join(" and ")
        ));
    }
    let others = inventory
        .leases()
        .filter(|lease| except.is_none_or(|own| own.subnets != lease.subnets));
    let meets = |lease: &&Lease| {
        lease.subnets.iter().any(|theirs| {
            subnets
                .iter()
                .any(|ours| overlap(ours, theirs) && !is_all(network, &theirs))
        })
    };
    match others.into_iter().find(meets) {
        Some(lease) => wrong(format!(
            "{} is leased by {}",
            lease.subnets,
            lease.attrs.known_as()
        )),
        None => Ok(()),
    }
}

/// Returns whether a key covers a whole network. Such a key is a mistake and blocks no subnet, as in the daemon's own choice.
fn is_all(network: &NetworkConfig, subnet: &ipnetwork::IpNetwork) -> bool {
    network.ranges.iter().any(|range| {
        range.network.ip().is_ipv4() == subnet.is_ipv4()
            && subnet.prefix() <= range.network.prefix()
    })
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::inventory;
    use super::super::lookup;
    use super::*;

    const H1: &str = r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#;
    const H2: &str = r#"{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}}"#;

    fn cluster() -> Inventory {
        inventory(&[
            ("10.5.1.0-24", H1, Some("h1")),
            ("10.5.2.0-24", H2, None),
            ("10.5.3.0-24", "{", None),
            ("10.5.0.0-16", H2, None),
        ])
    }

    fn subnets(text: &str) -> Subnets {
        lookup::subnets(text).unwrap()
    }

    #[test]
    fn a_reservation_is_the_same_key_without_an_end() {
        let inventory = cluster();
        let entry = lookup::entry(&inventory, "10.5.1.0/24").unwrap();
        let Change::Put(put) = reserve(entry).unwrap().change else {
            panic!("a key is written")
        };
        let write = put.as_write(None);
        assert_eq!(
            (write.lease_id, write.before, write.owner),
            (None, Before::At(10), None)
        );
        assert_eq!(*write.attrs, entry.lease.as_ref().unwrap().attrs);
        assert!(matches!(unreserve(entry), Err(Refusal::Already(_))));
    }

    #[test]
    fn what_is_released_must_be_as_it_was_read() {
        let inventory = cluster();
        let of = |text| release(lookup::entry(&inventory, text).unwrap()).unwrap();
        let Change::Remove(removal) = of("10.5.1.0/24").change else {
            panic!("a key is deleted")
        };
        assert_eq!((removal.lease.modified, removal.owner), (10, Before::At(9)));
        assert!(of("10.5.2.0/24").takes_from_live_host);
        assert!(
            !of("10.5.3.0/24").takes_from_live_host,
            "an unreadable value belongs to no host"
        );
    }

    #[test]
    fn a_lease_moves_only_to_what_is_free() {
        let inventory = cluster();
        let entry = lookup::entry(&inventory, "10.5.1.0/24").unwrap();
        let Change::Put(put) = relocate(&inventory, entry, subnets("10.5.9.0/24"))
            .unwrap()
            .change
        else {
            panic!()
        };
        assert_eq!(
            (put.before, put.config, put.replaces.len()),
            (Before::Absent, Some(1), 1)
        );
        assert_eq!(put.lease_id, KeyLease::Old(LeaseId::new(10).unwrap()));
        for (to, words) in [
            ("10.5.2.0/24", "10.5.2.0/24 is leased by 192.0.2.2"),
            ("10.5.3.0/24", "10.5.3.0/24 is leased by 0.0.0.0"),
            (
                "10.6.2.0/24",
                "cannot be leased: a host leases a /24 from 10.5.1.0 to 10.5.255.0",
            ),
            ("10.5.0.0/24", "cannot be leased"),
            ("10.5.9.0/25", "cannot be leased"),
            ("10.5.9.0/24,fd05::/64", "cannot be leased"),
            ("10.5.1.0/24", "nothing to do"),
        ] {
            let refusal = relocate(&inventory, entry, subnets(to))
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(words), "{to}: {refusal}");
        }
        let broken = lookup::entry(&inventory, "10.5.3.0/24").unwrap();
        assert!(
            relocate(&inventory, broken, subnets("10.5.9.0/24"))
                .unwrap_err()
                .to_string()
                .contains("release it")
        );
    }

    #[test]
    fn a_subnet_is_reserved_for_a_host_that_has_none() {
        let inventory = cluster();
        let ip = |last| Some(Ipv4Addr::new(192, 0, 2, last));
        let Change::Put(put) = reserve_for(&inventory, subnets("10.5.9.0/24"), ip(9), None)
            .unwrap()
            .change
        else {
            panic!()
        };
        assert_eq!(
            put.attrs.encode(),
            r#"{"PublicIP":"192.0.2.9","PublicIPv6":null}"#
        );
        for (to, ip, words) in [
            ("10.5.9.0/24", None, "--public-ip"),
            ("10.5.9.0/24", ip(1), "192.0.2.1 already has 10.5.1.0/24"),
            ("10.5.2.0/24", ip(9), "is leased by 192.0.2.2"),
        ] {
            let refusal = reserve_for(&inventory, subnets(to), ip, None)
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(words), "{to}: {refusal}");
        }
    }
}
