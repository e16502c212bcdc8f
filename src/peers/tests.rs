//! Sequences of lease events and what is desired after them.

use proptest::prelude::*;

use super::*;
use crate::backend::{self, Site};
use crate::iface::Underlay;
use crate::kernel::fake::FakeKernel;
use crate::kernel::plan::plan;
use crate::kernel::{Dev, Facts};
use crate::subnet::{LeaseAttrs, key};

fn config() -> NetworkConfig {
    NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
}

fn backend() -> Box<dyn Backend> {
    backend_at([192, 0, 2, 1])
}

/// On a host that has this address.
fn backend_at(ip: [u8; 4]) -> Box<dyn Backend> {
    let underlay = Underlay { index: 2, name: "eth0".into(), mtu: 1500, v4: Some(ip.into()), v6: None };
    let facts = Facts::default();
    let site = Site {
        underlay: &underlay,
        public: underlay.addresses(),
        facts: &facts,
        published: None,
        machine: "me",
        blackhole: false,
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

/// A dual-stack overlay: its configuration, a backend for it, and a wish.
fn both() -> (Box<dyn Backend>, Desired) {
    let json = br#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;
    let config = NetworkConfig::parse(json).unwrap();
    let underlay = Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        v4: Some([192, 0, 2, 1].into()),
        v6: Some([0xfd10, 0, 0, 0, 0, 0, 0, 1].into()),
    };
    let facts = Facts::default();
    let site = Site {
        underlay: &underlay,
        public: underlay.addresses(),
        facts: &facts,
        published: None,
        machine: "me",
        blackhole: false,
    };
    let backend = backend::new(&config, &site).unwrap();
    let own = dual("10.5.1.0-24&fd05:0:0:1::-64", "192.0.2.1", "fd10::1", 1);
    let desired = Desired::new(config, own, &*backend);
    (backend, desired)
}

fn dual(key: &str, ip: &str, ip6: &str, mac: u8) -> Lease {
    let data = format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}"#);
    let value = format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":"{ip6}","BackendType":"vxlan","BackendData":{data},"BackendV6Data":{data}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    Lease { subnets: key::parse(key).unwrap(), attrs, created: 5, modified: 5, grant: None }
}

/// How many items the wish has in each family, and the last line of news.
fn put(lease: Lease) -> (usize, usize, String) {
    let (backend, mut desired) = both();
    let change = desired.apply(listed([lease]), &*backend);
    let of_peers = |item: &&Item| !matches!(item, Item::Addr { .. });
    let on = |dev| desired.items().iter().filter(of_peers).filter(|item| item.dev() == dev).count();
    let news = change.news.last().map(ToString::to_string).unwrap_or_default();
    (on(Dev::Overlay), on(Dev::Overlay6), news)
}

#[test]
fn one_bad_half_does_not_take_the_other_one_along() {
    let key = "10.5.2.0-24&fd05:0:0:2::-64";
    let good = || dual(key, "192.0.2.2", "fd10::2", 2);
    assert_eq!(put(good()), (3, 3, "peer 10.5.2.0/24 fd05:0:0:2::/64 joined at 192.0.2.2".into()));
    let table = [
        (
            dual(key, "192.0.2.2", "fd10::1", 2),
            3,
            0,
            "used for IPv4 only: IPv6: public address fd10::1 is this host's own",
        ),
        (
            dual(key, "192.0.2.1", "fd10::2", 2),
            0,
            3,
            "used for IPv6 only: IPv4: public address 192.0.2.1 is this host's own",
        ),
        (dual(key, "192.0.2.2", "fe80::2", 2), 3, 0, "public address fe80::2 cannot be a host's"),
        (dual(key, "192.0.2.2", "::ffff:192.0.2.2", 2), 3, 0, "cannot be a host's"),
        (dual(key, "192.0.2.2", "ff02::1", 2), 3, 0, "cannot be a host's"),
        (dual(key, "192.0.2.2", "::1", 2), 3, 0, "cannot be a host's"),
        (dual(key, "192.0.2.2", "fd05:0:0:9::1", 2), 3, 3, "joined"),
        (dual(key, "192.0.2.2", "fd05:0:0:2::1", 2), 3, 0, "covers its own host's address fd05:0:0:2::1"),
        (
            dual(key, "192.0.2.2", "fd05:0:0:1::9", 2),
            3,
            0,
            "lies inside this host's own subnet fd05:0:0:1::/64",
        ),
        (dual("10.5.2.0-24&fd05:0:0:2::-65", "192.0.2.2", "fd10::2", 2), 3, 0, "not a /64 of fd05::/48"),
        (
            dual("10.5.1.0-24&fd05:0:0:2::-64", "192.0.2.2", "fd10::2", 2),
            0,
            3,
            "subnet 10.5.1.0/24 is this host's own",
        ),
        (
            dual("10.6.2.0-24&fd06::-64", "192.0.2.2", "fd10::2", 2),
            0,
            0,
            "is not used: IPv4: not a /24 of 10.5.0.0/16; IPv6: not a /64 of fd05::/48",
        ),
        (Lease { attrs: LeaseAttrs::default(), ..good() }, 0, 0, "is not used: no public address"),
    ];
    for (lease, four, six, why) in table {
        let (in_four, in_six, news) = put(lease);
        assert!((in_four, in_six) == (four, six) && news.contains(why), "{in_four} {in_six} {news}: {why}");
    }
}

#[test]
fn a_host_of_one_family_is_a_peer_in_it() {
    for (key, four, six) in [("10.5.2.0-24", 3, 0), ("0.0.0.0-0&fd05:0:0:2::-64", 0, 3)] {
        let (in_four, in_six, news) = put(dual(key, "192.0.2.2", "fd10::2", 2));
        assert_eq!((in_four, in_six), (four, six), "{news}");
        assert!(news.contains("joined"), "{news}");
    }
}

#[test]
fn where_ipv6_is_off_the_ipv4_half_is_used() {
    let mut desired = desired();
    let half = dual("10.5.2.0-24&fd05:0:0:2::-64", "192.0.2.2", "fd10::2", 2);
    let six = dual("0.0.0.0-0&fd05:0:0:3::-64", "192.0.2.3", "fd10::3", 3);
    let change = desired.apply(listed([half, six]), &*backend());
    let news: Vec<String> = change.news.iter().map(ToString::to_string).collect();
    let counts = (desired.items().len(), desired.peer_count(), desired.refused_count());
    assert_eq!(counts, (1 + 3, 1, 1), "{news:?}");
    assert!(news.iter().any(|line| line.ends_with("is not used: not an IPv4 lease")), "{news:?}");
}

#[test]
fn a_half_that_becomes_good_is_used_and_told() {
    let (backend, mut desired) = both();
    let key = "10.5.2.0-24&fd05:0:0:2::-64";
    desired.apply(listed([dual(key, "192.0.2.2", "fd10::1", 2)]), &*backend);
    assert_eq!((desired.peer_count(), desired.refused_count()), (1, 1));
    let change = desired.apply(vec![LeaseEvent::Put(dual(key, "192.0.2.2", "fd10::2", 2))], &*backend);
    assert_eq!((plan(&change.after, &change.before).len(), desired.refused_count()), (3, 0));
    desired.apply(listed([]), &*backend);
    assert_eq!((desired.peer_count(), desired.items().len()), (0, 2));
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

/// The underlay changes in the middle of a list.
#[test]
fn to_be_read_again_is_not_to_be_seen_in_a_list() {
    let mut desired = desired();
    desired.apply(listed([lease("10.5.2.0/24", "192.0.2.2", 2, 5)]), &*backend());
    desired.apply(vec![LeaseEvent::Listing], &*backend());
    desired.reconsider(&*backend(), BTreeSet::new());
    desired.apply(vec![LeaseEvent::Listed], &*backend());
    assert_eq!(desired.peer_count(), 0);
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

/// Which leases are peers, by the third byte of their subnets.
fn peers_of(desired: &Desired) -> Vec<u8> {
    desired.peers().filter_map(|(subnets, ..)| Some(subnets.v4?.ip().octets()[2])).collect()
}

#[test]
fn former_own_address_is_a_peers_and_the_new_one_is_not() {
    let mut desired = desired();
    desired.apply(
        listed([lease("10.5.2.0/24", "192.0.2.1", 2, 5), lease("10.5.3.0/24", "192.0.2.77", 3, 6)]),
        &*backend(),
    );
    assert_eq!(peers_of(&desired), [3]);
    let backend = backend_at([192, 0, 2, 77]);
    assert!(desired.is_elsewhere(&*backend, &BTreeSet::new()));
    let news = desired.reconsider(&*backend, BTreeSet::new());
    let news: Vec<String> = news.iter().map(ToString::to_string).collect();
    assert_eq!(
        news,
        [
            "peer 10.5.3.0/24 left",
            "lease 10.5.3.0/24 is not used: public address 192.0.2.77 is this host's own",
            "peer 10.5.2.0/24 joined at 192.0.2.1"
        ]
    );
    assert_eq!((peers_of(&desired), desired.refused_count()), (vec![2], 1));
    assert!(!desired.is_elsewhere(&*backend, &BTreeSet::new()));
}

/// Public addresses of several hosts, as they are told.
fn duplicates(desired: &Desired) -> Vec<String> {
    let shown = |(ip, leases): (IpAddr, Vec<Subnets>)| {
        let leases: Vec<String> = leases.iter().map(ToString::to_string).collect();
        format!("{ip}: {}", leases.join(" "))
    };
    desired.duplicates().map(shown).collect()
}

#[test]
fn hosts_with_one_public_address_are_named_once() {
    let mut desired = desired();
    let [one, two] = [lease("10.5.2.0/24", "192.0.2.2", 2, 5), lease("10.5.3.0/24", "192.0.2.2", 3, 6)];
    let lines = |news: &[News]| news.iter().filter(|news| matches!(news, News::Duplicate(..))).count();
    assert_eq!(lines(&desired.apply(listed([one.clone()]), &*backend()).news), 0);
    let news = desired.apply(vec![LeaseEvent::Put(two.clone())], &*backend()).news;
    let line = "more than one host announces the public address 192.0.2.2, by the leases 10.5.2.0/24, 10.5.3.0/24; give";
    assert!(news.iter().any(|news| news.to_string().starts_with(line)), "{news:?}");
    assert_eq!(lines(&desired.apply(listed([one.clone(), two.clone()]), &*backend()).news), 0, "once");
    assert_eq!(duplicates(&desired), ["192.0.2.2: 10.5.2.0/24 10.5.3.0/24"]);
    desired.apply(vec![LeaseEvent::Delete(one.subnets)], &*backend());
    assert_eq!(duplicates(&desired), [""; 0]);
    // What one host has left is no other host's.
    let left = Lease { created: 4, ..lease("10.5.4.0/24", "192.0.2.2", 3, 4) };
    desired.apply(vec![LeaseEvent::Put(left)], &*backend());
    assert_eq!(duplicates(&desired), [""; 0]);
    desired.apply(vec![LeaseEvent::Put(lease("10.5.3.0/24", "192.0.2.9", 3, 6))], &*backend());
    assert_eq!(duplicates(&desired), [""; 0]);
}

#[test]
fn host_with_this_hosts_address_is_a_duplicate() {
    let mut desired = desired();
    let other = lease("10.5.2.0/24", "192.0.2.1", 2, 5);
    let news = desired.apply(listed([own(), other]), &*backend()).news;
    assert!(news.iter().all(|news| matches!(news, News::Refused(..))), "one line: {news:?}");
    assert_eq!(duplicates(&desired), ["192.0.2.1: 10.5.1.0/24 10.5.2.0/24"]);
    desired.reconsider(&*backend_at([192, 0, 2, 7]), BTreeSet::new());
    assert_eq!(duplicates(&desired), [""; 0]);
}

#[test]
fn only_subnets_that_cover_the_underlay_are_refused() {
    let backend = backend_at([10, 5, 77, 1]);
    let mut desired = Desired::new(config(), lease("10.5.1.0/24", "10.5.77.1", 1, 1), &*backend);
    desired.reconsider(&*backend, [IpAddr::from([10, 5, 90, 1])].into());
    let rows = [
        (lease("10.5.2.0/24", "10.5.77.2", 2, 5), ""),
        (
            lease("10.5.77.0/24", "10.5.78.3", 3, 4),
            "subnet 10.5.77.0/24 covers 10.5.77.1, this host's own address",
        ),
        (
            lease("10.5.90.0/24", "10.5.78.4", 4, 4),
            "subnet 10.5.90.0/24 covers 10.5.90.1, the address of an etcd endpoint",
        ),
        (
            lease("10.5.5.0/24", "10.5.1.9", 5, 4),
            "public address 10.5.1.9 lies inside this host's own subnet 10.5.1.0/24",
        ),
        (lease("10.5.6.0/24", "10.5.6.9", 6, 4), "subnet 10.5.6.0/24 covers its own host's address 10.5.6.9"),
        (lease("10.5.7.0/24", "10.5.80.7", 7, 7), ""),
        (
            lease("10.5.80.0/24", "10.5.78.8", 8, 8),
            "subnet 10.5.80.0/24 covers 10.5.80.7, the public address of 10.5.7.0/24",
        ),
        (
            lease("10.5.9.0/24", "10.5.7.9", 9, 9),
            "public address 10.5.7.9 lies inside the subnet of 10.5.7.0/24",
        ),
    ];
    let change = desired.apply(listed(rows.iter().map(|(lease, _)| lease.clone())), &*backend);
    assert_eq!(peers_of(&desired), [2, 7]);
    for (lease, why) in &rows {
        let refusal = desired.refusals().find(|(subnets, _)| **subnets == lease.subnets);
        assert_eq!(refusal.map(|(_, why)| why.to_string()).unwrap_or_default(), *why, "{}", lease.subnets);
    }
    assert_eq!(change.news.len(), rows.len(), "one line each: {:?}", change.news);
    // What was in the way goes.
    let gone = vec![LeaseEvent::Delete(rows[5].0.subnets)];
    let change = desired.apply(gone, &*backend);
    assert_eq!(peers_of(&desired), [2, 9, 80]);
    assert_eq!((plan(&change.after, &change.before).len(), desired.refused_count()), (9, 4));
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

#[test]
fn a_lease_whose_key_is_missing_stays_gives_way_and_comes_back_without_a_word() {
    let (one, two) = (lease("10.5.2.0/24", "192.0.2.2", 2, 5), lease("10.5.3.0/24", "192.0.2.3", 2, 6));
    let mut desired = desired();
    desired.apply(listed([one.clone()]), &*backend());
    let missing = || vec![LeaseEvent::Missing(one.subnets)];
    let change = desired.apply(missing(), &*backend());
    assert_eq!((plan(&change.after, &change.before), change.news), (vec![], vec![]));
    let again = Lease { created: 9, ..one.clone() };
    let change = desired.apply(vec![LeaseEvent::Put(again.clone())], &*backend());
    assert_eq!((plan(&change.after, &change.before), change.news), (vec![], vec![]));

    // The same host under another subnet, and then again the one of before.
    desired.apply(missing(), &*backend());
    let at = Some([192, 0, 2, 3].into());
    let news = desired.apply(vec![LeaseEvent::Put(two.clone())], &*backend()).news;
    assert_eq!((news, desired.contests().len()), (vec![News::Joined(two.subnets, at)], 0));
    let fdb =
        |desired: &Desired| desired.items().iter().any(|item| item.to_string().ends_with("dst 192.0.2.3"));
    assert!(fdb(&desired), "although it is older");
    desired.reconsider(&*backend(), BTreeSet::new());
    assert!(fdb(&desired) && desired.peer_count() == 2);
    desired.apply(vec![LeaseEvent::Put(again)], &*backend());
    assert!(!fdb(&desired));
    let change = desired.apply(vec![LeaseEvent::Delete(one.subnets)], &*backend());
    assert_eq!((desired.peer_count(), change.news), (1, vec![News::Left(one.subnets)]));
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
    // Outside the overlay network, and inside it: in a host's subnet, and in nobody's.
    let ip = prop_oneof![
        4 => (1..5_u8).prop_map(|n| format!("192.0.2.{n}")),
        2 => (1..6_u8).prop_map(|n| format!("10.5.{n}.7")),
    ];
    (subnet, ip, 0..3_u8, 1..6_i64).prop_map(|(subnet, ip, mac, created)| lease(subnet, &ip, mac, created))
}

fn any_events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let event = prop_oneof![
        6 => any_lease().prop_map(LeaseEvent::Put),
        3 => any_lease().prop_map(|lease| LeaseEvent::Delete(lease.subnets)),
        3 => any_lease().prop_map(|lease| LeaseEvent::Missing(lease.subnets)),
        1 => Just(LeaseEvent::Listing),
        1 => Just(LeaseEvent::Listed),
    ];
    prop::collection::vec(event, 0..40)
}

/// A list of the leases that exist after `events`, by the contract of [`LeaseEvent`], and then which keys are missing.
fn result(events: &[LeaseEvent]) -> Vec<LeaseEvent> {
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
                leases.insert(lease.subnets, (lease.clone(), true));
            }
            LeaseEvent::Missing(subnets) => {
                leases.entry(*subnets).and_modify(|(_, is_certain)| *is_certain = false);
            }
            LeaseEvent::Delete(subnets) => drop(leases.remove(subnets)),
        }
    }
    let missing = leases.iter().filter(|(_, (_, is_certain))| !is_certain);
    let missing: Vec<_> = missing.map(|(subnets, _)| LeaseEvent::Missing(*subnets)).collect();
    listed(leases.into_values().map(|(lease, _)| lease)).into_iter().chain(missing).collect()
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
        prop_assert_eq!(by_events.items(), by_list.items());
        prop_assert_eq!(by_batch.items(), by_list.items());
        let refusals = |desired: &Desired| {
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
        prop_assert_eq!(read_again.items(), once.items());
        prop_assert_eq!(read_again.refused_count(), once.refused_count());
    }

    #[test]
    fn carrying_out_the_changes_leads_to_all_that_is_desired(batches in prop::collection::vec(any_events(), 0..6)) {
        let mut desired = desired();
        let mut kernel = FakeKernel::holding(desired.items());
        for events in batches {
            let known = desired.is_complete();
            let change = desired.apply(events, &*backend());
            kernel.run(&match known || !change.listed {
                true => plan(&change.after, &change.before),
                false => plan(&desired.items(), &kernel.items().clone()),
            });
            prop_assert_eq!(plan(&desired.items(), kernel.items()), vec![]);
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
