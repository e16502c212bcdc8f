//! What is read of a host's interfaces and routes, on the real kernel. Needs root and iproute2.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::net::IpAddr;

use flanneld::kernel::host_state::Reachability;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::{HostState, Kernel, Query};
use support::netns::{Netns, run};

const DEFAULTS: Query = Query {
    default_routes: true,
    default_routes_v6: true,
    can_reach: None,
    routes: false,
};

fn host_state(asked: Query) -> HostState {
    Netlink::open().unwrap().host_state(&asked).unwrap()
}

fn names(host_state: &HostState, links: &[u32]) -> Vec<String> {
    let name = |index: &u32| {
        host_state
            .links
            .iter()
            .find(|link| link.index == *index)
            .map(|l| l.name.clone())
    };
    links.iter().filter_map(name).collect()
}

/// A second interface, eth1, 10.65.0.1/16 and fd65::1/64.
fn second() {
    run("ip link add eth1 type veth peer name wire1");
    run("ip link set wire1 up");
    run("ip link set eth1 up");
    run("ip addr add 10.65.0.1/16 dev eth1");
    run("ip addr add fd65::1/64 dev eth1 nodad");
}

#[test]
fn default_routes_come_best_first_and_of_several_hops_the_first() {
    let _netns = Netns::with_underlay();
    second();
    run("ip route add default via 10.65.0.2 metric 50");
    run("ip -6 route add default via fd65::2 dev eth1 metric 100");
    let found = host_state(DEFAULTS);
    assert_eq!(names(&found, &found.default_links), ["eth0", "eth1"]);
    assert_eq!(names(&found, &found.default_links_v6), ["eth1"]);
    run("ip route del default via 10.64.255.254");
    run("ip route add default nexthop via 10.65.0.2 nexthop via 10.64.255.254");
    let found = host_state(DEFAULTS);
    assert_eq!(names(&found, &found.default_links), ["eth1", "eth1"]);
    run("ip route add unreachable default metric 5");
    let found = host_state(DEFAULTS);
    assert_eq!(
        names(&found, &found.default_links),
        ["eth1", "eth1"],
        "no way is not a way"
    );
    assert_eq!(
        host_state(Query::default()).default_links,
        [0; 0],
        "not asked for"
    );
}

#[test]
fn the_kernel_is_asked_for_the_way_to_an_address() {
    let _netns = Netns::with_underlay();
    second();
    run("ip route add 10.99.0.0/16 via 10.65.0.2 src 10.65.0.1");
    run("ip route add unreachable 10.98.0.0/16");
    let reach = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        let found = host_state(Query {
            can_reach: Some(ip),
            ..Query::default()
        });
        found.reach.map(|Reachability { link, source, .. }| {
            (names(&found, &[link]).concat(), source.unwrap().to_string())
        })
    };
    assert_eq!(
        reach("10.99.0.7"),
        Some(("eth1".into(), "10.65.0.1".into()))
    );
    assert_eq!(
        reach("192.0.2.1"),
        Some(("eth0".into(), "10.64.0.1".into()))
    );
    assert_eq!(reach("fd65::7"), Some(("eth1".into(), "fd65::1".into())));
    assert_eq!(reach("10.98.0.7"), None);
    assert_eq!(reach("2001:db8::1"), None);
}

#[test]
fn address_lifetimes_are_read() {
    let _netns = Netns::with_underlay();
    run("ip addr add fd00::1/64 dev eth0 nodad");
    run("ip addr add fd00::2/64 dev eth0 nodad valid_lft 900 preferred_lft 0");
    run("ip addr add 10.64.0.2/16 dev eth0");
    run("ip addr add 10.64.0.3/16 dev eth0 valid_lft 900 preferred_lft 800");
    run("ip addr add 10.64.9.9/32 dev eth0");
    let found = host_state(Query::default());
    let single = |ip: &str| {
        found
            .addrs
            .iter()
            .find(|addr| addr.ip.to_string() == ip)
            .unwrap()
            .is_single()
    };
    assert!(single("10.64.9.9") && !single("10.64.0.2") && !single("fd00::1"));
    let of = |ip: &str| {
        let addr = found
            .addrs
            .iter()
            .find(|addr| addr.ip.to_string() == ip)
            .unwrap();
        (addr.permanent, addr.deprecated, addr.temporary)
    };
    assert_eq!(of("fd00::1"), (true, false, false));
    assert_eq!(of("fd00::2"), (false, true, false));
    assert_eq!(
        of("10.64.0.2"),
        (true, false, false),
        "the second of a network is no temporary one"
    );
    assert_eq!(of("10.64.0.3"), (false, false, false));
}

#[test]
fn addresses_that_are_being_checked_are_marked() {
    let _netns = Netns::with_underlay();
    run("ip addr add fd00::1/64 dev eth0 nodad");
    run("ip link add lone type veth peer name far");
    run("ip link set lone up");
    run("ip addr add fd00::2/64 dev lone");
    let found = host_state(Query::default());
    let of = |ip: &str| {
        found
            .addrs
            .iter()
            .find(|addr| addr.ip.to_string() == ip)
            .unwrap()
            .unconfirmed
    };
    assert_eq!(
        (of("fd00::1"), of("fd00::2")),
        (false, true),
        "a link without carrier ends no check"
    );
}
