//! Checks the operating system: privileges, systemd, kernel, swap, tools, and clock. Pure.

use super::facts::{Cgroup, Live};
use crate::Service;
use crate::finding::Finding;
use crate::model::{Model, Runtime, is_dns_name};
use crate::versions::KubeVersion;

/// First release that refuses control groups version 1 by default.
const NO_CGROUP_V1: KubeVersion = KubeVersion(35);
/// First release that does not start with swap enabled.
const NO_SWAP: KubeVersion = KubeVersion(8);
/// First release of Docker Engine that supports control groups version 2.
const DOCKER_ON_CGROUP_V2: (u16, u16) = (20, 10);
/// Programs that kubelet and kube-proxy call, always and for some features.
pub(super) const NEEDED_TOOLS: &[&str] = &["ip", "iptables", "mount", "nsenter", "conntrack"];
pub(super) const HANDY_TOOLS: &[&str] = &["ebtables", "ethtool", "socat", "tc"];

pub fn judge(model: &Model, live: &Live) -> Vec<Finding> {
    let mut findings = vec![
        root(live),
        systemd(live),
        kernel(live),
        forwarding(live),
        hostname(model, live),
    ];
    findings.extend(model.has(Service::Kubelet).then(|| swap(model, live)));
    findings.extend(cgroup(model, live));
    findings.extend(bridge_netfilter(live));
    findings.extend(modules(live));
    findings.extend(tools(model, live));
    findings.extend(programs(model, live));
    findings.extend(live.synchronised.map(clock));
    findings
}

fn root(live: &Live) -> Finding {
    match live.user {
        0 => Finding::ok("root", "runs as root"),
        user => Finding::warning(
            "root",
            format!("runs as user {user}"),
            "root",
            "run it with sudo: some checks cannot read everything otherwise",
        ),
    }
}

fn systemd(live: &Live) -> Finding {
    match live.init.as_str() {
        "systemd" => Finding::ok("systemd", "the first process is systemd"),
        init => Finding::error(
            "systemd",
            format!("the first process is {init}"),
            "systemd",
            "units can be written here (`apply --root`), but not started",
        ),
    }
}

fn kernel(live: &Live) -> Finding {
    let mut parts = live
        .kernel
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= (3, 10) {
        Finding::ok("kernel", live.kernel.clone())
    } else {
        Finding::error(
            "kernel",
            live.kernel.clone(),
            "3.10 or later",
            "upgrade the kernel",
        )
    }
}

fn forwarding(live: &Live) -> Finding {
    match live.sysctls.get("net.ipv4.ip_forward").map(String::as_str) {
        Some("1") => Finding::ok("ip-forward", "net.ipv4.ip_forward is 1"),
        value => Finding::warning(
            "ip-forward",
            format!("net.ipv4.ip_forward is {}", value.unwrap_or("unknown")),
            "1 before docker starts: docker sets the FORWARD policy to DROP if it enables forwarding itself",
            "`node-setup apply` writes it to sysctl.d; until then: sysctl -w net.ipv4.ip_forward=1",
        ),
    }
}

/// Checks a sysctl that exists only if the module is loaded.
fn bridge_netfilter(live: &Live) -> Option<Finding> {
    let value = live
        .sysctls
        .get("net.bridge.bridge-nf-call-iptables")
        .map(String::as_str);
    Some(match value {
        Some("1") => Finding::ok("bridge-netfilter", "bridged packets pass iptables"),
        value => Finding::warning(
            "bridge-netfilter",
            value.map_or("br_netfilter is not loaded".into(), |value| {
                format!("net.bridge.bridge-nf-call-iptables is {value}")
            }),
            "1: otherwise a pod does not reach a service whose pod is on the same host",
            "`node-setup apply` writes both to modules-load.d and sysctl.d; until then: modprobe br_netfilter",
        ),
    })
}

fn modules(live: &Live) -> Option<Finding> {
    if live.modules.is_empty() {
        return None;
    }
    let names = |there: bool| -> Vec<&str> {
        let found = live.modules.iter().filter(|(_, found)| **found == there);
        found.map(|(name, _)| name.as_str()).collect()
    };
    let missing = names(false);
    Some(if missing.is_empty() {
        Finding::ok("modules", format!("available: {}", names(true).join(", ")))
    } else {
        Finding::warning(
            "modules",
            format!("not available: {}", missing.join(", ")),
            "all of these modules",
            "install the kernel's extra modules, or boot the kernel whose modules are installed",
        )
    })
}

/// Checks the node name: kubelet and kube-proxy must agree, and the API server must accept it.
fn hostname(model: &Model, live: &Live) -> Finding {
    let name = model
        .node
        .as_ref()
        .map_or(live.hostname.as_str(), |node| node.name.as_str());
    if is_dns_name(name) {
        Finding::ok("hostname", format!("the node name is {name}"))
    } else {
        Finding::error(
            "hostname",
            format!("the node name would be {name:?}"),
            "a DNS name in lower case",
            "set another name with --node-name",
        )
    }
}

fn swap(model: &Model, live: &Live) -> Finding {
    let found = format!("swap is enabled: {}", live.swaps.join(", "));
    match (live.swaps.is_empty(), model.kubernetes >= NO_SWAP) {
        (true, _) => Finding::ok("swap", "off"),
        (false, true) => Finding::error(
            "swap",
            found,
            "no swap: otherwise the kubelet does not start",
            "run swapoff -a, and remove the entry from /etc/fstab",
        ),
        (false, false) => Finding::warning(
            "swap",
            found,
            "no swap: otherwise memory limits are not reliable",
            "run swapoff -a, and remove the entry from /etc/fstab",
        ),
    }
}

fn cgroup(model: &Model, live: &Live) -> Vec<Finding> {
    let id = "cgroup";
    let kubelet = model.has(Service::Kubelet).then(|| match live.cgroup {
        Cgroup::V2 if model.kubernetes < KubeVersion::CGROUP_V2 => Finding::error(
            id,
            format!("control groups version 2 with Kubernetes {}", model.kubernetes),
            "version 1 for kubelets before 1.19",
            "boot with systemd.unified_cgroup_hierarchy=0 (systemd before 256), or use a newer Kubernetes",
        ),
        Cgroup::V1 if model.kubernetes >= NO_CGROUP_V1 => Finding::error(
            id,
            format!("control groups version 1 with Kubernetes {}", model.kubernetes),
            "version 2 for kubelets since 1.35",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        version @ (Cgroup::V1 | Cgroup::V2) => {
            Finding::ok(id, format!("{version:?} works with Kubernetes {}", model.kubernetes))
        }
    });
    let old = model
        .docker
        .filter(|release| model.runtime == Runtime::Docker && *release < DOCKER_ON_CGROUP_V2);
    let docker = old
        .filter(|_| live.cgroup == Cgroup::V2)
        .map(|(year, month)| {
            Finding::error(
                id,
                format!("control groups version 2 with Docker {year}.{month:02}"),
                "version 1 for engines before 20.10",
                "install a newer engine, or boot with systemd.unified_cgroup_hierarchy=0",
            )
        });
    kubelet.into_iter().chain(docker).collect()
}

fn tools(model: &Model, live: &Live) -> Option<Finding> {
    if !model.has(Service::Kubelet) && !model.has(Service::KubeProxy) {
        return None;
    }
    let missing = |names: &[&str]| -> Vec<String> {
        names
            .iter()
            .filter(|name| !live.tools.iter().any(|tool| tool == *name))
            .map(ToString::to_string)
            .collect()
    };
    let (needed, handy) = (missing(NEEDED_TOOLS), missing(HANDY_TOOLS));
    Some(match (needed.is_empty(), handy.is_empty()) {
        (true, true) => Finding::ok(
            "tools",
            "kubelet and kube-proxy find all the tools that they call",
        ),
        (true, false) => Finding::warning(
            "tools",
            format!("not on the path: {}", handy.join(", ")),
            "these tools, which some features need",
            "install them",
        ),
        (false, _) => Finding::error(
            "tools",
            format!("not on the path: {}", needed.join(", ")),
            "these tools, which kubelet and kube-proxy need",
            "install them",
        ),
    })
}

fn programs(model: &Model, live: &Live) -> Vec<Finding> {
    let noexec =
        |path: &std::path::Path| live.binaries.get(path).is_some_and(|binary| binary.noexec);
    let told = |path: &std::path::Path, version: &Option<String>| match version {
        Some(version) => Finding::ok(
            "binaries",
            format!("{}: {}", path.display(), first_line(version)),
        ),
        None if noexec(path) => Finding::error(
            "binaries",
            format!("{} is on a file system mounted with noexec", path.display()),
            "a file system from which programs may run",
            "mount it without noexec, or install the program elsewhere and set --bin-dir",
        ),
        None => Finding::error(
            "binaries",
            format!("{} does not exist or is not executable", path.display()),
            "an executable program",
            "install it there, or set --bin-dir to its directory",
        ),
    };
    let mut findings: Vec<Finding> = live
        .programs
        .iter()
        .map(|(path, version)| told(path, version))
        .collect();
    findings.extend(
        ["kubelet", "kube-proxy"]
            .iter()
            .filter_map(|name| skew(model, live, name)),
    );
    if ["/root", "/home"]
        .iter()
        .any(|home| model.dirs.bin.starts_with(home))
    {
        findings.push(Finding::warning(
            "paths",
            format!("programs are in {}", model.dirs.bin.display()),
            "/usr/local/bin",
            "use --bin-dir=/usr/local/bin: other users cannot read a home directory, and SELinux does not let services run programs there",
        ));
    }
    findings
}

/// Reports a program of another release than the flags were written for.
fn skew(model: &Model, live: &Live, name: &str) -> Option<Finding> {
    let said = live.version(name)?;
    let word = said.split_whitespace().find(|word| word.starts_with('v'))?;
    let found: KubeVersion = word.parse().ok()?;
    (found != model.kubernetes).then(|| {
        Finding::error(
            "version",
            format!("{name} is {}", first_line(said)),
            &format!(
                "{}, for which flags and files are written",
                model.kubernetes
            ),
            format!("set --kubernetes-version={found}, or install the other release"),
        )
    })
}

fn clock(synchronised: bool) -> Finding {
    if synchronised {
        Finding::ok("time", "the clock is synchronized")
    } else {
        Finding::warning(
            "time",
            "the clock is not synchronized",
            "a synchronized clock, which certificates and leases need",
            "timedatectl set-ntp true",
        )
    }
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
