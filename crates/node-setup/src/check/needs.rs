//! Checks what a node lacks before its first apply: programs, kernel modules, and matching versions. Pure.

use std::path::Path;

use super::facts::{Facts, FileFact};
use crate::Service;
use crate::finding::{Finding, Level};
use crate::model::{Model, PodNetwork};
use crate::versions::{KubeVersion, SystemdVersion};

/// Checks of the host's prerequisites, as opposed to what is set up on it.
pub const PREREQUISITES: [&str; 11] = [
    "root",
    "systemd",
    "systemd-version",
    "kernel",
    "modules",
    "cgroup",
    "binaries",
    "version",
    "arch",
    "tools",
    "cni-plugins",
];
/// Directory of CNI plugins.
pub(super) const PLUGINS: &str = "/opt/cni/bin";
/// The first systemd without control groups version 1.
const NO_CGROUP_V1: SystemdVersion = SystemdVersion(258);
const PLAN: &str = "`rflannel node-setup plan` prints the commands that install what is missing";

pub fn judge(model: &Model, facts: &Facts) -> Vec<Finding> {
    systemd(model, facts)
        .into_iter()
        .chain(plugins(model, facts))
        .collect()
}

fn systemd(model: &Model, facts: &Facts) -> Option<Finding> {
    const ID: &str = "systemd-version";
    let version = SystemdVersion(facts.systemd?);
    let found = format!("systemd {version}");
    if version < SystemdVersion::OLDEST && !model.is_document() {
        return Some(Finding::error(
            ID,
            found,
            "219 or later, for which units can be written",
            "upgrade the distribution",
        ));
    }
    if version >= NO_CGROUP_V1
        && model.kubernetes < KubeVersion::CGROUP_V2
        && model.has(Service::Kubelet)
    {
        let expected = format!(
            "a version before {NO_CGROUP_V1}: a kubelet {} needs control groups version 1",
            model.kubernetes
        );
        return Some(Finding::error(
            ID,
            found,
            &expected,
            "use an older distribution, or a newer Kubernetes",
        ));
    }
    Some(Finding::ok(
        ID,
        format!("{found}; units are written for this version"),
    ))
}

fn plugins(model: &Model, facts: &Facts) -> Option<Finding> {
    const ID: &str = "cni-plugins";
    const NEEDED: [&str; 5] = ["flannel", "bridge", "host-local", "loopback", "portmap"];
    if model.pod_network != PodNetwork::Cni || !model.has(Service::Docker) {
        return None;
    }
    let there = match facts.at(Path::new(PLUGINS)) {
        FileFact::Directory(names) => names.as_slice(),
        FileFact::Absent | FileFact::File { .. } | FileFact::Unreadable(_) => &[],
    };
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|name| !there.iter().any(|there| there == name))
        .collect();
    Some(if missing.is_empty() {
        Finding::ok(ID, format!("all are in {PLUGINS}"))
    } else {
        Finding::error(
            ID,
            format!("missing in {PLUGINS}: {}", missing.join(", ")),
            "all plugins that set up the network of pods",
            PLAN,
        )
    })
}

/// Returns what the node lacks, one line each.
pub fn summary(findings: &[Finding]) -> String {
    let lacking: Vec<String> = findings
        .iter()
        .filter(|finding| finding.level != Level::Ok)
        .map(|finding| format!("  {}: {}\n", finding.id, finding.found))
        .collect();
    if lacking.is_empty() {
        "\nthis node has everything that it needs\n".into()
    } else {
        format!("\nthis node lacks:\n{}{PLAN}\n", lacking.concat())
    }
}
