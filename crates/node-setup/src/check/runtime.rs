//! Whether docker has, and will keep, the network it was given: pure.

use std::path::Path;

use ipnetwork::IpNetwork;

use super::facts::{Cgroup, Facts, Live};
use crate::Service;
use crate::finding::Finding;
use crate::host::CONTAINERD_CONFIG;
use crate::model::{Model, Runtime};
use flanneld::util::env_file;

/// What the daemon writes.
pub(super) const SUBNET_ENV: &str = "/run/flannel/subnet.env";
/// docker's configuration.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";
/// First release that leaves control groups of version 2 to systemd unless told otherwise.
const SYSTEMD_BY_DEFAULT: (u16, u16) = (20, 10);
/// First release that drops packets from other hosts for containers.
const GUARDED: (u16, u16) = (28, 0);

/// Files that [`judge`] wants to know of.
pub fn paths() -> [&'static str; 3] {
    [SUBNET_ENV, DAEMON_JSON, CONTAINERD_CONFIG]
}

/// All of it.
pub fn judge(model: &Model, facts: &Facts, live: &Live) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cgroup_driver(model, facts, live).into_iter().collect();
    if model.runtime != Runtime::Docker || !model.has(Service::Docker) {
        return findings;
    }
    findings.extend(daemon_json(facts));
    findings.extend(bridge(facts, live));
    findings.extend(guarded(model, live));
    findings
}

fn daemon_json(facts: &Facts) -> Vec<Finding> {
    let Some(text) = facts.text(Path::new(DAEMON_JSON)) else {
        return Vec::new();
    };
    // What dockerd would not start with is a conflict of the plan.
    let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
    else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let is_off = |key: &str| object.get(key) == Some(&false.into());
    if is_off("iptables") {
        findings.push(Finding::warning(
            "docker-iptables",
            format!("{DAEMON_JSON} switches iptables off"),
            "docker's rules publish ports; without them only flanneld's masquerade and forward",
            "take it out of the file unless nothing publishes ports",
        ));
    }
    if is_off("ip-forward") {
        findings.push(Finding::error(
            "docker-daemon-json",
            format!("{DAEMON_JSON} switches ip-forward off"),
            "the default, on",
            "take it out of the file",
        ));
    }
    if object.get("live-restore") == Some(&true.into()) {
        findings.push(Finding::warning(
            "docker-live-restore",
            "live-restore is on",
            "containers keep their addresses when docker restarts on another subnet",
            "after a change of subnet drain the node before docker is restarted",
        ));
    }
    findings
}

/// The kubelet and who runs its containers have to put pods into the same tree of control groups.
fn cgroup_driver(model: &Model, facts: &Facts, live: &Live) -> Option<Finding> {
    const ID: &str = "cgroup-driver";
    let kubelet = model
        .has(Service::Kubelet)
        .then(|| model.kube.cgroup_driver.as_deref().unwrap_or("cgroupfs"))?;
    let (whose, driver, chosen) = match model.runtime {
        Runtime::Docker => {
            let chosen = facts.text(Path::new(DAEMON_JSON)).and_then(docker_driver);
            let old = model
                .docker
                .is_some_and(|release| release < SYSTEMD_BY_DEFAULT);
            let default = if live.cgroup == Cgroup::V2 && !old {
                "systemd"
            } else {
                "cgroupfs"
            };
            (
                "docker",
                chosen.clone().unwrap_or_else(|| default.to_owned()),
                chosen.is_some(),
            )
        }
        Runtime::Containerd => (
            "containerd",
            containerd_driver(facts.text(Path::new(CONTAINERD_CONFIG))?).to_owned(),
            true,
        ),
    };
    if driver == kubelet {
        return Some(Finding::ok(
            ID,
            format!("{kubelet}, for the kubelet and {whose}"),
        ));
    }
    let found = format!("{driver} for {whose}, {kubelet} for the kubelet");
    let expected = "the same: else the kubelet does not start, or pods are counted twice";
    Some(match (chosen, &model.kube.cgroup_driver) {
        (false, Some(_)) => Finding::warning(
            ID,
            found,
            expected,
            "`node-setup apply` writes it to daemon.json; then systemctl restart docker",
        ),
        _ => Finding::error(
            ID,
            found,
            expected,
            format!("--cgroup-driver={driver}, or change that of {whose} and restart it"),
        ),
    })
}

fn docker_driver(text: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    let options = object.get("exec-opts")?.as_array()?;
    let mut drivers = options
        .iter()
        .filter_map(|option| option.as_str()?.strip_prefix("native.cgroupdriver="));
    drivers.next_back().map(str::to_owned)
}

/// The table has other names in every release; the key has one.
fn containerd_driver(text: &str) -> &'static str {
    let value = |line: &str| {
        Some(
            line.split_once('=')
                .filter(|(key, _)| key.trim() == "SystemdCgroup")?
                .1
                .trim()
                == "true",
        )
    };
    match text.lines().filter_map(value).next_back() {
        Some(true) => "systemd",
        Some(false) | None => "cgroupfs",
    }
}

/// docker0 beside the subnet that flanneld has leased.
fn bridge(facts: &Facts, live: &Live) -> Option<Finding> {
    let subnet = facts.text(Path::new(SUBNET_ENV)).and_then(gateway)?;
    let has: Vec<String> = live
        .addresses
        .iter()
        .filter(|(name, own)| name == "docker0" && own.is_ipv4())
        .map(|(_, own)| own.to_string())
        .collect();
    if has.is_empty() {
        return None;
    }
    Some(match has.contains(&subnet) {
        true => Finding::ok("docker-bip", format!("docker0 has {subnet}")),
        false => Finding::error(
            "docker-bip",
            format!("docker0 has {}", has.join(", ")),
            &format!("{subnet}, as leased"),
            "drain the node, then: systemctl restart docker",
        ),
    })
}

/// The address and length that docker0 is to have.
fn gateway(text: &str) -> Option<String> {
    let (variables, _) = env_file::parse(text);
    let value = variables
        .iter()
        .find(|(name, _)| *name == "FLANNEL_SUBNET")
        .map(|(_, value)| value.to_string())?;
    value
        .parse::<IpNetwork>()
        .ok()
        .map(|network| network.to_string())
}

fn guarded(model: &Model, live: &Live) -> Option<Finding> {
    let said = live
        .programs
        .iter()
        .find(|(path, _)| path.ends_with("dockerd"))
        .and_then(|(_, version)| version.as_deref());
    let found = said.and_then(release).or(model.docker)?;
    (model.on_docker_bridge() && found >= GUARDED).then(|| {
        Finding::warning(
            "docker-direct-routing",
            format!("Docker {}.{}: it drops what comes from other hosts for containers", found.0, found.1),
            "pods on other hosts reach containers here",
            format!(
                "--allow-direct-routing in dockerd's command line (28.2 or later) and an ACCEPT in DOCKER-USER for {} -o docker0, or --pod-network=cni",
                model.from_other_pods()
            ),
        )
    })
}

/// The release in `Docker version 20.10.24, build …`.
fn release(said: &str) -> Option<(u16, u16)> {
    let number = said
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(|part| part.parse::<u16>().ok());
    Some((parts.next()??, parts.next()??))
}
