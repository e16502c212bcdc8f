//! Every combination of address families, routing and firewall, with the daemon: pods of different hosts reach each other as
//! themselves, and the world as their host, although the policy of `FORWARD` is DROP on all hosts.

use std::net::IpAddr;

use lab::{Lab, LabError, Node, Process, wait_until};

use super::Test;
use super::host::{KINDS, Kind, PATIENCE, lab_of, restart};

const V4: &str = r#""Network":"172.30.0.0/16","SubnetLen":24"#;
const V6: &str = r#""EnableIPv6":true,"IPv6Network":"fd05::/48""#;
const NO_V4: &str = r#""EnableIPv4":false"#;

/// Says to anyone who connects from where he comes; in IPv6 socat writes all eight groups, in brackets.
const ECHO: [&str; 3] = [
    "sh",
    "-c",
    "socat TCP4-LISTEN:7777,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR' &
    exec socat TCP6-LISTEN:7777,fork,reuseaddr,ipv6only SYSTEM:'echo $SOCAT_PEERADDR'",
];

fn network(kind: Kind, families: &str, direct: bool) -> String {
    let nftables = kind == Kind::Nftables;
    format!(
        r#"{{{families},"EnableNFTables":{nftables},"Backend":{{"Type":"vxlan","DirectRouting":{direct}}}}}"#
    )
}

/// Two hosts with pods, and a third one that is the world.
fn world(kind: Kind, network: &str) -> Result<Lab, LabError> {
    let mut lab = lab_of(kind, network, 3)?;
    for index in 1..=3 {
        lab.host(index).sh(
            "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 1 >/proc/sys/net/ipv4/ip_forward
            iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
        )?;
    }
    for index in [1, 2] {
        restart(&mut lab, index, &["-ip-masq", "-iptables-resync=1"])?;
        lab.wire_pod(index)?;
    }
    Ok(lab)
}

/// All addresses of a host's pod.
fn pod(lab: &Lab, index: usize) -> Vec<IpAddr> {
    lab.hosts()[index - 1]
        .pod()
        .map(|pod| pod.addresses().collect())
        .unwrap_or_default()
}

/// The address of a host in the family of `like`.
fn of_host(lab: &Lab, index: usize, like: IpAddr) -> IpAddr {
    let host = lab.host(index);
    if like.is_ipv4() {
        host.address().into()
    } else {
        host.address_v6().into()
    }
}

/// The address that `to` sees when `from` connects.
fn seen(from: &Node, to: IpAddr) -> Option<IpAddr> {
    let target = if to.is_ipv4() {
        format!("TCP4:{to}")
    } else {
        format!("TCP6:[{to}]")
    };
    let script = format!("socat -T 5 - {target}:7777,connect-timeout=2 </dev/null");
    let mut said = None;
    wait_until(PATIENCE, || {
        let text = from.sh(&script).unwrap_or_default();
        said = text.trim().trim_matches(['[', ']']).parse().ok();
        said.is_some()
    });
    said
}

fn listeners(lab: &Lab) -> Result<[Process; 2], LabError> {
    Ok([
        lab.host(2).pod().spawn("echo", ECHO)?,
        lab.host(3).spawn("echo", ECHO)?,
    ])
}

/// Where packets to the other host's pod go: straight to the host, or through the tunnel.
fn assert_routing(lab: &Lab, to: IpAddr, direct: bool, name: &str) -> Test {
    let route = lab.host(1).sh(&format!("ip route get {to}"))?;
    let wanted = if direct {
        format!("via {} dev eth0", of_host(lab, 2, to))
    } else {
        "dev flannel".into()
    };
    assert!(route.contains(&wanted), "{name}: {route}");
    Ok(())
}

fn pods_and_the_world(kind: Kind, families: &str, direct: bool) -> Test {
    let name = format!("{kind:?} {families} direct={direct}");
    let mut lab = world(kind, &network(kind, families, direct))?;
    let listeners = listeners(&lab)?;
    let (ours, theirs) = (pod(&lab, 1), pod(&lab, 2));
    for (own, other) in ours.into_iter().zip(theirs) {
        assert_eq!(
            seen(&lab.host(1).pod(), other),
            Some(own),
            "{name}: from pod to pod"
        );
        assert_routing(&lab, other, direct, &name)?;
        let (host, outside) = (of_host(&lab, 1, own), of_host(&lab, 3, own));
        assert_eq!(
            seen(&lab.host(1).pod(), outside),
            Some(host),
            "{name}: from pod to the world"
        );
    }
    drop(listeners);
    restart(&mut lab, 1, &["-iptables-forward-rules=false"])?;
    assert_eq!(Kind::traces(lab.host(1)), "", "{name}: switched off");
    Ok(())
}

fn with_each_firewall(families: &str) -> Test {
    for kind in KINDS {
        for direct in [false, true] {
            pods_and_the_world(kind, families, direct)?;
        }
    }
    Ok(())
}

#[test]
fn ipv4() -> Test {
    with_each_firewall(V4)
}

#[test]
fn ipv6_alone() -> Test {
    with_each_firewall(&format!("{NO_V4},{V6}"))
}

#[test]
fn both_families() -> Test {
    with_each_firewall(&format!("{V4},{V6}"))
}
