//! What is ours beside our devices: routes to peers on the underlay, and the own subnet as a blackhole.

use lab::{Signal, wait_until};

use super::host::{Host, NETWORK, lease_key, lease_value};
use super::{SOON, Test};

const DIRECT: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMax":"172.30.199.0","Backend":{"Type":"vxlan","DirectRouting":true}}"#;

/// What strangers have, inside the overlay network and on the underlay.
const STRANGERS: &str = "ip route add 172.30.229.0/24 via 10.64.255.254 dev eth0 proto static
    ip route add 172.30.228.0/25 via 10.64.255.254 dev eth0
    ip route add 172.30.227.0/24 via 10.64.255.254 dev eth0 metric 50
    ip route add blackhole 172.30.226.0/25 proto 80
    ip route add 10.99.0.0/16 via 10.64.255.254 dev eth0";

const DISTURBANCES: &[(&str, &str)] = &[
    ("a route is deleted", "ip route del 172.30.201.0/24"),
    (
        "another gateway",
        "ip route replace 172.30.202.0/24 via 10.64.255.254 dev eth0",
    ),
    (
        "another device",
        "ip route replace 172.30.203.0/24 dev flannel.1",
    ),
    (
        "a blackhole in its place",
        "ip route replace blackhole 172.30.204.0/24",
    ),
    (
        "a route for a subnet without a lease",
        "ip route add 172.30.222.0/24 via 10.64.9.9 dev eth0",
    ),
    (
        "an entry of the tunnel",
        "bridge fdb replace 0a:00:00:00:00:01 dev flannel.1 dst 10.64.9.1 self permanent",
    ),
    (
        "the underlay goes down and up",
        "ip link set eth0 down; ip link set eth0 up; ip route replace default via 10.64.255.254; ip route replace 172.30.229.0/24 via 10.64.255.254 dev eth0 proto static; ip route replace 172.30.228.0/25 via 10.64.255.254 dev eth0; ip route replace 172.30.227.0/24 via 10.64.255.254 dev eth0 metric 50; ip route replace 10.99.0.0/16 via 10.64.255.254 dev eth0",
    ),
];

fn routes(host: &Host) -> String {
    host.sh("ip route show | grep -v ^default | sort; bridge fdb show dev flannel.1 | grep dst || true; ip neigh show dev flannel.1 nud permanent").unwrap_or_default()
}

#[test]
fn direct_routes_are_put_back_and_strangers_left_alone() -> Test {
    let mut host = Host::start_with(DIRECT, &[])?;
    host.sh(STRANGERS)?;
    let wanted = routes(&host);
    for n in 1..=super::host::PEERS {
        assert!(
            wanted.contains(&format!("172.30.{}.0/24 via 10.64.9.{n} dev eth0", 200 + n)),
            "{wanted}"
        );
    }
    assert!(!wanted.contains("dst 10.64.9"), "{wanted}");
    for (name, script) in DISTURBANCES {
        host.sh(script)?;
        wait_until(SOON, || routes(&host) == wanted);
        assert_eq!(routes(&host), wanted, "after: {name}");
    }
    host.lab.end_flanneld(1, Signal::TERM)?;
    assert_eq!(routes(&host), wanted, "a stop changes nothing");
    host.lab.etcd()?.delete(&lease_key(5))?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    let gone: String = wanted
        .lines()
        .filter(|line| !line.contains("172.30.205.0"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert!(
        wait_until(SOON, || routes(&host) == gone),
        "{}",
        routes(&host)
    );
    Ok(())
}

const HOST_GW: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMax":"172.30.199.0","Backend":{"Type":"host-gw"}}"#;

/// Two more names for one fault, the kernel's silent flush with the link, and what others have.
#[test]
fn host_gw_routes_are_repaired_and_foreign_ones_left_alone() -> Test {
    let mut host = Host::start_with(HOST_GW, &[])?;
    host.sh(STRANGERS)?;
    let shown = |host: &Host| {
        host.sh("ip route show | grep -v ^default | sort")
            .unwrap_or_default()
    };
    let wanted = shown(&host);
    for n in 1..=super::host::PEERS {
        assert!(
            wanted.contains(&format!("172.30.{}.0/24 via 10.64.9.{n} dev eth0", 200 + n)),
            "{wanted}"
        );
    }
    assert!(host.sh("ip link show type vxlan")?.is_empty(), "no device");
    for (name, script) in DISTURBANCES
        .iter()
        .filter(|(_, script)| !script.contains("flannel.1"))
    {
        host.sh(script)?;
        wait_until(SOON, || shown(&host) == wanted);
        assert_eq!(shown(&host), wanted, "after: {name}");
    }
    host.lab.end_flanneld(1, Signal::TERM)?;
    assert_eq!(shown(&host), wanted, "a stop changes nothing");
    host.lab.etcd()?.delete(&lease_key(5))?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    let gone: String = wanted
        .lines()
        .filter(|line| !line.contains("172.30.205.0"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert!(
        wait_until(SOON, || shown(&host) == gone),
        "{}",
        shown(&host)
    );
    Ok(())
}

/// A route by a next hop of the other family does not lead straight to the peer. And where the kernel refuses the plain route
/// for another reason, here the scope of the route to it, the tunnel is used.
#[test]
fn peer_without_a_direct_route_is_reached_through_the_tunnel() -> Test {
    let mut host = Host::start_with(DIRECT, &[])?;
    host.sh("ip route add 198.18.0.0/16 via inet6 fe80::1 dev eth0; ip route add 198.19.0.0/16 dev eth0 scope global")?;
    for (n, ip) in [(17, "198.18.0.6"), (18, "198.19.0.6")] {
        let value = lease_value(n).replace(&format!("10.64.9.{n}"), ip);
        host.lab.etcd()?.put(&lease_key(n), value)?;
        let route = format!("172.30.{0}.0/24 via 172.30.{0}.0 dev flannel.1", 200 + n);
        let tunneled =
            || routes(&host).contains(&route) && routes(&host).contains(&format!("dst {ip} "));
        assert!(wait_until(SOON, tunneled), "{ip}: {}", routes(&host));
    }
    // Until the resync that sees the second route, the peer has the tunnel anyway.
    const REFUSED: &str = "1 peers are reached through the tunnel until";
    wait_until(SOON, || host.log().is_ok_and(|log| log.contains(REFUSED)));
    let log = host.log()?;
    assert_eq!(log.matches(REFUSED).count(), 1, "{log}");
    assert!(
        log.contains("cannot set route 172.30.218.0/24 via 198.19.0.6"),
        "{log}"
    );
    Ok(())
}

#[test]
fn the_own_subnet_is_a_blackhole_where_that_is_asked_for() -> Test {
    let mut host = Host::start_with(NETWORK, &["-ip-blackhole-route"])?;
    let subnet = host
        .sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env")?
        .trim()
        .replace(".1/", ".0/");
    host.sh("ip route add blackhole 172.30.226.0/25 proto 80; ip route add blackhole 10.9.0.0/24")?;
    let blackholes = |host: &Host| {
        host.sh("ip route show type blackhole | sort")
            .unwrap_or_default()
    };
    let strangers = "blackhole 10.9.0.0/24 \nblackhole 172.30.226.0/25 proto 80 \n";
    let ours = format!("blackhole {subnet} proto 164 metric 1024 \n");
    let is = |host: &Host, want: &str| {
        let mut want: Vec<&str> = want.split_inclusive('\n').collect();
        want.sort_unstable();
        assert!(
            wait_until(SOON, || blackholes(host) == want.concat()),
            "{want:?}: {}",
            blackholes(host)
        );
    };
    is(&host, &format!("{strangers}{ours}"));
    host.sh(&format!("ip route del blackhole {subnet} metric 1024"))?;
    is(&host, &format!("{strangers}{ours}"));
    // As Go flannel makes it, before there is a bridge: pods of this host could not be reached.
    host.sh(&format!("ip route add blackhole {subnet}"))?;
    is(&host, &format!("{strangers}{ours}"));
    let ip = |last: u8| subnet.replace(".0/24", &format!(".{last}"));
    host.sh(&format!(
        "ip link add docker0 type bridge; ip link set docker0 up; ip addr add {}/24 dev docker0",
        ip(1)
    ))?;
    assert!(
        host.sh(&format!("ip route get {}", ip(7)))?
            .contains("dev docker0"),
        "containers are reached"
    );
    host.sh("ip link del docker0")?;
    assert!(
        host.sh(&format!("ip route get {}", ip(7))).is_err(),
        "nothing is there"
    );

    host.lab.end_flanneld(1, Signal::TERM)?;
    is(&host, &format!("{strangers}{ours}"));
    host.lab
        .start_flanneld(1, &["-ip-blackhole-route=false"])?
        .wait_ready(SOON)?;
    is(&host, strangers);
    Ok(())
}
