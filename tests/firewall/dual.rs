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
        lab.host(index)
            .sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 1 >/proc/sys/net/ipv4/ip_forward
            iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")?;
    }
    for index in [1, 2] {
        restart(&mut lab, index, &["-ip-masq", "-iptables-resync=1"])?;
        lab.wire_pod(index)?;
    }
    Ok(lab)
}

/// The IPv6 address of a host's pod.
fn pod(lab: &Lab, index: usize) -> String {
    let also = lab.hosts()[index - 1].pod().and_then(|pod| pod.also);
    also.map(|(address, _)| address.to_string()).unwrap_or_default()
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
        let (first, second, world) = (pod(&lab, 1), pod(&lab, 2), lab.host(3).address_v6().to_string());
        let full = |text: &str| {
            let ip: std::net::Ipv6Addr = text.parse().unwrap();
            let groups = ip.segments().map(|group| format!("{group:04x}"));
            format!("[{}]", groups.join(":"))
        };
        assert_eq!(seen(lab.host(1), &second), full(&first), "{kind:?}: pod to pod");
        let host = lab.host(1).address_v6().to_string();
        assert_eq!(seen(lab.host(1), &world), full(&host), "{kind:?}: to the world");
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
