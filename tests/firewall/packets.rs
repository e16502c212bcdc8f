//! What the rules are for: pods of different hosts, and the world outside.

use lab::{Lab, LabError, Node, wait_until};

use super::Test;
use super::host::{KINDS, Kind, PATIENCE, lab, restart};

/// Says to anyone who connects from where he comes.
const ECHO: [&str; 3] = [
    "sh",
    "-c",
    "exec socat TCP-LISTEN:7777,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'",
];

/// Two hosts with pods and a third without an overlay, with the echo everywhere. Docker has set `FORWARD DROP` on the first
/// before the daemon starts, and sets it on the second afterwards.
fn world(kind: Kind) -> Result<Lab, LabError> {
    let mut lab = lab(kind, 3)?;
    let docker = "echo 1 >/proc/sys/net/ipv4/ip_forward; iptables -P FORWARD DROP";
    lab.host(1).sh(docker)?;
    for index in [1, 2] {
        restart(&mut lab, index, &["-ip-masq", "-iptables-resync=1"])?;
        lab.wire_pod(index)?;
    }
    lab.host(2).sh(docker)?;
    Ok(lab)
}

/// The address that `to` sees when `from` connects.
fn seen(from: &Node, to: &str) -> String {
    let script = format!("socat -T 5 - TCP:{to}:7777,connect-timeout=2 </dev/null");
    let mut said = String::new();
    wait_until(PATIENCE, || {
        said = from.sh(&script).unwrap_or_default().trim().to_owned();
        !said.is_empty()
    });
    said
}

#[test]
fn pods_keep_their_address_inside_and_masquerade_outside() -> Test {
    for kind in KINDS {
        let lab = world(kind)?;
        let pods: Vec<String> = lab
            .hosts()
            .iter()
            .filter_map(|host| Some(host.pod()?.address.to_string()))
            .collect();
        let listeners = [
            lab.host(1).pod().spawn("echo", ECHO)?,
            lab.host(2).pod().spawn("echo", ECHO)?,
            lab.host(3).spawn("echo", ECHO)?,
        ];
        assert_eq!(
            seen(&lab.host(1).pod(), &pods[1]),
            pods[0],
            "{kind:?}: from pod to pod"
        );
        assert_eq!(
            seen(&lab.host(2).pod(), &pods[0]),
            pods[1],
            "{kind:?}: and back"
        );
        for from in [1, 2] {
            let host = lab.host(from).address().to_string();
            assert_eq!(
                seen(&lab.host(from).pod(), "10.64.0.3"),
                host,
                "{kind:?}: to the world"
            );
        }
        drop(listeners);
    }
    Ok(())
}

/// Someone outside who has a route to the pods is seen by the pod as who he is.
#[test]
fn callers_from_outside_keep_their_address() -> Test {
    for kind in [Kind::Nft, Kind::Nftables] {
        let lab = world(kind)?;
        let pod = lab.hosts()[0]
            .pod()
            .map(|pod| pod.address.to_string())
            .unwrap_or_default();
        let _listener = lab.host(1).pod().spawn("echo", ECHO)?;
        lab.host(3).sh("ip route add 172.30.0.0/16 via 10.64.0.1")?;
        assert_eq!(seen(lab.host(3), &pod), "10.64.0.3", "{kind:?}");
    }
    Ok(())
}
