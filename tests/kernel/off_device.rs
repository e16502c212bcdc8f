//! Owned routes beside our devices.

use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::ownership::{BLACKHOLE_METRIC, BLACKHOLE_PROTOCOL};
use flanneld::kernel::{Entry, Kernel, LinkRole, OffDeviceRoutes, Op, Owned, Shape};

use super::support::netns::{Netns, run};

fn owned(direct: bool) -> Owned {
    let shape = |network: &str, subnet_len, metric| Shape {
        network: network.parse().unwrap(),
        subnet_len,
        metric,
        inside: false,
    };
    let shapes = vec![shape("10.5.0.0/16", 24, 0), shape("fd05::/48", 64, 1024)];
    let networks = shapes.iter().map(|shape| shape.network).collect();
    Owned {
        networks,
        off_device: OffDeviceRoutes {
            shapes,
            direct,
            blackhole: false,
        },
    }
}

fn entries() -> Vec<Entry> {
    let direct = |dst: &str, metric, via: &str| Entry::Route {
        dst: dst.parse().unwrap(),
        metric,
        dev: LinkRole::Underlay,
        gateway: Some(via.parse().unwrap()),
        onlink: false,
        protocol: 3,
    };
    let blackhole = |dst: &str| Entry::Route {
        dst: dst.parse().unwrap(),
        metric: BLACKHOLE_METRIC,
        dev: LinkRole::Blackhole,
        gateway: None,
        onlink: false,
        protocol: BLACKHOLE_PROTOCOL,
    };
    let mut entries = vec![
        direct("10.5.7.0/24", 0, "10.64.0.7"),
        direct("fd05:0:0:7::/64", 1024, "fd10::7"),
        blackhole("10.5.1.0/24"),
        blackhole("fd05:0:0:1::/64"),
    ];
    entries.sort();
    entries
}

fn host() -> (Netns, Netlink) {
    let netns = Netns::with_underlay();
    run("ip addr add fd10::1/64 dev eth0 nodad");
    let mut kernel = Netlink::open().unwrap();
    let spec = super::spec(&mut kernel);
    kernel.use_underlay(spec.parent);
    kernel.ensure_link(LinkRole::Overlay, &spec).unwrap();
    (netns, kernel)
}

#[test]
fn they_are_written_read_back_and_deleted_in_both_families() {
    let (_netns, mut kernel) = host();
    let sets: Vec<Op> = entries().into_iter().map(Op::Set).collect();
    assert_eq!(kernel.apply(&sets).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned(true)), entries());
    assert_eq!(
        run("ip route show 10.5.7.0/24").trim(),
        "10.5.7.0/24 via 10.64.0.7 dev eth0"
    );
    assert!(
        run("ip -6 route show fd05:0:0:7::/64")
            .starts_with("fd05:0:0:7::/64 via fd10::7 dev eth0 metric 1024")
    );
    assert!(
        run("ip -6 route show").contains("blackhole fd05:0:0:1::/64 dev lo proto 164 metric 1024")
    );
    assert_eq!(
        kernel.apply(&sets).unwrap(),
        [],
        "setting again is no failure"
    );
    assert_eq!(super::dump(&mut kernel, &owned(true)), entries());
    let blackholes: Vec<Entry> = entries()
        .into_iter()
        .filter(|entry| entry.dev() == LinkRole::Blackhole)
        .collect();
    assert_eq!(
        super::dump(&mut kernel, &owned(false)),
        blackholes,
        "others' without DirectRouting"
    );
    let deletes: Vec<Op> = entries().into_iter().map(Op::Delete).collect();
    assert_eq!(kernel.apply(&deletes).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned(true)), []);
    assert_eq!(
        kernel.apply(&deletes).unwrap(),
        [],
        "deleting again is no failure"
    );
}

#[test]
fn a_route_of_a_stranger_on_the_underlay_is_not_ours() {
    let (_netns, mut kernel) = host();
    run("ip route add 10.5.9.0/24 via 10.64.0.9 proto static");
    run("ip route add 10.5.10.0/25 via 10.64.0.9");
    run("ip route add 10.5.11.0/24 via 10.64.0.9 metric 5");
    run("ip route add 10.5.12.0/24 dev eth0");
    run("ip route add blackhole 10.5.13.0/24");
    run("ip -6 route add fd05:0:0:9::/64 via fd10::9 proto static");
    run("ip addr add 10.5.20.1/24 dev eth0");
    run("ip neigh add 10.64.0.9 lladdr 0a:00:00:00:00:99 dev eth0 nud permanent");
    assert_eq!(super::dump(&mut kernel, &owned(true)), []);
}
