//! IPv6 beside IPv4 and alone: who reaches whom and with how large packets, restarts, healing, and hosts that have one of
//! two families.

use std::net::IpAddr;

use lab::{Lab, LabError, LabOptions, Node, Pod, Signal, wait_until};

use super::assertions::Monitor;
use super::support::PATIENCE;
use super::support::steady_ping::SteadyPing;
use super::{FLANNELD, Test, eventually, prepared};

/// Both families; hosts lease from number 16 on, as everywhere in these tests.
const BOTH: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.16.0","EnableIPv6":true,"IPv6Network":"fd30::/48","IPv6SubnetMin":"fd30:0:0:10::","Backend":{"Type":"vxlan"}}"#;
const SUBNETS: &str = "/kubernetes/network/subnets/";

fn both() -> LabOptions {
    LabOptions::new(FLANNELD).network(BOTH)
}

/// Routes, neighbors and forwarding entries on the devices, as `ip` and `bridge` print them; sorted.
fn entries(node: &Node) -> Vec<String> {
    let shown = node.sh("for device in flannel.1 flannel-v6.1; do
            ip -4 route show dev $device; ip -6 route show dev $device proto boot
            ip neigh show dev $device nud permanent; bridge fdb show dev $device | grep ' dst ' || true
            ip -o addr show dev $device scope global | awk '{print $2, $4}'
            cat /sys/class/net/$device/address /sys/class/net/$device/mtu
            ip -d link show $device | grep -o 'vxlan id .* nolearning'
        done 2>/dev/null || true");
    let mut lines: Vec<String> = shown
        .unwrap_or_default()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_reach_each_other(lab: &Lab) -> Test {
    let matrix = lab.ping_all(PATIENCE)?;
    let log = lab.host(1).read("/run/flanneld.log").unwrap_or_default();
    assert_eq!(
        (matrix.pairs(), matrix.missing().count()),
        (6, 0),
        "{matrix:?}\n{log}"
    );
    Ok(())
}

#[test]
fn pods_reach_each_other_in_both_families() -> Test {
    let mut lab = Lab::start(both())?;
    assert!(
        lab.hosts()
            .iter()
            .all(|host| host.pod().is_some_and(|pod| pod.addresses().count() == 2))
    );
    assert_reach_each_other(&lab)?;
    assert_eq!(lab.etcd()?.keys(SUBNETS)?.len(), 3);
    let env = lab.host(1).read("/run/flannel/subnet.env")?;
    assert!(
        env.contains("FLANNEL_IPV6_NETWORK=fd30::/48\n") && env.contains("FLANNEL_MTU=1430\n"),
        "{env}"
    );
    assert_eq!(
        entries(lab.host(1))
            .iter()
            .filter(|line| line.contains("onlink"))
            .count(),
        4
    );
    largest_packets(&lab, &[("1430", 1450), ("1430", 1430)])?;

    // A restart writes nothing.
    let pods: Vec<IpAddr> = pod(&lab, 2)?.addresses().collect();
    let pings: Result<Vec<_>, LabError> = pods
        .iter()
        .map(|address| SteadyPing::start(lab.host(1), *address))
        .collect();
    let (monitor, before) = (Monitor::start(lab.host(1))?, entries(lab.host(1)));
    lab.end_flanneld(1, Signal::KILL)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    pings?.iter().for_each(SteadyPing::assert_nothing_lost);
    assert_eq!(monitor.changes()?, [""; 0], "not one change in the kernel");
    assert_eq!(entries(lab.host(1)), before);
    assert_eq!(lab.etcd()?.keys(SUBNETS)?.len(), 3);
    Ok(())
}

/// Go flannel gives all of them one lease.
#[test]
fn three_ipv6_only_hosts_have_leases_and_connect() -> Test {
    let mut lab = Lab::start(LabOptions::new(FLANNELD).ipv6())?;
    assert_reach_each_other(&lab)?;
    let keys = lab.etcd()?.keys(SUBNETS)?;
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(
        keys.iter().all(|key| key.contains("/0.0.0.0-0&fd30:0:0:")),
        "{keys:?}"
    );
    let mac = lab.host(1).sh("cat /sys/class/net/flannel-v6.1/address")?;
    let value = format!(
        r#"{{"PublicIP":"0.0.0.0","PublicIPv6":"{}","BackendType":"vxlan","BackendV6Data":{{"VNI":1,"VtepMAC":"{}"}}}}"#,
        lab.host(1).address_v6(),
        mac.trim()
    );
    let subnet = pod(&lab, 1)?.subnet.to_string().replace('/', "-");
    assert_eq!(
        lab.etcd()?.get(&format!("{SUBNETS}0.0.0.0-0&{subnet}"))?,
        Some(value)
    );
    largest_packets(&lab, &[("1430", 1430)])?;
    assert!(
        lab.host(1).sh("ip link show flannel.1").is_err(),
        "no device for IPv4"
    );

    // With neither etcd nor `subnet.env` to remember: a reboot.
    let before = pod(&lab, 2)?.subnet;
    lab.power_off(2)?;
    lab.power_on(2)?;
    lab.start_flanneld(2, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(lab.wire_pod(2)?.subnet, before, "found by its IPv6 address");
    assert_reach_each_other(&lab)
}

#[test]
fn ipv4_alone_carries_the_largest_packets_it_can() -> Test {
    let lab = Lab::start(LabOptions::new(FLANNELD).hosts(2))?;
    // Either may be ready before it has heard of the other.
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    largest_packets(&lab, &[("1450", 1450)])
}

fn pod(lab: &Lab, index: usize) -> Result<Pod, LabError> {
    lab.hosts()[index - 1]
        .pod()
        .cloned()
        .ok_or_else(|| LabError::BadOption(format!("h{index} has no pod")))
}

/// For each address of the second pod: what pods are told, and the largest packet that its device carries. It passes in one
/// piece, and one byte more does not.
#[track_caller]
fn largest_packets(lab: &Lab, expected: &[(&str, usize)]) -> Test {
    let (sender, target) = (lab.host(1), pod(lab, 2)?);
    for (address, (told, largest)) in target.addresses().zip(expected) {
        assert_eq!(
            sender.pod().sh("cat /sys/class/net/eth0/mtu")?.trim(),
            *told
        );
        // Pods that do not keep to it.
        for index in [1, 2] {
            lab.host(index)
                .sh("ip link set cni0 mtu 1500; ip link set veth-pod mtu 1500")?;
            lab.host(index).pod().sh("ip link set eth0 mtu 1500")?;
        }
        let headers = if address.is_ipv4() { 28 } else { 48 };
        let ping = |size: usize| {
            let payload = (size - headers).to_string();
            sender.pod().run([
                "ping",
                "-n",
                "-M",
                "do",
                "-c",
                "1",
                "-W",
                "5",
                "-s",
                &payload,
                &address.to_string(),
            ])
        };
        let pieces = || {
            sender.sh("cat /proc/net/snmp6 | grep -E 'Ip6FragCreates|Ip6FragOKs'; grep Ip: /proc/net/snmp | tail -n 1 | cut -d' ' -f 18-20")
        };
        let before = pieces()?;
        assert!(
            ping(*largest)?.status.success(),
            "{largest} bytes to {address}"
        );
        assert_eq!(pieces()?, before, "in one piece");
        let more = ping(largest + 1)?;
        assert!(!more.status.success(), "{} bytes to {address}", largest + 1);
        for index in [1, 2] {
            lab.host(index).sh(&format!(
                "ip link set cni0 mtu {told}; ip link set veth-pod mtu {told}"
            ))?;
            lab.host(index).pod().sh(&format!(
                "ip link set eth0 mtu {told}; ip route flush cache"
            ))?;
        }
    }
    Ok(())
}

/// What is done to the IPv6 half of a host with both.
const DISTURBANCES: &[(&str, &str)] = &[
    ("a route deleted", "ip -6 route del fd30:0:0:1::/64"),
    (
        "a route sent elsewhere",
        "ip -6 route replace fd30:0:0:1::/64 via fd64::10.64.255.254 dev eth0 metric 1024",
    ),
    (
        "a blackhole in a route's place",
        // The daemon may put the route back in between.
        "for n in $(seq 100); do
            ip -6 route del fd30:0:0:1::/64; ip -6 route add blackhole fd30:0:0:1::/64 && exit; done; exit 1",
    ),
    ("a second next hop", "ip -6 route append fd30:0:0:1::/64 via fd30:0:0:2:: dev flannel-v6.1 onlink"),
    ("all routes flushed", "ip -6 route flush dev flannel-v6.1 proto boot"),
    (
        "a neighbor with another MAC",
        "ip -6 neigh replace fd30:0:0:1:: lladdr 0a:00:00:00:00:99 dev flannel-v6.1 nud permanent",
    ),
    ("all neighbors flushed", "ip -6 neigh flush dev flannel-v6.1 nud permanent"),
    ("an FDB entry pointed elsewhere", "bridge fdb replace 0a:00:00:00:06:01 dev flannel-v6.1 dst fd64::99"),
    ("the address removed", "ip -6 addr flush dev flannel-v6.1 scope global"),
    ("link down and up", "ip link set flannel-v6.1 down; ip link set flannel-v6.1 up"),
    ("an MTU too small for IPv6", "ip link set flannel-v6.1 mtu 1200"),
    ("MAC changed", "ip link set flannel-v6.1 address 0a:00:00:00:00:55"),
    ("device deleted", "ip link del flannel-v6.1"),
];

/// A lease of a host that is not there.
fn invented(n: u8, four: bool, six: bool) -> (String, String) {
    let key = match (four, six) {
        (true, true) => format!("172.30.{n}.0-24&fd30:0:0:{n}::-64"),
        (true, false) => format!("172.30.{n}.0-24"),
        _ => format!("0.0.0.0-0&fd30:0:0:{n}::-64"),
    };
    let public = if six {
        format!("\"fd64::9:{n}\"")
    } else {
        "null".into()
    };
    let data = |byte: &str| format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:{byte}:{n:02x}"}}"#);
    let v4 = if four {
        format!(r#","BackendData":{}"#, data("04"))
    } else {
        String::new()
    };
    let v6 = if six {
        format!(r#","BackendV6Data":{}"#, data("06"))
    } else {
        String::new()
    };
    let ip = if four {
        format!("10.64.9.{n}")
    } else {
        "0.0.0.0".into()
    };
    let value =
        format!(r#"{{"PublicIP":"{ip}","PublicIPv6":{public},"BackendType":"vxlan"{v4}{v6}}}"#);
    (format!("{SUBNETS}{key}"), value)
}

#[test]
fn the_ipv6_half_is_healed_and_the_ipv4_half_not_touched() -> Test {
    for few in DISTURBANCES.chunks(5) {
        let mut lab = prepared(both(), 1)?;
        for n in [1, 2] {
            let (key, value) = invented(n, true, true);
            lab.etcd()?.put(&key, value)?;
        }
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        let wanted = entries(lab.host(1));
        assert_eq!(
            wanted.iter().filter(|line| line.contains(" dst ")).count(),
            4,
            "{wanted:#?}"
        );
        let keys = lab.etcd()?.keys(SUBNETS)?;
        for (name, script) in few {
            let monitor = Monitor::start(lab.host(1))?;
            lab.host(1).sh(script)?;
            let mut have = Vec::new();
            let healed = wait_until(PATIENCE, || {
                have = entries(lab.host(1));
                have == wanted && monitor.changes().is_ok_and(|changes| !changes.is_empty())
            });
            let log = lab.host(1).read("/run/flanneld.log")?;
            assert!(healed, "{name}: {have:#?} instead of {wanted:#?}\n{log}");
            let others: Vec<String> = monitor
                .changes()?
                .into_iter()
                .filter(|line| line.contains("flannel.1"))
                .collect();
            assert_eq!(others, [""; 0], "{name} concerns IPv6 alone");
        }
        assert_eq!(lab.etcd()?.keys(SUBNETS)?, keys);
    }
    Ok(())
}

#[test]
fn a_peer_is_reached_in_the_families_that_it_has() -> Test {
    let mut lab = prepared(both(), 1)?;
    for (n, four, six) in [(1, true, true), (2, true, false), (3, false, true)] {
        let (key, value) = invented(n, four, six);
        lab.etcd()?.put(&key, value)?;
    }
    // Its IPv6 half says nothing.
    let (key, value) = invented(4, true, true);
    lab.etcd()?.put(
        &key,
        value.replace("0a:00:00:00:06:04", "01:00:00:00:06:04"),
    )?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let shown = entries(lab.host(1)).join("\n");
    for n in 1..=4 {
        let (four, six) = (
            format!("172.30.{n}.0/24 via 172.30.{n}.0 onlink"),
            format!("fd30:0:0:{n}::/64 via fd30:0:0:{n}::"),
        );
        assert_eq!(
            (shown.contains(&four), shown.contains(&six)),
            (n != 3, n == 1 || n == 3),
            "{n}: {shown}"
        );
    }
    let log = lab.host(1).read("/run/flanneld.log")?;
    let told = "lease 172.30.4.0/24 fd30:0:0:4::/64 is used for IPv4 only: IPv6: VtepMAC 01:00:00:00:06:04";
    assert!(log.contains(told), "{log}");

    // A key of another host takes this one's IPv4 subnet: refused, and this host goes on.
    let own = lab
        .host(1)
        .sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env")?;
    let base = own.trim().replace(".1/24", ".0-24");
    lab.etcd()?
        .put(&format!("{SUBNETS}{base}"), invented(5, true, false).1)?;
    eventually("the log names it", || {
        lab.host(1)
            .read("/run/flanneld.log")
            .is_ok_and(|log| log.contains("is this host's own"))
    });
    assert_eq!(entries(lab.host(1)).join("\n"), shown);
    Ok(())
}

/// What Go flannel leaves on a host: its devices, entries, lease and file.
#[test]
fn dual_stack_go_host_is_adopted_without_writes() -> Test {
    let mut lab = prepared(both(), 1)?;
    let (own, peer) = (invented(241, true, true), invented(1, true, true));
    let value = own
        .1
        .replace("10.64.9.241", "10.64.0.1")
        .replace("fd64::9:241", "fd64::a40:1");
    lab.etcd()?
        .put(&own.0.replace("fd30:0:0:241::", "fd30:0:0:f1::"), &value)?;
    lab.etcd()?.put(&peer.0, &peer.1)?;
    lab.host(1).sh(
        "ip link add flannel.1 mtu 1450 address 0a:00:00:00:04:f1 type vxlan id 1 local 10.64.0.1 dev eth0 nolearning dstport 8472
        ip link add flannel-v6.1 mtu 1430 address 0a:00:00:00:06:f1 type vxlan id 1 local fd64::a40:1 dev eth0 nolearning dstport 8472 noudp6zerocsumtx noudp6zerocsumrx
        echo 0 > /proc/sys/net/ipv6/conf/flannel-v6.1/accept_ra
        ip addr add 172.30.241.0/32 dev flannel.1; ip link set flannel.1 up
        ip addr add fd30:0:0:f1::/128 dev flannel-v6.1; ip link set flannel-v6.1 up
        ip neigh replace 172.30.1.0 lladdr 0a:00:00:00:04:01 dev flannel.1 nud permanent
        bridge fdb replace 0a:00:00:00:04:01 dev flannel.1 dst 10.64.9.1
        ip route replace 172.30.1.0/24 via 172.30.1.0 dev flannel.1 onlink
        ip neigh replace fd30:0:0:1:: lladdr 0a:00:00:00:06:01 dev flannel-v6.1 nud permanent
        bridge fdb replace 0a:00:00:00:06:01 dev flannel-v6.1 dst fd64::9:1
        ip route replace fd30:0:0:1::/64 via fd30:0:0:1:: dev flannel-v6.1 onlink",
    )?;
    let settled = || {
        !lab.host(1)
            .sh("ip addr show dev flannel-v6.1")
            .is_ok_and(|shown| shown.contains("tentative"))
    };
    eventually("duplicate address detection is over", settled);
    let (monitor, before) = (Monitor::start(lab.host(1))?, entries(lab.host(1)));
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(monitor.changes()?, [""; 0], "not one change in the kernel");
    assert_eq!(entries(lab.host(1)), before);
    let log = lab.host(1).read("/run/flanneld.log")?;
    let found = "Found lease (ip: 172.30.241.0/24 ipv6: fd30:0:0:f1::/64) for current IP (10.64.0.1), reusing";
    assert!(log.contains(found), "{log}");
    assert_eq!(
        lab.etcd()?
            .get(&own.0.replace("fd30:0:0:241::", "fd30:0:0:f1::"))?,
        Some(value)
    );
    let env = lab.host(1).read("/run/flannel/subnet.env")?;
    let want = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.241.1/24\nFLANNEL_IPV6_NETWORK=fd30::/48\nFLANNEL_IPV6_SUBNET=fd30:0:0:f1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n";
    assert_eq!(env, want);
    Ok(())
}
