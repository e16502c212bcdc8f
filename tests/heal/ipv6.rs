//! Hosts that have IPv6 switched off on new devices, as hardening guides advise.

use lab::{Lab, LabError, LabOptions, Signal, wait_until};

use super::{SOON, Test};

const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#;

fn own_address(lab: &Lab) -> Result<String, LabError> {
    lab.host(1)
        .sh("ip -6 -o addr show dev flannel-v6.1 scope global")
}

#[test]
fn ipv6_is_switched_on_for_the_own_device() -> Test {
    let mut lab = Lab::bare(
        LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .network(NETWORK),
    )?;
    lab.start_etcd()?;
    lab.configure()?;
    lab.add_hosts(1)?;
    lab.host(1)
        .sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
    lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    assert!(
        own_address(&lab)?.contains("/128"),
        "{}",
        own_address(&lab)?
    );

    // Where the unit has no access to kernel tunables, the daemon says what to do and waits for it.
    lab.end_flanneld(1, Signal::TERM)?;
    lab.host(1).sh(
        "ip link del flannel-v6.1; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys",
    )?;
    lab.start_flanneld(1, &[])?;
    let advice = "sysctl -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0";
    let told = || {
        lab.host(1)
            .sh(&format!("grep -c '{advice}' /run/flanneld.log"))
            .is_ok()
    };
    assert!(wait_until(SOON, told), "the log says what to do");
    let notify = lab.flanneld(1)?.notify();
    assert!(!notify.ready(), "{:?}", notify.status());
    lab.host(1)
        .sh(&format!("umount --lazy /proc/sys; {advice}"))?;
    lab.flanneld(1)?.wait_ready(super::GONE)?;
    assert!(
        own_address(&lab)?.contains("/128"),
        "{}",
        own_address(&lab)?
    );
    Ok(())
}
