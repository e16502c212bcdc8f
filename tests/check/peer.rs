//! Faults of the peer, seen from this host.

use super::fixture::Bench;
use super::{PATIENCE, Test};

#[test]
fn udp_8472_is_dropped_at_the_peer() -> Test {
    let bench = Bench::start(3)?;
    bench.drop(2, "input", "udp dport 8472")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "port-blocked");
    said.names(3, &bench.subnet(3), "reached");
    said.says(&["10.64.0.2 answers a ping, but no VXLAN packets to UDP port 8472"]);
    Ok(())
}

#[test]
fn the_peer_drops_what_comes_out_of_its_tunnel() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(2, "iptables -I INPUT -i flannel.1 -j DROP")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "peer-firewall");
    bench
        .check(2, "")
        .names(3, &bench.subnet(1), "local-firewall");
    Ok(())
}

/// No one can tell that from here without a pod to ask.
#[test]
fn the_peer_does_not_forward_to_its_pods() -> Test {
    let bench = Bench::start(2)?;
    let pod = bench.lab.hosts()[1].pod().unwrap().address.to_string();
    bench.drop(2, "forward", "iifname \"flannel.1\"")?;
    bench.check(1, "").names(0, &bench.subnet(2), "reached");
    bench
        .check(1, &pod)
        .names(3, &bench.subnet(2), "pod-unreachable");
    bench.check(2, "").finds(3, "forward-blocked");
    Ok(())
}

#[test]
fn the_peers_device_has_another_mac_than_its_lease() -> Test {
    let mut bench = Bench::start(2)?;
    let mac = bench.mac(2, "flannel.1")?;
    bench.kill(2)?;
    bench.sh(2, "ip link set flannel.1 address 0a:00:00:00:00:77")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "peer-mac-mismatch");
    said.says(&["0a:00:00:00:00:77", &mac]);
    Ok(())
}

#[test]
fn the_peers_device_is_down() -> Test {
    let mut bench = Bench::start(2)?;
    bench.kill(2)?;
    bench.sh(2, "ip link set flannel.1 down")?;
    bench.check(1, "").names(3, &bench.subnet(2), "peer-device");
    Ok(())
}

#[test]
fn the_peers_host_is_down() -> Test {
    let mut bench = Bench::start(3)?;
    let subnet = bench.subnet(2);
    bench.lab.power_off(2)?;
    let said = bench.check(1, "");
    said.names(3, &subnet, "peer-down");
    said.names(3, &bench.subnet(3), "reached");
    said.says(&["no host on the link has 10.64.0.2"]);
    Ok(())
}

/// Its daemon died before a new host came: it does not know the way back.
#[test]
fn the_peers_daemon_is_dead() -> Test {
    let mut bench = Bench::start(2)?;
    bench.kill(2)?;
    bench.lab.add_hosts(1)?;
    bench.lab.start_flanneld(3, &[])?.wait_ready(PATIENCE)?;
    bench.lab.wire_pod(3)?;
    let said = bench.check(3, "10.64.0.2");
    said.names(3, &bench.subnet(2), "return-path");
    bench
        .check(3, "10.64.0.1")
        .names(0, &bench.subnet(1), "reached");
    Ok(())
}
