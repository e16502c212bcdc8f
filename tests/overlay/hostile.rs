//! Leases that are broken, foreign or hostile, beside good ones: each is refused for itself.

use lab::{Lab, Signal, wait_until};

use super::assertions::{Vtep, assert_mesh, assert_peers};
use super::support::PATIENCE;
use super::{Test, eventually, options, prepared};

/// Key below `subnets/`, value, and what the log says about it; `@` stands for what is good in it.
const BAD: &[(&str, &str, &str)] = &[
    ("172.30.101.0-24", "{", "not a lease value"),
    ("172.30.102.0-24", "", "not a lease value"),
    ("172.30.103.0-24", "[]", "not a lease value"),
    (
        "172.30.104.0-24",
        r#"{"PublicIP":"10.64.1.104","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:01:68"}}"#,
        "backend type",
    ),
    (
        "172.30.105.0-24",
        r#"{"PublicIP":"10.64.1.105","BackendType":"vxlan"}"#,
        "no BackendData",
    ),
    (
        "172.30.106.0-24",
        r#"{"PublicIP":"10.64.1.106","BackendType":"vxlan","BackendData":{"VtepMAC":"zz"}}"#,
        "not a MAC",
    ),
    (
        "172.30.107.0-24",
        r#"{"PublicIP":"10.64.1.107","BackendType":"vxlan","BackendData":{"VtepMAC":"01:00:5e:00:00:01"}}"#,
        "not a unicast",
    ),
    (
        "172.30.108.0-24",
        r#"{"PublicIP":"10.64.1.108","BackendType":"vxlan","BackendData":{"VtepMAC":"00:00:00:00:00:00"}}"#,
        "not a unicast",
    ),
    (
        "172.30.109.0-24",
        r#"{"PublicIP":"10.64.1.109","BackendType":"host-gw"}"#,
        r#"its backend type is "host-gw""#,
    ),
    (
        "172.30.110.0-24",
        r#"{"PublicIP":"10.64.1.110","BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"0a:00:00:00:01:6e"}}"#,
        "its VNI is 7, this host uses 1",
    ),
    (
        "172.30.112.0-24",
        r#"{"PublicIP":"127.0.0.1",@}"#,
        "public address 127.0.0.1 is not the address of a host",
    ),
    (
        "172.30.113.0-24",
        r#"{"PublicIP":"224.0.0.1",@}"#,
        "public address 224.0.0.1 is not the address of a host",
    ),
    (
        "172.30.114.0-24",
        r#"{"PublicIP":"0.0.0.0",@}"#,
        "no public address",
    ),
    (
        "172.30.115.0-24",
        r#"{"PublicIP":"255.255.255.255",@}"#,
        "is not the address of a host",
    ),
    (
        "172.30.116.0-24",
        r#"{"PublicIP":"172.30.116.7",@}"#,
        "contains 172.30.116.7, the address of its own host",
    ),
    (
        "172.30.117.0-24",
        r#"{"PublicIP":7,@}"#,
        "not a lease value",
    ),
    (
        "172.30.118.0-24",
        r#"{"PublicIP":"10.64.1.118",@,"PublicIPv6":"x"}"#,
        "not a lease value",
    ),
    ("0.0.0.0-0", r#"{"PublicIP":"10.64.1.120",@}"#, "no subnet"),
    (
        "10.99.0.0-24",
        r#"{"PublicIP":"10.64.1.121",@}"#,
        "its subnet is not a /24 of 172.30.0.0/16",
    ),
    (
        "172.30.0.0-16",
        r#"{"PublicIP":"10.64.1.122",@}"#,
        "its subnet is not a /24 of 172.30.0.0/16",
    ),
    (
        "172.30.123.0-25",
        r#"{"PublicIP":"10.64.1.123",@}"#,
        "its subnet is not a /24 of 172.30.0.0/16",
    ),
    (
        "172.30.124.7-24",
        r#"{"PublicIP":"10.64.1.124",@}"#,
        "host bits",
    ),
    (
        "nonsense",
        r#"{"PublicIP":"10.64.1.125",@}"#,
        "no IPv4 subnet",
    ),
    (
        "172.30.126.0-24/x",
        r#"{"PublicIP":"10.64.1.126",@}"#,
        "no IPv4 subnet",
    ),
    ("", r#"{"PublicIP":"10.64.1.127",@}"#, "no IPv4 subnet"),
];

const GOOD_REST: &str =
    r#""BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:01:ff"}"#;

fn write_bad(lab: &Lab) -> Test {
    let prefix = "/kubernetes/network/subnets/";
    for (key, value, _) in BAD {
        lab.etcd()?
            .put(&format!("{prefix}{key}"), value.replace('@', GOOD_REST))?;
    }
    // As large as etcd takes.
    lab.etcd()?
        .put(&format!("{prefix}172.30.130.0-24"), "x".repeat(1_000_000))?;
    let padded = format!(
        r#"{{"PublicIP":"10.64.1.131","Padding":"{}"}}"#,
        "x".repeat(1_000_000)
    );
    lab.etcd()?.put(&format!("{prefix}172.30.131.0-24"), padded)
}

fn assert_each_is_named(lab: &mut Lab, index: usize) -> Test {
    let process = lab.flanneld(index)?.process();
    for (key, _, why) in BAD {
        let subnet = key.replace('-', "/");
        let told = |log: &str| {
            log.lines()
                .any(|line| line.contains(why) && (line.contains(key) || line.contains(&subnet)))
        };
        eventually(&format!("{key:?}: {why}"), || told(&process.log()));
    }
    assert!(process.running());
    Ok(())
}

#[test]
fn existing_bad_leases_stop_nothing_and_hide_no_peer() -> Test {
    let mut lab = prepared(options(), 3)?;
    write_bad(&lab)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_peers(lab.host(1), &[]);
    assert_each_is_named(&mut lab, 1)?;
    lab.start_flanneld(2, &[])?.wait_ready(PATIENCE)?;
    assert_mesh(&lab, &[1, 2], &[])?;
    // While it runs they are written again, between them a good one.
    write_bad(&lab)?;
    lab.start_flanneld(3, &[])?.wait_ready(PATIENCE)?;
    write_bad(&lab)?;
    assert_mesh(&lab, &[1, 2, 3], &[])?;
    let status = lab.flanneld(2)?.notify().status().unwrap_or_default();
    assert!(
        status.contains("2 peers, ") && status.contains(" leases refused (see log)"),
        "{status}"
    );
    Ok(())
}

#[test]
fn new_bad_leases_are_named_and_change_nothing() -> Test {
    let mut lab = Lab::start(options().hosts(2))?;
    let before = assert_mesh(&lab, &[1, 2], &[])?;
    write_bad(&lab)?;
    assert_each_is_named(&mut lab, 1)?;
    let thief = Vtep {
        ip: lab.host(1).address(),
        ..Vtep::invented(8)
    };
    lab.etcd()?.put(&thief.key(), thief.value())?;
    let own = "lease 172.30.8.0/24 is not used: public address 10.64.0.1 is this host's own";
    let process = lab.flanneld(1)?.process();
    eventually(own, || process.log().contains(own));
    lab.etcd()?.delete(&thief.key())?;
    assert_eq!(assert_mesh(&lab, &[1, 2], &[])?, before);
    let late = Vtep::invented(9);
    lab.etcd()?.put(&late.key(), late.value())?;
    assert_mesh(&lab, &[1, 2], std::slice::from_ref(&late))?;

    // A good lease that turns bad goes; good again, it comes back.
    lab.etcd()?.put(&late.key(), "{")?;
    assert_mesh(&lab, &[1, 2], &[])?;
    lab.etcd()?.put(&late.key(), late.value())?;
    assert_mesh(&lab, &[1, 2], &[late])?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    Ok(())
}

/// Two hosts cannot have one MAC: the newer lease has the forwarding entry, the older one gets it back.
#[test]
fn newer_lease_of_two_with_one_mac_wins_until_deleted() -> Test {
    let mut lab = Lab::start(options().hosts(1))?;
    let old = Vtep::invented(11);
    let new = Vtep {
        mac: old.mac.clone(),
        ..Vtep::invented(12)
    };
    let fdb = |lab: &Lab, vtep: &Vtep| {
        let want = format!("{} dst {} self permanent", vtep.mac, vtep.ip);
        let shown = || {
            lab.host(1)
                .sh("bridge fdb show dev flannel.1 | grep ' dst '")
                .unwrap_or_default()
        };
        let right = wait_until(PATIENCE, || shown().trim() == want);
        assert!(
            right,
            "{want}: {}\n{}",
            shown(),
            lab.host(1).read("/run/flanneld.log").unwrap_or_default()
        );
    };
    lab.etcd()?.put(&old.key(), old.value())?;
    assert_peers(lab.host(1), std::slice::from_ref(&old));
    lab.etcd()?.put(&new.key(), new.value())?;
    fdb(&lab, &new);
    lab.end_flanneld(1, Signal::KILL)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    fdb(&lab, &new);
    let contested = "conflict: both claim";
    assert!(lab.flanneld(1)?.process().log().contains(contested));
    lab.etcd()?.delete(&new.key())?;
    assert_peers(lab.host(1), &[old]);
    Ok(())
}
