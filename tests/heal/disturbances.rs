//! Disturbances after which everything is exactly as before.

use super::Test;
use super::host::Host;

/// What is done, and the commands that do it.
const DISTURBANCES: &[(&str, &str)] = &[
    ("a route deleted", "ip route del 172.30.201.0/24"),
    (
        "a route pointed elsewhere",
        "ip route replace 172.30.201.0/24 dev eth0",
    ),
    (
        "a route with another gateway",
        "ip route replace 172.30.201.0/24 via 172.30.202.0 dev flannel.1 onlink",
    ),
    (
        "a route made a blackhole",
        "ip route replace blackhole 172.30.201.0/24",
    ),
    (
        "a second route with another metric",
        "ip route add 172.30.201.0/24 via 172.30.202.0 dev flannel.1 onlink metric 7",
    ),
    ("all routes flushed", "ip route flush dev flannel.1"),
    (
        "a neighbor deleted",
        "ip neigh del 172.30.201.0 dev flannel.1",
    ),
    (
        "a neighbor with another MAC",
        "ip neigh replace 172.30.201.0 lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent",
    ),
    (
        "a neighbor that ages",
        "ip neigh replace 172.30.201.0 lladdr 0a:00:00:00:00:01 dev flannel.1 nud reachable",
    ),
    (
        "all neighbors flushed",
        "ip neigh flush dev flannel.1 nud permanent",
    ),
    (
        "an FDB entry deleted",
        "bridge fdb del 0a:00:00:00:00:01 dev flannel.1",
    ),
    (
        "an FDB entry pointed elsewhere",
        "bridge fdb replace 0a:00:00:00:00:01 dev flannel.1 dst 10.64.9.77",
    ),
    (
        "an FDB entry with a second destination",
        "bridge fdb append 0a:00:00:00:00:01 dev flannel.1 dst 10.64.9.77",
    ),
    (
        "an FDB entry with another port",
        "bridge fdb replace 0a:00:00:00:00:01 dev flannel.1 dst 10.64.9.1 port 4789",
    ),
    (
        "the address removed",
        "ip addr flush dev flannel.1 scope global",
    ),
    (
        "an address of the overlay added",
        "ip addr add 172.30.227.7/24 dev flannel.1",
    ),
    (
        "entries of another program",
        "bridge fdb add 0a:00:00:00:00:77 dev flannel.1 dst 10.64.9.7; ip neigh add 172.30.227.0 lladdr 0a:00:00:00:00:77 dev flannel.1 nud permanent; ip route add 172.30.227.0/24 via 172.30.227.0 dev flannel.1 onlink",
    ),
    ("link down", "ip link set flannel.1 down"),
    (
        "link down and up",
        "ip link set flannel.1 down; ip link set flannel.1 up",
    ),
    ("MTU changed", "ip link set flannel.1 mtu 1300"),
    (
        "MAC changed",
        "ip link set flannel.1 address 0a:00:00:00:00:55",
    ),
    (
        "learning switched on",
        "ip link set flannel.1 type vxlan id 1 learning",
    ),
    (
        "local address changed",
        "ip link set flannel.1 type vxlan id 1 local 10.64.0.99",
    ),
    ("device deleted", "ip link del flannel.1"),
    (
        "device replaced by one with another port",
        "kill -STOP $(pidof flanneld); ip link del flannel.1; ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dev eth0 dstport 4789; kill -CONT $(pidof flanneld)",
    ),
    (
        "device replaced by one with another VNI",
        "kill -STOP $(pidof flanneld); ip link del flannel.1; ip link add flannel.1 type vxlan id 2 local 10.64.0.1 dev eth0 dstport 8472; kill -CONT $(pidof flanneld)",
    ),
    (
        "device replaced by another kind",
        "kill -STOP $(pidof flanneld); ip link del flannel.1; ip link add flannel.1 type bridge; kill -CONT $(pidof flanneld)",
    ),
    (
        "underlay down and up",
        "ip link set eth0 down; ip link set eth0 up; ip route add default via 10.64.255.254",
    ),
];

#[test]
fn everything_is_as_before() -> Test {
    let host = Host::start()?;
    let (wanted, lease) = (host.state()?, host.lease()?);
    assert!(
        wanted.contains("172.30.201.0/24 via 172.30.201.0"),
        "{wanted}"
    );
    for (name, script) in DISTURBANCES {
        host.heals_to(&wanted, name, script)?;
    }
    assert_eq!(host.lease()?, lease, "the lease has not changed");
    Ok(())
}

#[test]
fn a_foreign_address_outside_the_overlay_is_left_alone() -> Test {
    let host = Host::start()?;
    host.sh("ip addr add 169.254.7.7/16 dev flannel.1; ip addr add 172.30.227.7/24 dev flannel.1")?;
    let gone = || {
        host.sh("ip addr show dev flannel.1")
            .is_ok_and(|shown| !shown.contains("172.30.227.7"))
    };
    assert!(lab::wait_until(super::SOON, gone));
    assert!(
        host.sh("ip addr show dev flannel.1")?
            .contains("169.254.7.7/16")
    );
    Ok(())
}

/// `ip monitor` and `bridge monitor` see the disturbance and its repair, and nothing else.
#[test]
fn a_repair_touches_only_what_differs() -> Test {
    let host = Host::start()?;
    let wanted = host.state()?;
    // The kernel finishes a link-local address a second after the interface is up.
    host.sh("until [ -z \"$(ip -6 addr show tentative)\" ]; do sleep 0.1; done")?;
    let mut monitor = host.node().spawn(
        "monitor",
        ["ip", "monitor", "route", "neigh", "address", "link"],
    )?;
    let opened = || {
        host.sh("ss -f netlink -a | grep -c ip/")
            .is_ok_and(|n| n.trim() != "0")
    };
    lab::wait_until(super::SOON, opened);
    std::thread::sleep(std::time::Duration::from_millis(200));
    host.heals_to(&wanted, "a route deleted", "ip route del 172.30.203.0/24")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let log = monitor.log();
    let seen: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(seen.len(), 2, "{log}");
    assert!(seen[0].starts_with("Deleted 172.30.203.0/24"), "{log}");
    assert!(
        seen[1].starts_with("172.30.203.0/24 via 172.30.203.0"),
        "{log}"
    );
    assert!(monitor.running());
    Ok(())
}
