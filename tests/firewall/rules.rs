//! The rules themselves: as Go writes them, adopted, and cleared away.

use super::Test;
use super::host::{KINDS, Kind, becomes, host, lab, restart, subnet};

#[test]
fn rules_are_gos_and_a_restart_writes_nothing() -> Test {
    for kind in KINDS {
        let mut lab = host(kind, &["-ip-masq"])?;
        assert_eq!(kind.rules(lab.host(1))?, kind.wanted(), "{kind:?}");
        assert!(
            lab.host(1)
                .read("/run/flannel/subnet.env")?
                .contains("FLANNEL_IPMASQ=true")
        );
        // What has kept its handle, or its counter, was not written again.
        let handles =
            "nft -s -a list ruleset 2>/dev/null; (iptables-legacy-save -c | grep FWD) || true";
        lab.host(1).sh("echo 1 >/proc/sys/net/ipv4/ip_forward")?;
        lab.wire_pod(1)?;
        lab.host(1).pod().sh("ping -c 1 -W 1 10.64.0.77 || true")?;
        let before = lab.host(1).sh(handles)?;
        assert!(
            kind != Kind::Legacy || !before.contains("[0:0] -A FLANNEL-FWD -s"),
            "{before}"
        );
        let mut monitor = lab.host(1).spawn("nft-monitor", ["nft", "monitor"])?;
        lab.host(1).sh("sleep 0.3")?;
        restart(&mut lab, 1, &["-ip-masq"])?;
        restart(&mut lab, 1, &["-ip-masq"])?;
        assert_eq!(lab.host(1).sh(handles)?, before, "{kind:?}");
        assert_eq!(
            monitor
                .log()
                .lines()
                .filter(|line| line.contains("lannel"))
                .count(),
            0,
            "{}",
            monitor.log()
        );
        assert!(monitor.running());
        let log = lab.flanneld(1)?.process().log();
        assert_eq!(
            log.matches("firewall rules written").count(),
            1,
            "{kind:?}: {log}"
        );
        assert!(
            !log.contains("repaired") && !log.contains("WARN"),
            "{kind:?}: {log}"
        );
    }
    Ok(())
}

#[test]
fn what_is_switched_off_goes() -> Test {
    for kind in KINDS {
        let mut lab = host(kind, &["-ip-masq"])?;
        restart(&mut lab, 1, &[])?;
        let (rules, traces) = (kind.rules(lab.host(1))?, Kind::traces(lab.host(1)));
        assert!(
            !rules.contains("POSTRTG") && !rules.contains("postrtg"),
            "{kind:?}: {rules}"
        );
        assert!(
            rules.contains("172.30.0.0/16"),
            "{kind:?}: the forward rules stay: {rules}"
        );
        assert!(!traces.contains("masq"), "{kind:?}: {traces}");
        restart(&mut lab, 1, &["-iptables-forward-rules=false"])?;
        assert_eq!(Kind::traces(lab.host(1)), "", "{kind:?}");
        assert!(
            lab.host(1)
                .read("/run/flannel/subnet.env")?
                .contains("FLANNEL_IPMASQ=false")
        );
    }
    Ok(())
}

#[test]
fn random_ports_can_be_switched_off() -> Test {
    for kind in KINDS {
        let lab = host(kind, &["-ip-masq", "-ip-masq-fully-random-disable"])?;
        let plain = kind
            .wanted()
            .replace(" --random-fully", "")
            .replace(" fully-random", "");
        assert_eq!(kind.rules(lab.host(1))?, plain, "{kind:?}");
    }
    Ok(())
}

#[test]
fn another_mode_leaves_nothing_of_the_one_before() -> Test {
    let mut lab = host(Kind::Nft, &["-ip-masq"])?;
    for kind in [Kind::Nftables, Kind::Nft] {
        lab.etcd()?
            .put("/kubernetes/network/config", kind.network())?;
        restart(&mut lab, 1, &["-ip-masq"])?;
        assert_eq!(kind.rules(lab.host(1))?, kind.wanted(), "{kind:?}");
        let traces = Kind::traces(lab.host(1));
        let other = if kind == Kind::Nft {
            "table ip flannel-ipv4"
        } else {
            "FLANNEL-"
        };
        assert!(!traces.contains(other), "{kind:?}: {traces}");
    }
    Ok(())
}

/// `update-alternatives`, and then a restart.
#[test]
fn another_variant_of_iptables_leaves_nothing_in_the_one_before() -> Test {
    for (kind, save) in [
        (Kind::Legacy, "iptables-nft-save"),
        (Kind::Nft, "iptables-legacy-save"),
    ] {
        let before = if kind == Kind::Nft {
            Kind::Legacy
        } else {
            Kind::Nft
        };
        let mut lab = host(before, &["-ip-masq"])?;
        kind.choose(lab.host(1))?;
        restart(&mut lab, 1, &["-ip-masq"])?;
        assert_eq!(kind.rules(lab.host(1))?, kind.wanted(), "{kind:?}");
        assert!(
            !lab.host(1)
                .sh(&format!("{save} 2>/dev/null"))?
                .contains("FLANNEL"),
            "{kind:?}"
        );
    }
    Ok(())
}

/// As v0.7.0 wrote them, and v0.11.0 its forward rules, for the network of now and for the one before.
const OLD: &str = "
    for n in 172.30.0.0/16 10.77.0.0/16; do
        iptables -t nat -A POSTROUTING -s $n -d $n -j RETURN
        iptables -t nat -A POSTROUTING -s $n ! -d 224.0.0.0/4 -j MASQUERADE
        iptables -t nat -A POSTROUTING ! -s $n -d $n -j MASQUERADE
        iptables -A FORWARD -s $n -j ACCEPT
        iptables -A FORWARD -d $n -j ACCEPT
    done
    mkdir -p /run/flannel
    echo FLANNEL_NETWORK=10.77.0.0/16 >/run/flannel/subnet.env";

#[test]
fn rules_of_old_releases_and_former_networks_go() -> Test {
    for kind in [Kind::Legacy, Kind::Nft] {
        let mut lab = lab(kind, 1)?;
        lab.host(1).sh(OLD)?;
        lab.host(1)
            .sh("iptables -t nat -A POSTROUTING -s 10.78.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE")?;
        restart(&mut lab, 1, &["-ip-masq"])?;
        let others = "-A POSTROUTING -s 10.78.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE\n";
        assert_eq!(
            kind.rules(lab.host(1))?.replace(others, ""),
            kind.wanted(),
            "{kind:?}"
        );
        assert!(
            kind.rules(lab.host(1))?.contains(others),
            "{kind:?}: not ours"
        );
    }
    Ok(())
}

/// Everything but the fourth rule, which is repaired.
#[test]
fn gos_nftables_are_taken_over() -> Test {
    let mut lab = host(Kind::Nftables, &["-ip-masq"])?;
    let subnet = subnet(lab.host(1))?;
    let right = format!("ip saddr != 172.30.0.0/16 ip daddr {subnet} return");
    let wrong = format!("ip saddr != {subnet} ip daddr 172.30.0.0/16 return");
    let go = lab
        .host(1)
        .sh("nft list table ip flannel-ipv4")?
        .replace(&right, &wrong);
    assert!(go.contains(&wrong));
    lab.end_flanneld(1, lab::Signal::KILL)?;
    lab.host(1)
        .write("/run/go.nft", format!("delete table ip flannel-ipv4\n{go}"))?;
    lab.host(1)
        .sh("nft -f /run/go.nft; nft list ruleset | grep -q 'saddr != 172.30.*daddr 172.30.0.0/16 return'")?;
    restart(&mut lab, 1, &["-ip-masq"])?;
    becomes("taken over", Kind::Nftables.wanted(), || {
        Kind::Nftables.rules(lab.host(1))
    });
    Ok(())
}

/// Another host has the key, and `-on-lease-lost=move`: the rules name the new subnet.
#[test]
fn a_move_to_another_subnet_is_followed() -> Test {
    for kind in [Kind::Nft, Kind::Nftables] {
        let lab = host(kind, &["-ip-masq", "-on-lease-lost=move"])?;
        let before = subnet(lab.host(1))?;
        let key = format!("/kubernetes/network/subnets/{}", before.replace('/', "-"));
        let other = r#"{"PublicIP":"10.64.0.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:77"}}"#;
        lab.etcd()?.put(&key, other)?;
        becomes(
            &format!("{kind:?}: with the new subnet"),
            kind.wanted(),
            || {
                let moved = subnet(lab.host(1))? != before;
                if moved {
                    kind.rules(lab.host(1))
                } else {
                    Ok("not moved".into())
                }
            },
        );
        assert!(
            !Kind::traces(lab.host(1)).contains(&before),
            "{kind:?}: nothing of the old one"
        );
    }
    Ok(())
}
