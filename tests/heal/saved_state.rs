//! A start while etcd is away, from the state file.

use lab::{Signal, wait_until};

use super::host::{Host, lease_key, lease_value};
use super::{GONE, SOON, Test};

/// As after a power cut of the whole rack: no device, no /run/flannel/subnet.env, no etcd; the state file is there.
fn reboot(host: &mut Host) -> Test {
    let saved = || host.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(SOON, saved), "the state file is written");
    host.lab.etcd_mut()?.kill(1)?;
    host.lab.end_flanneld(1, Signal::KILL)?;
    host.sh("ip link del flannel.1; rm /run/flannel/subnet.env")?;
    Ok(())
}

#[test]
fn a_host_comes_up_without_etcd_and_catches_up_with_it() -> Test {
    let mut host = Host::start()?;
    let (wanted, lease) = (host.state()?, host.lease()?);
    reboot(&mut host)?;
    host.lab.start_flanneld(1, &["-v=1"])?.wait_ready(SOON)?;
    host.becomes("started without etcd", &wanted)?;
    let stale = |host: &mut Host| {
        host.lab
            .flanneld(1)
            .is_ok_and(|f| f.notify().status().is_some_and(|s| s.contains("STALE")))
    };
    assert!(wait_until(SOON, || stale(&mut host)), "the status says so");
    host.heals_to(
        &wanted,
        "a route deleted while etcd is away",
        "ip route del 172.30.201.0/24",
    )?;

    host.lab.etcd_mut()?.start_member(1)?;
    host.lab.etcd()?.wait_healthy()?;
    host.lab.etcd()?.put(&lease_key(9), lease_value(9))?;
    host.lab.etcd()?.delete(&lease_key(1))?;
    let caught_up = || {
        host.sh("ip route show dev flannel.1")
            .is_ok_and(|r| r.contains("172.30.209.0") && !r.contains("172.30.201.0"))
    };
    assert!(wait_until(GONE, caught_up), "{:?}", host.state());
    assert_eq!(host.lease()?, lease);
    assert!(wait_until(SOON, || !stale(&mut host)), "no longer stale");
    Ok(())
}

/// As on a machine whose clock has no battery: how old the file is no one knows.
#[test]
fn state_file_of_the_future_is_not_used() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    reboot(&mut host)?;
    let clock = [
        "env",
        "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1",
        "FAKETIME=-56y",
        "DONT_FAKE_MONOTONIC=1",
    ];
    host.lab.start_flanneld_under(1, &clock, &[])?;
    let said = "not using the state file /run/flannel/state.json: it is from the future";
    assert!(
        wait_until(SOON, || host.log_contains(said)),
        "{:?}",
        host.log()
    );
    assert!(!host.lab.flanneld(1)?.notify().ready());
    host.lab.etcd_mut()?.start_member(1)?;
    host.becomes("etcd is back", &wanted)
}

#[test]
fn a_damaged_or_foreign_state_file_is_not_used() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    reboot(&mut host)?;
    host.sh("sed -i 's/\"prefix\":\"[^\"]*/\"prefix\":\"\\/other/' /run/flannel/state.json")?;
    host.lab.start_flanneld(1, &[])?;
    assert!(
        wait_until(SOON, || host
            .log_contains("not using the state file /run/flannel/state.json")),
        "{:?}",
        host.log()
    );
    assert!(
        host.sh("ip link show flannel.1").is_err(),
        "nothing is made from it"
    );
    host.lab.etcd_mut()?.start_member(1)?;
    host.becomes("etcd is back", &wanted)
}
