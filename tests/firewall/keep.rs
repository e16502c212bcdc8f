//! Whatever others do to the rules is put right.

use rflannel::lab::wait_until;

use super::Test;
use super::host::{KINDS, Kind, PATIENCE, becomes, host};

const IPTABLES: &[&str] = &[
    "iptables -t nat -D FLANNEL-POSTRTG 3",
    "iptables -t nat -F FLANNEL-POSTRTG",
    "iptables -t nat -D POSTROUTING 1",
    "iptables -t nat -D POSTROUTING 1; iptables -t nat -F FLANNEL-POSTRTG; iptables -t nat -X FLANNEL-POSTRTG",
    "iptables -D FLANNEL-FWD 1; iptables -A FLANNEL-FWD -s 172.30.0.0/16 -j DROP",
    "iptables -I FLANNEL-FWD 1 -j DROP",
    "iptables -A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD",
];

const NFTABLES: &[&str] = &[
    "nft delete table ip flannel-ipv4",
    "nft flush chain ip flannel-ipv4 postrtg",
    "nft insert rule ip flannel-ipv4 forward ip saddr 172.30.0.0/16 drop",
    "nft flush ruleset",
    "nft delete chain ip flannel-ipv4 forward",
    "nft chain ip flannel-ipv4 forward '{ policy drop ; }'",
];

#[test]
fn every_disturbance_is_repaired() -> Test {
    for kind in KINDS {
        let disturbances = if kind == Kind::Nftables { NFTABLES } else { IPTABLES };
        // A host of its own for every few, so that they are not taken for a quarrel.
        for few in disturbances.chunks(3) {
            let lab = host(kind, &["-ip-masq", "-iptables-resync=1"])?;
            for script in few {
                lab.host(1).sh(script)?;
                becomes(&format!("{kind:?}, after {script}"), kind.wanted(), || kind.rules(lab.host(1)));
            }
        }
    }
    Ok(())
}

#[test]
fn somebody_who_insists_is_named_once() -> Test {
    let mut lab = host(Kind::Nft, &["-ip-masq"])?;
    let mut tries = 0;
    wait_until(PATIENCE, || {
        let there = Kind::Nft.rules(lab.host(1)).is_ok_and(|rules| rules == Kind::Nft.wanted());
        if there && lab.host(1).sh("iptables -t nat -F FLANNEL-POSTRTG").is_ok() {
            tries += 1;
        }
        tries == 6
    });
    becomes("in the end", Kind::Nft.wanted(), || Kind::Nft.rules(lab.host(1)));
    let log = lab.flanneld(1)?.process().log();
    assert_eq!(log.matches("another program keeps changing").count(), 1, "{log}");
    Ok(())
}

/// Between two changes no program runs: the daemon has no children, and never had in that time.
#[test]
fn nobody_is_asked_while_nothing_changes() -> Test {
    for kind in [Kind::Nft, Kind::Nftables] {
        let lab = host(kind, &["-ip-masq", "-iptables-resync=1"])?;
        // A new table of iptables-nft is looked at once: its FORWARD chain may drop.
        lab.host(1).sh("iptables -N OTHER; sleep 2")?;
        // Page faults of children that have ended: none ends without any.
        let children = "awk '{print $11}' /proc/$(pidof flanneld)/stat";
        let before = lab.host(1).sh(children)?;
        lab.host(1).sh("nft add table ip other; nft add chain ip other c; nft add rule ip other c accept")?;
        lab.host(1).sh("iptables -A OTHER -j ACCEPT; sleep 3")?;
        assert_eq!(lab.host(1).sh(children)?, before, "{kind:?}: a program ran");
    }
    Ok(())
}
