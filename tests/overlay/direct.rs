//! DirectRouting: plain routes to hosts that are directly connected, the tunnel to others, and the change between the two
//! under traffic.

use std::net::{IpAddr, Ipv4Addr};

use lab::{Lab, Node};

use super::assertions::Vtep;
use super::support::PATIENCE;
use super::support::steady_ping::SteadyPing;
use super::{Test, eventually, options};

const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"vxlan","DirectRouting":true}}"#;
const BOTH: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd05::/48",
    "Backend":{"Type":"vxlan","DirectRouting":true}}"#;

/// Waits until `peer` is reached so, and in no other way as well.
#[track_caller]
fn assert_reached(host: &Node, peer: &Vtep, direct: bool) {
    let Vtep { subnet, mac, ip } = peer;
    let route = if direct {
        format!("{subnet} via {ip} dev eth0")
    } else {
        format!("{subnet} via {} dev flannel.1 onlink", subnet.network())
    };
    eventually(&format!("{}: {route}", host.name()), || {
        let shown = host
            .sh(&format!("ip route show {subnet}"))
            .unwrap_or_default();
        let entries = host
            .sh("ip neigh show dev flannel.1; bridge fdb show dev flannel.1")
            .unwrap_or_default();
        shown.trim() == route && entries.contains(mac) != direct
    });
}

fn pod(lab: &Lab, index: usize) -> IpAddr {
    lab.hosts()[index - 1]
        .pod()
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |pod| pod.address)
}

#[test]
fn peers_change_between_route_and_tunnel_without_loss() -> Test {
    let lab = Lab::start(options().network(NETWORK))?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    let [one, three] = [lab.host(1), lab.host(3)];
    let [second, third] = [Vtep::of(lab.host(2))?, Vtep::of(three)?];
    assert_reached(one, &second, true);
    assert_reached(one, &third, true);
    three.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")?;
    for host in lab.hosts() {
        host.node().sh("sysctl -qw net.ipv4.conf.all.rp_filter=0; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")?;
    }
    let ping = SteadyPing::start(one, pod(&lab, 2))?;
    for _ in 0..2 {
        one.sh(&format!("ip route add {}/32 via {}", second.ip, third.ip))?;
        assert_reached(one, &second, false);
        assert_reached(one, &third, true);
        ping.assert_nothing_lost();
        one.sh(&format!("ip route del {}/32", second.ip))?;
        assert_reached(one, &second, true);
        ping.assert_nothing_lost();
    }
    Ok(())
}

#[test]
fn both_families_are_routed_directly() -> Test {
    let mut lab = super::prepared(options().network(BOTH), 2)?;
    for n in [1, 2] {
        lab.host(n)
            .sh(&format!("ip -6 addr add fd10::{n}/64 dev eth0 nodad"))?;
        let public = format!("-public-ipv6=fd10::{n}");
        lab.start_flanneld(n, &["-iface=eth0", &public])?
            .wait_ready(PATIENCE)?;
    }
    let one = lab.host(1);
    let shown = |script: &str| one.sh(script).unwrap_or_default();
    eventually("the IPv6 route is a plain one", || {
        shown("ip -6 route show | grep ^fd05").contains("via fd10::2 dev eth0")
    });
    assert!(shown("ip route show | grep ^172.30").contains("via 10.64.0.2 dev eth0"));
    one.sh("ip -6 route add fd10::2/128 via fd10::ff dev eth0")?;
    eventually("through the tunnel", || {
        shown("ip -6 route show | grep '^fd05.* via'").contains("dev flannel-v6.1")
    });
    assert!(
        shown("ip route show | grep ^172.30").contains("via 10.64.0.2 dev eth0"),
        "IPv4 is not concerned"
    );
    one.sh("ip -6 route del fd10::2/128 via fd10::ff dev eth0")?;
    eventually("directly again", || {
        let routes = shown("ip -6 route show | grep '^fd05.* via'");
        routes.contains("via fd10::2 dev eth0") && !routes.contains("flannel-v6.1")
    });
    Ok(())
}
