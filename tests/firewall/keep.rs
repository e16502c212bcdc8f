//! Changes of the rules by other programs are repaired.

use std::time::Duration;

use lab::wait_until;

use super::Test;
use super::host::{KINDS, Kind, becomes, host};

/// How often rules are disturbed: more often than it takes to be named.
const OFTEN: usize = 8;
/// Less than a backoff between repairs would reach.
const SOON: Duration = Duration::from_secs(6);

const IPTABLES: &[&str] = &[
    "iptables -t nat -D FLANNEL-POSTRTG 3",
    "iptables -t nat -F FLANNEL-POSTRTG",
    "iptables -t nat -D POSTROUTING 1",
    // One transaction: between single commands the daemon repairs.
    r"printf '*nat\n-D POSTROUTING 1\n-F FLANNEL-POSTRTG\n-X FLANNEL-POSTRTG\nCOMMIT\n' | iptables-restore --noflush",
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
        let disturbances = if kind == Kind::Nftables {
            NFTABLES
        } else {
            IPTABLES
        };
        let lab = host(kind, &["-ip-masq", "-iptables-resync=1"])?;
        for script in disturbances {
            lab.host(1).sh(script)?;
            becomes(&format!("{kind:?}, after {script}"), kind.wanted(), || {
                kind.rules(lab.host(1))
            });
        }
    }
    Ok(())
}

#[test]
fn flapping_rules_are_repaired_at_once_and_named_once() -> Test {
    for (kind, script) in [
        (Kind::Nft, "iptables -t nat -F FLANNEL-POSTRTG"),
        (Kind::Nftables, "nft flush ruleset"),
    ] {
        let mut lab = host(kind, &["-ip-masq"])?;
        for n in 0..OFTEN {
            lab.host(1).sh(script)?;
            let repaired = wait_until(SOON, || {
                kind.rules(lab.host(1))
                    .is_ok_and(|rules| rules == kind.wanted())
            });
            assert!(repaired, "{kind:?}, disturbance {n}");
        }
        let log = lab.flanneld(1)?.process().log();
        assert_eq!(
            log.matches("another program keeps modifying").count(),
            1,
            "{log}"
        );
        assert_eq!(log.matches("firewall rules repaired").count(), 4, "{log}");
    }
    Ok(())
}

/// Between two changes no program runs: the daemon has no children, and never had in that time.
#[test]
fn unchanged_firewall_runs_no_program() -> Test {
    for kind in [Kind::Nft, Kind::Nftables] {
        let lab = host(kind, &["-ip-masq", "-iptables-resync=1"])?;
        // A new table of iptables-nft is looked at once: its FORWARD chain may drop.
        lab.host(1).sh("iptables -N OTHER; sleep 2")?;
        // Page faults of children that have ended: none ends without any.
        let children = "awk '{print $11}' /proc/$(pidof flanneld)/stat";
        let before = lab.host(1).sh(children)?;
        lab.host(1).sh(
            "nft add table ip other; nft add chain ip other c; nft add rule ip other c accept",
        )?;
        lab.host(1).sh("iptables -A OTHER -j ACCEPT; sleep 3")?;
        assert_eq!(lab.host(1).sh(children)?, before, "{kind:?}: a program ran");
    }
    Ok(())
}
