//! Faults of this host: entries, routes, device, firewall, sysctls.

use lab::wait_until;

use super::fixture::{Bench, Said};
use super::{PATIENCE, Test};

/// Breaks an entry of host 2 on host 1, where no daemon puts it right.
fn broken(script: impl Fn(&Bench) -> String) -> Result<(Bench, Said), lab::LabError> {
    let mut bench = Bench::start(3)?;
    bench.kill(1)?;
    bench.sh(1, &script(&bench))?;
    let said = bench.check_alone(1, "");
    said.names(3, &bench.subnet(3), "reached");
    Ok((bench, said))
}

#[test]
fn a_forwarding_entry_that_leads_elsewhere() -> Test {
    let (bench, said) = broken(|bench| {
        let mac = bench.mac(2, "flannel.1").unwrap();
        format!("bridge fdb replace {mac} dev flannel.1 dst 10.64.9.9 self permanent")
    })?;
    said.names(3, &bench.subnet(2), "fdb");
    said.says(&[
        "dst 10.64.9.9",
        "dst 10.64.0.2",
        "handmade VXLAN frame: answered",
    ]);
    Ok(())
}

#[test]
fn neighbor_with_another_mac() -> Test {
    let (bench, said) = broken(|bench| {
        format!(
            "ip neigh replace {} lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent",
            bench.base(2)
        )
    })?;
    said.names(3, &bench.subnet(2), "neighbor");
    said.says(&["lladdr 0a:00:00:00:00:99"]);
    Ok(())
}

#[test]
fn a_route_that_was_deleted() -> Test {
    let (bench, said) = broken(|bench| format!("ip route del {}", bench.subnet(2)))?;
    said.names(3, &bench.subnet(2), "route");
    said.says(&["is missing"]);
    Ok(())
}

/// A narrower route of another program, which the daemon leaves alone.
#[test]
fn a_route_that_is_in_the_shadow_of_another() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(
        1,
        &format!("ip route add {}/25 via 10.64.255.254", bench.base(2)),
    )?;
    let said = bench.check(1, &bench.subnet(2));
    said.names(3, &bench.subnet(2), "route-override");
    said.says(&["go to eth0"]);
    Ok(())
}

#[test]
fn the_device_is_down() -> Test {
    let mut bench = Bench::start(2)?;
    bench.kill(1)?;
    bench.sh(1, "ip link set flannel.1 down")?;
    let said = bench.check_alone(1, "");
    said.finds(3, "device-down");
    said.names(3, &bench.subnet(2), "device-down");
    Ok(())
}

#[test]
fn the_device_is_gone() -> Test {
    let mut bench = Bench::start(2)?;
    bench.kill(1)?;
    bench.sh(1, "ip link del flannel.1")?;
    let said = bench.check_alone(1, "");
    said.finds(3, "device-missing");
    said.names(3, &bench.subnet(2), "device-missing");
    Ok(())
}

/// The daemon waits, because another program's device has its VNI and port.
#[test]
fn another_device_has_vni_and_port() -> Test {
    let mut bench = Bench::prepared(1)?;
    bench.sh(
        1,
        "ip link add vx0 type vxlan id 1 dstport 8472 local 10.64.0.1 dev eth0; ip link set vx0 up",
    )?;
    bench.lab.start_flanneld(1, &[])?;
    let waits = || {
        bench
            .run(1, std::iter::empty())
            .1
            .contains("already uses this VNI and port")
    };
    assert!(
        wait_until(PATIENCE, waits),
        "{}",
        bench.run(1, std::iter::empty()).1
    );
    let said = bench.check(1, "");
    said.finds(3, "vxlan-conflict");
    said.says(&["device vx0 uses VNI 1 and UDP port 8472"]);
    Ok(())
}

#[test]
fn udp_8472_is_not_let_out() -> Test {
    let bench = Bench::start(2)?;
    bench.drop(1, "output", "udp dport 8472")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "local-firewall");
    said.says(&[
        "this host's firewall drops packets to UDP port 8472 of 10.64.0.2",
        "udp dport 8472 drop",
    ]);
    Ok(())
}

#[test]
fn udp_8472_is_not_let_in() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(1, "iptables -I INPUT -p udp --dport 8472 -j DROP")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "local-firewall");
    said.says(&[
        "arrive on UDP port 8472 but do not reach flannel.1",
        "--dport 8472 -j DROP",
    ]);
    Ok(())
}

#[test]
fn what_comes_out_of_the_tunnel_is_dropped() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(1, "iptables -I INPUT -i flannel.1 -j DROP")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "local-firewall");
    said.says(&[
        "replies leave the tunnel on flannel.1 and are dropped there",
        "-A INPUT -i flannel.1 -j DROP",
    ]);
    Ok(())
}

/// Hosts reach each other, their pods do not.
#[test]
fn what_is_forwarded_over_the_overlay_is_dropped() -> Test {
    let bench = Bench::start(2)?;
    bench.drop(1, "forward", "iifname \"flannel.1\"")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "reached");
    said.finds(3, "forward-blocked");
    bench.sh(
        1,
        "nft delete table inet fault; echo 0 > /proc/sys/net/ipv4/ip_forward",
    )?;
    bench.check(1, "").finds(3, "forwarding");
    Ok(())
}

/// A second card on the same network, a route over it, and the strict filter: answers come in over the first one.
#[test]
fn the_strict_reverse_path_filter_drops() -> Test {
    let bench = Bench::start(3)?;
    bench.new_card(1, "eth7");
    bench.sh(
        1,
        "for one in all eth0 eth7; do echo 1 > /proc/sys/net/ipv4/conf/$one/arp_ignore; done
        for one in all eth0 eth7; do echo 2 > /proc/sys/net/ipv4/conf/$one/arp_announce; done
        ip addr add 10.64.7.1/32 dev eth7; ip link set eth7 up
        ip route add 10.64.0.2/32 dev eth7 src 10.64.0.1",
    )?;
    bench
        .check(1, "10.64.0.2")
        .names(0, &bench.subnet(2), "reached");
    bench.sh(1, "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")?;
    let said = bench.check(1, "10.64.0.2");
    said.names(3, &bench.subnet(2), "rp-filter");
    said.says(&["rp_filter=1 on eth0"]);
    Ok(())
}

/// The address that it publishes is on a network where no one else is.
#[test]
fn the_wrong_interface_was_chosen() -> Test {
    let mut bench = Bench::prepared(3)?;
    bench.sh(1, "ip link add eth7 type veth peer name wire7; ip link set wire7 up; ip link set eth7 up; ip addr add 10.77.0.1/24 dev eth7; echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    let mut flags = bench.lab.flanneld_args()?;
    flags.retain(|flag| !flag.starts_with("-iface"));
    flags.push("-iface=eth7".into());
    let flanneld = [env!("CARGO_BIN_EXE_flanneld")]
        .into_iter()
        .chain(flags.iter().map(String::as_str));
    let _first = bench.lab.host(1).spawn("flanneld", flanneld)?;
    let leased = || bench.lab.host(1).read("/run/flannel/subnet.env").is_ok();
    assert!(wait_until(PATIENCE, leased), "no lease");
    for index in [2, 3] {
        bench.lab.start_flanneld(index, &[])?.wait_ready(PATIENCE)?;
        bench.lab.wire_pod(index)?;
    }
    let entry = format!("ip route show {} | grep -q flannel.1", bench.subnet(2));
    assert!(
        wait_until(PATIENCE, || bench.sh(1, &entry).is_ok()),
        "host 1 knows host 2"
    );
    let said = bench.check(1, "10.64.0.2");
    said.names(3, &bench.subnet(2), "wrong-interface");
    said.finds(3, "egress-interface");
    let own = bench
        .sh(1, "sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env")?
        .replace(".1/", ".0/");
    assert!(wait_until(PATIENCE, || bench
        .sh(
            2,
            &format!("ip route show {} | grep -q flannel.1", own.trim())
        )
        .is_ok()));
    bench
        .check(2, "10.77.0.1")
        .names(3, own.trim(), "public-ip");
    Ok(())
}

/// What the kernel computes on the way out is wrong, as with drivers that get tunnels wrong.
#[test]
fn checksums_of_datagrams_arrive_wrong() -> Test {
    let bench = Bench::start(2)?;
    // Otherwise none is put in at all between hosts of one machine.
    bench.sh(1, "ethtool -K flannel.1 tx-checksum-ip-generic off")?;
    bench.rule(
        1,
        "postrouting",
        300,
        "oifname \"flannel.1\" meta l4proto udp udp checksum set 0x1234",
    )?;
    bench
        .check(1, "10.64.0.2")
        .names(3, &bench.subnet(2), "checksum");
    Ok(())
}

/// Packets to such a peer never leave this host.
#[test]
fn public_address_of_a_peer_on_this_host_is_a_duplicate() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(1, "ip address add 10.64.0.2/16 dev eth0")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "duplicate-public-ip");
    said.says(&["announces 10.64.0.2, which is also an address of this host"]);
    Ok(())
}

/// The host is reached, and a route here keeps packets from one of its pods.
#[test]
fn route_that_takes_one_pod_is_told_from_a_silent_pod() -> Test {
    let bench = Bench::start(2)?;
    let pod = bench
        .lab
        .host(2)
        .sh("ip -4 -o address show dev cni0 | awk '{print $4}' | cut -d / -f 1")?;
    bench.sh(1, &format!("ip route add prohibit {}", pod.trim()))?;
    let said = bench.check(1, pod.trim());
    said.names(3, &bench.subnet(2), "route-override");
    said.says(&["does not route packets to"]);
    Ok(())
}
