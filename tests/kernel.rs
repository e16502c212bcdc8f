//! The netlink shell against the real kernel, each test in a namespace of its own. Needs root and iproute2.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "kernel/both.rs"]
mod both;
#[path = "kernel/off_device.rs"]
mod off_device;
mod support;

use std::net::IpAddr;

use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::plan::plan;
use flanneld::kernel::{Ensured, Entry, Kernel, LinkRole, LinkSpec, Mac, Op, Owned, Query, Repair};
use support::netns::{Netns, run};

const DEV: LinkRole = LinkRole::Overlay;

fn spec(kernel: &mut Netlink) -> LinkSpec {
    LinkSpec {
        name: "flannel.1".into(),
        vni: 1,
        parent: kernel
            .host_state(&Query::default())
            .unwrap()
            .link("eth0")
            .unwrap()
            .index,
        local: [10, 64, 0, 1].into(),
        port: 8472,
        learning: false,
        gbp: false,
        mac: Mac([0x0a, 0, 0, 0, 0, 1]),
        mtu: 1450,
    }
}

fn owned() -> Owned {
    Owned {
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..Owned::default()
    }
}

fn overlay() -> (Netns, Netlink) {
    let netns = Netns::with_underlay();
    let mut kernel = Netlink::open().unwrap();
    let spec = spec(&mut kernel);
    assert_eq!(kernel.ensure_link(DEV, &spec).unwrap(), Ensured::Created);
    (netns, kernel)
}

/// The three entries of peer `n`, whose subnet is 10.(n/256).(n%256).0/24.
fn peer(n: u16) -> [Entry; 3] {
    let [hi, lo] = n.to_be_bytes();
    let base = IpAddr::from([10, hi, lo, 0]);
    let mac = Mac([0x0a, 1, 0, 0, hi, lo]);
    [
        Entry::Neigh {
            dev: DEV,
            ip: base,
            mac,
        },
        Entry::Fdb {
            dev: DEV,
            mac,
            dst: [10, 64, hi, lo].into(),
            port: 0,
            vni: 0,
        },
        Entry::Route {
            dst: format!("{base}/24").parse().unwrap(),
            metric: 0,
            dev: DEV,
            gateway: Some(base),
            onlink: true,
            protocol: 3,
        },
    ]
}

fn prefetch(kernel: &mut Netlink, links: &[(LinkRole, LinkSpec)]) -> Option<Vec<Entry>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut entries = runtime.block_on(kernel.prefetch(links, &owned()))?;
    entries.sort();
    Some(entries)
}

/// All owned entries, sorted.
fn dump(kernel: &mut Netlink, owned: &Owned) -> Vec<Entry> {
    let mut entries = kernel.dump(owned).unwrap();
    entries.sort();
    entries
}

fn sets(entries: &[Entry]) -> Vec<Op> {
    entries.iter().copied().map(Op::Set).collect()
}

#[test]
fn what_is_written_is_read_back_and_looks_as_go_writes_it() {
    let (_netns, mut kernel) = overlay();
    let mut entries = peer(0x0507).to_vec();
    entries.push(Entry::Addr {
        dev: DEV,
        net: "10.5.1.0/32".parse().unwrap(),
    });
    entries.sort();
    assert_eq!(kernel.apply(&sets(&entries)).unwrap(), []);
    assert_eq!(dump(&mut kernel, &owned()), entries);
    assert_eq!(
        run("ip route show dev flannel.1").trim(),
        "10.5.7.0/24 via 10.5.7.0 onlink"
    );
    assert_eq!(
        run("ip neigh show dev flannel.1").trim(),
        "10.5.7.0 lladdr 0a:01:00:00:05:07 PERMANENT"
    );
    assert_eq!(
        run("bridge fdb show dev flannel.1").trim(),
        "0a:01:00:00:05:07 dst 10.64.5.7 self permanent"
    );
    let links = [(DEV, spec(&mut kernel))];
    assert_eq!(
        prefetch(&mut Netlink::open().unwrap(), &links),
        Some(entries.clone()),
        "by who has seen nothing yet"
    );
    assert_eq!(
        kernel.apply(&sets(&entries)).unwrap(),
        [],
        "setting again is no failure"
    );
    let deletes: Vec<Op> = entries.into_iter().rev().map(Op::Delete).collect();
    assert_eq!(kernel.apply(&deletes).unwrap(), []);
    assert_eq!(dump(&mut kernel, &owned()), []);
    assert_eq!(
        kernel.apply(&deletes).unwrap(),
        [],
        "deleting again is no failure"
    );
}

#[test]
fn the_device_has_flannels_attributes() {
    let (_netns, _kernel) = overlay();
    let shown = run("ip -d link show flannel.1");
    for part in [
        "mtu 1450",
        "0a:00:00:00:00:01",
        "vxlan id 1 local 10.64.0.1 dev eth0",
        "dstport 8472 nolearning",
        "UP",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn a_right_device_is_adopted_and_a_bent_one_straightened() {
    let (_netns, mut kernel) = overlay();
    let spec = spec(&mut kernel);
    assert_eq!(kernel.ensure_link(DEV, &spec).unwrap(), Ensured::Adopted);
    run("ip link set flannel.1 mtu 1400 address 0a:00:00:00:00:02");
    run("ip link set flannel.1 type vxlan id 1 learning");
    run("ip link set flannel.1 down");
    let repairs = vec![
        Repair::Mac(spec.mac),
        Repair::Mtu(1450),
        Repair::Learning(false),
        Repair::Up,
    ];
    assert_eq!(
        kernel.ensure_link(DEV, &spec).unwrap(),
        Ensured::Repaired(repairs)
    );
    assert_eq!(kernel.ensure_link(DEV, &spec).unwrap(), Ensured::Adopted);
}

#[test]
fn a_device_that_cannot_be_used_is_replaced() {
    let (_netns, mut kernel) = overlay();
    let spec = LinkSpec {
        port: 4789,
        ..spec(&mut kernel)
    };
    let reason = "UDP port: 8472, wanted 4789".to_owned();
    assert_eq!(
        kernel.ensure_link(DEV, &spec).unwrap(),
        Ensured::Rebuilt(reason)
    );
    assert!(run("ip -d link show flannel.1").contains("dstport 4789"));
}

#[test]
fn who_is_in_the_way_is_named_and_nothing_half_made_stays() {
    let _netns = Netns::with_underlay();
    let mut kernel = Netlink::open().unwrap();
    let spec = spec(&mut kernel);
    run("ip link add other type vxlan id 1 dev eth0 dstport 8472");
    let error = kernel.ensure_link(DEV, &spec).unwrap_err().to_string();
    assert!(
        error.contains("device other already uses this VNI and port"),
        "{error}"
    );
    run("ip link del other");

    let socket = std::net::UdpSocket::bind("0.0.0.0:8472").unwrap();
    let error = kernel.ensure_link(DEV, &spec).unwrap_err().to_string();
    assert!(
        error.contains("another program has UDP port 8472 open"),
        "{error}"
    );
    assert!(!run("ip link").contains("flannel.1"), "no half-made device");
    drop(socket);
    assert_eq!(kernel.ensure_link(DEV, &spec).unwrap(), Ensured::Created);
}

#[test]
fn a_refused_write_stops_no_other_and_is_named() {
    let (_netns, mut kernel) = overlay();
    let mut ops = sets(&(1..=1000).flat_map(peer).collect::<Vec<_>>());
    let multicast = Entry::Fdb {
        dev: DEV,
        mac: Mac([1, 0, 0x5e, 0, 0, 1]),
        dst: [10, 0, 0, 1].into(),
        port: 0,
        vni: 0,
    };
    ops.insert(1500, Op::Set(multicast));
    let failures = kernel.apply(&ops).unwrap();
    assert_eq!(
        failures.iter().map(|f| f.op).collect::<Vec<_>>(),
        [Op::Set(multicast)]
    );
    assert_eq!(dump(&mut kernel, &owned()).len(), 3000);
}

#[test]
fn more_refusals_than_the_default_buffer_holds_are_all_reported() {
    let (_netns, mut kernel) = overlay();
    let multicast = Entry::Fdb {
        dev: DEV,
        mac: Mac([1, 0, 0x5e, 0, 0, 1]),
        dst: [10, 0, 0, 1].into(),
        port: 0,
        vni: 0,
    };
    assert_eq!(
        kernel.apply(&vec![Op::Set(multicast); 3000]).unwrap().len(),
        3000
    );
}

#[test]
fn obstacles_on_own_device_are_removed_and_foreign_entries_stay() {
    let (_netns, mut kernel) = overlay();
    run("ip addr add 10.9.9.9/24 dev flannel.1");
    run("ip addr add 192.168.7.7/24 dev flannel.1");
    run("ip route add 10.77.0.0/24 via 10.77.0.0 dev flannel.1 onlink metric 50");
    run("bridge fdb add 0a:01:00:00:05:07 dev flannel.1 dst 10.64.9.9 port 4789");
    run("bridge fdb append 0a:01:00:00:05:07 dev flannel.1 dst 10.64.9.8");
    run("bridge fdb add 0a:01:00:00:09:99 dev flannel.1 dst 10.64.9.9");
    run("ip neigh add 10.5.7.0 lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent");
    let want = peer(0x0507).to_vec();
    let ops = plan(&want, &dump(&mut kernel, &owned()));
    assert_eq!(kernel.apply(&ops).unwrap(), []);
    assert_eq!(dump(&mut kernel, &owned()), want);
    assert_eq!(
        run("bridge fdb show dev flannel.1").trim(),
        "0a:01:00:00:05:07 dst 10.64.5.7 self permanent"
    );
    assert!(
        run("ip addr show dev flannel.1").contains("192.168.7.7/24"),
        "foreign address"
    );
}

#[test]
fn entries_on_a_missing_device_fail_one_by_one() {
    let (_netns, mut kernel) = overlay();
    run("ip link del flannel.1");
    let failures = kernel.apply(&sets(&peer(1))).unwrap();
    assert_eq!(failures.len(), 3);
    assert_eq!(kernel.apply(&[Op::Delete(peer(1)[0])]).unwrap(), []);
}
