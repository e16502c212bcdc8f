//! The rules in the words of nftables: read from `nft -j list table`, written for `nft -f`: pure.
//!
//! Tables, chains, comments and texts are those of Go flannel since v0.25, but for one rule that masquerades what it should
//! not: there the two networks are the wrong way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::diff::{Present, RuleDiff, rule_diff};
use super::rule::{Match, Rule, Verdict, Wanted};
use crate::util::family::Family;

/// kube-proxy's mark.
const MARK: u64 = 0x4000;

/// A base chain of flannel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub chain: &'static str,
    kind: &'static str,
    hook: &'static str,
    priority: i64,
    comment: &'static str,
}

pub const POSTROUTING: Place = Place {
    chain: "postrtg",
    kind: "nat",
    hook: "postrouting",
    priority: 100,
    comment: "chain to manage traffic masquerading by flannel",
};
pub const FORWARD: Place = Place {
    chain: "forward",
    kind: "filter",
    hook: "forward",
    priority: 0,
    comment: "chain to accept flannel traffic",
};

/// A table's family and name, as nft writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    pub name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Go flannel's table for IPv4 or IPv6.
pub fn table(family: Family) -> Name {
    let (family, name) = match family {
        Family::V4 => ("ip", "flannel-ipv4"),
        Family::V6 => ("ip6", "flannel-ipv6"),
    };
    let name = name.to_owned();
    Name { family, name }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    chains: BTreeMap<String, Value>,
    rules: Vec<(String, Present<u64>)>,
    /// There is something else in it.
    more: bool,
}

/// The objects in what `nft -j` prints, each with its kind. Anything else yields none.
pub fn objects(json: &str) -> Vec<(String, Value)> {
    let Ok(Value::Object(mut root)) = serde_json::from_str(json) else {
        return Vec::new();
    };
    let Some(Value::Array(objects)) = root.remove("nftables") else {
        return Vec::new();
    };
    let first = |object| {
        serde_json::from_value::<Map<_, _>>(object)
            .ok()?
            .into_iter()
            .next()
    };
    objects.into_iter().filter_map(first).collect()
}

impl Table {
    /// Reads what `nft -j list table` prints.
    pub fn read(json: &str) -> Self {
        let mut table = Self::default();
        for (kind, object) in objects(json) {
            match kind.as_str() {
                "chain" => table
                    .chains
                    .extend(text(&object, "name").map(|name| (name, object))),
                "rule" => table.rules.extend(read_rule(&object)),
                "table" | "metainfo" => {}
                _ => table.more = true,
            }
        }
        table
    }

    fn of(&self, chain: &str) -> Vec<Present<u64>> {
        let rules = self.rules.iter().filter(|(name, _)| name == chain);
        rules.map(|(_, rule)| rule.clone()).collect()
    }

    /// A chain of another kind, or one that drops what no rule accepts, is none of flannel's.
    fn has(&self, place: Place) -> bool {
        let is = |chain: &Value, name: &str, want: &str| text(chain, name).as_deref() == Some(want);
        self.chains.get(place.chain).is_some_and(|chain| {
            is(chain, "type", place.kind)
                && is(chain, "hook", place.hook)
                && is(chain, "policy", "accept")
                && chain.get("prio").and_then(Value::as_i64) == Some(place.priority)
        })
    }
}

/// Commands for `nft -f` that make the chains of a table as wanted. None: they are. `table` is `None` where there is none.
pub fn difference(
    name: &Name,
    table: Option<&Table>,
    wanted: &[(Place, Wanted)],
    mine: &[IpNetwork],
    comments: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    let empty = Table::default();
    let there = table.unwrap_or(&empty);
    let mut left: BTreeSet<&str> = there.chains.keys().map(String::as_str).collect();
    for (place, wanted) in wanted {
        let mut known = there.of(place.chain);
        known.retain(|_| there.has(*place));
        let diff = rule_diff(&known, wanted, mine);
        lines.extend(chain(name, there, *place, &diff, comments));
        if diff.deserted {
            left.remove(place.chain)
        } else {
            left.insert(place.chain)
        };
    }
    if table.is_some() && left.is_empty() && !there.more {
        return vec![format!("delete table {name}")];
    }
    if table.is_none() && !lines.is_empty() {
        let comment = match comment(&format!("rules for {}", name.name), comments) {
            none if none.is_empty() => none,
            comment => format!(" {{{comment} }}"),
        };
        lines.insert(0, format!("add table {name}{comment}"));
    }
    lines
}

fn chain(
    name: &Name,
    there: &Table,
    place: Place,
    diff: &RuleDiff<u64>,
    comments: bool,
) -> Vec<String> {
    let Place {
        chain,
        kind,
        hook,
        priority,
        comment: about,
    } = place;
    let exists = there.chains.contains_key(chain);
    let at = format!("{name} {chain}");
    if diff.deserted {
        return Vec::from_iter(exists.then(|| format!("delete chain {at}")));
    }
    let mut lines = Vec::new();
    if !there.has(place) {
        lines.extend(exists.then(|| format!("delete chain {at}")));
        let comment = comment(about, comments);
        lines.push(format!(
            "add chain {at} {{ type {kind} hook {hook} priority {priority} ; policy accept ;{comment} }}"
        ));
    }
    for handle in &diff.delete {
        lines.push(format!("delete rule {at} handle {handle}"));
    }
    if let Some(rule) = &diff.insert {
        lines.push(format!("insert rule {at} {}", expression(rule)));
    }
    for rule in &diff.append {
        lines.push(format!("add rule {at} {}", expression(rule)));
    }
    lines
}

/// Where tables and chains may have comments.
fn comment(text: &str, comments: bool) -> String {
    if !comments {
        return String::new();
    }
    format!(" comment \"{text}\" ;")
}

/// A rule as nft takes it.
fn expression(rule: &Rule) -> String {
    let mut words = String::new();
    if rule.marked {
        let _ = write!(words, "meta mark {MARK:#x} ");
    }
    for (field, one) in [("saddr", rule.source), ("daddr", rule.destination)] {
        if let Some(Match { negated, net }) = one {
            let family = if net.is_ipv4() { "ip" } else { "ip6" };
            let not = if negated { "!= " } else { "" };
            let _ = write!(words, "{family} {field} {not}{net} ");
        }
    }
    words.push_str(match &rule.verdict {
        Verdict::Return => "return",
        Verdict::Accept => "accept",
        Verdict::Masquerade { fully_random } if *fully_random => "masquerade fully-random",
        Verdict::Masquerade { .. } => "masquerade",
        Verdict::Jump(chain) => return format!("{words}jump {chain}"),
    });
    words
}

fn read_rule(object: &Value) -> Option<(String, Present<u64>)> {
    let expressions = object.get("expr").and_then(Value::as_array);
    let expressions = expressions.map_or(&[][..], Vec::as_slice);
    let nets = expressions
        .iter()
        .filter_map(|one| Some(address(one)?.1.net));
    let present = Present {
        id: object.get("handle")?.as_u64()?,
        rule: rule(expressions),
        nets: nets.collect(),
    };
    Some((text(object, "chain")?, present))
}

/// The rule that these expressions are, if it is one of flannel's kinds.
fn rule(expressions: &[Value]) -> Option<Rule> {
    let (last, conditions) = expressions.split_last()?;
    let mut rule = Rule::new(None, None, verdict(last)?);
    for one in conditions {
        match address(one) {
            Some(("saddr", one)) => rule.source = Some(one),
            Some(("daddr", one)) => rule.destination = Some(one),
            None if is_mark(one) => rule.marked = true,
            _ => return None,
        }
    }
    Some(rule)
}

/// A condition on source (`saddr`) or destination (`daddr`).
fn address(expression: &Value) -> Option<(&str, Match)> {
    let condition = expression.get("match")?;
    let payload = condition.get("left")?.get("payload")?;
    let field = payload.get("field")?.as_str()?;
    let right = condition.get("right")?;
    let net = match right.get("prefix") {
        Some(prefix) => format!("{}/{}", text(prefix, "addr")?, prefix.get("len")?.as_u64()?),
        None => right.as_str()?.to_owned(),
    };
    let negated = match condition.get("op")?.as_str()? {
        "==" => false,
        "!=" => true,
        _ => return None,
    };
    let net = net.parse().ok()?;
    Some((field, Match { negated, net }))
}

fn is_mark(expression: &Value) -> bool {
    let Some(condition) = expression.get("match") else {
        return false;
    };
    let key = condition
        .get("left")
        .and_then(|left| left.get("meta")?.get("key")?.as_str());
    let equal = condition.get("op").and_then(Value::as_str) == Some("==");
    key == Some("mark") && equal && condition.get("right").and_then(Value::as_u64) == Some(MARK)
}

fn verdict(expression: &Value) -> Option<Verdict> {
    let (name, value) = expression.as_object()?.iter().next()?;
    match name.as_str() {
        "return" => Some(Verdict::Return),
        "accept" => Some(Verdict::Accept),
        "masquerade" => flags(value).map(|fully_random| Verdict::Masquerade { fully_random }),
        _ => None,
    }
}

/// Whether a masquerade is fully random. `None`: it is something else besides.
fn flags(masquerade: &Value) -> Option<bool> {
    let members = masquerade.as_object();
    if masquerade.is_null() || members.is_some_and(Map::is_empty) {
        return Some(false);
    }
    let flags = members.filter(|members| members.len() == 1)?.get("flags")?;
    let flag = match flags.as_array().map(Vec::as_slice) {
        Some([flag]) => flag,
        _ => flags,
    };
    (flag.as_str() == Some("fully-random")).then_some(true)
}

fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
