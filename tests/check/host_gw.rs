//! The same with the backend host-gw, whose packets travel without a tunnel.

use super::Test;
use super::fixture::Bench;

const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.240.0","Backend":{"Type":"host-gw"}}"#;

fn start(hosts: u8) -> Result<Bench, lab::LabError> {
    Bench::start_with(Bench::options().network(NETWORK), hosts)
}

#[test]
fn host_gw_peers_are_reached_and_one_behind_a_router_is_named() -> Test {
    let bench = start(3)?;
    let said = bench.check(1, "");
    said.names(0, &bench.subnet(2), "reached");
    assert_eq!(said.findings(), [""; 0], "{:#}", said.document);
    let value = r#"{"PublicIP":"198.51.100.7","PublicIPv6":null,"BackendType":"host-gw"}"#;
    bench
        .lab
        .etcd()?
        .put("/kubernetes/network/subnets/172.30.9.0-24", value)?;
    let said = bench.check(1, "172.30.9.0/24");
    said.names(3, "172.30.9.0/24", "not-connected");
    said.says(&[
        "198.51.100.7 is not directly connected to eth0",
        "use backend vxlan",
    ]);
    Ok(())
}

#[test]
fn host_gw_route_through_another_gateway_is_named() -> Test {
    let mut bench = start(3)?;
    bench.kill(1)?;
    bench.sh(
        1,
        &format!(
            "ip route replace {} via 10.64.9.9 dev eth0",
            bench.subnet(2)
        ),
    )?;
    let said = bench.check_alone(1, "");
    said.names(3, &bench.subnet(2), "route");
    said.names(3, &bench.subnet(3), "reached");
    said.says(&["via 10.64.9.9", "via 10.64.0.2"]);
    Ok(())
}

#[test]
fn host_gw_host_that_does_not_forward_is_named() -> Test {
    let bench = start(2)?;
    bench.sh(2, "sysctl -qw net.ipv4.ip_forward=0")?;
    bench.check(2, "").finds(3, "forwarding");
    let pod = bench.lab.hosts()[1].pod().unwrap().address.to_string();
    bench
        .check(1, &pod)
        .names(3, &bench.subnet(2), "pod-unreachable");
    Ok(())
}

/// As a cloud or a switch does it that delivers to a host only what is addressed to the host itself.
#[test]
fn dropped_packets_between_pods_are_a_source_check() -> Test {
    let bench = start(3)?;
    bench.rule(
        2,
        "prerouting",
        -300,
        "iifname \"eth0\" ip daddr 172.30.0.0/16 drop",
    )?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "source-check");
    said.names(3, &bench.subnet(3), "reached");
    said.says(&[
        "10.64.0.2 answers a ping, but ",
        "source and destination check",
    ]);
    Ok(())
}

#[test]
fn host_gw_peer_without_the_way_back_is_stale() -> Test {
    let mut bench = start(2)?;
    bench.kill(2)?;
    bench.sh(2, &format!("ip route del {}", bench.subnet(1)))?;
    bench.check(1, "").names(3, &bench.subnet(2), "return-path");
    Ok(())
}
