//! The words of nftables, read and written.

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::super::rule::Wanted;
use super::super::rule::{forward, masquerade};
use super::*;
use crate::subnet::Overlay;

/// Go flannel's table, as nft 1.0.6 prints it. Network 10.5.0.0/16, subnet 10.5.33.0/24.
const GO: &str = include_str!("go.json");

const CAN: bool = true;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn desired() -> [(Place, Wanted); 2] {
    let overlay = Overlay {
        network: net("10.5.0.0/16"),
        subnet: net("10.5.33.0/24"),
    };
    [
        (POSTROUTING, masquerade(overlay, true)),
        (FORWARD, forward(overlay.network)),
    ]
}

fn off(desired: [(Place, Wanted); 2]) -> [(Place, Wanted); 2] {
    desired.map(|(place, wanted)| {
        (
            place,
            Wanted {
                rules: Vec::new(),
                ..wanted
            },
        )
    })
}

fn difference(json: Option<&str>, desired: &[(Place, Wanted)]) -> Vec<String> {
    let there = json.map(Table::read);
    super::difference(
        &table(Family::V4),
        there.as_ref(),
        desired,
        &[net("10.5.0.0/16")],
        CAN,
    )
}

/// The table with the rule that Go has the wrong way round as it should be.
fn right() -> String {
    let wrong = concat!(
        r#"{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.5.33.0","len":24}}}},"#,
        "\n",
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"prefix":{"addr":"10.5.0.0","len":16}}}},"#,
    );
    let swapped = wrong
        .replace("33.0\",\"len\":24", "X")
        .replace("0.0\",\"len\":16", "33.0\",\"len\":24")
        .replace('X', "0.0\",\"len\":16");
    assert_eq!(GO.matches(wrong).count(), 1);
    GO.replace(wrong, &swapped)
}

#[test]
fn go_s_table_is_taken_over_with_its_one_wrong_rule_repaired() {
    assert_eq!(difference(Some(&right()), &desired()), [""; 0]);
    let lines = difference(Some(GO), &desired());
    let deleted = lines
        .iter()
        .filter(|line| line.starts_with("delete rule ip flannel-ipv4 postrtg"))
        .count();
    assert_eq!((deleted, lines.len()), (5, 10), "{lines:#?}");
    assert_eq!(
        lines[7],
        "add rule ip flannel-ipv4 postrtg ip saddr != 10.5.0.0/16 ip daddr 10.5.33.0/24 return"
    );
}

#[test]
fn table_is_created_and_removed_with_all_its_contents() {
    let lines = difference(None, &desired());
    assert_eq!(
        lines[0],
        r#"add table ip flannel-ipv4 { comment "rules for flannel-ipv4" ; }"#
    );
    assert_eq!(
        lines[1],
        r#"add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority 100 ; policy accept ; comment "chain to manage traffic masquerading by flannel" ; }"#
    );
    assert_eq!(
        lines[2],
        "insert rule ip flannel-ipv4 postrtg meta mark 0x4000 return"
    );
    assert_eq!(
        lines[6],
        "add rule ip flannel-ipv4 postrtg ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random"
    );
    assert_eq!(lines.len(), 1 + 1 + 6 + 1 + 2);
    assert_eq!(
        difference(Some(GO), &off(desired())),
        ["delete table ip flannel-ipv4"]
    );
    assert_eq!(
        difference(Some("{}"), &off(desired())),
        ["delete table ip flannel-ipv4"]
    );
    assert_eq!(difference(None, &off(desired())), [""; 0]);
}

#[test]
fn wrong_chain_is_recreated() {
    for (from, to) in [
        (r#""policy":"accept""#, r#""policy":"drop""#),
        (r#""prio":0"#, r#""prio":7"#),
        ("hook", "x"),
    ] {
        let broken = right().replace(from, to);
        let lines = difference(Some(&broken), &desired());
        assert!(
            lines.contains(&"delete chain ip flannel-ipv4 forward".to_owned()),
            "{from}: {lines:#?}"
        );
        assert!(
            lines.contains(
                &"add rule ip flannel-ipv4 forward ip saddr 10.5.0.0/16 accept".to_owned()
            )
        );
    }
}

#[test]
fn another_daemons_rules_keep_the_table() {
    let other = right().replace("10.5.", "10.6.");
    let lines = difference(Some(&other), &off(desired()));
    assert_eq!(lines, [""; 0]);
    let lines = difference(Some(&other), &desired());
    assert!(
        lines.iter().all(|line| line.starts_with("add rule ")),
        "{lines:#?}"
    );
}

#[test]
fn without_comments_nothing_else_is_missing() {
    let can = false;
    let plain = super::difference(&table(Family::V6), None, &desired(), &[], can);
    assert_eq!(plain[0], "add table ip6 flannel-ipv6");
    assert!(!plain.concat().contains("comment"));
}

proptest! {
    /// Whatever nft prints, or anybody else: no panic, and only handles that are there are deleted.
    #[test]
    fn any_text_is_read(cut in 0..2000_usize, with in "[\\[\\]{}\":,a-z0-9]{0,5}") {
        let mut text = GO.to_owned();
        let at = cut.min(text.len());
        text.replace_range(at..(at + with.len()).min(text.len()), &with);
        for line in difference(Some(&text), &desired()) {
            if let Some((_, handle)) = line.split_once(" handle ") {
                prop_assert!(text.contains(&format!("\"handle\":{handle}")), "{}", line);
            }
        }
    }
}
