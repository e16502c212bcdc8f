//! Finds other programs that have set up this node. Pure.

use std::path::Path;

use super::facts::{Facts, FileFact};
use crate::finding::{Finding, or_ok};

const ID: &str = "conflicts";

/// Traces of another program: paths, what they are, what to do about them, and whether the node cannot work with them.
const TRACES: &[(&[&str], &str, &str, bool)] = &[
    (
        &["/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"],
        "kubeadm's drop-in for the kubelet",
        "run `kubeadm reset`, or leave the kubelet to kubeadm: --services",
        true,
    ),
    (
        &[
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        ],
        "kubeadm's drop-in for the kubelet",
        "remove the package kubeadm, or leave the kubelet to kubeadm: --services",
        true,
    ),
    (
        &["/var/lib/kubelet/kubeadm-flags.env"],
        "a kubelet set up by kubeadm",
        "run `kubeadm reset`",
        true,
    ),
    (
        &["/etc/systemd/system/k3s.service"],
        "k3s",
        "run k3s-uninstall.sh, or use another node",
        true,
    ),
    (
        &["/etc/systemd/system/k3s-agent.service"],
        "k3s",
        "run k3s-agent-uninstall.sh, or use another node",
        true,
    ),
    (
        &["/usr/lib/systemd/system/flannel.service"],
        "the distribution's flannel",
        "run systemctl disable --now flannel, and remove the package",
        false,
    ),
    (
        &[
            "/usr/lib/systemd/system/flanneld.service",
            "/lib/systemd/system/flanneld.service",
        ],
        "the distribution's flannel",
        "remove the package: only one daemon can manage a device",
        false,
    ),
    (
        &["/etc/sysconfig/flanneld"],
        "settings of the distribution's flannel",
        "this file is not read: move needed settings to --flannel-options",
        false,
    ),
    (
        &["/usr/lib/systemd/system/docker.service.d/flannel.conf"],
        "the distribution's drop-in for docker",
        "remove the package flannel: both set docker's network",
        false,
    ),
    (
        &["/etc/systemd/system/docker.service.d/flannel.conf"],
        "another drop-in that sets docker's network",
        "remove it",
        false,
    ),
    (
        &["/run/podman"],
        "podman",
        "check that its networks (10.88.0.0/16) do not overlap the cluster's",
        false,
    ),
];

const CNI: &str = "/etc/cni/net.d";
const OUR_CNI: &str = "10-flannel.conflist";
/// File name for Kubernetes 1.6, which reads no lists.
const OUR_OLD_CNI: &str = "10-flannel.conf";

/// Returns the paths that [`judge`] needs.
pub fn paths() -> impl Iterator<Item = &'static str> {
    TRACES
        .iter()
        .flat_map(|(paths, ..)| *paths)
        .copied()
        .chain([CNI])
}

pub fn judge(facts: &Facts) -> Vec<Finding> {
    const EXPECTED: &str = "one program that sets up the node";
    let mut findings = Vec::new();
    for (paths, whose, fix, fatal) in TRACES {
        let there = paths
            .iter()
            .filter(|path| is_foreign(facts.at(Path::new(path))));
        findings.extend(there.map(|path| {
            let found = format!("{path}: {whose}");
            if *fatal {
                Finding::error(ID, found, EXPECTED, *fix)
            } else {
                Finding::warning(ID, found, EXPECTED, *fix)
            }
        }));
    }
    findings.extend(cni(facts));
    or_ok(findings, ID, "no other program has set up this node")
}

/// Returns whether a unit is not from this program's package, which names the program in the first line.
fn is_foreign(fact: &FileFact) -> bool {
    match fact {
        FileFact::Absent => false,
        FileFact::File { bytes, .. } => !bytes
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.ends_with(b"(rflannel).")),
        FileFact::Directory(_) | FileFact::Unreadable(_) => true,
    }
}

/// Reports other CNI configurations. The first file name in alphabetical order is used.
fn cni(facts: &Facts) -> Option<Finding> {
    let FileFact::Directory(names) = facts.at(Path::new(CNI)) else {
        return None;
    };
    let is_config = |name: &&String| {
        [".conf", ".conflist", ".json"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let others: Vec<&str> = names
        .iter()
        .filter(is_config)
        .map(String::as_str)
        .filter(|name| ![OUR_CNI, OUR_OLD_CNI].contains(name))
        .collect();
    (!others.is_empty()).then(|| {
        let before = others.iter().any(|name| *name < OUR_CNI);
        let found = format!("{CNI} has {}", others.join(", "));
        let fix = "move the files that do not belong to this cluster elsewhere";
        if before {
            Finding::error(
                ID,
                found,
                &format!("no file before {OUR_CNI}: the first one is used"),
                fix,
            )
        } else {
            Finding::warning(ID, found, &format!("only {OUR_CNI}"), fix)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Level;

    #[test]
    fn traces_of_others_are_found_by_whose_they_are() {
        let mut facts = Facts::default();
        assert_eq!(judge(&facts)[0].level, Level::Ok);
        facts
            .files
            .insert(TRACES[0].0[0].into(), FileFact::Directory(Vec::new()));
        let found = judge(&facts);
        assert!(
            found[0].level == Level::Error
                && found[0].found.contains("kubeadm")
                && found.len() == 1
        );
    }

    #[test]
    fn the_unit_of_our_own_package_is_no_trace_of_others() {
        let level = |text: &str| {
            let mut facts = Facts::default();
            let fact = FileFact::File {
                bytes: text.into(),
                mode: 0o644,
                user: 0,
            };
            facts
                .files
                .insert("/usr/lib/systemd/system/flanneld.service".into(), fact);
            judge(&facts)[0].level
        };
        assert_eq!(
            level(include_str!("../../../../systemd/flanneld.service")),
            Level::Ok
        );
        assert_eq!(
            level("[Unit]\nDescription=Flanneld overlay address etcd agent\n"),
            Level::Warning
        );
    }

    #[test]
    fn the_first_cni_configuration_counts() {
        let level = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            let mut facts = Facts::default();
            facts.files.insert(CNI.into(), FileFact::Directory(names));
            judge(&facts)[0].level
        };
        assert_eq!(level(&["10-flannel.conflist", "README"]), Level::Ok);
        assert_eq!(
            level(&["10-calico.conflist", "10-flannel.conflist"]),
            Level::Error
        );
        assert_eq!(
            level(&["10-flannel.conflist", "87-podman-bridge.conflist"]),
            Level::Warning
        );
    }
}
