//! The rules in the words of iptables: read from `iptables-save`, written for `iptables-restore --noflush`: pure.
//!
//! Chains, comments, order and texts are those of Go flannel since v0.21.3, so that either daemon takes the other's rules
//! for its own.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ipnetwork::IpNetwork;

use super::diff::{Present, rule_diff};
use super::rule::{Match, Rule, Verdict, Wanted};

/// kube-proxy's mark.
const MARK: &str = "0x4000/0x4000";

/// One of flannel's own chains, and where it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub table: &'static str,
    /// The built-in chain that jumps to it.
    pub hook: &'static str,
    pub chain: &'static str,
    /// Comment of every rule of it.
    pub comment: &'static str,
}

pub const POSTROUTING: Place = Place {
    table: "nat",
    hook: "POSTROUTING",
    chain: "FLANNEL-POSTRTG",
    comment: "flanneld masq",
};
pub const FORWARD: Place = Place {
    table: "filter",
    hook: "FORWARD",
    chain: "FLANNEL-FWD",
    comment: "flanneld forward",
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    chains: BTreeSet<String>,
    /// Chains whose policy is `DROP`.
    dropping: BTreeSet<String>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    chain: String,
    /// What comes after `-A CHAIN`.
    spec: String,
    target: Option<String>,
    comment: Option<String>,
    rule: Option<Rule>,
    nets: Vec<IpNetwork>,
}

impl Table {
    /// Reads the part of table `name` from what `iptables-save` prints. What makes no sense is left out.
    pub fn read(saved: &str, name: &str) -> Self {
        let mut table = Self::default();
        let lines = saved.lines().map(str::trim_end);
        let part = lines.skip_while(|line| line.strip_prefix('*') != Some(name));
        for line in part.skip(1).take_while(|line| *line != "COMMIT") {
            match line.split_at_checked(1) {
                Some((":", chain)) => table.declare(chain),
                Some(("-", rule)) => table.lines.extend(Line::read(rule)),
                _ => {}
            }
        }
        table
    }

    fn declare(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let Some(chain) = words.next() else { return };
        self.chains.insert(chain.to_owned());
        if words.next() == Some("DROP") {
            self.dropping.insert(chain.to_owned());
        }
    }

    /// Whether packets that no rule of `chain` accepts are dropped.
    pub fn drops(&self, chain: &str) -> bool {
        self.dropping.contains(chain)
    }

    /// Lines for `iptables-restore` that make one chain as wanted, with the jump to it, and without what older releases left.
    /// None: it is so.
    pub fn difference(&self, place: Place, wanted: &Wanted, mine: &[IpNetwork]) -> Vec<String> {
        let Place { chain, .. } = place;
        let present: Vec<Present<&str>> = self.of(chain).map(Line::present).collect();
        let diff = rule_diff(&present, wanted, mine);
        let exists = self.chains.contains(chain);
        let mut lines = Vec::new();
        if !exists && !diff.deserted {
            lines.push(format!("-N {chain}"));
        }
        lines.extend(diff.delete.iter().map(|spec| format!("-D {chain} {spec}")));
        if let Some(rule) = &diff.insert {
            lines.push(format!("-I {chain} 1 {}", spec(rule, place.comment)));
        }
        for rule in &diff.append {
            lines.push(format!("-A {chain} {}", spec(rule, place.comment)));
        }
        let old = self.old_rules(place, wanted, mine);
        lines.extend(old.into_iter().map(Line::deletion));
        if diff.deserted {
            let jumps = self.lines.iter().filter(|line| line.leads_to(chain));
            lines.extend(jumps.map(Line::deletion));
            lines.extend(exists.then(|| format!("-X {chain}")));
        } else {
            lines.extend(self.jumps(place));
        }
        lines
    }

    fn of(&self, chain: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.chain == chain)
    }

    /// One jump, wherever it stands.
    fn jumps(&self, place: Place) -> Vec<String> {
        let jump = Rule::jump(place.chain);
        let is_jump = |line: &&Line| line.rule.as_ref() == Some(&jump) && line.is_commented(place);
        let there: Vec<&Line> = self.of(place.hook).filter(is_jump).collect();
        match there.split_first() {
            None => vec![format!("-A {} {}", place.hook, spec(&jump, place.comment))],
            Some((_, spare)) => spare.iter().copied().map(Line::deletion).collect(),
        }
    }

    /// The first rule that takes every packet before flannel's chain is asked, as the FORWARD of EL's iptables-services has one.
    pub fn obstacle(&self, place: Place) -> Option<&str> {
        let hook = self.of(place.hook);
        let mut before = hook.take_while(|line| !line.leads_to(place.chain));
        Some(&before.find(|line| line.refuses_all())?.spec)
    }

    /// Rules that a release of before v0.20 wrote straight into the built-in chain.
    fn old_rules(&self, place: Place, wanted: &Wanted, mine: &[IpNetwork]) -> Vec<&Line> {
        let hook: Vec<&Line> = self.of(place.hook).collect();
        let is_flannels = |line: &Line| match (place, wanted.rules.is_empty()) {
            (FORWARD, false) => line.is_flannels(&hook),
            (FORWARD, true) => line.comment.is_some(),
            _ => true,
        };
        let mut old = hook.clone();
        old.retain(|line| mine.iter().any(|net| line.is_old(place, *net)) && is_flannels(line));
        old
    }
}

impl Line {
    /// Reads what follows the dash: `A CHAIN …`.
    fn read(text: &str) -> Option<Self> {
        let (chain, spec) = text.strip_prefix("A ")?.split_once(' ')?;
        let words = words(spec);
        let after = |names: &[&str]| values(&words, names).next().map(str::to_owned);
        Some(Self {
            chain: chain.to_owned(),
            spec: spec.to_owned(),
            target: after(&["-j", "-g"]),
            comment: after(&["--comment"]),
            rule: rule(&words),
            nets: nets(&words),
        })
    }

    fn present(&self) -> Present<&str> {
        Present {
            id: &self.spec,
            rule: self.rule.clone(),
            nets: self.nets.clone(),
        }
    }

    fn deletion(&self) -> String {
        format!("-D {} {}", self.chain, self.spec)
    }

    fn leads_to(&self, chain: &str) -> bool {
        self.target.as_deref() == Some(chain)
    }

    fn refuses_all(&self) -> bool {
        let words = words(&self.spec);
        let mut words = words.iter().map(String::as_str);
        loop {
            match words.next() {
                Some("-m") if words.next() == Some("comment") => {}
                Some("--comment") => drop(words.next()),
                Some("-j") => return matches!(words.next(), Some("REJECT" | "DROP")),
                _ => return false,
            }
        }
    }

    fn is_commented(&self, place: Place) -> bool {
        self.comment.as_deref() == Some(place.comment)
    }

    /// Without a comment of flannel's or with it, never with another one.
    fn is_old(&self, place: Place, net: IpNetwork) -> bool {
        let shape = self.rule.as_ref().is_some_and(|rule| match place.table {
            "nat" => rule.is_old_masquerade(net),
            _ => rule.is_old_forward(net),
        });
        shape && (self.comment.is_none() || self.is_commented(place))
    }

    /// Without a comment the two rules of `FORWARD` look like anybody's: flannel wrote them once, one after the other.
    fn is_flannels(&self, hook: &[&Self]) -> bool {
        let once = |line: &Self| hook.iter().filter(|other| other.spec == line.spec).count() == 1;
        let pair = |a: &Self, b: &Self| match (&a.rule, &b.rule) {
            (Some(a), Some(b)) => a.source.is_some() && a.source == b.destination,
            _ => false,
        };
        let among = |two: &[&Self]| match two {
            [a, b] => (*a == self || *b == self) && once(a) && once(b) && pair(a, b),
            _ => false,
        };
        self.comment.is_some() || hook.windows(2).any(among)
    }
}

/// The input of one `iptables-restore`: each table with its lines. Tables without lines are left out.
pub fn batch(tables: &[(&str, Vec<String>)]) -> Option<String> {
    let mut text = String::new();
    for (name, lines) in tables.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "*{name}\n{}\nCOMMIT", lines.join("\n"));
    }
    Some(text).filter(|text| !text.is_empty())
}

/// A rule as `iptables-save` prints it.
fn spec(rule: &Rule, comment: &str) -> String {
    let mut words = String::new();
    for (option, one) in [("-s", rule.source), ("-d", rule.destination)] {
        if let Some(Match { negated, net }) = one {
            let _ = write!(words, "{}{option} {net} ", if negated { "! " } else { "" });
        }
    }
    if rule.marked {
        let _ = write!(words, "-m mark --mark {MARK} ");
    }
    let target = match &rule.verdict {
        Verdict::Return => "RETURN",
        Verdict::Accept => "ACCEPT",
        Verdict::Masquerade { fully_random } if *fully_random => "MASQUERADE --random-fully",
        Verdict::Masquerade { .. } => "MASQUERADE",
        Verdict::Jump(chain) => chain,
    };
    let _ = write!(words, "-m comment --comment \"{comment}\" -j {target}");
    words
}

/// The rule that these words are, if it is one of flannel's kinds.
fn rule(words: &[String]) -> Option<Rule> {
    let mut rule = Rule::new(None, None, Verdict::Return);
    let (mut negated, mut verdict) = (false, None);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-s" | "-d" => {
                let net = words.next()?.parse().ok()?;
                let side = match word {
                    "-s" => &mut rule.source,
                    _ => &mut rule.destination,
                };
                *side = Some(Match { negated, net });
            }
            "-m" if !negated => match (words.next()?, words.next()?, words.next()?) {
                ("comment", "--comment", _) => {}
                ("mark", "--mark", MARK) => rule.marked = true,
                _ => return None,
            },
            "-j" if !negated => verdict = Some(target(words.next()?)),
            "--random-fully" if !negated => match &mut verdict {
                Some(Verdict::Masquerade { fully_random }) => *fully_random = true,
                _ => return None,
            },
            _ => return None,
        }
        negated = false;
    }
    Some(Rule {
        verdict: verdict?,
        ..rule
    })
}

fn target(name: &str) -> Verdict {
    match name {
        "RETURN" => Verdict::Return,
        "ACCEPT" => Verdict::Accept,
        "MASQUERADE" => Verdict::Masquerade {
            fully_random: false,
        },
        chain => Verdict::Jump(chain.to_owned()),
    }
}

/// The networks that these words name as source or destination.
fn nets(words: &[String]) -> Vec<IpNetwork> {
    values(words, &["-s", "-d"])
        .filter_map(|net| net.parse().ok())
        .collect()
}

/// What stands behind any of these options.
fn values<'a>(words: &'a [String], options: &'a [&str]) -> impl Iterator<Item = &'a str> {
    words.windows(2).filter_map(|two| match two {
        [option, value] if options.contains(&option.as_str()) => Some(value.as_str()),
        _ => None,
    })
}

/// Splits at blanks; double quotes hold together, a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
