//! Checks whether docker has and keeps the network that it was given. Pure.

use std::path::Path;

use ipnetwork::IpNetwork;

use super::facts::{Cgroup, Facts, Live};
use crate::Service;
use crate::finding::Finding;
use crate::host::{CONTAINERD_CONFIG, DAEMON_JSON};
use crate::model::{Model, Runtime};
use flanneld::util::env_file;

/// The file that flanneld writes.
pub(super) const SUBNET_ENV: &str = "/run/flannel/subnet.env";
/// First release that uses the systemd driver on control groups version 2 by default.
const SYSTEMD_BY_DEFAULT: (u16, u16) = (20, 10);
/// First release that drops packets from other hosts to containers.
const GUARDED: (u16, u16) = (28, 0);

/// Returns the paths that [`judge`] needs.
pub fn paths() -> [&'static str; 3] {
    [SUBNET_ENV, DAEMON_JSON, CONTAINERD_CONFIG]
}

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
    // Settings with which dockerd would not start are conflicts of the plan.
    let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
    else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let is_off = |key: &str| object.get(key) == Some(&false.into());
    if is_off("iptables") {
        findings.push(Finding::warning(
            "docker-iptables",
            format!("{DAEMON_JSON} disables iptables"),
            "docker's rules, which publish ports; without them only flanneld masquerades and forwards",
            "remove it from the file, unless no container publishes ports",
        ));
    }
    if is_off("ip-forward") {
        findings.push(Finding::error(
            "docker-daemon-json",
            format!("{DAEMON_JSON} disables ip-forward"),
            "the default: enabled",
            "remove it from the file",
        ));
    }
    if object.get("live-restore") == Some(&true.into()) {
        findings.push(Finding::warning(
            "docker-live-restore",
            "live-restore is enabled",
            "containers that restart with docker: with live-restore they keep addresses of an old subnet",
            "after a change of the subnet, drain the node before you restart docker",
        ));
    }
    findings
}

/// Checks that kubelet and container runtime use the same driver for control groups.
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
            format!("{kubelet} for the kubelet and {whose}"),
        ));
    }
    let found = format!("{driver} for {whose}, {kubelet} for the kubelet");
    let expected =
        "the same driver: otherwise the kubelet does not start, or pods are counted twice";
    Some(match (chosen, &model.kube.cgroup_driver) {
        (false, Some(_)) => Finding::warning(
            ID,
            found,
            expected,
            "run `node-setup apply`, which writes it to daemon.json; then systemctl restart docker",
        ),
        _ => Finding::error(
            ID,
            found,
            expected,
            format!("set --cgroup-driver={driver}, or change the driver of {whose} and restart it"),
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

/// The table has a different name in every release, but the key has the same name.
fn containerd_driver(text: &str) -> &'static str {
    let mut pairs = text.lines().rev().filter_map(|line| line.split_once('='));
    match pairs.find(|(key, _)| key.trim() == "SystemdCgroup") {
        Some((_, value)) if value.trim() == "true" => "systemd",
        Some(_) | None => "cgroupfs",
    }
}

/// Checks that docker0 has the leased subnet.
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
    Some(if has.contains(&subnet) {
        Finding::ok("docker-bip", format!("docker0 has {subnet}"))
    } else {
        Finding::error(
            "docker-bip",
            format!("docker0 has {}", has.join(", ")),
            &format!("{subnet}, the leased subnet"),
            "drain the node, then run systemctl restart docker",
        )
    })
}

/// Returns the desired address and prefix length of docker0.
fn gateway(text: &str) -> Option<String> {
    let (variables, _) = env_file::parse(text);
    let network: IpNetwork = variables.get("FLANNEL_SUBNET")?.parse().ok()?;
    Some(network.to_string())
}

fn guarded(model: &Model, live: &Live) -> Option<Finding> {
    let found = live.version("dockerd").and_then(release).or(model.docker)?;
    (model.on_docker_bridge() && found >= GUARDED).then(|| {
        Finding::warning(
            "docker-direct-routing",
            format!("Docker {}.{} drops packets from other hosts to containers", found.0, found.1),
            "packets from pods on other hosts reach containers on this one",
            format!(
                "use --allow-direct-routing in dockerd's command line (28.2 or later) and an ACCEPT rule in DOCKER-USER for {} -o docker0; or use --pod-network=cni",
                model.from_other_pods()
            ),
        )
    })
}

/// Parses the release in `Docker version 20.10.24, build …`.
fn release(said: &str) -> Option<(u16, u16)> {
    let number = said
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(|part| part.parse::<u16>().ok());
    Some((parts.next()??, parts.next()??))
}
