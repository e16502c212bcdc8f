//! Faults of the network between two hosts.

use super::Test;
use super::bench::Bench;

#[test]
fn an_mtu_on_the_way_is_smaller() -> Test {
    let bench = Bench::start(3)?;
    bench.lab.switch().sh("ip link set v-h2 mtu 1400")?;
    let said = bench.check(1, "");
    said.names(3, &bench.subnet(2), "mtu");
    said.names(3, &bench.subnet(3), "reached");
    // Bridges take four bytes more, for a VLAN tag.
    said.tells(&[
        "packets of at most 1354 bytes come through, and flannel.1 has 1450",
        "1500 bytes on every link",
    ]);
    Ok(())
}

/// Two hosts of one link have the same address, and this one's packets go to the wrong one.
#[test]
fn two_hosts_have_one_address_on_the_wire() -> Test {
    let bench = Bench::start(3)?;
    bench.sh(3, "ip addr add 10.64.0.2/16 dev eth0")?;
    let wrong = bench.mac(3, "eth0")?;
    bench.sh(1, &format!("ip neigh replace 10.64.0.2 lladdr {wrong} dev eth0 nud permanent"))?;
    let said = bench.check(1, "10.64.0.2");
    said.names(3, &bench.subnet(2), "duplicate-address");
    said.tells(&["say on the wire that they have 10.64.0.2", &wrong]);
    Ok(())
}

#[test]
fn a_cable_is_pulled() -> Test {
    let bench = Bench::start(2)?;
    bench.lab.switch().sh("ip link set v-h2 down")?;
    bench.check(1, "").names(3, &bench.subnet(2), "peer-down");
    bench.sh(1, "ip route replace unreachable 10.64.0.2/32")?;
    bench.check(1, "").names(3, &bench.subnet(2), "no-route");
    Ok(())
}
