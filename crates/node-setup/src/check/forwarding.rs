//! Checks whether the kernel forwards packets of pods unfragmented. Pure.

use std::path::Path;

use super::facts::{Facts, Live};
use super::runtime;
use crate::Service;
use crate::finding::{Finding, or_ok};
use crate::model::Model;
use flanneld::util::env_file;

/// Bytes that VXLAN adds to a packet over IPv4.
const OVERHEAD: u32 = 50;
/// Minimum MTU that IPv6 requires.
const SMALLEST: u32 = 1280;

const OTHER_PLUGIN: &str = "left by another network plugin: reboot after you have removed it";

/// Prefix of chains, the program that owns them, its units, and how to remove them.
const OWNERS: &[(&str, &str, &[&str], &str)] = &[
    (
        "KUBE-",
        "kube-proxy or kubelet",
        &["kube-proxy.service", "kubelet.service"],
        "kube-proxy --cleanup",
    ),
    (
        "DOCKER",
        "docker",
        &["docker.service"],
        "docker creates them again when it starts; a reboot removes them",
    ),
    (
        "FLANNEL-",
        "flanneld",
        &["flanneld.service"],
        "flanneld adopts them when it starts; a reboot removes them",
    ),
    ("cali-", "Calico", &[], OTHER_PLUGIN),
    ("CILIUM_", "Cilium", &[], OTHER_PLUGIN),
    ("WEAVE-", "Weave Net", &[], OTHER_PLUGIN),
];

pub fn judge(model: &Model, facts: &Facts, live: &Live) -> Vec<Finding> {
    let mut findings = mtu(model, facts, live);
    findings.extend(backend(live));
    findings.extend(forward_policy(model, live));
    findings.extend(stale_chains(live));
    findings
}

/// Checks that packets of the overlay fit through the underlay interface.
fn mtu(model: &Model, facts: &Facts, live: &Live) -> Vec<Finding> {
    const ID: &str = "mtu";
    let vxlan = model.backend() == "vxlan";
    let Some((under, size)) =
        underlay(model, live).filter(|_| vxlan && model.has(Service::Flanneld))
    else {
        return Vec::new();
    };
    let most = size.saturating_sub(OVERHEAD);
    let devices = live
        .links
        .iter()
        .filter(|(name, _)| name.starts_with("flannel."))
        .cloned();
    let told = facts
        .text(Path::new(runtime::SUBNET_ENV))
        .and_then(subnet_mtu);
    let overlay = devices.chain(told.map(|mtu| (runtime::SUBNET_ENV.to_owned(), mtu)));
    let mut findings: Vec<Finding> = overlay
        .filter(|(_, mtu)| *mtu > most)
        .map(|(name, mtu)| {
            Finding::error(
                ID,
                format!("{name} has MTU {mtu}, and {under} has MTU {size}"),
                &format!("at most {most}: larger packets of pods are lost silently"),
                "set the same MTU on this interface of every node; then restart flanneld and docker",
            )
        })
        .collect();
    if most < SMALLEST {
        findings.push(Finding::warning(
            ID,
            format!("{under} has MTU {size}, so the overlay has {most}"),
            "1280 for the overlay: IPv6 and some programs require it",
            "raise the interface's MTU",
        ));
    }
    let fits = format!("{under} has MTU {size}, the overlay at most {most}");
    or_ok(findings, ID, fits)
}

/// Returns the configured interface, or the one with the node's address, or the only one.
fn underlay<'a>(model: &Model, live: &'a Live) -> Option<(&'a str, u32)> {
    let node = model.node.as_ref().map(|node| node.ip.to_string());
    let wanted = model.flannel.iface.clone().or(node)?;
    let name = live
        .addresses
        .iter()
        .find(|(name, own)| *name == wanted || own.ip().to_string() == wanted)
        .map(|(name, _)| name)?;
    live.links
        .iter()
        .find(|(link, _)| link == name)
        .map(|(link, mtu)| (link.as_str(), *mtu))
}

fn subnet_mtu(text: &str) -> Option<u32> {
    let (variables, _) = env_file::parse(text);
    variables.get("FLANNEL_MTU")?.parse().ok()
}

/// Reports rules in both variants of iptables.
fn backend(live: &Live) -> Option<Finding> {
    let count = |kind: &str| {
        live.rules.get(kind).map_or(0, |text| {
            text.lines().filter(|line| line.starts_with("-A")).count()
        })
    };
    let (legacy, nft) = (count("iptables-legacy"), count("iptables-nft"));
    (legacy > 0 && nft > 0).then(|| {
        Finding::warning(
            "iptables-backend",
            format!("{legacy} rules in iptables-legacy and {nft} in iptables-nft"),
            "rules in one variant only: rules of the other variant stay active and are easily missed",
            "use the same variant on every node (update-alternatives --config iptables), then reboot",
        )
    })
}

/// Checks the FORWARD policy. A policy of DROP is harmless if flanneld's chain comes first.
fn forward_policy(model: &Model, live: &Live) -> Option<Finding> {
    const ID: &str = "forward-policy";
    if live.rules.is_empty() || !model.has(Service::Flanneld) {
        return None;
    }
    let dropping = live
        .rules
        .iter()
        .filter(|(_, text)| filter(text).any(|line| line.starts_with(":FORWARD DROP")));
    let accepts = |text: &str| {
        filter(text).any(|line| line.starts_with("-A FORWARD ") && line.ends_with("-j FLANNEL-FWD"))
    };
    let closed: Vec<&str> = dropping
        .clone()
        .filter(|(_, text)| !accepts(text))
        .map(|(kind, _)| kind.as_str())
        .collect();
    Some(
        match (
            dropping.count(),
            closed.is_empty(),
            live.unit("flanneld.service").is_active(),
        ) {
            (0, ..) => Finding::ok(ID, "the FORWARD policy is ACCEPT"),
            (_, true, _) => Finding::ok(
                ID,
                "the FORWARD policy is DROP, but flanneld's rules accept overlay packets first",
            ),
            (_, false, false) => Finding::ok(
                ID,
                "the FORWARD policy is DROP; flanneld will accept overlay packets when it starts",
            ),
            (_, false, true) => Finding::warning(
                ID,
                format!(
                    "the FORWARD policy is DROP ({}), and no rule accepts overlay packets",
                    closed.join(", ")
                ),
                "a jump to FLANNEL-FWD, which flanneld creates and repairs",
                "remove -iptables-forward-rules=false from flanneld's flags, and leave the policy; see journalctl -u flanneld",
            ),
        },
    )
}

/// Returns the lines of the filter table.
fn filter(text: &str) -> impl Iterator<Item = &str> {
    let start = text.lines().skip_while(|line| *line != "*filter").skip(1);
    start.take_while(|line| !line.starts_with('*'))
}

/// Reports chains of programs that do not run. Their rules are still active.
fn stale_chains(live: &Live) -> Vec<Finding> {
    const ID: &str = "stale-chains";
    let chains = || {
        let lines = live.rules.values().flat_map(|text| text.lines());
        lines.filter_map(|line| line.strip_prefix(':')?.split(' ').next())
    };
    let stale = |(head, owner, units, fix): &(&str, &str, &[&str], &'static str)| {
        let first = chains().find(|chain| chain.starts_with(head))?;
        let runs = units.iter().any(|unit| live.unit(unit).is_active());
        let count = chains().filter(|chain| chain.starts_with(head)).count();
        (!runs).then(|| {
            let chains = match count {
                1 => format!("chain {first}"),
                _ => format!("{count} chains (for example {first})"),
            };
            let found = format!("{chains} of {owner}, which does not run");
            Finding::warning(ID, found, "none: their rules are still active", *fix)
        })
    };
    let findings: Vec<Finding> = OWNERS.iter().filter_map(stale).collect();
    if live.rules.is_empty() {
        return Vec::new();
    }
    or_ok(findings, ID, "every chain belongs to a running program")
}
