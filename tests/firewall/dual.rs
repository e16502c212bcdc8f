//! Both address families at once, with the daemon: masquerade, forwarding and addresses of IPv6 as of IPv4.

use rflannel::lab::{Lab, LabError, Node, wait_until};

use super::Test;
use super::host::{KINDS, Kind, PATIENCE, lab_of, restart};

impl Kind {
    fn dual(self) -> String {
        self.network().replacen('{', r#"{"EnableIPv6":true,"IPv6Network":"fd05::/48","#, 1)
    }
}

/// Two hosts with pods that have an address of each family, and a third one that is the world. The policy of `FORWARD` is DROP
/// on all, for both families.
fn world(kind: Kind) -> Result<Lab, LabError> {
    let mut lab = lab_of(kind, &kind.dual(), 3)?;
    for index in 1..=3 {
        lab.host(index).sh(&format!(
            "ip -6 addr add fd64::{index}/64 dev eth0 nodad; ip -6 route add default via fd64::ffff
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 1 >/proc/sys/net/ipv4/ip_forward
            iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
        ))?;
    }
    for index in [1, 2] {
        restart(&mut lab, index, &["-ip-masq", "-iptables-resync=1"])?;
        lab.wire_pod(index)?;
        let bridge = bridge(lab.host(index))?;
        lab.host(index).sh(&format!(
            "ip -6 addr add {bridge}/64 dev cni0 nodad
            ip -n pod -6 addr add {bridge}2/64 dev eth0 nodad; ip -n pod -6 route add default via {bridge}"
        ))?;
    }
    Ok(lab)
}

/// The first address of the host's IPv6 subnet; the pod's is the one with a 2 behind.
fn bridge(node: &Node) -> Result<String, LabError> {
    Ok(node
        .sh("sed -n 's/^FLANNEL_IPV6_SUBNET=\\(.*\\)[/].*/\\1/p' /run/flannel/subnet.env")?
        .trim()
        .to_owned())
}

/// The address that `to` sees when the pod of `from` connects.
fn seen(from: &Node, to: &str) -> String {
    let script = format!("socat -T 5 - TCP6:[{to}]:7777,connect-timeout=2 </dev/null");
    let mut said = String::new();
    wait_until(PATIENCE, || {
        said = from.pod().sh(&script).unwrap_or_default().trim().to_owned();
        !said.is_empty()
    });
    said
}

#[test]
fn ipv6_pods_reach_each_other_as_themselves_and_the_world_as_their_host() -> Test {
    // It writes all eight groups, in brackets.
    let echo = ["sh", "-c", "exec socat TCP6-LISTEN:7777,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'"];
    for kind in KINDS {
        let lab = world(kind)?;
        let listeners = [lab.host(2).pod().spawn("echo", echo)?, lab.host(3).spawn("echo", echo)?];
        let (first, second) = (bridge(lab.host(1))?, bridge(lab.host(2))?);
        let full = |text: &str| {
            let ip: std::net::Ipv6Addr = text.parse().unwrap();
            let groups = ip.segments().map(|group| format!("{group:04x}"));
            format!("[{}]", groups.join(":"))
        };
        assert_eq!(
            seen(lab.host(1), &format!("{second}2")),
            full(&format!("{first}2")),
            "{kind:?}: pod to pod"
        );
        assert_eq!(seen(lab.host(1), "fd64::3"), full("fd64::1"), "{kind:?}: to the world");
        drop(listeners);
        restart_without_leaves_nothing(lab, kind)?;
    }
    Ok(())
}

fn restart_without_leaves_nothing(mut lab: Lab, kind: Kind) -> Test {
    restart(&mut lab, 1, &["-iptables-forward-rules=false"])?;
    assert_eq!(Kind::traces(lab.host(1)), "", "{kind:?}");
    Ok(())
}
