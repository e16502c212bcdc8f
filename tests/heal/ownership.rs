//! One subnet, one live host: what a start makes of a state file, of an etcd that refuses writes, and of leases that
//! another machine may hold.

use lab::{Lab, LabError, Signal, wait_until};

use super::host::{Host, NETWORK, lease_value, options};
use super::lost::{eventually, settled_elsewhere, status, steal, value};
use super::{SOON, Test};

const CONFIG: &str = "/kubernetes/network/config";
/// A database that is soon full.
const QUOTA: &str = "--quota-backend-bytes=4000000";

/// Waits for the state file, ends the daemon, and removes what it made: as after a power cut.
fn power_cut(host: &mut Host) -> Test {
    let saved = || host.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(SOON, saved), "the state file is written");
    host.lab.end_flanneld(1, Signal::KILL)?;
    host.sh("ip link del flannel.1; rm /run/flannel/subnet.env")?;
    Ok(())
}

/// Writes until the NOSPACE alarm refuses all further writes.
fn fill(host: &Host) -> Test {
    let (etcd, text) = (host.lab.etcd()?, "x".repeat(100_000));
    let refused = (0..60).any(|n| etcd.put(&format!("/full/{n}"), &text).is_err());
    assert!(
        refused && etcd.ctl(["alarm", "list"])?.contains("NOSPACE"),
        "etcd is full"
    );
    Ok(())
}

/// Makes room, as an operator would.
fn disarm(host: &Host) -> Test {
    let etcd = host.lab.etcd()?;
    etcd.ctl(["del", "--prefix", "/full/"])?;
    let status = etcd.ctl(["endpoint", "status", "--write-out=json"])?;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    etcd.ctl([
        "compact".into(),
        status[0]["Status"]["header"]["revision"].to_string(),
    ])?;
    etcd.ctl(["--command-timeout=30s", "defrag"])?;
    etcd.ctl(["alarm", "disarm"])?;
    assert!(
        wait_until(SOON, || etcd.put("/room", "1").is_ok()),
        "there is room again"
    );
    Ok(())
}

fn is_ready(host: &mut Host) -> Result<bool, LabError> {
    Ok(host.lab.flanneld(1)?.notify().ready())
}

/// Not READY, nothing of the subnet on the host, and the status says why.
fn waits_for(host: &mut Host, why: &str) -> Test {
    eventually(host, why, |host| {
        let status = status(host);
        status.starts_with("waiting: ") && status.contains(why)
    });
    assert!(!is_ready(host)?, "{}", host.log()?);
    assert!(
        host.sh("test -e /run/flannel/subnet.env").is_err(),
        "{}",
        host.log()?
    );
    Ok(())
}

#[test]
fn list_without_own_key_outweighs_the_state_file() -> Test {
    let mut host = Host::start_in(options(NETWORK).etcd_args([QUOTA]))?;
    let (key, _) = host.lease()?;
    power_cut(&mut host)?;
    host.lab.etcd()?.put(&key, lease_value(77))?;
    fill(&host)?;
    host.lab.start_flanneld(1, &[])?;
    waits_for(&mut host, "database space exceeded")?;

    host.lab.etcd_mut()?.kill(1)?;
    waits_for(&mut host, "cannot read the network configuration")?;
    assert!(host.log()?.contains(
        "not using the state file /run/flannel/state.json: the leases in etcd do not contain"
    ));

    host.lab.etcd_mut()?.start_member(1)?;
    host.lab.etcd()?.wait_healthy()?;
    disarm(&host)?;
    host.lab.flanneld(1)?.wait_ready(SOON)?;
    settled_elsewhere(&mut host, &key)
}

#[test]
fn own_key_is_served_as_it_is_while_writes_are_refused() -> Test {
    let mut host = Host::start_in(options(NETWORK).etcd_args([QUOTA]))?;
    let (wanted, (key, own)) = (host.state()?, host.lease()?);
    power_cut(&mut host)?;
    let older = own.replace("\"VNI\":1,", "");
    host.lab
        .etcd()?
        .ctl(["put", "--ignore-lease", &key, &older])?;
    fill(&host)?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    host.becomes("started without a write", &wanted)?;
    let log = host.log()?;
    assert!(
        !log.contains("starting from the state file") && log.contains("as it is in etcd"),
        "{log}"
    );
    assert_eq!(value(&host, &key), Some(older));
    disarm(&host)?;
    let written = wait_until(super::GONE * 4, || {
        value(&host, &key).as_ref() == Some(&own)
    });
    assert!(
        written,
        "the value is written once etcd takes it: {}",
        host.log()?
    );
    Ok(())
}

#[test]
fn state_file_older_than_a_lease_is_not_used() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    power_cut(&mut host)?;
    host.lab.etcd_mut()?.kill(1)?;
    let aged = "s/\"saved\":[0-9]+/\"saved\":'$(($(date +%s) - 90000))'/";
    host.sh(&format!("sed -i -E '{aged}' /run/flannel/state.json"))?;
    host.lab.start_flanneld(1, &[])?;
    waits_for(&mut host, "cannot read the network configuration")?;
    assert!(
        host.log()?
            .contains("not using the state file /run/flannel/state.json: it is 25 h old"),
        "{}",
        host.log()?
    );
    host.lab.etcd_mut()?.start_member(1)?;
    host.becomes("etcd is back", &wanted)
}

#[test]
fn state_file_of_another_address_is_not_used() -> Test {
    let mut host = Host::start()?;
    power_cut(&mut host)?;
    host.lab.etcd_mut()?.kill(1)?;
    host.sh("old=$(ip -4 -o addr show dev eth0 | awk '{print $4}')
        ip addr del $old dev eth0; ip addr add 10.64.0.99/${old#*/} dev eth0")?;
    host.lab.start_flanneld(1, &[])?;
    waits_for(&mut host, "cannot read the network configuration")?;
    let log = host.log()?;
    assert!(
        log.contains("not using the state file /run/flannel/state.json: it announces 10.64.0.1"),
        "{log}"
    );
    assert!(
        host.sh("ip link show flannel.1").is_err(),
        "nothing is made from it"
    );
    // With a flag that names the address it is this host's again.
    host.lab
        .start_flanneld(1, &["-public-ip=10.64.0.1"])?
        .wait_ready(SOON)
}

#[test]
fn unconfirmed_host_leases_another_subnet_when_its_own_is_taken() -> Test {
    let mut host = Host::start()?;
    power_cut(&mut host)?;
    let key = steal_by_hand(&host)?;
    host.lab.etcd_mut()?.kill(1)?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    host.lab.etcd_mut()?.start_member(1)?;
    host.lab.etcd()?.wait_healthy()?;
    settled_elsewhere(&mut host, &key)?;
    // Confirmed now: with `hold` it stays where it is.
    let key = steal(&host)?;
    eventually(&mut host, "the status says so", |host| {
        status(host).contains("LEASE LOST to 10.64.9.77")
    });
    assert_eq!(host.lease()?.0, key);
    Ok(())
}

/// As [`steal`], where `subnet.env` is gone: the state file names the subnet.
fn steal_by_hand(host: &Host) -> Result<String, LabError> {
    let name =
        host.sh("grep -o '\"own\":{\"key\":\"[^\"]*' /run/flannel/state.json | sed 's/.*\"//'")?;
    let key = format!("/kubernetes/network/subnets/{}", name.trim());
    host.lab.etcd()?.put(&key, lease_value(77))?;
    Ok(key)
}

/// After a change of `SubnetLen` the live host's key no longer fits. It is that host's all the same, and so is its MAC.
#[test]
fn second_machine_takes_neither_a_live_key_nor_its_mac() -> Test {
    let mut host = Host::start()?;
    let (key, own) = host.lease()?;
    let mac = host.sh("cat /sys/class/net/flannel.1/address")?;
    host.lab.etcd()?.put(
        CONFIG,
        NETWORK.replace("\"SubnetLen\":24", "\"SubnetLen\":25"),
    )?;
    host.lab.add_hosts(1)?;
    host.lab.start_flanneld(2, &["-public-ip=10.64.0.1"])?;
    let second = |host: &mut Host| host.lab.flanneld(2).ok().and_then(|f| f.notify().status());
    eventually(&mut host, "the second one is refused", |host| {
        second(host).is_some_and(|status| status.contains("is in use: host"))
    });
    assert!(!host.lab.flanneld(2)?.notify().ready());
    let other = host
        .lab
        .host(2)
        .sh("cat /sys/class/net/flannel.1/address")
        .unwrap_or_default();
    assert_ne!(other, mac, "a MAC of a lease that is another machine's");
    assert_eq!(value(&host, &key), Some(own));
    Ok(())
}

#[test]
fn reformatted_configuration_is_the_same_network() -> Test {
    let mut host = Host::start_with(NETWORK, &["-on-lease-lost=move"])?;
    let spaced = r#"{ "Backend": {"VNI": 1, "Type": "VXLAN"}, "SubnetMax": "172.30.199.0",
        "SubnetLen": 24, "Network": "172.30.0.0/16" }"#;
    host.lab.etcd()?.put(CONFIG, spaced)?;
    let key = steal(&host)?;
    settled_elsewhere(&mut host, &key)
}

#[test]
fn role_for_configuration_and_leases_is_enough() -> Test {
    for granted in [
        "/kubernetes/network/subnets",
        "/kubernetes/network/subnets/",
    ] {
        let login = ["-etcd-username=flannel", "-etcd-password=overlay"];
        let mut lab = Lab::bare(options(NETWORK).flanneld_args(login))?;
        lab.start_etcd()?;
        lab.configure()?;
        for args in [
            &["user", "add", "root:secret"][..],
            &["user", "add", "flannel:overlay"],
            &["role", "add", "net"],
            &["role", "grant-permission", "net", "read", CONFIG],
            &[
                "role",
                "grant-permission",
                "net",
                "readwrite",
                "--prefix=true",
                granted,
            ],
            &["user", "grant-role", "flannel", "net"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            lab.etcd()?.ctl(args.iter().copied())?;
        }
        lab.etcd_mut()?.log_in(Some("root:secret"));
        lab.add_hosts(1)?;
        lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
        let host = Host { lab };
        let (key, own) = host.lease()?;
        host.lab.etcd()?.delete(&key)?;
        assert!(
            wait_until(SOON, || value(&host, &key).as_ref() == Some(&own)),
            "it is written again"
        );
        assert!(
            host.lab
                .etcd()?
                .keys("/kubernetes/network/owners/")?
                .is_empty()
        );
        let log = host.sh("cat /run/flanneld.log")?;
        assert_eq!(
            log.matches("/kubernetes/network/owners/").count(),
            1,
            "{log}"
        );
    }
    Ok(())
}

#[test]
fn own_key_put_without_an_etcd_lease_is_named_a_reservation() -> Test {
    let mut host = Host::start()?;
    let (key, own) = host.lease()?;
    host.lab.etcd()?.put(&key, &own)?;
    eventually(&mut host, "it says what the key is now", |host| {
        host.log_contains("is now a reservation")
    });
    assert!(!host.log_contains("restored the lease"), "{}", host.log()?);
    // As the line says.
    host.lab.etcd()?.delete(&key)?;
    eventually(&mut host, "it expires again", |host| {
        let text = host
            .lab
            .etcd()
            .and_then(|etcd| etcd.ctl(["get", &key, "--write-out=json"]));
        text.is_ok_and(|text| text.contains("\"lease\":"))
    });
    assert_eq!(value(&host, &key), Some(own));
    Ok(())
}
