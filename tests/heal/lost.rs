//! Another host's value in the own key: what each `-on-lease-lost` makes of it. The key is never written over.

use lab::wait_until;

use super::host::{Host, NETWORK, PEERS, lease_value};
use super::{SOON, Test};

/// Overwrites the host's key with the value of a host at 10.64.9.77; the key.
pub(super) fn steal(host: &Host) -> Result<String, lab::LabError> {
    let (key, _) = host.lease()?;
    host.lab.etcd()?.put(&key, lease_value(77))?;
    Ok(key)
}

#[track_caller]
pub(super) fn eventually(host: &mut Host, what: &str, mut done: impl FnMut(&mut Host) -> bool) {
    let came = wait_until(SOON, || done(host));
    assert!(
        came,
        "waited in vain: {what}\n{}",
        host.log().unwrap_or_default()
    );
}

pub(super) fn status(host: &mut Host) -> String {
    host.lab
        .flanneld(1)
        .ok()
        .and_then(|flanneld| flanneld.notify().status())
        .unwrap_or_default()
}

pub(super) fn value(host: &Host, key: &str) -> Option<String> {
    host.lab.etcd().ok()?.get(key).ok()?
}

/// `172.30.15.0/24`, from a key.
pub(super) fn subnet_of(key: &str) -> String {
    key.rsplit('/').next().unwrap_or_default().replace('-', "/")
}

#[test]
fn hold_goes_on_and_takes_the_key_back_once_it_is_free() -> Test {
    let mut host = Host::start()?;
    let (wanted, (_, own)) = (host.state()?, host.lease()?);
    let key = steal(&host)?;
    eventually(&mut host, "the status says so", |host| {
        status(host).contains("LEASE LOST to 10.64.9.77")
    });
    host.heals_to(
        &wanted,
        "a route deleted meanwhile",
        "ip route del 172.30.201.0/24",
    )?;
    assert_eq!(value(&host, &key), Some(lease_value(77)));
    host.lab.etcd()?.delete(&key)?;
    eventually(&mut host, "the key is back", |host| {
        value(host, &key).as_ref() == Some(&own)
    });
    eventually(&mut host, "the status is good", |host| {
        !status(host).contains("LOST")
    });
    assert!(
        host.log_contains("Lease acquired: .* belongs to this host again"),
        "{:?}",
        host.log()
    );
    host.becomes("the key came back", &wanted)
}

#[test]
fn exit_ends_with_one_line_and_next_start_acquires() -> Test {
    let mut host = Host::start_with(NETWORK, &["-on-lease-lost=exit"])?;
    let wanted = host.state()?;
    let has_state = || host.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(SOON, has_state), "the state file is written");
    let key = steal(&host)?;
    let ended = host.lab.flanneld(1)?.process().wait(SOON)?;
    assert!(
        host.sh("test -e /run/flannel/state.json").is_err(),
        "no start without etcd finds the lost lease"
    );
    let log = host.log()?;
    assert_eq!(ended.code(), Some(1), "{log}");
    assert_eq!(log.matches(" ERROR ").count(), 1, "{log}");
    let line = log.lines().last().unwrap_or_default();
    assert!(
        line.contains(&format!(
            "lost the lease of {} to 10.64.9.77",
            subnet_of(&key)
        )),
        "{log}"
    );
    assert_eq!(host.state()?, wanted, "the data plane stays");
    assert_eq!(value(&host, &key), Some(lease_value(77)));

    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    settled_elsewhere(&mut host, &key)
}

#[test]
fn move_leases_another_subnet_and_goes_over_to_it_without_a_gap() -> Test {
    let mut host = Host::start_with(
        NETWORK,
        &[
            "-on-lease-lost=move",
            "-docker-opts-file=/run/flannel/docker",
        ],
    )?;
    let mac = host.sh("cat /sys/class/net/flannel.1/address")?;
    let monitor = host.node().spawn(
        "monitor",
        ["ip", "monitor", "route", "neigh", "address", "link"],
    )?;
    let listens = || {
        host.sh("ss -f netlink -a | grep -c ip/")
            .is_ok_and(|n| n.trim() != "0")
    };
    assert!(wait_until(SOON, listens), "the monitor listens");
    let key = steal(&host)?;
    settled_elsewhere(&mut host, &key)?;

    let (old, (new_key, _)) = (subnet_of(&key), host.lease()?);
    let new = subnet_of(&new_key);
    for line in [
        format!("Lease acquired: {new}"),
        format!("moved from {old} to {new}: containers"),
    ] {
        assert!(host.log_contains(&line), "{line}: {:?}", host.log());
    }
    let gateway = new.replace(".0/", ".1/");
    assert!(
        host.sh("cat /run/flannel/docker")?
            .contains(&format!("--bip={gateway}"))
    );
    eventually(&mut host, "the status names the new subnet", |host| {
        status(host) == format!("{new}, {} peers", PEERS + 1)
    });
    let saved = format!(
        "grep -F '\"own\":{{\"key\":\"{}\"' /run/flannel/state.json",
        new.replace('/', "-")
    );
    eventually(&mut host, "the state file follows", |host| {
        host.sh(&saved).is_ok()
    });
    assert_eq!(host.sh("cat /sys/class/net/flannel.1/address")?, mac);
    assert_eq!(
        host.log()?.matches("device flannel.1").count(),
        1,
        "{:?}",
        host.log()
    );

    let [came, went] = [&new, &old].map(|subnet| format!("inet {}", subnet.replace("/24", "/32")));
    eventually(&mut host, "the monitor has heard of the end", |_| {
        monitor
            .log()
            .lines()
            .any(|line| line.starts_with("Deleted") && line.contains(&went))
    });
    let log = monitor.log();
    let gone = log.lines().filter(|line| line.starts_with("Deleted"));
    let (own, others): (Vec<_>, Vec<_>) =
        gone.partition(|line| line.contains(&old.replace("/24", "")));
    assert_eq!(
        (own.is_empty(), others),
        (false, Vec::new()),
        "only the old address goes: {log}"
    );
    let place = |words: &str, start: &str| {
        log.lines()
            .position(|line| line.starts_with(start) && line.contains(words))
    };
    assert!(
        place(&came, "").is_some() && place(&came, "") < place(&went, "Deleted"),
        "make before break: {log}"
    );
    Ok(())
}

/// While no other subnet is free the host goes on as it is.
#[test]
fn move_waits_for_a_full_network_and_heals_meanwhile() -> Test {
    let one = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.199.0","SubnetMax":"172.30.199.0","Backend":{"Type":"vxlan"}}"#;
    let mut host = Host::start_with(one, &["-on-lease-lost=move"])?;
    let (wanted, (_, own)) = (host.state()?, host.lease()?);
    let key = steal(&host)?;
    eventually(&mut host, "it says that it waits", |host| {
        host.log_contains("is full: all 1 subnets")
    });
    assert!(status(&mut host).contains("LEASE LOST to 10.64.9.77"));
    host.heals_to(
        &wanted,
        "a route deleted meanwhile",
        "ip route del 172.30.201.0/24",
    )?;
    host.lab.etcd()?.delete(&key)?;
    eventually(&mut host, "the key is back", |host| {
        value(host, &key).as_ref() == Some(&own)
    });
    eventually(&mut host, "the status is good", |host| {
        !status(host).contains("LOST")
    });
    host.becomes("the key came back", &wanted)
}

/// Device and peers may have to be others in the new network: that is what a start is for.
#[test]
fn move_into_a_changed_network_takes_a_new_start() -> Test {
    let mut host = Host::start_with(NETWORK, &["-on-lease-lost=move"])?;
    let wanted = host.state()?;
    let narrow = NETWORK.replace(
        "\"SubnetMax\":\"172.30.199.0\"",
        "\"SubnetMin\":\"172.30.240.0\"",
    );
    host.lab.etcd()?.put("/kubernetes/network/config", narrow)?;
    let key = steal(&host)?;
    assert_eq!(host.lab.flanneld(1)?.process().wait(SOON)?.code(), Some(1));
    assert!(
        host.log()?
            .contains("the network configuration has changed"),
        "{:?}",
        host.log()
    );
    assert_eq!(host.state()?, wanted, "the data plane stays");
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    settled_elsewhere(&mut host, &key)
}

/// In etcd, the files and the kernel: another subnet, and the other host in the old one.
pub(super) fn settled_elsewhere(host: &mut Host, old_key: &str) -> Test {
    let old = subnet_of(old_key);
    eventually(host, "another subnet", |host| {
        host.lease().is_ok_and(|(key, _)| key != old_key)
    });
    let (key, value_of_new) = host.lease()?;
    assert!(
        value_of_new.contains("10.64.0.1\""),
        "{key}: {value_of_new}"
    );
    assert_eq!(value(host, old_key), Some(lease_value(77)), "not touched");
    let new = subnet_of(&key);
    let addresses = format!("inet {}", new.replace("/24", "/32"));
    eventually(host, "one address, the new one", |host| {
        let shown = host
            .sh("ip -4 -o addr show dev flannel.1")
            .unwrap_or_default();
        shown.lines().count() == 1 && shown.contains(&addresses)
    });
    eventually(
        host,
        "the other host is reached in the old subnet",
        |host| {
            let routes = host.sh("ip route show dev flannel.1").unwrap_or_default();
            routes.contains(&format!("{old} via ")) && routes.lines().count() == PEERS + 1
        },
    );
    Ok(())
}
