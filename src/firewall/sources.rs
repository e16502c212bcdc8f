//! Who may send VXLAN packets to this host: a table of its own, whose sets hold the public addresses of the peers: pure.
//!
//! One table for each VNI, so that daemons of one host do not meet. The VNI is compared as well as the port, for two
//! overlays may share a port.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::nft::{Name, objects};

/// Before anybody's filter, after all that changes addresses.
const PRIORITY: i32 = -10;
/// Sets for IPv4 and IPv6: name, type, and the protocol whose source they are compared with.
const SETS: [(&str, &str, &str); 2] = [
    ("peers4", "ipv4_addr", "ip"),
    ("peers6", "ipv6_addr", "ip6"),
];
/// Addresses in one command.
const CHUNK: usize = 1024;

/// The packets that are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tunnel {
    pub port: u16,
    pub vni: u32,
}

impl Tunnel {
    pub fn table(self) -> Name {
        Name {
            family: "inet",
            name: format!("flannel-sources-{}", self.vni),
        }
    }

    /// By its comment a rule is known again: each release of nft prints the rest in its own way.
    fn comment(self, protocol: &str) -> String {
        let Self { port, vni } = self;
        format!("{protocol}: VNI {vni} on port {port} only from peers")
    }

    fn create(self, peers: &BTreeSet<IpAddr>) -> Vec<String> {
        let (name, Self { port, vni }) = (self.table(), self);
        let mut lines = vec![
            format!("add table {name}"),
            format!("delete table {name}"),
            format!("add table {name}"),
        ];
        lines
            .extend(SETS.map(|(set, kind, _)| format!("add set {name} {set} {{ type {kind} ; }}")));
        lines.push(format!(
            "add chain {name} input {{ type filter hook input priority {PRIORITY} ; policy accept ; }}"
        ));
        lines.extend(SETS.map(|(set, _, protocol)| {
            let comment = self.comment(protocol);
            // Behind the eight bytes of UDP: flags and reserved bytes, four, then three of VNI.
            format!(
                "add rule {name} input udp dport {port} @th,96,24 {vni} {protocol} saddr != @{set} counter drop comment \"{comment}\""
            )
        }));
        lines.extend(elements("add", &name, peers.iter()));
        lines
    }

    /// Commands for `nft -f` after which only `peers` get through; `None`: everybody. `json` is what `nft -j list table`
    /// says about the table, if there is one.
    pub fn difference(self, json: Option<&str>, peers: Option<&BTreeSet<IpAddr>>) -> Vec<String> {
        let name = self.table();
        match (json, peers) {
            (None, None) => Vec::new(),
            (Some(_), None) => vec![format!("delete table {name}")],
            (None, Some(peers)) => self.create(peers),
            (Some(json), Some(peers)) => match self.admitted(json) {
                None => self.create(peers),
                Some(now) => {
                    let mut lines = elements("add", &name, peers.difference(&now));
                    lines.extend(elements("delete", &name, now.difference(peers)));
                    lines
                }
            },
        }
    }

    /// Whom the table admits, if it is as it was made.
    fn admitted(self, json: &str) -> Option<BTreeSet<IpAddr>> {
        let objects = objects(json);
        let of = |kind: &'static str| {
            objects
                .iter()
                .filter(move |(name, _)| name == kind)
                .map(|(_, object)| object)
        };
        let text = |object: &'_ Value, name: &str| {
            object.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        let comments: Vec<Option<String>> = of("rule").map(|rule| text(rule, "comment")).collect();
        let wanted = SETS.map(|(_, _, protocol)| Some(self.comment(protocol)));
        let hooks: Vec<Option<String>> = of("chain").map(|chain| text(chain, "hook")).collect();
        let sets: Vec<Option<String>> = of("set").map(|set| text(set, "name")).collect();
        let right = comments == wanted
            && hooks == [Some("input".into())]
            && sets == SETS.map(|(set, ..)| Some(set.to_owned()));
        let elements = of("set")
            .filter_map(|set| set.get("elem")?.as_array())
            .flatten();
        let all: Option<BTreeSet<IpAddr>> =
            elements.map(|one| one.as_str()?.parse().ok()).collect();
        all.filter(|_| right)
    }
}

/// Commands that add or delete addresses.
fn elements<'a>(
    verb: &str,
    name: &Name,
    addresses: impl Iterator<Item = &'a IpAddr>,
) -> Vec<String> {
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) = addresses.partition(|ip| ip.is_ipv4());
    let mut lines = Vec::new();
    for ((set, ..), own) in SETS.iter().zip([v4, v6]) {
        let own: Vec<String> = own.iter().map(ToString::to_string).collect();
        for few in own.chunks(CHUNK) {
            let few = few.join(", ");
            lines.push(format!("{verb} element {name} {set} {{ {few} }}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: Tunnel = Tunnel { port: 8472, vni: 1 };

    fn peers(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    /// What nft 1.0.6 prints for the table with these addresses.
    fn printed(addresses: &[&str]) -> String {
        let elements = match addresses {
            [] => String::new(),
            some => format!(r#", "elem": ["{}"]"#, some.join(r#"", ""#)),
        };
        let rule = |protocol| {
            let comment = TUNNEL.comment(protocol);
            format!(
                r#"{{"rule": {{"family": "inet", "chain": "input", "handle": 4, "comment": "{comment}", "expr": []}}}}"#
            )
        };
        format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}},
            {{"table": {{"family": "inet", "name": "flannel-sources-1", "handle": 2}}}},
            {{"set": {{"family": "inet", "name": "peers4", "type": "ipv4_addr"{elements}}}}},
            {{"set": {{"family": "inet", "name": "peers6", "type": "ipv6_addr"}}}},
            {{"chain": {{"family": "inet", "name": "input", "type": "filter", "hook": "input", "prio": -10}}}},
            {}, {}]}}"#,
            rule("ip"),
            rule("ip6")
        )
    }

    #[test]
    fn only_differences_are_written() {
        let desired = peers(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        let difference = |json: Option<&str>| TUNNEL.difference(json, Some(&desired));
        assert_eq!(
            difference(Some(&printed(&["192.0.2.2", "192.0.2.3"]))),
            [
                "add element inet flannel-sources-1 peers4 { 192.0.2.1 }",
                "add element inet flannel-sources-1 peers6 { 2001:db8::1 }",
                "delete element inet flannel-sources-1 peers4 { 192.0.2.3 }"
            ]
        );
        let v4 = peers(&["192.0.2.1"]);
        assert_eq!(
            TUNNEL.difference(Some(&printed(&["192.0.2.1"])), Some(&v4)),
            [""; 0]
        );
        assert_eq!(difference(None).len(), 10);
        // Anything that is not as it was made is made again.
        for broken in [
            "{}",
            "",
            &printed(&["192.0.2.0/24"]),
            &printed(&[]).replace("8472", "4789"),
        ] {
            assert_eq!(difference(Some(broken)), difference(None), "{broken}");
        }
    }

    #[test]
    fn off_means_that_no_table_is_there() {
        assert_eq!(TUNNEL.difference(None, None), [""; 0]);
        assert_eq!(
            TUNNEL.difference(Some("{}"), None),
            ["delete table inet flannel-sources-1"]
        );
    }
}
