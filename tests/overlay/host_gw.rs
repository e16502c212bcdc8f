//! The backends without a device: host-gw, whose peers are plain routes, and alloc, which leases subnets only.

use crate::support::tool::rflannel;
use std::net::{IpAddr, Ipv4Addr};

use lab::{Lab, Signal, wait_until};

use super::assertions::Monitor;
use super::support::PATIENCE;
use super::support::steady_ping::SteadyPing;
use super::{Test, eventually, options, prepared};

const HOST_GW: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"host-gw"}}"#;
const DIRECT: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"vxlan","DirectRouting":true}}"#;
const CONFIG: &str = "/kubernetes/network/config";

fn pod(lab: &Lab, index: usize) -> IpAddr {
    lab.hosts()[index - 1]
        .pod()
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |pod| pod.address)
}

fn subnet(lab: &Lab, index: usize) -> String {
    lab.hosts()[index - 1]
        .pod()
        .map(|pod| pod.subnet.to_string())
        .unwrap_or_default()
}

fn key(subnet: &str) -> String {
    format!("/kubernetes/network/subnets/{}", subnet.replace('/', "-"))
}

fn shown(lab: &Lab, index: usize, script: &str) -> String {
    lab.host(index)
        .sh(script)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[test]
fn pods_of_three_hosts_reach_each_other_by_plain_routes() -> Test {
    let mut lab = Lab::start(options().network(HOST_GW))?;
    let matrix = lab.ping_all(PATIENCE)?;
    assert_eq!(
        (matrix.pairs(), matrix.missing().count()),
        (6, 0),
        "{matrix:?}"
    );
    for (index, peer) in [(1, 2), (2, 3), (3, 1)] {
        let dst = subnet(&lab, peer);
        assert_eq!(
            shown(&lab, index, &format!("ip route show {dst}")),
            format!("{dst} via 10.64.0.{peer} dev eth0")
        );
        assert_eq!(shown(&lab, index, "ip link show type vxlan"), "");
        assert_eq!(
            shown(
                &lab,
                index,
                "sed -n s/FLANNEL_MTU=//p /run/flannel/subnet.env"
            ),
            "1500"
        );
        let value =
            format!(r#"{{"PublicIP":"10.64.0.{peer}","PublicIPv6":null,"BackendType":"host-gw"}}"#);
        assert_eq!(
            lab.etcd()?.get(&key(&dst))?,
            Some(value),
            "byte for byte as Go flannel writes it"
        );
    }
    // A second daemon for the same network.
    let second = lab.flanneld_args()?;
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    let output = lab
        .host(1)
        .run([env!("CARGO_BIN_EXE_flanneld")].into_iter().chain(second))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("manages the routes of 172.30.0.0/16"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));

    // A restart, a crash, and nothing is lost or changed.
    let ping = SteadyPing::start(lab.host(1), pod(&lab, 2))?;
    let monitor = Monitor::start(lab.host(1))?;
    for signal in [Signal::TERM, Signal::KILL] {
        lab.end_flanneld(1, signal)?;
        ping.assert_nothing_lost();
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        ping.assert_nothing_lost();
    }
    assert_eq!(monitor.changes()?, [""; 0]);
    Ok(())
}

#[test]
fn both_families_are_routed() -> Test {
    let mut lab = prepared(options().dual_stack().backend("host-gw"), 2)?;
    for n in [1, 2] {
        lab.host(n)
            .sh(&format!("ip -6 addr add fd10::{n}/64 dev eth0 nodad"))?;
        let public = format!("-public-ipv6=fd10::{n}");
        lab.start_flanneld(n, &["-iface=eth0", &public])?
            .wait_ready(PATIENCE)?;
    }
    lab.wire_pod(1)?;
    let second = lab.wire_pod(2)?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    let (v6, net) = second.also.expect("an IPv6 half");
    SteadyPing::start(lab.host(1), v6)?.assert_nothing_lost();
    let route = shown(&lab, 1, &format!("ip -6 route show {net}"));
    assert!(
        route.starts_with(&format!("{net} via fd10::2 dev eth0 metric 1024")),
        "{route}"
    );
    let leases = lab.etcd()?.ctl([
        "get",
        "--prefix",
        "--print-value-only",
        "/kubernetes/network/subnets/",
    ])?;
    let value = r#"{"PublicIP":"10.64.0.2","PublicIPv6":"fd10::2","BackendType":"host-gw"}"#;
    assert!(leases.lines().any(|line| line == value), "{leases}");
    lab.host(1).sh(&format!("ip -6 route del {net}"))?;
    eventually("the route is repaired", || {
        shown(&lab, 1, &format!("ip -6 route show {net}")) == route
    });
    Ok(())
}

#[test]
fn peer_behind_a_router_is_named_and_has_no_route() -> Test {
    let mut lab = prepared(options().network(HOST_GW), 1)?;
    let far = "172.30.100.0/24";
    lab.etcd()?.put(
        &key(far),
        r#"{"PublicIP":"198.51.100.7","PublicIPv6":null,"BackendType":"host-gw"}"#,
    )?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let why = "public address 198.51.100.7 is not directly connected to eth0";
    let log = |lab: &mut Lab| {
        lab.flanneld(1)
            .map(|flanneld| flanneld.process().log())
            .unwrap_or_default()
    };
    eventually("the peer is named", || log(&mut lab).contains(why));
    assert_eq!(shown(&lab, 1, &format!("ip route show {far}")), "");
    let status = shown(&lab, 1, &format!("{} status || true", rflannel()));
    assert!(
        status.contains(&format!("refused {far}: {why}")),
        "{status}"
    );
    lab.host(1).sh("ip route add 198.51.100.0/24 dev eth0")?;
    eventually("the network is connected", || {
        shown(&lab, 1, &format!("ip route show {far}"))
            == format!("{far} via 198.51.100.7 dev eth0")
    });
    lab.host(1).sh("ip route del 198.51.100.0/24")?;
    eventually("and no longer", || {
        shown(&lab, 1, &format!("ip route show {far}")).is_empty()
    });
    eventually("once each time", || log(&mut lab).matches(why).count() == 2);
    Ok(())
}

/// Writes the configuration and restarts one daemon after the other; `after` each of them.
fn change(lab: &mut Lab, network: &str, mut after: impl FnMut(&Lab)) -> Test {
    lab.etcd()?.put(CONFIG, network)?;
    for index in 1..=lab.hosts().len() {
        lab.end_flanneld(index, Signal::TERM)?;
        lab.start_flanneld(index, &[])?.wait_ready(PATIENCE)?;
        after(lab);
    }
    Ok(())
}

fn rp_filter_off(lab: &Lab) -> Test {
    for host in lab.hosts() {
        host.node()
            .sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")?;
    }
    Ok(())
}

#[test]
fn cluster_changes_to_host_gw_and_back_without_loss() -> Test {
    let mut lab = Lab::start(options())?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    rp_filter_off(&lab)?;
    let pings = [
        SteadyPing::start(lab.host(1), pod(&lab, 2))?,
        SteadyPing::start(lab.host(2), pod(&lab, 3))?,
        SteadyPing::start(lab.host(3), pod(&lab, 1))?,
    ];
    let whole = |_: &Lab| pings.iter().for_each(SteadyPing::assert_nothing_lost);
    for network in [DIRECT, HOST_GW] {
        change(&mut lab, network, whole)?;
    }
    for index in 1..=3 {
        eventually("the device is gone", || {
            shown(&lab, index, "ip link show type vxlan").is_empty()
        });
    }
    whole(&lab);
    for network in [DIRECT, super::NETWORK] {
        change(&mut lab, network, |lab| {
            rp_filter_off(lab).expect("a sysctl");
            whole(lab);
        })?;
    }
    for index in 1..=3 {
        eventually("the tunnel again", || {
            shown(
                &lab,
                index,
                "bridge fdb show dev flannel.1 | grep -c ' dst '",
            ) == "2"
        });
    }
    whole(&lab);
    Ok(())
}

/// Without the step between: hosts of the two kinds do not reach each other, those of one kind do.
#[test]
fn vxlan_and_host_gw_hosts_do_not_mix_without_direct_routing() -> Test {
    let mut lab = Lab::start(options())?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    lab.etcd()?.put(CONFIG, HOST_GW)?;
    for index in [1, 2] {
        lab.end_flanneld(index, Signal::TERM)?;
        lab.start_flanneld(index, &[])?.wait_ready(PATIENCE)?;
    }
    SteadyPing::start(lab.host(1), pod(&lab, 2))?.assert_nothing_lost();
    let log = |lab: &mut Lab| {
        lab.flanneld(3)
            .map(|flanneld| flanneld.process().log())
            .unwrap_or_default()
    };
    eventually("the third host says so", || {
        log(&mut lab)
            .matches("its backend type is \"host-gw\", this host uses vxlan")
            .count()
            >= 2
    });
    assert!(
        shown(&lab, 1, "ip link show flannel.1").contains("flannel.1"),
        "host 3 has it still"
    );
    lab.end_flanneld(3, Signal::TERM)?;
    lab.start_flanneld(3, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    eventually("the device is gone", || {
        shown(&lab, 1, "ip link show type vxlan").is_empty()
    });
    Ok(())
}

/// A host as Go's daemon leaves it: its lease with an etcd lease, its file, a route through each peer.
#[test]
fn host_that_go_has_left_is_adopted_without_a_change() -> Test {
    let mut lab = prepared(options().network(HOST_GW), 2)?;
    let own = "172.30.250.0/24";
    let value =
        |ip: &str| format!(r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"host-gw"}}"#);
    let granted = lab.etcd()?.ctl(["lease", "grant", "86400"])?;
    let lease_id = format!(
        "--lease={}",
        granted.split_whitespace().nth(1).unwrap_or_default()
    );
    lab.etcd()?
        .ctl(["put".to_owned(), key(own), value("10.64.0.1"), lease_id])?;
    for n in [101, 102] {
        lab.etcd()?.put(
            &key(&format!("172.30.{n}.0/24")),
            value(&format!("10.64.1.{n}")),
        )?;
        lab.host(1).sh(&format!(
            "ip route add 172.30.{n}.0/24 via 10.64.1.{n} dev eth0"
        ))?;
    }
    lab.host(1).write(
        "/run/flannel/subnet.env",
        "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.250.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n",
    )?;
    let monitor = Monitor::start(lab.host(1))?;
    let before = lab.etcd()?.get(&key(own))?;
    lab.start_flanneld(1, &["-iface=eth0"])?
        .wait_ready(PATIENCE)?;
    assert_eq!(monitor.changes()?, [""; 0]);
    assert_eq!(
        (lab.etcd()?.get(&key(own))?, &before),
        (before.clone(), &before)
    );
    lab.etcd()?.delete(&key("172.30.102.0/24"))?;
    lab.etcd()?
        .put(&key("172.30.103.0/24"), value("10.64.1.103"))?;
    eventually("a peer that joins is programmed", || {
        shown(&lab, 1, "ip route show 172.30.103.0/24")
            == "172.30.103.0/24 via 10.64.1.103 dev eth0"
    });
    Ok(())
}

#[test]
fn alloc_leases_a_subnet_and_touches_nothing() -> Test {
    let network = HOST_GW.replace("host-gw", "alloc");
    let mut lab = prepared(options().network(network), 2)?;
    let routes = "ip route show; ip -6 route show; ip -br link";
    let before = shown(&lab, 1, routes);
    for index in [1, 2] {
        lab.start_flanneld(index, &[])?.wait_ready(PATIENCE)?;
    }
    let env = shown(&lab, 1, "cat /run/flannel/subnet.env");
    assert!(env.contains("FLANNEL_MTU=1500"), "{env}");
    let own = env
        .lines()
        .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))
        .unwrap_or_default();
    let value = lab.etcd()?.get(&key(&own.replace(".1/", ".0/")))?;
    assert_eq!(
        value.as_deref(),
        Some(r#"{"PublicIP":"10.64.0.1","PublicIPv6":null}"#)
    );
    let status = format!("{} status || true", rflannel());
    let is_fine = || {
        let status = shown(&lab, 1, &status);
        status.contains("fine") && status.contains("1 desired, 1 installed")
    };
    assert!(wait_until(PATIENCE, is_fine), "{}", shown(&lab, 1, &status));
    let check = shown(&lab, 1, &format!("{} check", rflannel()));
    assert!(
        check.contains("another program carries the packets"),
        "{check}"
    );
    assert_eq!(shown(&lab, 1, routes), before);
    Ok(())
}

#[test]
fn lab_has_the_backend_that_is_asked_for() -> Test {
    let up = |backend: &str| {
        let mut rflannel = std::process::Command::new(rflannel());
        rflannel.args(["lab", "up", "--hosts=2", "--no-tls", "--backend", backend]);
        rflannel
            .args(["--flanneld", env!("CARGO_BIN_EXE_flanneld")])
            .output()
            .expect("rflannel runs")
    };
    for (backend, words) in [
        (
            "host-gw",
            ["eth0    1", "all 2×1 = 2 pod pairs reach each other"],
        ),
        (
            "alloc",
            [
                "-       0",
                "pods of different hosts do not reach each other",
            ],
        ),
    ] {
        let output = up(backend);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && words.iter().all(|word| said.contains(word)),
            "{said}"
        );
    }
    Ok(())
}
