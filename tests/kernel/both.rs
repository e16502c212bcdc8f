//! The device for IPv6, alone and beside the one for IPv4.

use std::net::IpAddr;

use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::plan::plan;
use flanneld::kernel::{Ensured, Entry, Kernel, LinkRole, LinkSpec, Mac, Op, Owned};

use super::support::netns::{Netns, run};

const DEV: LinkRole = LinkRole::Overlay6;

fn spec(kernel: &mut Netlink) -> LinkSpec {
    LinkSpec {
        name: "flannel-v6.1".into(),
        local: [0xfd10, 0, 0, 0, 0, 0, 0, 1].into(),
        mac: Mac([0x0a, 0, 0, 0, 0, 6]),
        mtu: 1430,
        ..super::spec(kernel)
    }
}

fn owned() -> Owned {
    Owned {
        networks: vec!["10.0.0.0/8".parse().unwrap(), "fd05::/48".parse().unwrap()],
        ..Owned::default()
    }
}

/// A host with both devices.
fn overlays() -> (Netns, Netlink) {
    let netns = Netns::with_underlay();
    run("ip addr add fd10::1/64 dev eth0 nodad");
    let mut kernel = Netlink::open().unwrap();
    for (dev, spec) in [
        (LinkRole::Overlay, super::spec(&mut kernel)),
        (DEV, spec(&mut kernel)),
    ] {
        assert_eq!(kernel.ensure_link(dev, &spec).unwrap(), Ensured::Created);
    }
    (netns, kernel)
}

/// The three entries of peer `n`, whose subnet is fd05:0:0:n::/64.
fn peer(n: u16) -> [Entry; 3] {
    let base = IpAddr::from([0xfd05, 0, 0, n, 0, 0, 0, 0]);
    let [hi, lo] = n.to_be_bytes();
    let mac = Mac([0x0a, 6, 0, 0, hi, lo]);
    [
        Entry::Neigh {
            dev: DEV,
            ip: base,
            mac,
        },
        Entry::Fdb {
            dev: DEV,
            mac,
            dst: [0xfd10, 0, 0, 0, 0, 0, 0, n].into(),
            port: 0,
            vni: 0,
        },
        Entry::Route {
            dst: format!("{base}/64").parse().unwrap(),
            metric: 1024,
            dev: DEV,
            gateway: Some(base),
            onlink: true,
            protocol: 3,
        },
    ]
}

/// Everything a host with this one peer has on the device.
fn desired() -> Vec<Entry> {
    let mut entries = peer(7).to_vec();
    entries.push(Entry::Addr {
        dev: DEV,
        net: "fd05:0:0:1::/128".parse().unwrap(),
    });
    entries.sort();
    entries
}

#[test]
fn what_is_written_is_read_back_and_looks_as_go_writes_it() {
    let (_netns, mut kernel) = overlays();
    let entries = desired();
    assert_eq!(kernel.apply(&super::sets(&entries)).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned()), entries);
    let routes = run("ip -6 route show dev flannel-v6.1 proto boot");
    assert_eq!(
        routes.trim(),
        "fd05:0:0:7::/64 via fd05:0:0:7:: metric 1024 onlink pref medium"
    );
    let neighbors = run("ip -6 neigh show dev flannel-v6.1 nud permanent");
    assert_eq!(
        neighbors.trim(),
        "fd05:0:0:7:: lladdr 0a:06:00:00:00:07 PERMANENT"
    );
    let fdb = run("bridge fdb show dev flannel-v6.1");
    assert_eq!(fdb.trim(), "0a:06:00:00:00:07 dst fd10::7 self permanent");
    assert_eq!(
        kernel.apply(&super::sets(&entries)).unwrap(),
        [],
        "setting again is no failure"
    );
    let deletes: Vec<Op> = entries.into_iter().rev().map(Op::Delete).collect();
    assert_eq!(kernel.apply(&deletes).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned()), []);
    assert_eq!(
        kernel.apply(&deletes).unwrap(),
        [],
        "deleting again is no failure"
    );
}

#[test]
fn devices_share_vni_and_port_and_address_is_usable_at_once() {
    let (_netns, mut kernel) = overlays();
    let shown = run("ip -d link show flannel-v6.1");
    for part in [
        "mtu 1430",
        "vxlan id 1 local fd10::1 dev eth0",
        "dstport 8472 nolearning",
        "UP",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains(" udp6zerocsumtx"), "{shown}");
    assert_eq!(
        run("cat /proc/sys/net/ipv6/conf/flannel-v6.1/accept_ra").trim(),
        "0"
    );
    kernel.apply(&super::sets(&desired())).unwrap();
    let address = run("ip addr show dev flannel-v6.1 scope global");
    assert!(
        address.contains("fd05:0:0:1::/128") && !address.contains("tentative"),
        "{address}"
    );
    let spec = spec(&mut kernel);
    assert_eq!(kernel.ensure_link(DEV, &spec).unwrap(), Ensured::Adopted);
}

#[test]
fn each_device_has_entries_of_its_family() {
    let (_netns, mut kernel) = overlays();
    run("ip addr add fd05:0:0:9::9/64 dev flannel-v6.1 nodad");
    run("ip addr add fd99::9/64 dev flannel-v6.1 nodad");
    run("ip addr add 10.5.9.9/24 dev flannel-v6.1");
    run("ip -6 neigh add fd05:0:0:8:: lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent");
    run("ip -6 route add fd05:0:0:8::/64 via fd05:0:0:8:: dev flannel-v6.1 onlink metric 50");
    run("bridge fdb append 0a:06:00:00:00:07 dev flannel-v6.1 dst fd10::9");
    let ops = plan(&desired(), &super::dump(&mut kernel, &owned()));
    assert_eq!(kernel.apply(&ops).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned()), desired());
    let shown = run("ip addr show dev flannel-v6.1");
    assert!(!shown.contains("fd05:0:0:9::9"), "in the way: {shown}");
    for foreign in ["fd99::9/64", "10.5.9.9/24", "fe80::"] {
        assert!(shown.contains(foreign), "{foreign} in {shown}");
    }
    assert!(
        run("ip -6 neigh show dev flannel.1").contains("fd05:0:0:8::"),
        "not on a device for IPv4"
    );
}

#[test]
fn whatever_is_in_a_routes_place_goes() {
    let (_netns, mut kernel) = overlays();
    let entries = desired();
    for line in [
        "ip -6 route add fd05:0:0:7::/64 via fd10::9 dev eth0 metric 1024",
        "ip -6 route add blackhole fd05:0:0:7::/64 metric 1024",
        "ip -6 route add fd05:0:0:7::/64 dev flannel-v6.1 metric 1024",
        "ip -6 route add fd05:0:0:7::/64 nexthop via fd05:0:0:7:: dev flannel-v6.1 onlink nexthop via fd05:0:0:8:: dev flannel-v6.1 onlink",
    ] {
        run("ip -6 route flush fd05:0:0:7::/64");
        run(line);
        let ops = plan(&entries, &super::dump(&mut kernel, &owned()));
        assert_eq!(kernel.apply(&ops).unwrap(), [], "{line}");
        assert_eq!(
            plan(&entries, &super::dump(&mut kernel, &owned())),
            [],
            "{line}"
        );
        let shown = run("ip -6 route show fd05:0:0:7::/64");
        assert_eq!(
            shown.trim(),
            "fd05:0:0:7:: via fd05:0:0:7:: dev flannel-v6.1 metric 1024 onlink pref medium"
                .replace("7:: via", "7::/64 via"),
            "{line}"
        );
    }
}

#[test]
fn everything_comes_back_after_a_flap() {
    let (_netns, mut kernel) = overlays();
    let entries = desired();
    kernel.apply(&super::sets(&entries)).unwrap();
    run("ip link set flannel-v6.1 down");
    run("ip link set flannel-v6.1 up");
    let left = super::dump(&mut kernel, &owned());
    assert!(
        left.iter().all(|entry| matches!(entry, Entry::Fdb { .. })),
        "the kernel keeps {left:?}"
    );
    assert_eq!(kernel.apply(&plan(&entries, &left)).unwrap(), []);
    assert_eq!(super::dump(&mut kernel, &owned()), entries);
}

#[test]
fn who_is_in_the_way_of_one_device_is_not_the_other_one() {
    let _netns = Netns::with_underlay();
    run("ip addr add fd10::1/64 dev eth0 nodad");
    let mut kernel = Netlink::open().unwrap();
    let (four, six) = (super::spec(&mut kernel), spec(&mut kernel));
    assert_eq!(
        kernel.ensure_link(LinkRole::Overlay, &four).unwrap(),
        Ensured::Created
    );
    run("ip link add other type vxlan id 1 local fd10::1 dev eth0 dstport 8472");
    let error = kernel.ensure_link(DEV, &six).unwrap_err().to_string();
    assert!(
        error.contains("device other already uses this VNI and port"),
        "{error}"
    );
}

#[test]
fn a_device_of_the_other_family_is_replaced() {
    let (_netns, mut kernel) = overlays();
    run("ip link del flannel-v6.1");
    run("ip link del flannel.1");
    run("ip link add flannel-v6.1 type vxlan id 1 dev eth0 dstport 8472");
    let spec = spec(&mut kernel);
    let reason = "local address: none, wanted fd10::1".to_owned();
    assert_eq!(
        kernel.ensure_link(DEV, &spec).unwrap(),
        Ensured::Rebuilt(reason)
    );
}
