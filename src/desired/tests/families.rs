//! Leases with a half of each family.

use super::*;

/// How many entries the desired state has in each family, and the last line of news.
fn put(lease: Lease) -> (usize, usize, String) {
    let (backend, mut desired) = both();
    let change = desired.apply(listed([lease]), &*backend);
    let of_peers = |entry: &&Entry| !matches!(entry, Entry::Addr { .. });
    let on = |dev| {
        desired
            .entries()
            .iter()
            .filter(of_peers)
            .filter(|entry| entry.dev() == dev)
            .count()
    };
    let news = change
        .events
        .iter()
        .rfind(|news| !matches!(news, PeerEvent::Duplicate(..)))
        .map(ToString::to_string)
        .unwrap_or_default();
    (on(LinkRole::Overlay), on(LinkRole::Overlay6), news)
}

#[test]
fn one_bad_half_does_not_take_the_other_one_along() {
    let key = "10.5.2.0-24&fd05:0:0:2::-64";
    let good = || dual(key, "192.0.2.2", "fd10::2", 2);
    assert_eq!(
        put(good()),
        (
            3,
            3,
            "peer 10.5.2.0/24 fd05:0:0:2::/64 joined at 192.0.2.2".into()
        )
    );
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
        (
            dual(key, "192.0.2.2", "fe80::2", 2),
            3,
            0,
            "public address fe80::2 is not the address of a host",
        ),
        (
            dual(key, "192.0.2.2", "::ffff:192.0.2.2", 2),
            3,
            0,
            "is not the address of a host",
        ),
        (
            dual(key, "192.0.2.2", "ff02::1", 2),
            3,
            0,
            "is not the address of a host",
        ),
        (
            dual(key, "192.0.2.2", "::1", 2),
            3,
            0,
            "is not the address of a host",
        ),
        (dual(key, "192.0.2.2", "fd05:0:0:9::1", 2), 3, 3, "joined"),
        (
            dual(key, "192.0.2.2", "fd05:0:0:2::1", 2),
            3,
            0,
            "contains fd05:0:0:2::1, the address of its own host",
        ),
        (
            dual(key, "192.0.2.2", "fd05:0:0:1::9", 2),
            3,
            0,
            "is inside this host's own subnet fd05:0:0:1::/64",
        ),
        (
            dual("10.5.2.0-24&fd05:0:0:2::-65", "192.0.2.2", "fd10::2", 2),
            3,
            0,
            "not a /64 of fd05::/48",
        ),
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
            "is not used: IPv4: its subnet is not a /24 of 10.5.0.0/16; IPv6: its subnet is not a /64 of fd05::/48",
        ),
        (
            Lease {
                attrs: LeaseAttrs::default(),
                ..good()
            },
            0,
            0,
            "is not used: no public address",
        ),
    ];
    for (lease, four, six, why) in table {
        let (in_four, in_six, news) = put(lease);
        assert!(
            (in_four, in_six) == (four, six) && news.contains(why),
            "{in_four} {in_six} {news}: {why}"
        );
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
    let news: Vec<String> = change.events.iter().map(ToString::to_string).collect();
    let counts = (
        desired.entries().len(),
        desired.peer_count(),
        desired.refused_count(),
    );
    assert_eq!(counts, (1 + 3, 1, 1), "{news:?}");
    assert!(
        news.iter()
            .any(|line| line.ends_with("is not used: it has no IPv4 subnet")),
        "{news:?}"
    );
}

#[test]
fn repaired_family_is_used_and_reported() {
    let (backend, mut desired) = both();
    let key = "10.5.2.0-24&fd05:0:0:2::-64";
    desired.apply(listed([dual(key, "192.0.2.2", "fd10::1", 2)]), &*backend);
    assert_eq!((desired.peer_count(), desired.refused_count()), (1, 1));
    let change = desired.apply(
        vec![LeaseEvent::Put(dual(key, "192.0.2.2", "fd10::2", 2))],
        &*backend,
    );
    assert_eq!(
        (
            plan(&change.after, &change.before).len(),
            desired.refused_count()
        ),
        (3, 0)
    );
    desired.apply(listed([]), &*backend);
    assert_eq!((desired.peer_count(), desired.entries().len()), (0, 2));
}
