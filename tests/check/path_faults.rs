//! Faults of the network between two hosts.

use crate::tool::rflannel;
use lab::wait_until;

use super::fixture::Bench;
use super::{PATIENCE, Test};

#[test]
fn an_mtu_on_the_way_is_smaller() -> Test {
    let bench = Bench::start(3)?;
    bench.lab.bridge().sh("ip link set v-h2 mtu 1400")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "mtu");
    said.names(3, &bench.subnet(3), "reached");
    // Bridges take four bytes more, for a VLAN tag.
    said.says(&[
        "packets of at most 1354 bytes pass, but the MTU of flannel.1 is 1450",
        "an MTU of 1500 bytes on every link",
    ]);
    Ok(())
}

/// Two hosts of one link have the same address, and this one's packets go to the wrong one.
#[test]
fn two_hosts_have_one_address_on_the_wire() -> Test {
    let bench = Bench::start(3)?;
    bench.sh(3, "ip addr add 10.64.0.2/16 dev eth0")?;
    let wrong = bench.mac(3, "eth0")?;
    bench.sh(
        1,
        &format!("ip neigh replace 10.64.0.2 lladdr {wrong} dev eth0 nud permanent"),
    )?;
    let said = bench.check(1, "10.64.0.2");
    said.names(3, &bench.subnet(2), "duplicate-public-ip");
    said.says(&["answer ARP requests for 10.64.0.2", &wrong]);
    Ok(())
}

/// The kernel takes every answer to an ARP request into an entry that it has: what a check asks must not get there.
#[test]
fn neighbor_table_is_left_as_it_was() -> Test {
    let bench = Bench::start(3)?;
    let mac = bench.mac(2, "eth0")?;
    // Host 3 has the address as well, and only it answers who has it.
    bench.sh(2, "sysctl -qw net.ipv4.conf.eth0.arp_ignore=8")?;
    bench.sh(3, "ip addr add 10.64.0.2/16 dev eth0")?;
    bench.drop(2, "input", "udp dport 8472")?;
    bench.sh(
        1,
        &format!("ip neigh replace 10.64.0.2 lladdr {mac} dev eth0 nud reachable; sleep 1.5"),
    )?;
    let said = bench.check(1, "10.64.0.2");
    said.says(&["port-blocked"]);
    let after = bench.sh(1, "ip neigh show 10.64.0.2 dev eth0")?;
    assert!(after.contains(&mac), "{after}");
    Ok(())
}

/// All peers are silent on the underlay: what they have in common is this host's link.
#[test]
fn own_link_is_named_where_all_peers_are_silent() -> Test {
    let bench = Bench::start(3)?;
    let known = format!(
        "grep {} /run/flannel/state.json | grep -q {}",
        bench.base(2),
        bench.base(3)
    );
    // etcd is behind the same link.
    assert!(
        wait_until(PATIENCE, || bench.sh(1, &known).is_ok()),
        "the state file is written"
    );
    bench.lab.bridge().sh("ip link set v-h1 down")?;
    let said = bench.check(1, "");
    said.finds(3, "underlay-link");
    said.says(&["eth0 has no carrier, and no peer answers"]);
    let (_, text) = bench.run(1, ["--timeout=1"].into_iter());
    assert!(!text.contains("start the host"), "{text}");
    bench.sh(1, "ip link del eth0")?;
    let said = bench.check(1, "");
    said.finds(3, "underlay-interface");
    let (_, text) = bench
        .lab
        .host(1)
        .run([rflannel(), "status"])
        .map(|output| {
            (
                output.status,
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        })?;
    assert!(text.contains("which does not exist now"), "{text}");
    Ok(())
}

#[test]
fn a_cable_is_pulled() -> Test {
    let bench = Bench::start(2)?;
    bench.lab.bridge().sh("ip link set v-h2 down")?;
    bench.check(1, "").names(3, &bench.subnet(2), "peer-down");
    bench.sh(1, "ip route replace unreachable 10.64.0.2/32")?;
    bench.check(1, "").names(3, &bench.subnet(2), "no-route");
    Ok(())
}

#[test]
fn router_that_does_not_answer_is_named() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(1, "ip route add 10.64.0.2 via 10.64.0.99 dev eth0")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "no-route");
    said.says(&["packets to 10.64.0.2 go to 10.64.0.99 on eth0, which does not answer"]);
    Ok(())
}

/// Here it is this host's entry, and there the answers go to a MAC that no host has, although the switch shows them to all.
#[test]
fn neighbor_entry_with_a_wrong_mac_is_named() -> Test {
    let bench = Bench::start(2)?;
    bench.sh(
        1,
        "ip neigh replace 10.64.0.2 lladdr 02:de:ad:be:ef:01 dev eth0 nud permanent",
    )?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "no-route");
    said.says(&["this host's neighbor entry for 10.64.0.2 on eth0 has MAC 02:de:ad:be:ef:01"]);
    let said = bench.check(2, "");
    assert_ne!(
        said.cause(&bench.subnet(1)),
        "local-firewall",
        "{:#}",
        said.document
    );
    Ok(())
}
