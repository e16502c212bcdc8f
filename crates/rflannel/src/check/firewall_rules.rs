//! Finds rules that drop overlay packets in the output of `iptables-save` and `nft list ruleset`. Pure.
//!
//! Only obvious rules are found, because only the kernel can evaluate a whole rule set. Probes decide whether packets pass;
//! this module only names the rule.

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub devices: Vec<String>,
    pub ports: Vec<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Output of each variant of `iptables-save`.
    pub iptables: Vec<String>,
    pub nft: String,
}

/// flannel's chain that accepts forwarded packets. Rules after it do not matter.
const OURS: &str = "FLANNEL-FWD";
/// Prefix of the names of flannel's nftables tables.
const OUR_TABLES: &str = "flannel-";
const VERDICTS: [&str; 2] = ["drop", "reject"];

/// Returns rules that drop packets and name one of the devices or ports.
pub fn suspects(texts: &Texts, wanted: &Wanted) -> Vec<String> {
    let iptables = texts
        .iptables
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| {
            let drops = line.contains("-j DROP") || line.contains("-j REJECT");
            line.starts_with("-A ") && drops && wanted.is_named_in(line)
        });
    let nft = nft(&texts.nft).filter(|(_, line)| is_verdict(line) && wanted.is_named_in(line));
    let all = iptables
        .map(str::to_owned)
        .chain(nft.map(|(_, line)| line.to_owned()));
    unique(all)
}

/// Returns rules that drop all forwarded pod packets of one of the devices.
pub fn forward_blocks(texts: &Texts, wanted: &Wanted) -> Vec<String> {
    let iptables = texts.iptables.iter().flat_map(|text| {
        let filter = text.lines().skip_while(|line| *line != "*filter").skip(1);
        let filter = filter.take_while(|line| !line.starts_with('*'));
        let forward = filter.filter(|line| line.starts_with("-A FORWARD "));
        forward
            .take_while(|line| !line.ends_with(OURS))
            .filter(|line| wanted.is_all_of_a_device(line))
    });
    let nft = nft(&texts.nft).filter(|(hook, line)| *hook == "forward" && wanted.is_whole(line));
    unique(
        iptables
            .map(str::to_owned)
            .chain(nft.map(|(_, line)| line.to_owned())),
    )
}

impl Wanted {
    fn is_named_in(&self, line: &str) -> bool {
        let words: Vec<&str> = line
            .split(|c: char| !(c.is_alphanumeric() || "._-".contains(c)))
            .filter(|w| !w.is_empty())
            .collect();
        let device = self
            .devices
            .iter()
            .any(|device| words.contains(&device.as_str()));
        device
            || self
                .ports
                .iter()
                .any(|port| words.contains(&port.to_string().as_str()))
    }

    /// Matches `-A FORWARD -i flannel.1 -j DROP` without further conditions.
    fn is_all_of_a_device(&self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        match words.as_slice() {
            ["-i" | "-o", device, "-j", "DROP" | "REJECT", ..] => {
                self.devices.iter().any(|own| own == device)
            }
            _ => false,
        }
    }

    /// Matches `iifname "flannel.1" counter packets 0 bytes 0 drop` without further conditions.
    fn is_whole(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let is_way = matches!(words.next(), Some("iifname" | "oifname" | "iif" | "oif"));
        let device = words.next().unwrap_or_default().trim_matches('"');
        let rest = words.filter(|word| !is_counter(word));
        is_way
            && self.devices.iter().any(|own| own == device)
            && rest.take(1).all(|word| VERDICTS.contains(&word))
            && is_verdict(line)
    }
}

fn is_counter(word: &str) -> bool {
    ["counter", "packets", "bytes"].contains(&word)
        || word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_verdict(line: &str) -> bool {
    line.split_whitespace().any(|word| VERDICTS.contains(&word))
}

/// Returns the rules of all chains with the hook of their chain, except those of flannel's own tables. After flannel's chain, the rest
/// of a hook does not matter.
fn nft(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut hook, mut ours) = ("", false);
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(table) = line.strip_prefix("table ") {
            ours = table
                .split_whitespace()
                .nth(1)
                .is_some_and(|name| name.starts_with(OUR_TABLES));
        }
        if line.starts_with("chain ") || line.contains(OURS) {
            hook = "";
        }
        if let Some(rest) = line
            .strip_prefix("type ")
            .and_then(|rest| rest.split_once(" hook "))
        {
            hook = rest.1.split_whitespace().next().unwrap_or_default();
        }
        (!ours).then_some((hook, line))
    })
}

/// Removes duplicates: iptables-nft rules appear in both outputs.
fn unique(rules: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for rule in rules {
        if !seen.contains(&rule) {
            seen.push(rule);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j FLANNEL-POSTRTG\nCOMMIT\n*filter
:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m udp --dport 8472 -j DROP\n-A INPUT -p udp -m udp --dport 18472 -j DROP
-A FORWARD -o flannel.1 -j DROP\n-A FORWARD -i flannel.1 -p tcp -j DROP\n-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD
-A FORWARD -i flannel.1 -j DROP\nCOMMIT\n";

    const LISTED: &str = "table ip flannel-ipv4 {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;
\t\tudp dport 8472 drop\n\t}\n}\ntable inet mine {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname \"flannel.1\" counter packets 3 bytes 4 drop\n\t\tiifname \"flannel.1\" tcp dport 22 drop\n\t}
\tchain i {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tudp dport { 4789, 8472 } drop\n\t\tiifname \"flannel.1\" drop\n\t}\n}\n";

    fn wanted() -> Wanted {
        Wanted {
            devices: vec!["flannel.1".into()],
            ports: vec![8472],
        }
    }

    #[test]
    fn rules_that_name_device_or_port_and_drop_are_suspects() {
        let texts = Texts {
            iptables: vec![SAVED.into(), SAVED.into()],
            nft: LISTED.into(),
        };
        let found = suspects(&texts, &wanted());
        assert_eq!(
            found,
            [
                "-A INPUT -p udp -m udp --dport 8472 -j DROP",
                "-A FORWARD -o flannel.1 -j DROP",
                "-A FORWARD -i flannel.1 -p tcp -j DROP",
                "-A FORWARD -i flannel.1 -j DROP",
                "iifname \"flannel.1\" counter packets 3 bytes 4 drop",
                "iifname \"flannel.1\" tcp dport 22 drop",
                "udp dport { 4789, 8472 } drop",
                "iifname \"flannel.1\" drop",
            ]
        );
    }

    #[test]
    fn unconditional_drop_before_flannels_chain_is_an_obstacle() {
        let texts = Texts {
            iptables: vec![SAVED.into()],
            nft: LISTED.into(),
        };
        assert_eq!(
            forward_blocks(&texts, &wanted()),
            [
                "-A FORWARD -o flannel.1 -j DROP",
                "iifname \"flannel.1\" counter packets 3 bytes 4 drop"
            ]
        );
        assert_eq!(forward_blocks(&Texts::default(), &wanted()), [""; 0]);
    }
}
