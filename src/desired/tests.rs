//! Sequences of lease events and what is desired after them.

use ipnetwork::Ipv4Network;
use proptest::prelude::*;

use super::*;
use crate::backend::{self, HostContext};
use crate::iface::{Addresses, Underlay};
use crate::kernel::fake::FakeKernel;
use crate::kernel::plan::plan;
use crate::kernel::{HostState, LinkRole, Mac};
use crate::subnet::{LeaseAttrs, key};

mod families;
mod underlay;

use underlay::duplicates;

fn config() -> NetworkConfig {
    NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
}

fn backend() -> Box<dyn Backend> {
    backend_at([192, 0, 2, 1])
}

/// On a host that has this address.
fn backend_at(ip: [u8; 4]) -> Box<dyn Backend> {
    let underlay = Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        addresses: IpAddr::from(ip).into(),
    };
    let host_state = HostState::default();
    let protected = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state: &host_state,
        published: None,
        machine: "me",
        blackhole: false,
    };
    backend::new(&config(), &protected).unwrap()
}

fn lease(subnet: &str, ip: &str, mac: u8, created: Revision) -> Lease {
    let value = format!(
        r#"{{"PublicIP":"{ip}","BackendType":"vxlan","BackendData":{{"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    let subnets = subnet.parse::<Ipv4Network>().unwrap().into();
    Lease {
        subnets,
        attrs,
        created,
        modified: created,
        lease_id: None,
    }
}

fn own() -> Lease {
    lease("10.5.1.0/24", "192.0.2.1", 1, 1)
}

fn desired() -> DesiredState {
    DesiredState::new(config(), own(), &*backend())
}

fn listed(leases: impl IntoIterator<Item = Lease>) -> Vec<LeaseEvent> {
    let puts = leases.into_iter().map(LeaseEvent::Put);
    std::iter::once(LeaseEvent::ListStart)
        .chain(puts)
        .chain([LeaseEvent::ListEnd])
        .collect()
}

/// A dual-stack overlay: its configuration, a backend for it, and its desired state.
fn both() -> (Box<dyn Backend>, DesiredState) {
    let json = br#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;
    let config = NetworkConfig::parse(json).unwrap();
    let underlay = Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        addresses: Addresses {
            v4: Some([192, 0, 2, 1].into()),
            v6: Some([0xfd10, 0, 0, 0, 0, 0, 0, 1].into()),
        },
    };
    let host_state = HostState::default();
    let protected = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state: &host_state,
        published: None,
        machine: "me",
        blackhole: false,
    };
    let backend = backend::new(&config, &protected).unwrap();
    let own = dual("10.5.1.0-24&fd05:0:0:1::-64", "192.0.2.1", "fd10::1", 1);
    let desired = DesiredState::new(config, own, &*backend);
    (backend, desired)
}

fn dual(key: &str, ip: &str, ip6: &str, mac: u8) -> Lease {
    let data = format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}"#);
    let value = format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":"{ip6}","BackendType":"vxlan","BackendData":{data},"BackendV6Data":{data}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    Lease {
        subnets: key::parse(key).unwrap(),
        attrs,
        created: 5,
        modified: 5,
        lease_id: None,
    }
}

#[test]
fn the_own_lease_is_an_address_and_no_peer() {
    let mut desired = desired();
    let change = desired.apply(listed([own()]), &*backend());
    assert_eq!(
        change,
        Change {
            own_key: true,
            listed: true,
            ..Change::default()
        }
    );
    assert_eq!(
        desired
            .entries()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["address 10.5.1.0/32"]
    );
    assert!(
        desired
            .apply(vec![LeaseEvent::Delete(own().subnets)], &*backend())
            .own_key
    );
}

#[test]
fn a_renewal_changes_nothing() {
    let mut desired = desired();
    let peer = lease("10.5.2.0/24", "192.0.2.2", 2, 5);
    desired.apply(listed([peer.clone()]), &*backend());
    let renewed = Lease {
        modified: 9,
        ..peer
    };
    assert_eq!(
        desired.apply(vec![LeaseEvent::Put(renewed)], &*backend()),
        Change::default()
    );
}

#[test]
fn changed_address_touches_one_entry_key() {
    let mut desired = desired();
    desired.apply(
        listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]),
        &*backend(),
    );
    let change = desired.apply(
        vec![LeaseEvent::Put(lease("10.5.2.0/24", "192.0.2.3", 2, 5))],
        &*backend(),
    );
    assert_eq!(plan(&change.after, &change.before).len(), 1);
}

#[test]
fn nothing_counts_as_gone_before_a_list_is_complete() {
    let mut desired = desired();
    let change = desired.apply(vec![LeaseEvent::ListStart], &*backend());
    assert!(!change.listed && !desired.is_complete());
    desired.apply(
        listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]),
        &*backend(),
    );
    desired.apply(vec![LeaseEvent::ListStart], &*backend());
    assert_eq!(desired.peer_count(), 1, "a second list has begun");
    let change = desired.apply(vec![LeaseEvent::ListEnd], &*backend());
    assert_eq!(
        (
            desired.peer_count(),
            change.before.len(),
            change.after.len()
        ),
        (0, 3, 0)
    );
}

/// The underlay changes in the middle of a list.
#[test]
fn to_be_read_again_is_not_to_be_seen_in_a_list() {
    let mut desired = desired();
    desired.apply(
        listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]),
        &*backend(),
    );
    desired.apply(vec![LeaseEvent::ListStart], &*backend());
    desired.reconsider(&*backend(), BTreeSet::new());
    desired.apply(vec![LeaseEvent::ListEnd], &*backend());
    assert_eq!(desired.peer_count(), 0);
}

#[test]
fn unusable_leases_are_refused_and_logged_once() {
    let mut desired = desired();
    let bad = [
        lease("10.6.2.0/24", "192.0.2.2", 2, 5),
        lease("10.5.0.0/16", "192.0.2.2", 2, 5),
        lease("10.5.3.0/25", "192.0.2.2", 2, 5),
        lease("10.5.4.0/24", "192.0.2.1", 2, 5),
        lease("10.5.5.0/24", "127.0.0.1", 2, 5),
        lease("10.5.6.0/24", "224.0.0.1", 2, 5),
        lease("10.5.7.0/24", "255.255.255.255", 2, 5),
        lease("10.5.8.0/24", "0.0.0.0", 2, 5),
        lease("10.5.9.0/24", "0.1.2.3", 2, 5),
        lease("10.5.10.0/24", "10.5.2.1", 2, 5),
    ];
    let good = lease("10.5.2.0/24", "192.0.2.2", 2, 5);
    let all = || listed(bad.iter().cloned().chain([good.clone()]));
    let change = desired.apply(all(), &*backend());
    let refused = change
        .events
        .iter()
        .filter(|news| matches!(news, PeerEvent::Refused(..)))
        .count();
    assert_eq!(
        (refused, desired.peer_count(), desired.refused_count()),
        (bad.len(), 1, bad.len())
    );
    assert_eq!(desired.apply(all(), &*backend()).events, []);
    desired.apply(listed([]), &*backend());
    assert_eq!(desired.refused_count(), 0);
}

/// They are not used, so no entry of theirs tells the MACs apart.
#[test]
fn refused_lease_whose_mac_changes_becomes_a_duplicate() {
    let mut desired = desired();
    let put = |subnet, mac| vec![LeaseEvent::Put(lease(subnet, "10.5.4.7", mac, 1))];
    for (subnet, mac) in [("10.5.4.0/24", 2), ("10.5.2.0/24", 2), ("10.5.4.0/24", 3)] {
        assert_eq!(desired.duplicate_count(), 0);
        desired.apply(put(subnet, mac), &*backend());
    }
    assert_eq!(desired.duplicate_count(), 1);
}

#[test]
fn returned_host_is_reached_in_new_subnet_then_in_old_one() {
    let (old, new) = (
        lease("10.5.2.0/24", "192.0.2.2", 2, 5),
        lease("10.5.3.0/24", "192.0.2.3", 2, 6),
    );
    let mut desired = desired();
    let change = desired.apply(listed([new.clone(), old.clone()]), &*backend());
    let contested = change.events.iter().find_map(|news| {
        let PeerEvent::Conflict { winner, loser, .. } = news else {
            return None;
        };
        Some((*winner, *loser))
    });
    assert_eq!(contested, Some((new.subnets, old.subnets)));
    let fdb = |desired: &DesiredState| {
        desired
            .entries()
            .into_iter()
            .find(|i| matches!(i, Entry::Fdb { .. }))
            .unwrap()
    };
    assert!(fdb(&desired).to_string().contains("dst 192.0.2.3"));
    desired.apply(vec![LeaseEvent::Delete(new.subnets)], &*backend());
    assert!(fdb(&desired).to_string().contains("dst 192.0.2.2"));
}

#[test]
fn missing_lease_stays_yields_and_returns_silently() {
    let (one, two) = (
        lease("10.5.2.0/24", "192.0.2.2", 2, 5),
        lease("10.5.3.0/24", "192.0.2.3", 2, 6),
    );
    let mut desired = desired();
    desired.apply(listed([one.clone()]), &*backend());
    let missing = || vec![LeaseEvent::Missing(one.subnets)];
    let change = desired.apply(missing(), &*backend());
    assert_eq!(
        (plan(&change.after, &change.before), change.events),
        (vec![], vec![])
    );
    let again = Lease {
        created: 9,
        ..one.clone()
    };
    let change = desired.apply(vec![LeaseEvent::Put(again.clone())], &*backend());
    assert_eq!(
        (plan(&change.after, &change.before), change.events),
        (vec![], vec![])
    );

    // The same host under another subnet, and then again the one of before.
    desired.apply(missing(), &*backend());
    let at = Some([192, 0, 2, 3].into());
    let news = desired
        .apply(vec![LeaseEvent::Put(two.clone())], &*backend())
        .events;
    assert_eq!(
        (news, desired.contests().len()),
        (vec![PeerEvent::Joined(two.subnets, at)], 0)
    );
    let fdb = |desired: &DesiredState| {
        desired
            .entries()
            .iter()
            .any(|entry| entry.to_string().ends_with("dst 192.0.2.3"))
    };
    assert!(fdb(&desired), "although it is older");
    desired.reconsider(&*backend(), BTreeSet::new());
    assert!(fdb(&desired) && desired.peer_count() == 2);
    desired.apply(vec![LeaseEvent::Put(again)], &*backend());
    assert!(!fdb(&desired));
    let change = desired.apply(vec![LeaseEvent::Delete(one.subnets)], &*backend());
    assert_eq!(
        (desired.peer_count(), change.events),
        (1, vec![PeerEvent::Left(one.subnets)])
    );
}

/// Few subnets, MACs and addresses, so that leases collide; 10.5.1.0 is ours, 10.6.x is foreign.
fn any_lease() -> impl Strategy<Value = Lease> {
    let subnet = prop_oneof![
        Just("10.5.1.0/24"),
        Just("10.5.2.0/24"),
        Just("10.5.3.0/24"),
        Just("10.5.4.0/24"),
        Just("10.6.1.0/24")
    ];
    // Outside the overlay network, and inside it: in a host's subnet, and in none.
    let ip = prop_oneof![
        4 => (1..5_u8).prop_map(|n| format!("192.0.2.{n}")),
        2 => (1..6_u8).prop_map(|n| format!("10.5.{n}.7")),
    ];
    (subnet, ip, 0..3_u8, 1..6_i64)
        .prop_map(|(subnet, ip, mac, created)| lease(subnet, &ip, mac, created))
}

fn any_events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let event = prop_oneof![
        6 => any_lease().prop_map(LeaseEvent::Put),
        3 => any_lease().prop_map(|lease| LeaseEvent::Delete(lease.subnets)),
        3 => any_lease().prop_map(|lease| LeaseEvent::Missing(lease.subnets)),
        1 => Just(LeaseEvent::ListStart),
        1 => Just(LeaseEvent::ListEnd),
    ];
    prop::collection::vec(event, 0..40)
}

/// A list of the leases that exist after `events`, by the contract of [`LeaseEvent`], and then which keys are missing.
fn result(events: &[LeaseEvent]) -> Vec<LeaseEvent> {
    let (mut leases, mut unseen) = (BTreeMap::new(), None);
    for event in events {
        match event {
            LeaseEvent::ListStart => unseen = Some(leases.keys().copied().collect::<BTreeSet<_>>()),
            LeaseEvent::ListEnd => unseen
                .take()
                .unwrap_or_default()
                .iter()
                .for_each(|gone| drop(leases.remove(gone))),
            LeaseEvent::Put(lease) => {
                if let Some(unseen) = &mut unseen {
                    unseen.remove(&lease.subnets);
                }
                leases.insert(lease.subnets, (lease.clone(), true));
            }
            LeaseEvent::Missing(subnets) => {
                leases
                    .entry(*subnets)
                    .and_modify(|(_, is_certain)| *is_certain = false);
            }
            LeaseEvent::Delete(subnets) => drop(leases.remove(subnets)),
        }
    }
    let missing = leases.iter().filter(|(_, (_, is_certain))| !is_certain);
    let missing: Vec<_> = missing
        .map(|(subnets, _)| LeaseEvent::Missing(*subnets))
        .collect();
    listed(leases.into_values().map(|(lease, _)| lease))
        .into_iter()
        .chain(missing)
        .collect()
}

/// Something else in the same entry key; of an address, another one.
fn altered(entry: Entry, n: u8) -> Entry {
    let other = IpAddr::from([192, 0, 2, n]);
    match entry {
        Entry::Addr { dev, .. } => Entry::Addr {
            dev,
            net: other.into(),
        },
        Entry::Neigh { dev, ip, .. } => Entry::Neigh {
            dev,
            ip,
            mac: Mac([2, 0, 0, 0, 9, n]),
        },
        Entry::Fdb {
            dev,
            mac,
            port,
            vni,
            ..
        } => Entry::Fdb {
            dev,
            mac,
            dst: other,
            port,
            vni,
        },
        Entry::Route {
            dst,
            metric,
            dev,
            onlink,
            protocol,
            ..
        } => Entry::Route {
            dst,
            metric,
            dev,
            gateway: Some(other),
            onlink,
            protocol,
        },
    }
}

/// The same route, made by another program.
fn adopted(mut entry: Entry) -> Entry {
    if let Entry::Route { protocol, .. } = &mut entry {
        *protocol = 117;
    }
    entry
}

proptest! {
    #[test]
    fn any_sequence_of_events_equals_the_list_of_its_result(events in any_events()) {
        let mut by_events = desired();
        for event in events.clone() {
            by_events.apply(vec![event], &*backend());
        }
        let mut by_batch = desired();
        by_batch.apply(events.clone(), &*backend());
        let mut by_list = desired();
        by_list.apply(result(&events), &*backend());
        prop_assert_eq!(by_events.entries(), by_list.entries());
        prop_assert_eq!(by_batch.entries(), by_list.entries());
        let refusals = |desired: &DesiredState| {
            desired.refusals().map(|(subnets, why)| (*subnets, why.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(refusals(&by_events), refusals(&by_list));
        prop_assert_eq!(duplicates(&by_events), duplicates(&by_list));
    }

    /// As after a renumbering and back.
    #[test]
    fn to_read_all_leases_again_changes_nothing(events in any_events()) {
        let mut read_again = desired();
        read_again.apply(events.clone(), &*backend());
        read_again.reconsider(&*backend_at([192, 0, 2, 3]), [[10, 5, 2, 9].into()].into());
        read_again.reconsider(&*backend(), BTreeSet::new());
        let mut once = desired();
        once.apply(events, &*backend());
        prop_assert_eq!(read_again.entries(), once.entries());
        prop_assert_eq!(read_again.refused_count(), once.refused_count());
    }

    #[test]
    fn carrying_out_the_changes_leads_to_all_that_is_desired(batches in prop::collection::vec(any_events(), 0..6)) {
        let mut desired = desired();
        let mut kernel = FakeKernel::holding(desired.entries());
        for events in batches {
            let known = desired.is_complete();
            let change = desired.apply(events, &*backend());
            kernel.run(&if known || !change.listed { plan(&change.after, &change.before) } else { plan(&desired.entries(), &kernel.entries().clone()) });
            prop_assert_eq!(plan(&desired.entries(), kernel.entries()), vec![]);
        }
    }

    #[test]
    fn a_move_and_a_list_equal_a_start_in_the_new_subnet(events in any_events(), leases in any_events()) {
        let leases = || result(&leases);
        let new = lease("10.5.4.0/24", "192.0.2.1", 1, 9);
        let mut moved = desired();
        moved.apply(events, &*backend());
        moved.relocate(new.clone(), &*backend());
        moved.apply(leases(), &*backend());
        let mut started = DesiredState::new(config(), new, &*backend());
        started.apply(leases(), &*backend());
        prop_assert_eq!(moved.entries(), started.entries());
        prop_assert_eq!(moved.refused_count(), started.refused_count());
    }

    #[test]
    fn plan_by_key_equals_plan_of_sorted_entries(
        events in any_events(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 0..8),
    ) {
        let mut desired = desired();
        desired.apply(events, &*backend());
        let entries = desired.entries();
        let mut have = entries.clone();
        for (index, change) in changes {
            let at = index.index(have.len());
            match change {
                0 => drop(have.remove(at)),
                1 => have[at] = altered(have[at], 9),
                2 => have.push(altered(have[at], 8)),
                _ => have.push(adopted(have[at])),
            }
            have.push(adopted(altered(entries[0], 7)));
        }
        let mut kernel = FakeKernel::holding(have);
        let sorted: Vec<Entry> = kernel.entries().iter().copied().collect();
        prop_assert_eq!(desired.plan(&sorted), plan(&entries, &sorted));
        let reversed: Vec<Entry> = sorted.into_iter().rev().collect();
        kernel.run(&desired.plan(&reversed));
        prop_assert_eq!(plan(&entries, kernel.entries()), vec![]);
        prop_assert_eq!(kernel.entries().len(), entries.len());
    }

    #[test]
    fn one_entry_per_key_in_order(events in any_events()) {
        let mut desired = desired();
        desired.apply(events, &*backend());
        prop_assert!(desired.entries().windows(2).all(|pair| pair[0].key() < pair[1].key() && pair[0] < pair[1]));
    }
}
