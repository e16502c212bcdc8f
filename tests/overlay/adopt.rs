//! Devices that are there before the daemon: right ones are adopted, wrong ones replaced; the MAC stays.

use std::net::Ipv4Addr;

use lab::{Lab, Signal};

use super::assertions::{Monitor, Vtep, assert_mesh};
use super::support::PATIENCE;
use super::support::steady_ping::SteadyPing;
use super::{Test, options, prepared};

/// More than 1,024 subnets: a network in which our own routes have other protocol numbers than Go flannel's.
const LARGE: &str = r#"{"Network":"172.16.0.0/12","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

const SUBNET_ENV: &str = "FLANNEL_NETWORK=172.16.0.0/12\nFLANNEL_SUBNET=172.30.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

fn lease_of_go_flannel(lab: &Lab, own: &Vtep) -> Test {
    let granted = lab.etcd()?.ctl(["lease", "grant", "86400"])?;
    let lease_id = granted
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    lab.etcd()?
        .ctl([
            "put".into(),
            own.key(),
            own.value(),
            format!("--lease={lease_id}"),
        ])
        .map(drop)
}

/// A host that a Go flanneld has left: device, peer, files; the daemon is gone.
fn left_by_go_flannel(lab: &mut Lab, index: usize, own: &Vtep, peer: &Vtep) -> Test {
    let Vtep { mac, ip, subnet } = own;
    let device = format!(
        "ip link add flannel.1 mtu 1450 address {mac} type vxlan id 1 local {ip} dev eth0 nolearning dstport 8472
        ip addr add {}/32 dev flannel.1; ip link set flannel.1 up\n",
        subnet.network()
    );
    lab.host(index).sh(&(device + &peer.by_hand()))?;
    lab.host(index)
        .write("/run/flannel/subnet.env", SUBNET_ENV)?;
    lab.wire_pod(index).map(drop)
}

#[test]
fn go_host_is_adopted_without_loss_or_kernel_writes() -> Test {
    let mut lab = prepared(options().network(LARGE), 2)?;
    let own = Vtep {
        ip: lab.host(2).address(),
        ..Vtep::invented(2)
    };
    lease_of_go_flannel(&lab, &own)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    lab.wire_pod(1)?;
    let peer = Vtep::of(lab.host(1))?;
    left_by_go_flannel(&mut lab, 2, &own, &peer)?;
    let ping = SteadyPing::start(lab.host(1), Ipv4Addr::new(172, 30, 2, 2))?;
    let monitor = Monitor::start(lab.host(2))?;
    // Value, creation and etcd lease; its owner record makes one write of it, with the same value.
    let lease = |lab: &Lab| -> Result<Vec<String>, _> {
        let fields = lab.etcd()?.ctl(["get", "-w", "fields", &own.key()])?;
        let kept = |line: &&str| {
            ["CreateRevision", "Value", "Lease"]
                .iter()
                .any(|name| line.contains(name))
        };
        Ok::<_, lab::LabError>(fields.lines().filter(kept).map(str::to_owned).collect())
    };
    let before = lease(&lab)?;

    lab.start_flanneld(2, &[])?.wait_ready(PATIENCE)?;
    ping.assert_nothing_lost();
    assert_eq!(monitor.changes()?, [""; 0], "not one change in the kernel");
    assert_eq!(Vtep::of(lab.host(2))?, own);
    assert_eq!(lease(&lab)?, before, "the lease is what it was");
    assert_eq!(lab.host(2).read("/run/flannel/subnet.env")?, SUBNET_ENV);
    Ok(())
}

/// What is made in the place of the device while the daemon is down, and what the daemon says about it.
const DEVICES: &[(&str, &str)] = &[
    ("true", "device flannel.1: created"),
    (
        "ip link add flannel.1 type bridge",
        "it is not a VXLAN device",
    ),
    (
        "ip link add flannel.1 type vxlan id 2 local 10.64.0.1 dev eth0 dstport 8472",
        "VNI: 2, wanted 1",
    ),
    (
        "ip link add flannel.1 type vxlan id 1 local 10.64.9.9 dev eth0 dstport 8472",
        "[local address 10.64.0.1]",
    ),
    (
        "ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dstport 8472",
        "[underlay interface index ",
    ),
    (
        "ip link add flannel.1 type vxlan id 1 group 239.1.1.1 dev eth0 dstport 8472",
        "group: 239.1.1.1, wanted none",
    ),
    (
        "ip link add flannel.1 type vxlan external dstport 8472",
        "it is in external mode",
    ),
    (
        "ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dev eth0 dstport 8472 l2miss l3miss",
        "l2miss: on",
    ),
    (
        "ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dev eth0 dstport 8472 gbp",
        "GBP: true, wanted false",
    ),
    (
        "ip link add flannel.1 mtu 1400 type vxlan id 1 local 10.64.0.1 dev eth0 dstport 8472",
        "[MTU 1450] [learning off] [up]",
    ),
];

#[test]
fn wrong_device_is_repaired_or_replaced_without_packet_loss() -> Test {
    let mut lab = Lab::start(options().hosts(2))?;
    let before = assert_mesh(&lab, &[1, 2], &[])?;
    let peer = Monitor::start(lab.host(2))?;
    for (script, reason) in DEVICES {
        lab.end_flanneld(1, Signal::TERM)?;
        lab.host(1).sh(&format!(
            "rm /run/flanneld.log; ip link del flannel.1; {script}"
        ))?;
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        let log = lab.flanneld(1)?.process().log();
        assert!(log.contains(reason), "{script}: {log}");
        assert_eq!(
            assert_mesh(&lab, &[1, 2], &[])?,
            before,
            "{script}: same subnet, same MAC"
        );
    }
    lab.power_off(1)?;
    lab.power_on(1)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(
        assert_mesh(&lab, &[1, 2], &[])?,
        before,
        "the same after a reboot"
    );
    assert_eq!(peer.changes()?, [""; 0], "nothing changes at the peer");
    lab.wire_all()?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    Ok(())
}
