//! The address that a host is reached at stays while the host has it; which one takes its place, and whose it is.

use lab::{Lab, LabOptions, Signal};

use super::assertions::{Vtep, assert_peers};
use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, options, prepared};

const SUBNETS: &str = "/kubernetes/network/subnets/";
/// A virtual address as keepalived and kube-vip add it, and one that is no single host's.
const VIRTUAL: [&str; 2] = ["10.64.200.200/32", "10.64.200.200/24"];

/// One host whose address is leased for a while, as by DHCP, and that reaches etcd from any address. The daemon is ready.
fn leased(options: LabOptions) -> Result<Lab, lab::LabError> {
    let mut lab = prepared(options.no_tls(), 1)?;
    lab.host(1).sh(
        "ip addr change 10.64.0.1/16 dev eth0 valid_lft 7200 preferred_lft 7200
        ip route add 10.64.0.0/16 dev eth0 metric 1000",
    )?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    Ok(lab)
}

/// Key, value, and how often it was written.
fn lease(lab: &Lab) -> (String, String, String) {
    let read = || {
        let etcd = lab.etcd().ok()?;
        let key = etcd.keys(SUBNETS).ok()?.join(" ");
        let value = etcd.get(&key).ok()??;
        let fields = etcd.ctl(["get", "-w", "fields", &key]).ok()?;
        let version = fields
            .lines()
            .find(|line| line.starts_with("\"Version\""))?
            .to_owned();
        Some((key, value, version))
    };
    read().unwrap_or_default()
}

#[track_caller]
fn assert_published(lab: &Lab, address: &str) {
    eventually(&format!("{address} is published: {:?}", lease(lab)), || {
        lease(lab).1.contains(&format!("\"{address}\""))
    });
}

/// Returns when the daemon has looked at its interfaces: the device follows the MTU.
fn await_look(lab: &Lab, device: &str, mtu: u32, overhead: u32) -> Test {
    lab.host(1).sh(&format!("ip link set eth0 mtu {mtu}"))?;
    let want = (mtu - overhead).to_string();
    eventually(&format!("{device} has MTU {want}"), || {
        lab.host(1)
            .sh(&format!("cat /sys/class/net/{device}/mtu"))
            .is_ok_and(|mtu| mtu.trim() == want)
    });
    Ok(())
}

#[test]
fn virtual_address_that_comes_and_goes_changes_nothing() -> Test {
    let lab = leased(options())?;
    let before = lease(&lab);
    assert!(before.1.contains("\"10.64.0.1\""), "{before:?}");
    for (n, address) in (0..).zip(VIRTUAL) {
        lab.host(1).sh(&format!("ip addr add {address} dev eth0"))?;
        await_look(&lab, "flannel.1", 1400 - n, 50)?;
        assert_eq!(lease(&lab), before, "{address} has come");
        lab.host(1).sh(&format!("ip addr del {address} dev eth0"))?;
        await_look(&lab, "flannel.1", 1300 - n, 50)?;
        assert_eq!(lease(&lab), before, "{address} has gone");
    }
    Ok(())
}

/// The kernel lists the newest IPv6 address first.
#[test]
fn second_ipv6_address_changes_nothing() -> Test {
    let mut lab = prepared(LabOptions::new(FLANNELD).ipv6().no_tls(), 1)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let before = lease(&lab);
    assert!(before.1.contains("fd64::a40:1"), "{before:?}");
    for (n, address) in (0..).zip(["fd99::200/64", "fd64::200/128"]) {
        lab.host(1)
            .sh(&format!("ip addr add {address} dev eth0 nodad"))?;
        await_look(&lab, "flannel-v6.1", 1400 - n, 70)?;
        assert_eq!(lease(&lab), before, "{address} has come");
    }
    lab.end_flanneld(1, Signal::TERM)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(lease(&lab).1, before.1, "after a restart");
    lab.end_flanneld(1, Signal::TERM)?;
    lab.host(1).sh("rm -r /run/flannel/*")?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(
        lease(&lab).1,
        before.1,
        "after a restart without a trace of the one before"
    );
    Ok(())
}

#[test]
fn address_that_is_removed_and_added_again_is_kept() -> Test {
    let lab = leased(options())?;
    lab.host(1).sh("ip addr add 10.64.200.200/24 dev eth0")?;
    await_look(&lab, "flannel.1", 1400, 50)?;
    let before = lease(&lab);
    lab.host(1).sh("ip addr del 10.64.0.1/16 dev eth0")?;
    eventually("the daemon says what it waits for", || {
        lab.host(1)
            .read("/run/flanneld.log")
            .is_ok_and(|log| log.contains("address 10.64.0.1 disappeared from eth0"))
    });
    lab.host(1)
        .sh("ip addr add 10.64.0.1/16 dev eth0; ip route replace default via 10.64.255.254")?;
    await_look(&lab, "flannel.1", 1300, 50)?;
    assert_eq!(lease(&lab), before);
    Ok(())
}

#[test]
fn address_that_returns_late_is_returned_to() -> Test {
    let lab = leased(options())?;
    lab.host(1).sh("ip addr add 10.64.200.200/24 dev eth0")?;
    await_look(&lab, "flannel.1", 1400, 50)?;
    let before = lease(&lab);
    lab.host(1).sh("ip addr del 10.64.0.1/16 dev eth0")?;
    assert_published(&lab, "10.64.200.200");
    lab.host(1)
        .sh("ip addr add 10.64.0.1/16 dev eth0; ip route replace default via 10.64.255.254")?;
    assert_published(&lab, "10.64.0.1");
    assert_eq!((lease(&lab).0, lease(&lab).1), (before.0, before.1));
    Ok(())
}

/// Whether the virtual address is there or not at a start.
#[test]
fn restart_with_and_without_virtual_address_keeps_the_subnet() -> Test {
    let mut lab = leased(options())?;
    let (key, value, _) = lease(&lab);
    for change in [
        "ip addr add 10.64.200.200/24 dev eth0",
        "ip addr del 10.64.200.200/24 dev eth0",
    ] {
        lab.end_flanneld(1, Signal::KILL)?;
        lab.host(1).sh(change)?;
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        let now = lease(&lab);
        assert_eq!((now.0, now.1), (key.clone(), value.clone()), "{change}");
    }
    Ok(())
}

/// Another host leases at the address that the host had, and at the one that it has.
#[test]
fn former_address_is_free_for_a_peer_and_the_new_one_is_not() -> Test {
    let lab = leased(options())?;
    let late = Vtep {
        ip: [10, 64, 0, 1].into(),
        ..Vtep::invented(9)
    };
    lab.etcd()?.put(&late.key(), late.value())?;
    let own = |ip: &str, log: &str| log.contains(&format!("{ip} is this host's own"));
    let log = |lab: &Lab| lab.host(1).read("/run/flanneld.log").unwrap_or_default();
    eventually("the lease at the own address is refused", || {
        own("10.64.0.1", &log(&lab))
    });
    lab.host(1).sh("ip addr del 10.64.0.1/16 dev eth0; ip addr add 10.64.0.77/16 dev eth0; ip route replace default via 10.64.255.254")?;
    assert_peers(lab.host(1), std::slice::from_ref(&late));
    let thief = Vtep {
        ip: [10, 64, 0, 77].into(),
        ..Vtep::invented(8)
    };
    lab.etcd()?.put(&thief.key(), thief.value())?;
    eventually("the lease at the new own address is refused", || {
        own("10.64.0.77", &log(&lab))
    });
    assert_peers(lab.host(1), &[late]);
    Ok(())
}

/// An address that another host announces is not taken although it is the only one left.
#[test]
fn address_of_another_live_lease_is_never_published() -> Test {
    let lab = leased(options())?;
    let other = Vtep {
        ip: [10, 64, 200, 200].into(),
        ..Vtep::invented(9)
    };
    lab.etcd()?.put(&other.key(), other.value())?;
    assert_peers(lab.host(1), std::slice::from_ref(&other));
    let value = |lab: &Lab| {
        lab.etcd()
            .and_then(|etcd| etcd.ctl(["get", "--prefix", SUBNETS]))
    };
    let before = value(&lab)?;
    lab.host(1)
        .sh("ip addr add 10.64.200.200/24 dev eth0; ip addr del 10.64.0.1/16 dev eth0")?;
    let why = "the lease of 172.30.9.0/24 announces 10.64.200.200";
    eventually(why, || {
        lab.host(1)
            .read("/run/flanneld.log")
            .is_ok_and(|log| log.contains(why))
    });
    assert_eq!(value(&lab)?, before);
    Ok(())
}
