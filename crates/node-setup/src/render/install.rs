//! Renders the commands that install what a node needs. They are printed and never run, so nothing is downloaded. Pure.

use super::Draft;
use crate::distribution::Distribution;
use crate::model::{PodNetwork, Runtime};
use crate::{Host, Model, Service};

/// Releases of programs that distributions do not package in a suitable form.
const CNI_PLUGINS: &str = "v1.9.1";
const CNI_FLANNEL: &str = "v1.9.1-flannel1";
const CRI_DOCKERD: &str = "0.4.3";
/// What to install where the command and the names of packages are not known.
const UNKNOWN: Distribution = Distribution {
    name: "this distribution",
    install: "",
    tools: "iproute2 iptables conntrack ebtables ethtool socat",
    runtimes: ["docker", "containerd"],
};

pub(super) fn render(draft: &mut Draft, model: &Model, host: &Host) {
    let kubernetes: Vec<&str> = [Service::Kubelet, Service::KubeProxy]
        .iter()
        .filter(|one| model.has(**one))
        .map(|one| one.name())
        .collect();
    let lines = [
        packages(model, host, !kubernetes.is_empty()),
        programs(model, &kubernetes),
    ]
    .concat();
    if !lines.is_empty() {
        draft.plan.next_steps.push(
            "# Install what is missing. `rflannel node-setup check --prerequisites` lists it."
                .into(),
        );
    }
    draft.plan.next_steps.extend(lines);
}

/// Returns the commands for packages of the distribution.
fn packages(model: &Model, host: &Host, with_tools: bool) -> Vec<String> {
    let runtime = match model.runtime {
        _ if !model.has(Service::Docker) || model.is_document() => None,
        Runtime::Docker => host.docker_unit.is_none().then_some(0),
        Runtime::Containerd => (!host.containerd_unit).then_some(1),
    };
    let Distribution {
        name,
        install,
        tools,
        runtimes,
    } = host.distribution.unwrap_or(UNKNOWN);
    let package = runtime.and_then(|index| runtimes.get(index).copied());
    let mut all: Vec<&str> = if with_tools {
        tools.split(' ').collect()
    } else {
        Vec::new()
    };
    all.extend(package);
    if all.is_empty() {
        return Vec::new();
    }
    if host.distribution.is_none() {
        return vec![format!(
            "# With the package manager of {name}: {}.",
            all.join(", ")
        )];
    }
    let mut lines = vec![format!("# From {name}:")];
    if package.is_some_and(|package| ["docker-ce", "containerd.io"].contains(&package)) {
        lines.push("curl -fLo /etc/yum.repos.d/docker-ce.repo https://download.docker.com/linux/centos/docker-ce.repo".into());
    }
    lines.push(format!("{install} {}", all.join(" ")));
    lines
}

/// Returns the commands for programs from the projects themselves.
fn programs(model: &Model, kubernetes: &[&str]) -> Vec<String> {
    let bin = model.dirs.bin.display();
    let mut lines = Vec::new();
    if !kubernetes.is_empty() {
        let version = model.kubernetes;
        let paths: Vec<String> = kubernetes
            .iter()
            .map(|name| format!("kubernetes/node/bin/{name}"))
            .collect();
        lines.push(format!(
            "# The latest patch release of {} {version}:",
            kubernetes.join(" and ")
        ));
        lines.push(format!(
            "release=$(curl -fsSL https://dl.k8s.io/release/stable-{version}.txt)"
        ));
        lines.push(format!(
            "curl -fL \"https://dl.k8s.io/$release/kubernetes-node-linux-$arch.tar.gz\" | tar -xz -C {bin} --strip-components=3 {}",
            paths.join(" ")
        ));
    }
    if model.is_document() && model.has(Service::Docker) {
        lines.push(format!(
            "# docker: binaries of each release are at https://download.docker.com/linux/static/, for {bin}."
        ));
    }
    if model.has(Service::Docker) && model.needs_cri_dockerd() {
        lines.push("# cri-dockerd:".into());
        lines.push(format!(
            "curl -fL \"https://github.com/Mirantis/cri-dockerd/releases/download/v{CRI_DOCKERD}/cri-dockerd-{CRI_DOCKERD}.$arch.tgz\" \
             | tar -xz -C {bin} --strip-components=1 cri-dockerd/cri-dockerd"
        ));
    }
    if model.has(Service::Docker) && model.pod_network == PodNetwork::Cni {
        lines.push("# CNI plugins:".into());
        lines.push(format!(
            "curl -fL \"https://github.com/containernetworking/plugins/releases/download/{CNI_PLUGINS}/cni-plugins-linux-$arch-{CNI_PLUGINS}.tgz\" \
             | tar -xz -C /opt/cni/bin"
        ));
        lines.push(format!(
            "curl -fLo /opt/cni/bin/flannel \"https://github.com/flannel-io/cni-plugin/releases/download/{CNI_FLANNEL}/flannel-$arch\" \
             && chmod 755 /opt/cni/bin/flannel"
        ));
    }
    if lines.iter().any(|line| line.contains("$arch")) {
        let mut first = vec![format!(
            "mkdir -p {bin}{}",
            if model.pod_network == PodNetwork::Cni {
                " /opt/cni/bin"
            } else {
                ""
            }
        )];
        first.push("arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')".into());
        lines.splice(0..0, first);
    }
    lines
}
