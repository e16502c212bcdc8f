//! Every kind of change, and what it does to a cluster of two hosts.

use super::super::inventory::tests::{dump, times};
use super::*;
use std::time::Duration;

const OLD: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const H1: &str = r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#;
const H2: &str = r#"{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}}"#;

fn planned(
    old: &str,
    new: &str,
    leases: &[(&str, &str, Option<&str>)],
) -> Result<(Plan, String), Refusal> {
    let dump = dump(leases, old);
    let record = dump.config.clone();
    let inventory = Inventory::read(dump, &times(), Duration::from_secs(3600));
    let plan = change(&inventory, record.as_ref(), new.as_bytes())?;
    let shown = text(&inventory, &plan);
    Ok((plan, shown))
}

fn of_two(new: &str) -> (Plan, String) {
    planned(
        OLD,
        new,
        &[("10.5.1.0-24", H1, Some("h1")), ("10.5.130.0-24", H2, None)],
    )
    .unwrap()
}

#[test]
fn what_breaks_running_leases_is_named_lease_by_lease() {
    for (new, words) in [
        (
            r#"{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan"}}"#,
            &[
                "10.5.1.0/24 is not a /24 of 10.6.0.0/16",
                "h1 (192.0.2.1)",
                "gets another subnet",
            ][..],
        ),
        (
            r#"{"Network":"10.5.0.0/17","Backend":{"Type":"vxlan"}}"#,
            &[
                "10.5.1.0/24 of h1 (192.0.2.1): keeps its subnet",
                "10.5.130.0/24 is not a /24 of 10.5.0.0/17",
            ],
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetLen":25,"Backend":{"Type":"vxlan"}}"#,
            &["10.5.1.0/24 is not a /25 of 10.5.0.0/16"],
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.64.0","Backend":{"Type":"vxlan"}}"#,
            &["10.5.1.0/24 is not between 10.5.64.0 and 10.5.255.0"],
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#,
            &[
                "the VNI changes from 1 to 7",
                "ip link del flannel.1",
                "restarted hosts reject its lease: its VNI is 1",
            ],
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
            &[
                "the backend changes from vxlan to host-gw: restarted hosts and other hosts do not reach each other",
                "first switch every host to vxlan with DirectRouting",
            ],
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}"#,
            &[
                "the backend changes from vxlan to alloc: restarted hosts and other hosts do not reach",
            ],
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":4789}}"#,
            &[
                "the UDP port changes from 8472 (the kernel's default) to 4789",
                "keeps its subnet",
            ],
        ),
        (
            r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#,
            &["10.5.1.0/24 is removed: IPv4 is off"],
        ),
    ] {
        let (plan, shown) = of_two(new);
        assert!(plan.is_harmful(), "{shown}");
        for words in words {
            assert!(shown.contains(words), "{words:?} is missing:\n{shown}");
        }
    }
}

#[test]
fn what_hosts_can_live_with_is_only_told() {
    for (new, words) in [
        (
            r#"{"Network":"10.4.0.0/15","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#,
            "not restarted ignores leases outside 10.5.0.0/16",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":1400}}"#,
            "the MTU changes",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#,
            "DirectRouting changes",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","GBP":true}}"#,
            "GBP changes",
        ),
        (
            r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#,
            "the firewall rules",
        ),
        (
            r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#,
            "keeps its subnet, and gets an IPv6 subnet",
        ),
    ] {
        let (plan, shown) = of_two(new);
        assert!(!plan.is_harmful(), "{shown}");
        assert!(shown.contains(words), "{words:?} is missing:\n{shown}");
    }
}

#[test]
fn host_gw_and_direct_routing_go_together() {
    let (direct, host_gw) = (
        OLD.replace("\"vxlan\"", "\"vxlan\",\"DirectRouting\":true"),
        OLD.replace("vxlan", "host-gw"),
    );
    let leases = [
        ("10.5.1.0-24", H1, Some("h1")),
        (
            "10.5.130.0-24",
            r#"{"PublicIP":"192.0.2.2","BackendType":"host-gw"}"#,
            None,
        ),
    ];
    for (old, new) in [(&direct, &host_gw), (&host_gw, &direct)] {
        let (plan, shown) = planned(old, new, &leases).unwrap();
        assert!(!plan.is_harmful(), "{shown}");
        assert!(
            shown.contains(
                "restarted hosts and other hosts reach each other where they are directly connected"
            ),
            "{shown}"
        );
    }
    let (config, backend) = parse(host_gw.as_bytes()).unwrap();
    let told = describe(&config, &*backend);
    assert!(
        told.iter().any(|line| line == "backend   host-gw"),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|line| line == "routing   direct: hosts must share a network"),
        "{told:?}"
    );
}

#[test]
fn without_leases_nothing_breaks() {
    let new = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":9}}"#;
    let (plan, shown) = planned(OLD, new, &[]).unwrap();
    assert!(
        !plan.is_harmful() && shown.contains("no host has a lease"),
        "{shown}"
    );
    assert_eq!(
        (plan.write.before, plan.write.leases_as_of),
        (Before::At(1), 99)
    );
}

/// A configuration that no daemon can read is replaced by one that fits the leases there are.
#[test]
fn a_broken_one_can_be_repaired() {
    let (plan, shown) = planned("{", OLD, &[("10.5.1.0-24", H1, Some("h1"))]).unwrap();
    assert!(!plan.is_harmful(), "{shown}");
}

#[test]
fn what_no_daemon_can_use_is_never_written() {
    for (new, words) in [
        ("{", "not a JSON object"),
        (r#"{"Network":"10.5.0.0/31"}"#, "too small"),
        (
            r#"{"Network":"10.5.0.0/16"}"#,
            "backend type udp is not supported",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
            "VNI 16777216 is out of range",
        ),
        (OLD, "nothing to do"),
    ] {
        let refusal = planned(OLD, new, &[]).unwrap_err().to_string();
        assert!(refusal.contains(words), "{new}: {refusal}");
    }
}

#[test]
fn a_configuration_is_described_with_its_defaults() {
    let json = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan","GBP":true,"DirectRouting":true}}"#;
    let (config, backend) = parse(json.as_bytes()).unwrap();
    assert_eq!(
        describe(&config, &*backend),
        [
            "network   10.5.0.0/16, 255 subnets of /24 from 10.5.1.0 to 10.5.255.0",
            "network   fd05::/48, 65535 subnets of /64 from fd05:0:0:1:: to fd05:0:0:ffff::",
            "backend   vxlan, VNI 1, UDP port 8472 (the kernel's default), GBP",
            "routing   direct where hosts share a network",
            "firewall  iptables",
        ]
    );
}
