//! `-vxlan-source-filter`: only peers get through to the tunnel.

use lab::{Lab, LabError, Signal, wait_until};

use super::Test;
use super::host::{Kind, PATIENCE, lab, restart};

const TABLE: &str = "nft list table inet flannel-sources-1";

/// The packets that have come out of the tunnel of host 1.
fn received(lab: &Lab) -> Result<u64, LabError> {
    let text = lab
        .host(1)
        .sh("cat /sys/class/net/flannel.1/statistics/rx_packets")?;
    Ok(text.trim().parse().unwrap_or_default())
}

/// Host 3 has no lease: it sends into host 1's tunnel what it likes.
fn stranger_sends(lab: &Lab) -> Result<(), LabError> {
    let mac = lab.host(1).sh("cat /sys/class/net/flannel.1/address")?;
    lab.host(3).sh(&format!(
        "ip link del flannel.1 2>/dev/null || true
        ip link add flannel.1 type vxlan id 1 dev eth0 local 10.64.0.3 dstport 8472 nolearning
        ip addr add 172.30.99.0/16 dev flannel.1; ip link set flannel.1 up
        ip neigh add 172.30.77.7 lladdr {mac} dev flannel.1
        bridge fdb add {mac} dev flannel.1 dst 10.64.0.1
        ping -c 5 -i 0.1 -W 1 172.30.77.7 >/dev/null || true",
        mac = mac.trim()
    ))?;
    Ok(())
}

#[test]
fn a_stranger_is_dropped_and_a_peer_is_not() -> Test {
    for kind in [Kind::Legacy, Kind::Nftables] {
        let mut lab = lab(kind, 3)?;
        restart(&mut lab, 1, &[])?;
        restart(&mut lab, 2, &[])?;
        lab.wire_pod(1)?;
        lab.wire_pod(2)?;
        let before = received(&lab)?;
        stranger_sends(&lab)?;
        assert!(
            received(&lab)? >= before + 5,
            "{kind:?}: without the filter he gets in"
        );

        restart(&mut lab, 1, &["-vxlan-source-filter"])?;
        let filter = |lab: &Lab| lab.host(1).sh(TABLE).unwrap_or_default();
        assert!(
            wait_until(PATIENCE, || filter(&lab).contains("10.64.0.2")),
            "{}",
            filter(&lab)
        );
        let before = received(&lab)?;
        stranger_sends(&lab)?;
        // Neighbor discovery of host 1's own peers aside.
        assert!(
            received(&lab)? < before + 5,
            "{kind:?}: with the filter he does not"
        );
        assert!(
            !filter(&lab).contains("counter packets 0 bytes 0 drop comment \"ip:"),
            "{}",
            filter(&lab)
        );
        assert_eq!(
            lab.ping_all(PATIENCE)?.missing().count(),
            0,
            "{kind:?}: peers get through"
        );

        a_peer_that_comes_and_goes_is_followed(&mut lab)?;
        lab.host(1)
            .sh("nft flush chain inet flannel-sources-1 input")?;
        assert!(
            wait_until(PATIENCE, || filter(&lab).contains("drop")),
            "repaired"
        );
        restart(&mut lab, 1, &[])?;
        assert!(
            lab.host(1).sh(TABLE).is_err(),
            "{kind:?}: gone with the flag"
        );
    }
    Ok(())
}

fn a_peer_that_comes_and_goes_is_followed(lab: &mut Lab) -> Test {
    let shown = |lab: &Lab| {
        lab.host(1)
            .sh(TABLE)
            .is_ok_and(|text| text.contains("10.64.0.3"))
    };
    lab.host(3).sh("ip link del flannel.1")?;
    restart(lab, 3, &[])?;
    assert!(wait_until(PATIENCE, || shown(lab)), "host 3 is a peer now");
    let subnet = super::host::subnet(lab.host(3))?.replace('/', "-");
    lab.end_flanneld(3, Signal::TERM)?;
    lab.etcd()?
        .delete(&format!("/kubernetes/network/subnets/{subnet}"))?;
    assert!(wait_until(PATIENCE, || !shown(lab)), "and no longer");
    Ok(())
}
