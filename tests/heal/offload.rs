//! Checksum offload: as the flag says, also on a device that was made again.

use lab::{Signal, wait_until};

use super::host::{Host, NETWORK};
use super::{SOON, Test};

fn assert_offload(host: &Host, want: &str) {
    let line = format!("tx-checksum-ip-generic: {want}");
    let is_so = || {
        host.sh("ethtool -k flannel.1")
            .is_ok_and(|shown| shown.contains(&line))
    };
    assert!(
        wait_until(SOON, is_so),
        "{line}: {:?}",
        host.sh("ethtool -k flannel.1")
    );
}

#[test]
fn checksum_offload_follows_the_flag_and_survives_the_device() -> Test {
    let mut host = Host::start_with(NETWORK, &["-tx-checksum=off"])?;
    assert_offload(&host, "off");
    let wanted = host.state()?;
    host.heals_to(&wanted, "the device is deleted", "ip link del flannel.1")?;
    assert_offload(&host, "off");

    // Not asked for: this kernel is in order.
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.lab
        .start_flanneld(1, &["-tx-checksum=auto"])?
        .wait_ready(SOON)?;
    assert_offload(&host, "off");
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.lab
        .start_flanneld(1, &["-tx-checksum=on"])?
        .wait_ready(SOON)?;
    assert_offload(&host, "on");
    assert!(
        !host.log_contains("turning off tx-checksum"),
        "this kernel is in order"
    );
    Ok(())
}

#[test]
fn a_host_without_ethtool_serves_and_says_what_to_do() -> Test {
    let mut host = Host::start()?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.sh("for dir in /usr/sbin /sbin; do mount -t tmpfs none $dir; done")?;
    host.lab
        .start_flanneld(1, &["-tx-checksum=off"])?
        .wait_ready(SOON)?;
    let is_told = || host.log_contains("install ethtool, or run:");
    assert!(wait_until(SOON, is_told), "{}", host.log()?);
    Ok(())
}
