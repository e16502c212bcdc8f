//! Leases and the addresses of the underlay: this host's, etcd's, and each other's.

use super::*;

/// Which leases are peers, by the third byte of their subnets.
fn peers_of(desired: &DesiredState) -> Vec<u8> {
    desired
        .peers()
        .filter_map(|(subnets, ..)| Some(subnets.v4?.ip().octets()[2]))
        .collect()
}

#[test]
fn former_own_address_is_a_peers_and_the_new_one_is_not() {
    let mut desired = desired();
    desired.apply(
        listed([
            lease("10.5.2.0/24", "192.0.2.1", 2, 5),
            lease("10.5.3.0/24", "192.0.2.77", 3, 6),
        ]),
        &*backend(),
    );
    assert_eq!(peers_of(&desired), [3]);
    let backend = backend_at([192, 0, 2, 77]);
    assert!(desired.has_moved(&*backend, &BTreeSet::new()));
    let news = desired.reconsider(&*backend, BTreeSet::new());
    let news: Vec<String> = news.iter().map(ToString::to_string).collect();
    assert_eq!(
        news,
        [
            "peer 10.5.2.0/24 joined at 192.0.2.1",
            "peer 10.5.3.0/24 left",
            "lease 10.5.3.0/24 is not used: public address 192.0.2.77 is this host's own",
            "several hosts announce the public address 192.0.2.77: leases 10.5.1.0/24, 10.5.3.0/24; give each host its own address (-iface or -public-ip)"
        ]
    );
    assert_eq!((peers_of(&desired), desired.refused_count()), (vec![2], 1));
    assert!(!desired.has_moved(&*backend, &BTreeSet::new()));
}

/// Public addresses of several hosts, as they are told.
pub(super) fn duplicates(desired: &DesiredState) -> Vec<String> {
    let shown = |(ip, leases): (IpAddr, Vec<Subnets>)| {
        let leases: Vec<String> = leases.iter().map(ToString::to_string).collect();
        format!("{ip}: {}", leases.join(" "))
    };
    desired.duplicates().map(shown).collect()
}

#[test]
fn hosts_with_one_public_address_are_named_once() {
    let mut desired = desired();
    let [one, two] = [
        lease("10.5.2.0/24", "192.0.2.2", 2, 5),
        lease("10.5.3.0/24", "192.0.2.2", 3, 6),
    ];
    let lines = |news: &[PeerEvent]| {
        news.iter()
            .filter(|news| matches!(news, PeerEvent::Duplicate(..)))
            .count()
    };
    assert_eq!(
        lines(&desired.apply(listed([one.clone()]), &*backend()).events),
        0
    );
    let news = desired
        .apply(vec![LeaseEvent::Put(two.clone())], &*backend())
        .events;
    let line = "several hosts announce the public address 192.0.2.2: leases 10.5.2.0/24, 10.5.3.0/24; give";
    assert!(
        news.iter().any(|news| news.to_string().starts_with(line)),
        "{news:?}"
    );
    assert_eq!(
        lines(
            &desired
                .apply(listed([one.clone(), two.clone()]), &*backend())
                .events
        ),
        0,
        "once"
    );
    assert_eq!(duplicates(&desired), ["192.0.2.2: 10.5.2.0/24 10.5.3.0/24"]);
    desired.apply(vec![LeaseEvent::Delete(one.subnets)], &*backend());
    assert_eq!(duplicates(&desired), [""; 0]);
    // What one host has left is no other host's.
    let left = Lease {
        created: 4,
        ..lease("10.5.4.0/24", "192.0.2.2", 3, 4)
    };
    desired.apply(vec![LeaseEvent::Put(left)], &*backend());
    assert_eq!(duplicates(&desired), [""; 0]);
    desired.apply(
        vec![LeaseEvent::Put(lease("10.5.3.0/24", "192.0.2.9", 3, 6))],
        &*backend(),
    );
    assert_eq!(duplicates(&desired), [""; 0]);
}

#[test]
fn host_with_this_hosts_address_is_a_duplicate() {
    let mut desired = desired();
    let other = lease("10.5.2.0/24", "192.0.2.1", 2, 5);
    let news = desired.apply(listed([own(), other]), &*backend()).events;
    assert!(
        news.iter()
            .any(|news| matches!(news, PeerEvent::Refused(..))),
        "{news:?}"
    );
    let line = "announce the public address 192.0.2.1: leases 10.5.1.0/24, 10.5.2.0/24;";
    assert!(
        news.iter().any(|news| news.to_string().contains(line)),
        "{news:?}"
    );
    assert_eq!(duplicates(&desired), ["192.0.2.1: 10.5.1.0/24 10.5.2.0/24"]);
    desired.reconsider(&*backend_at([192, 0, 2, 7]), BTreeSet::new());
    assert_eq!(duplicates(&desired), [""; 0]);
}

#[test]
fn only_subnets_that_cover_the_underlay_are_refused() {
    let backend = backend_at([10, 5, 77, 1]);
    let mut desired =
        DesiredState::new(config(), lease("10.5.1.0/24", "10.5.77.1", 1, 1), &*backend);
    desired.reconsider(&*backend, [IpAddr::from([10, 5, 90, 1])].into());
    let rows = [
        (lease("10.5.2.0/24", "10.5.77.2", 2, 5), ""),
        (
            lease("10.5.77.0/24", "10.5.78.3", 3, 4),
            "subnet 10.5.77.0/24 contains 10.5.77.1, this host's own address",
        ),
        (
            lease("10.5.90.0/24", "10.5.78.4", 4, 4),
            "subnet 10.5.90.0/24 contains 10.5.90.1, the address of an etcd endpoint",
        ),
        (
            lease("10.5.5.0/24", "10.5.1.9", 5, 4),
            "public address 10.5.1.9 is inside this host's own subnet 10.5.1.0/24",
        ),
        (
            lease("10.5.6.0/24", "10.5.6.9", 6, 4),
            "subnet 10.5.6.0/24 contains 10.5.6.9, the address of its own host",
        ),
        (lease("10.5.7.0/24", "10.5.80.7", 7, 7), ""),
        (
            lease("10.5.80.0/24", "10.5.78.8", 8, 8),
            "subnet 10.5.80.0/24 contains 10.5.80.7, the public address of 10.5.7.0/24",
        ),
        (
            lease("10.5.9.0/24", "10.5.7.9", 9, 9),
            "public address 10.5.7.9 is inside the subnet of 10.5.7.0/24",
        ),
    ];
    let change = desired.apply(
        listed(rows.iter().map(|(lease, _)| lease.clone())),
        &*backend,
    );
    assert_eq!(peers_of(&desired), [2, 7]);
    for (lease, why) in &rows {
        let refusal = desired
            .refusals()
            .find(|(subnets, _)| **subnets == lease.subnets);
        assert_eq!(
            refusal.map(|(_, why)| why.to_string()).unwrap_or_default(),
            *why,
            "{}",
            lease.subnets
        );
    }
    assert_eq!(
        change.events.len(),
        rows.len(),
        "one line each: {:?}",
        change.events
    );
    // What was in the way goes.
    let gone = vec![LeaseEvent::Delete(rows[5].0.subnets)];
    let change = desired.apply(gone, &*backend);
    assert_eq!(peers_of(&desired), [2, 9, 80]);
    assert_eq!(
        (
            plan(&change.after, &change.before).len(),
            desired.refused_count()
        ),
        (9, 4)
    );
}
