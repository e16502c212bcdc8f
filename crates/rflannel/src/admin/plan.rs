//! What becomes of a lease that is reserved, unreserved, released or moved: one transaction, or the reason why not: pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Inventory, InventoryEntry};
use flanneld::subnet::etcd::dump::Removal;
use flanneld::subnet::etcd::store::{Before, Write};
use flanneld::subnet::{Lease, LeaseAttrs, LeaseId, NetworkConfig, PublicAddrs, Revision, Subnets};
use flanneld::util::family::overlap;

/// A change of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The transaction.
    pub change: Change,
    /// What an operator should know before.
    pub notes: Vec<String>,
    /// It takes something from a host that is alive: only done if that is gone, or if it is forced.
    pub hurts_the_living: bool,
}

/// The transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key is written.
    Put(Put),
    /// A key is deleted.
    Remove(Removal),
}

/// A key to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub subnets: Subnets,
    /// The value.
    pub attrs: LeaseAttrs,
    /// What keeps it alive.
    pub lease_id: KeyLease,
    /// What must be there.
    pub before: Before,
    /// The network configuration must still be the one of this revision.
    pub config: Option<Revision>,
    /// Leases to delete with it, as they were read.
    pub replaces: Vec<Lease>,
}

/// What keeps a key alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLease {
    /// Nothing: it does not expire.
    Reservation,
    /// An etcd lease that there is.
    Old(LeaseId),
    /// A new etcd lease of a day.
    New,
}

impl Put {
    /// As the datastore takes it. `new`: the etcd lease that was made for it.
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

/// Why a lease is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is so already.
    #[error("{0}: nothing to do")]
    Already(String),
    /// It would be wrong.
    #[error("{0}")]
    Wrong(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(why.into()))
}

/// A lease becomes a reservation.
///
/// # Errors
/// When it is one, or no lease.
pub fn reserve(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.lease_id.is_none() {
        return Err(Refusal::Already(format!(
            "{} is a reservation",
            entry.title()
        )));
    }
    let note = match &entry.owner {
        Some(_) => "its daemon keeps it one; no renewal is needed from now on".to_owned(),
        None => "Go flannel makes it a lease of a day again when it starts; rflannel keeps it"
            .to_owned(),
    };
    Ok(rewrite(lease, KeyLease::Reservation, note))
}

/// A reservation becomes a lease that expires.
///
/// # Errors
/// When it is one, or no lease.
pub fn unreserve(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.lease_id.is_some() {
        return Err(Refusal::Already(format!(
            "{} is no reservation",
            entry.title()
        )));
    }
    Ok(rewrite(
        lease,
        KeyLease::New,
        "it expires in a day unless its host renews it".to_owned(),
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
    Plan {
        change: Change::Put(put),
        notes: vec![note],
        hurts_the_living: false,
    }
}

/// A subnet is reserved for a host that has not come yet.
///
/// # Errors
/// When the subnet cannot be that host's.
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
            "nobody has {subnets}: say for whom it is reserved, with --public-ip (the address that the host will announce)"
        ));
    };
    if let Some(other) = inventory
        .leases()
        .find(|lease| PublicAddrs::of(&lease.attrs).is_some_and(|other| other.is(&host)))
    {
        return wrong(format!(
            "{} has {} already: `lease reserve {}` makes that a reservation, `lease move` gives it another subnet",
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
        "the daemon of {} takes it when it starts; no other host gets it",
        host.ip()
    );
    Ok(Plan {
        change: Change::Put(put),
        notes: vec![note],
        hurts_the_living: false,
    })
}

/// A lease is deleted, whatever it holds.
///
/// # Errors
/// When the key is not one of a lease.
pub fn release(entry: &InventoryEntry) -> Result<Plan, Refusal> {
    let Some(lease) = &entry.lease else {
        return wrong(format!(
            "{:?} is not the key of a lease and concerns nobody: etcdctl del it",
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
    let notes = match has_host {
        true => vec![
            format!(
                "the other hosts remove what leads to {} (Go flannel at once, rflannel after 10 s)",
                entry.title()
            ),
            "a daemon of rflannel that runs there makes its key again; Go flannel ends".to_owned(),
        ],
        false => vec![format!("{} is free then; nobody uses it", entry.title())],
    };
    Ok(Plan {
        change: Change::Remove(removal),
        notes,
        hurts_the_living: has_host,
    })
}

/// A host gets other subnets.
///
/// # Errors
/// When the lease cannot be moved there.
pub fn relocate(
    inventory: &Inventory,
    entry: &InventoryEntry,
    to: Subnets,
) -> Result<Plan, Refusal> {
    let lease = readable(entry)?;
    if lease.subnets == to {
        return Err(Refusal::Already(format!("{} has {to}", entry.whose())));
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
    let notes = match lease.is_reservation_for_absent_host() {
        true => vec![format!(
            "the daemon of {} takes {to} when it starts",
            entry.whose()
        )],
        false => moving(entry, &to),
    };
    Ok(Plan {
        change: Change::Put(put),
        notes,
        hurts_the_living: !lease.is_reservation_for_absent_host(),
    })
}

fn moving(entry: &InventoryEntry, to: &Subnets) -> Vec<String> {
    let old = entry.title();
    vec![
        format!("the other hosts send {to} to {} at once, and nothing for {old} any more (rflannel after 10 s)", entry.whose()),
        format!(
            "its daemon, started after that, finds {to} by its address and writes it to subnet.env; then docker and the pods there \
             have to be restarted: their addresses are of {old}"
        ),
        "a daemon of rflannel that runs meanwhile: with -on-lease-lost=move it goes over at once, with exit it ends and has the new \
         subnet at its next start, with hold (the default) it takes the old subnet back, and this move is undone"
            .to_owned(),
        "Go flannel that runs meanwhile ends; its next start finds the new subnet".to_owned(),
    ]
}

fn readable(entry: &InventoryEntry) -> Result<&Lease, Refusal> {
    match &entry.lease {
        Some(lease) if PublicAddrs::of(&lease.attrs).is_some() => Ok(lease),
        Some(_) => wrong(format!(
            "the value of {} announces no host ({}): release it",
            entry.title(),
            entry
                .problems
                .first()
                .map_or("no public address", String::as_str)
        )),
        None => wrong(format!("{:?} is not the key of a lease", entry.name)),
    }
}

fn network(inventory: &Inventory) -> Result<&(NetworkConfig, Revision), Refusal> {
    inventory
        .network
        .as_ref()
        .map_err(|why| Refusal::Wrong(why.clone()))
}

/// Subnets that a daemon would lease: of the network, within its bounds, of the same families, and no one else's.
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
            "{subnets} is not what a host may lease: {}",
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

/// A key that covers a whole network is a mistake and blocks no subnet, as for the daemon's choice.
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
        assert!(of("10.5.2.0/24").hurts_the_living);
        assert!(
            !of("10.5.3.0/24").hurts_the_living,
            "a value that nobody can read is nobody's"
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
                "not what a host may lease: a /24 from 10.5.1.0 to 10.5.255.0",
            ),
            ("10.5.0.0/24", "not what a host may lease"),
            ("10.5.9.0/25", "not what a host may lease"),
            ("10.5.9.0/24,fd05::/64", "not what a host may lease"),
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
            ("10.5.9.0/24", ip(1), "192.0.2.1 has 10.5.1.0/24 already"),
            ("10.5.2.0/24", ip(9), "is leased by 192.0.2.2"),
        ] {
            let refusal = reserve_for(&inventory, subnets(to), ip, None)
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(words), "{to}: {refusal}");
        }
    }
}
