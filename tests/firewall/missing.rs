//! Programs that are missing or held up: said, waited out, and the overlay works.

use lab::{Lab, LabError, wait_until};

use super::Test;
use super::host::{Kind, PATIENCE, becomes, lab, restart};

fn log(lab: &mut Lab) -> String {
    lab.flanneld(1)
        .map(|flanneld| flanneld.process().log())
        .unwrap_or_default()
}

#[test]
fn iptables_may_be_installed_later() -> Test {
    let mut lab = lab(Kind::Nft, 2)?;
    lab.host(1)
        .sh("mkdir /run/away; mv /run/alternatives/*tables* /run/away")?;
    restart(&mut lab, 1, &["-ip-masq"])?;
    restart(&mut lab, 2, &[])?;
    lab.wire_all()?;
    assert_eq!(
        lab.ping_all(PATIENCE)?.missing().count(),
        0,
        "the overlay works without"
    );
    let said = log(&mut lab);
    assert!(
        said.contains("iptables is not installed: install it (Debian: package iptables)"),
        "{said}"
    );
    lab.host(1).sh("mv /run/away/* /run/alternatives")?;
    becomes("installed", Kind::Nft.wanted(), || {
        Kind::Nft.rules(lab.host(1))
    });
    assert!(wait_until(PATIENCE, || log(&mut lab)
        .contains("all rules are in place")));
    Ok(())
}

#[test]
fn nftables_mode_needs_no_iptables() -> Test {
    let mut lab = lab(Kind::Nftables, 1)?;
    lab.host(1).sh("rm /run/alternatives/*tables*")?;
    restart(&mut lab, 1, &["-ip-masq"])?;
    assert_eq!(Kind::Nftables.rules(lab.host(1))?, Kind::Nftables.wanted());
    assert!(!log(&mut lab).contains("WARN"), "{}", log(&mut lab));
    assert!(
        !log(&mut lab).contains("br_netfilter"),
        "nothing here depends on it"
    );
    Ok(())
}

/// Whether this machine has the module or not.
#[test]
fn without_br_netfilter_it_is_said_what_that_means() -> Test {
    let mut lab = lab(Kind::Nft, 1)?;
    lab.host(1)
        .sh("[ ! -d /proc/sys/net/bridge ] || mount -t tmpfs none /proc/sys/net/bridge")?;
    restart(&mut lab, 1, &[])?;
    let said = log(&mut lab);
    assert_eq!(
        said.matches("br_netfilter is not loaded: packets between pods on one bridge")
            .count(),
        1,
        "{said}"
    );
    Ok(())
}

#[test]
fn source_filter_without_nft_is_open_and_applied_with_nft() -> Test {
    let mut lab = lab(Kind::Legacy, 2)?;
    let away = "cp -a /usr/sbin /run/sbin; rm /run/sbin/nft; mount --bind /run/sbin /usr/sbin";
    lab.host(1).sh(away)?;
    restart(&mut lab, 1, &["-vxlan-source-filter"])?;
    restart(&mut lab, 2, &[])?;
    lab.wire_all()?;
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    let said =
        "firewall rules missing: nft is not installed: install it (Debian: package nftables)";
    let status = lab.flanneld(1)?.notify().status().unwrap_or_default();
    assert!(status.contains(said), "{status}");
    lab.host(1).sh("umount --lazy /usr/sbin")?;
    let filter = || {
        lab.host(1)
            .sh("nft list table inet flannel-sources-1")
            .unwrap_or_default()
    };
    assert!(
        wait_until(PATIENCE, || filter().contains("10.64.0.2")),
        "{}",
        filter()
    );
    assert_eq!(lab.ping_all(PATIENCE)?.missing().count(), 0);
    Ok(())
}

/// iptables-legacy has one lock for all its users.
#[test]
fn a_held_lock_is_waited_for() -> Test {
    let mut lab = lab(Kind::Legacy, 1)?;
    let held = lab
        .host(1)
        .spawn("lock", ["flock", "/run/xtables.lock", "sleep", "8"])?;
    lab.host(1)
        .sh("until ! flock -n /run/xtables.lock true; do sleep 0.1; done")?;
    restart(&mut lab, 1, &["-ip-masq"])?;
    becomes("the lock is free", Kind::Legacy.wanted(), || {
        Kind::Legacy.rules(lab.host(1))
    });
    drop(held);
    Ok(())
}

/// Someone wrote a rule with nft that iptables does not know, into a table that iptables reads.
#[test]
fn a_table_that_iptables_cannot_read_is_named() -> Test {
    let mut lab = lab(Kind::Nft, 1)?;
    let foreign =
        "iptables -P FORWARD ACCEPT; nft add rule ip filter FORWARD numgen random mod 2 0 accept";
    lab.host(1).sh(foreign)?;
    restart(&mut lab, 1, &["-ip-masq"])?;
    assert!(
        log(&mut lab).contains("iptables-save cannot read table filter"),
        "{}",
        log(&mut lab)
    );
    lab.host(1).sh("nft delete table ip filter")?;
    becomes("all is as ever", Kind::Nft.wanted(), || {
        Kind::Nft.rules(lab.host(1))
    });
    Ok(())
}

/// The peers are there meanwhile; who waits for READY or for `subnet.env` finds the rules in place.
#[test]
fn a_program_that_takes_its_time_holds_up_no_peer() -> Test {
    let mut lab = slow(&["-ip-masq"])?;
    assert!(!lab.flanneld(1)?.notify().ready());
    assert!(lab.host(1).read("/run/flannel/subnet.env").is_err());
    lab.host(1).write("/run/go", "")?;
    lab.flanneld(1)?.wait_ready(PATIENCE)?;
    assert_eq!(Kind::Nft.rules(lab.host(1))?, Kind::Nft.wanted());
    Ok(())
}

/// The rules that READY promises are those of the subnet and the peers at that moment.
#[test]
fn a_move_while_a_program_takes_its_time_is_in_the_first_rules() -> Test {
    let mut lab = slow(&["-ip-masq", "-on-lease-lost=move", "-vxlan-source-filter"])?;
    let address = |lab: &Lab| {
        lab.host(1)
            .sh("ip -4 -o addr show flannel.1 | awk '{print $4}'")
            .unwrap_or_default()
    };
    let before = address(&lab);
    let key = format!(
        "/kubernetes/network/subnets/{}",
        before.trim().replace("/32", "-24")
    );
    let other = r#"{"PublicIP":"10.64.0.77","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:77"}}"#;
    lab.etcd()?.put(&key, other)?;
    assert!(
        wait_until(
            PATIENCE,
            || !matches!(address(&lab), now if now == before || now.is_empty())
        ),
        "{before}"
    );
    lab.host(1).write("/run/go", "")?;
    lab.flanneld(1)?.wait_ready(PATIENCE)?;
    assert_eq!(Kind::Nft.rules(lab.host(1))?, Kind::Nft.wanted());
    let filter = lab.host(1).sh("nft list table inet flannel-sources-1")?;
    assert!(
        ["10.64.0.2", "10.64.0.77"]
            .iter()
            .all(|peer| filter.contains(peer)),
        "{filter}"
    );
    Ok(())
}

/// Host 1 has its peer, host 2, and a program that does not end before there is `/run/go`.
fn slow(flags: &[&str]) -> Result<Lab, LabError> {
    let mut lab = lab(Kind::Nft, 2)?;
    restart(&mut lab, 2, &[])?;
    lab.host(1).write(
        "/run/slow",
        "#!/bin/sh\nuntil [ -e /run/go ]; do sleep 0.05; done\nexec iptables-nft-restore \"$@\"\n",
    )?;
    lab.host(1)
        .sh("chmod +x /run/slow; ln -sf /run/slow /run/alternatives/iptables-restore")?;
    lab.start_flanneld(1, flags)?;
    let routes = |lab: &Lab| {
        lab.host(1)
            .sh("ip route show dev flannel.1 proto boot")
            .unwrap_or_default()
    };
    assert!(
        wait_until(PATIENCE, || routes(&lab).lines().count() == 1),
        "{}",
        log(&mut lab)
    );
    Ok(lab)
}
