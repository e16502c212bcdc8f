//! Whether the kernel lets packets of pods through, whole: pure.

use std::path::Path;

use super::facts::{Facts, Live};
use super::runtime;
use crate::Service;
use crate::finding::Finding;
use crate::model::Model;
use flanneld::util::env_file;

/// What VXLAN adds to a packet over IPv4, in bytes.
const OVERHEAD: u32 = 50;
/// What IPv6 demands of every link, in bytes.
const SMALLEST: u32 = 1280;

/// Whose chains begin so, its units, and how they go.
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
        "docker makes them anew when it starts; a reboot clears them",
    ),
    (
        "FLANNEL-",
        "flanneld",
        &["flanneld.service"],
        "flanneld takes them over when it starts; a reboot clears them",
    ),
    (
        "cali-",
        "Calico",
        &[],
        "another network plugin was here: reboot after it has been removed",
    ),
    (
        "CILIUM_",
        "Cilium",
        &[],
        "another network plugin was here: reboot after it has been removed",
    ),
    (
        "WEAVE-",
        "Weave Net",
        &[],
        "another network plugin was here: reboot after it has been removed",
    ),
];

/// All of it.
pub fn judge(model: &Model, facts: &Facts, live: &Live) -> Vec<Finding> {
    let mut findings = mtu(model, facts, live);
    findings.extend(backend(live));
    findings.extend(forward_policy(model, live));
    findings.extend(stale_chains(live));
    findings
}

/// The overlay's packets have to fit into those of the interface that carries it.
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
                format!("{name} has {mtu}, and {under} has {size}"),
                &format!("at most {most}: larger packets of pods are lost without a word"),
                "the same MTU on this interface of every node; then systemctl restart flanneld, and docker",
            )
        })
        .collect();
    if most < SMALLEST {
        findings.push(Finding::warning(
            ID,
            format!("{under} has {size}, so the overlay gets {most}"),
            "1280 for the overlay: IPv6 and some programs count on it",
            "raise the interface's MTU",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            ID,
            format!("{under} has {size}, the overlay at most {most}"),
        ));
    }
    findings
}

/// The interface that was named, or has the node's address, or is the only one.
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

/// Rules of the old kind beside those of the new one.
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
            format!("{legacy} rules in legacy tables and {nft} in nft's"),
            "rules of one kind: those of the other kind still act, unseen",
            "update-alternatives --config iptables on every node alike, then reboot",
        )
    })
}

/// A policy of DROP is no trouble where flanneld's chain is asked first.
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
            (0, ..) => Finding::ok(ID, "FORWARD drops nothing by itself"),
            (_, true, _) => Finding::ok(
                ID,
                "FORWARD drops, but what is of the overlay's networks is accepted first",
            ),
            (_, false, false) => Finding::ok(
                ID,
                "FORWARD drops; flanneld will accept what is of the overlay's networks",
            ),
            (_, false, true) => Finding::warning(
                ID,
                format!(
                    "FORWARD drops ({}), and nothing accepts the overlay's packets before",
                    closed.join(", ")
                ),
                "a jump to FLANNEL-FWD, which flanneld makes and repairs",
                "take -iptables-forward-rules=false out of flanneld's flags, and leave the policy; journalctl -u flanneld has the reason",
            ),
        },
    )
}

/// The lines of the table that forwarding passes.
fn filter(text: &str) -> impl Iterator<Item = &str> {
    let start = text.lines().skip_while(|line| *line != "*filter").skip(1);
    start.take_while(|line| !line.starts_with('*'))
}

/// Chains of those who do not run: their rules still act.
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
                _ => format!("{count} chains such as {first}"),
            };
            let found = format!("{chains} of {owner}, which does not run");
            Finding::warning(ID, found, "none: their rules still act", *fix)
        })
    };
    let findings: Vec<Finding> = OWNERS.iter().filter_map(stale).collect();
    match (findings.is_empty(), live.rules.is_empty()) {
        (true, true) => Vec::new(),
        (true, false) => vec![Finding::ok(ID, "every chain has its owner")],
        (false, _) => findings,
    }
}
