//! Writes the warnings and the next steps of a plan. `explain` has a chapter for each name. Pure.

use super::Draft;
use crate::etcd_config;
use crate::versions::KubeVersion;
use crate::{Model, Service};

pub(super) fn render(draft: &mut Draft, model: &Model) {
    everywhere(draft, model);
    if model.is_document() {
        document(draft, model);
    }
}

fn everywhere(draft: &mut Draft, model: &Model) {
    let mut warn = |id, text: String| draft.warn(id, text);
    let bin = model.dirs.bin.display().to_string();
    if bin.starts_with("/root") || bin.starts_with("/home") {
        warn(
            "bin-dir",
            format!(
                "{bin} is in a home directory, where SELinux does not let services run programs; use /usr/local/bin"
            ),
        );
    }
    if model.kubernetes > KubeVersion::NEWEST {
        let newest = KubeVersion::NEWEST;
        warn(
            "kubernetes-version",
            format!(
                "{} is newer than {newest}, the last release whose flags are known here",
                model.kubernetes
            ),
        );
    }
    if model.kubernetes < KubeVersion::CGROUP_V2 {
        let text = format!(
            "a kubelet {} runs only with cgroup version 1, which systemd 256 and later do not support by default",
            model.kubernetes
        );
        warn("cgroup-v1", text);
    }
    if model
        .etcd
        .tls
        .as_ref()
        .is_some_and(|[_, cert, _]| cert.ends_with("kubernetes.pem"))
        && model.has(Service::Flanneld)
    {
        let text = "flanneld uses the client certificate kubernetes.pem: if that is the API server's certificate, every node holds the \
                    cluster's identity; create one for flanneld and set etcd-certfile and etcd-keyfile";
        warn("etcd-identity", text.into());
    }
    if !model.kube.secure && model.has(Service::Kubelet) {
        let text = "the kubelet's API accepts every client that reaches port 10250, and these clients can run commands in pods: set \
                    secure-kubelet = true";
        warn("kubelet-open", text.into());
    }
    if model.kube.pause_image.ends_with(":latest") {
        warn(
            "pause-image",
            format!(
                "{} can change at any time: use a tag with a version",
                model.kube.pause_image
            ),
        );
    }
    if model.kube.proxy_mode.as_deref() == Some("ipvs") && model.kubernetes >= KubeVersion(35) {
        warn(
            "proxy-ipvs",
            "kube-proxy's ipvs mode is deprecated since 1.35: use nftables".into(),
        );
    }
}

/// What the style document corrects, and what it leaves as it is: one `service | warning | text` a line.
const DOCUMENT: &str = include_str!("document.txt");

fn document(draft: &mut Draft, model: &Model) {
    for (service, warning) in DOCUMENT.lines().filter_map(|line| line.split_once(" | ")) {
        if model.services.iter().any(|one| one.name() == service)
            && let Some((id, text)) = warning.split_once(" | ")
        {
            draft.warn(id, text);
        }
    }
}

/// Returns the directory of the objects for `kubectl apply`.
pub(super) fn manifests(model: &Model) -> String {
    model.kubernetes_file("cluster")
}

/// Renders the steps that are left to the operator. They are printed and never run.
pub(super) fn next_steps(draft: &mut Draft, model: &Model) {
    let mut say = |line: &str| draft.plan.next_steps.push(line.to_owned());
    if model.has(Service::Flanneld) {
        say(
            "# Once per cluster, on a machine that can reach etcd: write the network configuration.",
        );
        etcd_config::command(model).lines().for_each(&mut say);
        say("# Check that flanneld has a lease.");
        say("journalctl -u flanneld | grep 'Lease acquired'");
    }
    let Some(node) = model.node.as_ref().filter(|_| model.has(Service::Kubelet)) else {
        return;
    };
    say(
        "# Once per cluster, where kubectl has administrator rights (copy the directory there): let nodes join.",
    );
    say(&format!("kubectl apply -f {}", manifests(model)));
    say(
        "# After the kubelet has started: list the certificate requests and approve that of this node.",
    );
    say("kubectl get csr");
    say("kubectl certificate approve NAME");
    if model.kube.server_tls {
        say(
            "# A second request follows, for the serving certificate. It is never approved automatically.",
        );
    }
    say(&format!("kubectl get node {}", node.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_document_has_its_parts() {
        for line in DOCUMENT.lines() {
            let parts: Vec<&str> = line.split(" | ").collect();
            let services = ["flanneld", "docker", "kubelet", "kube-proxy"];
            assert!(parts.len() == 3 && services.contains(&parts[0]), "{line}");
        }
    }
}
