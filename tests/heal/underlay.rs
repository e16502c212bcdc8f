//! The interface below changes: the device, the lease's value and the files follow, the subnet and the MAC stay.

use lab::wait_until;

use super::host::Host;
use super::{SOON, Test};

fn mac(host: &Host) -> String {
    host.sh("cat /sys/class/net/flannel.1/address")
        .unwrap_or_default()
}

#[test]
fn a_new_address_is_published_under_the_same_subnet() -> Test {
    let host = Host::start()?;
    let ((key, value), mac_before) = (host.lease()?, mac(&host));
    assert!(value.contains("10.64.0.1\""), "{value}");
    host.sh("ip addr add 10.64.0.101/16 dev eth0; ip addr del 10.64.0.1/16 dev eth0; ip addr add 10.64.0.101/16 dev eth0 2>/dev/null; ip route replace default via 10.64.255.254")?;
    let published = || {
        host.lab.etcd().is_ok_and(|etcd| {
            etcd.get(&key)
                .is_ok_and(|v| v.is_some_and(|v| v.contains("10.64.0.101\"")))
        })
    };
    assert!(
        wait_until(SOON, published),
        "the new address is in etcd under {key}"
    );
    let moved = || {
        host.sh("ip -d link show flannel.1")
            .is_ok_and(|shown| shown.contains("local 10.64.0.101"))
    };
    assert!(
        wait_until(SOON, moved),
        "the device sends from the new address"
    );
    assert_eq!((host.lease()?.0, mac(&host)), (key, mac_before));
    assert_eq!(
        host.sh("ip route show dev flannel.1 | wc -l")?.trim(),
        super::host::PEERS.to_string()
    );
    Ok(())
}

#[test]
fn a_new_mtu_reaches_the_device_and_the_files() -> Test {
    let host = Host::start()?;
    host.settle();
    host.sh("ip link set eth0 mtu 1400")?;
    let follows = || {
        host.sh("cat /sys/class/net/flannel.1/mtu; grep MTU /run/flannel/subnet.env")
            .is_ok_and(|shown| shown == "1350\nFLANNEL_MTU=1350\n")
    };
    assert!(wait_until(SOON, follows), "{:?}", host.state());
    Ok(())
}

/// As when a cloud takes a network card away and gives another one back.
#[test]
fn the_interface_may_go_and_come_back() -> Test {
    let host = Host::start()?;
    let (wanted, lease) = (host.state()?, host.lease()?);
    host.sh("ip link del eth0")?;
    let told = || host.log_contains("no interface has this name");
    assert!(wait_until(SOON, told), "the log names the interface");
    new_card(&host);
    host.sh("ip link set e-new name eth0; ip addr add 10.64.0.1/16 dev eth0; ip link set eth0 up; ip route add default via 10.64.255.254")?;
    host.becomes("a new eth0", &wanted)?;
    assert_eq!(host.lease()?, lease);
    Ok(())
}

/// From outside the lab, where both namespaces have a process id.
fn new_card(host: &Host) {
    let (bridge, node) = (
        host.lab.bridge().pid().to_string(),
        host.node().pid().to_string(),
    );
    for line in [
        format!("link add v-new type veth peer name e-new netns {node}"),
        "link set v-new master br0 up".to_owned(),
    ] {
        let mut command = std::process::Command::new("nsenter");
        command
            .args(["-t", &bridge, "-n", "ip"])
            .args(line.split(' '));
        assert!(
            command.status().is_ok_and(|status| status.success()),
            "{command:?}"
        );
    }
}
