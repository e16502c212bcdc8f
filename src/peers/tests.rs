//! Sequences of lease events and what is desired after them.

use proptest::prelude::*;

use super::*;
use crate::backend::{self, Site};
use crate::iface::Underlay;
use crate::kernel::Facts;
use crate::kernel::fake::FakeKernel;
use crate::kernel::plan::plan;
use crate::subnet::LeaseAttrs;

fn config() -> NetworkConfig {
    NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
}

fn backend() -> Box<dyn Backend> {
    let underlay =
        Underlay { index: 2, name: "eth0".into(), mtu: 1500, v4: Some([192, 0, 2, 1].into()), v6: None };
    let facts = Facts::default();
    let site = Site {
        underlay: &underlay,
        public: underlay.addresses(),
        facts: &facts,
        published: None,
        machine: "me",
    };
    backend::new(&config(), &site).unwrap()
}

fn lease(subnet: &str, ip: &str, mac: u8, created: Revision) -> Lease {
    let value = format!(
        r#"{{"PublicIP":"{ip}","BackendType":"vxlan","BackendData":{{"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    let subnets = subnet.parse::<Ipv4Network>().unwrap().into();
    Lease { subnets, attrs, created, modified: created, grant: None }
}

fn own() -> Lease {
    lease("10.5.1.0/24", "192.0.2.1", 1, 1)
}

fn desired() -> Desired {
    Desired::new(config(), own(), &*backend())
}

fn listed(leases: impl IntoIterator<Item = Lease>) -> Vec<LeaseEvent> {
    let puts = leases.into_iter().map(LeaseEvent::Put);
    std::iter::once(LeaseEvent::Listing).chain(puts).chain([LeaseEvent::Listed]).collect()
}

#[test]
fn the_own_lease_is_an_address_and_no_peer() {
    let mut desired = desired();
    let change = desired.apply(listed([own()]), &*backend());
    assert_eq!(change, Change { own_key: true, listed: true, ..Change::default() });
    assert_eq!(desired.items().iter().map(ToString::to_string).collect::<Vec<_>>(), ["address 10.5.1.0/32"]);
    assert!(desired.apply(vec![LeaseEvent::Delete(own().subnets)], &*backend()).own_key);
}

#[test]
fn a_renewal_changes_nothing() {
    let mut desired = desired();
    let peer = lease("10.5.2.0/24", "192.0.2.2", 2, 5);
    desired.apply(listed([peer.clone()]), &*backend());
    let renewed = Lease { modified: 9, ..peer };
    assert_eq!(desired.apply(vec![LeaseEvent::Put(renewed)], &*backend()), Change::default());
}

#[test]
fn a_changed_address_touches_one_slot() {
    let mut desired = desired();
    desired.apply(listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]), &*backend());
    let change = desired.apply(vec![LeaseEvent::Put(lease("10.5.2.0/24", "192.0.2.3", 2, 5))], &*backend());
    assert_eq!(plan(&change.after, &change.before).len(), 1);
}

#[test]
fn nothing_counts_as_gone_before_a_list_is_complete() {
    let mut desired = desired();
    let change = desired.apply(vec![LeaseEvent::Listing], &*backend());
    assert!(!change.listed && !desired.is_complete());
    desired.apply(listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]), &*backend());
    desired.apply(vec![LeaseEvent::Listing], &*backend());
    assert_eq!(desired.peer_count(), 1, "a second list has begun");
    let change = desired.apply(vec![LeaseEvent::Listed], &*backend());
    assert_eq!((desired.peer_count(), change.before.len(), change.after.len()), (0, 3, 0));
}

#[test]
fn unusable_leases_are_refused_one_by_one_and_told_once() {
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
    let refused = change.news.iter().filter(|news| matches!(news, News::Refused(..))).count();
    assert_eq!((refused, desired.peer_count(), desired.refused_count()), (bad.len(), 1, bad.len()));
    assert_eq!(desired.apply(all(), &*backend()).news, []);
    desired.apply(listed([]), &*backend());
    assert_eq!(desired.refused_count(), 0);
}

#[test]
fn a_host_that_came_back_is_reached_in_its_new_place_and_the_old_one_returns() {
    let (old, new) = (lease("10.5.2.0/24", "192.0.2.2", 2, 5), lease("10.5.3.0/24", "192.0.2.3", 2, 6));
    let mut desired = desired();
    let change = desired.apply(listed([new.clone(), old.clone()]), &*backend());
    let contested = change.news.iter().find_map(|news| {
        let News::Contested { winner, loser, .. } = news else { return None };
        Some((*winner, *loser))
    });
    assert_eq!(contested, Some((new.subnets, old.subnets)));
    let fdb =
        |desired: &Desired| desired.items().into_iter().find(|i| matches!(i, Item::Fdb { .. })).unwrap();
    assert!(fdb(&desired).to_string().contains("dst 192.0.2.3"));
    desired.apply(vec![LeaseEvent::Delete(new.subnets)], &*backend());
    assert!(fdb(&desired).to_string().contains("dst 192.0.2.2"));
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
    (subnet, 1..5_u8, 0..3_u8, 1..6_i64)
        .prop_map(|(subnet, ip, mac, created)| lease(subnet, &format!("192.0.2.{ip}"), mac, created))
}

fn any_events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let event = prop_oneof![
        6 => any_lease().prop_map(LeaseEvent::Put),
        3 => any_lease().prop_map(|lease| LeaseEvent::Delete(lease.subnets)),
        1 => Just(LeaseEvent::Listing),
        1 => Just(LeaseEvent::Listed),
    ];
    prop::collection::vec(event, 0..40)
}

/// The leases that exist after `events`, by the contract of [`LeaseEvent`].
fn result(events: &[LeaseEvent]) -> BTreeMap<Subnets, Lease> {
    let (mut leases, mut unseen) = (BTreeMap::new(), None);
    for event in events {
        match event {
            LeaseEvent::Listing => unseen = Some(leases.keys().copied().collect::<BTreeSet<_>>()),
            LeaseEvent::Listed => {
                unseen.take().unwrap_or_default().iter().for_each(|gone| drop(leases.remove(gone)))
            }
            LeaseEvent::Put(lease) => {
                if let Some(unseen) = &mut unseen {
                    unseen.remove(&lease.subnets);
                }
                leases.insert(lease.subnets, lease.clone());
            }
            LeaseEvent::Delete(subnets) => drop(leases.remove(subnets)),
        }
    }
    leases
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
        by_list.apply(listed(result(&events).into_values()), &*backend());
        prop_assert_eq!(by_events.items(), by_list.items());
        prop_assert_eq!(by_batch.items(), by_list.items());
    }

    #[test]
    fn carrying_out_the_changes_leads_to_all_that_is_desired(batches in prop::collection::vec(any_events(), 0..6)) {
        let mut desired = desired();
        let mut kernel = FakeKernel::holding(desired.items());
        for events in batches {
            let change = desired.apply(events, &*backend());
            kernel.run(&plan(&change.after, &change.before));
            prop_assert_eq!(plan(&desired.items(), kernel.items()), vec![]);
        }
    }

    #[test]
    fn a_move_and_a_list_equal_a_start_in_the_new_subnet(events in any_events(), leases in any_events()) {
        let leases = || listed(result(&leases).into_values());
        let new = lease("10.5.4.0/24", "192.0.2.1", 1, 9);
        let mut moved = desired();
        moved.apply(events, &*backend());
        moved.relocate(new.clone(), &*backend());
        moved.apply(leases(), &*backend());
        let mut started = Desired::new(config(), new, &*backend());
        started.apply(leases(), &*backend());
        prop_assert_eq!(moved.items(), started.items());
        prop_assert_eq!(moved.refused_count(), started.refused_count());
    }

    #[test]
    fn there_is_one_item_a_slot_in_order(events in any_events()) {
        let mut desired = desired();
        desired.apply(events, &*backend());
        prop_assert!(desired.items().windows(2).all(|pair| pair[0].slot() < pair[1].slot() && pair[0] < pair[1]));
    }
}
