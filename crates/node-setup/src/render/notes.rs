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

/// What the style document corrects, and what it leaves as it is.
const DOCUMENT: &[(Service, &str, &str)] = &[
    (
        Service::KubeProxy,
        "cluster-cidr",
        "corrected: kube-proxy's --cluster-cidr is the network of the pods, not 10.254.0.0/16 of the services",
    ),
    (
        Service::Kubelet,
        "kubelet-directory",
        "corrected: the directory is /var/lib/kubelet, in which the unit starts, not /var/lib/kublet",
    ),
    (
        Service::Docker,
        "registry-mirrors",
        "corrected: hub-mirror.c.163.com has https://, without which docker ignores all mirrors",
    ),
    (
        Service::Flanneld,
        "required-by",
        "as in the tutorial: docker stops and restarts with flanneld (RequiredBy=), and does not start if flanneld's first start fails",
    ),
    (
        Service::Flanneld,
        "start-limits",
        "as in the tutorial: systemd gives up flanneld after five quick failures, and kills it if etcd is unavailable for 90 s at start",
    ),
    (
        Service::Docker,
        "docker-env-file",
        "as in the tutorial: without /run/flannel/docker, docker silently starts with 172.17.0.0/16 (EnvironmentFile=- with a dash)",
    ),
    (
        Service::Docker,
        "docker-ready",
        "as in the tutorial: docker has no Type=notify, so the kubelet starts before docker's API answers",
    ),
    (
        Service::Docker,
        "docker-path",
        "as in the tutorial: docker's PATH lacks /sbin, which contains iptables on hosts without merged directories",
    ),
    (
        Service::Docker,
        "docker-limits",
        "as in the tutorial: LimitNOFILE=infinity makes containers slow on systemd 240 and later",
    ),
    (
        Service::Kubelet,
        "hairpin-mode",
        "as in the tutorial: promiscuous-bridge needs kubenet; without it, the kubelet logs a warning and uses hairpin-veth",
    ),
    (
        Service::Kubelet,
        "cluster-domain",
        "as in the tutorial: the trailing dot of cluster.local. ends up in the search list of pods",
    ),
    (
        Service::Docker,
        "firewall",
        "not as in the tutorial: no rules are flushed, no policy is set, and no firewall is stopped; `node-setup check` reports rules that block packets",
    ),
    (
        Service::Flanneld,
        "etcd-v3",
        "not as in the tutorial: the network configuration is only at PREFIX/config in etcd's v3 store; the daemon does not read a value at PREFIX",
    ),
];

fn document(draft: &mut Draft, model: &Model) {
    for (_, id, text) in DOCUMENT.iter().filter(|(service, ..)| model.has(*service)) {
        draft.warn(id, *text);
    }
}

/// Returns the directory of the objects for `kubectl apply`.
pub(super) fn manifests(model: &Model) -> String {
    model.kubernetes_file("cluster")
}

/// Renders the steps that are left to the operator. They are printed and never run.
pub(super) fn next_steps(draft: &mut Draft, model: &Model) {
    let mut say = |line: String| draft.plan.next_steps.push(line);
    if model.has(Service::Flanneld) {
        say("# Once per cluster, on a machine that can reach etcd: write the network configuration.".into());
        etcd_config::command(model)
            .lines()
            .for_each(|line| say(line.to_owned()));
    }
    if model.has(Service::Flanneld) {
        say("# Check that flanneld has a lease.".into());
        say("journalctl -u flanneld | grep 'Lease acquired'".into());
    }
    let Some(node) = model.node.as_ref().filter(|_| model.has(Service::Kubelet)) else {
        return;
    };
    say("# Once per cluster, where kubectl has administrator rights (copy the directory there): let nodes join."
        .into());
    say(format!("kubectl apply -f {}", manifests(model)));
    say("# After the kubelet has started: list the certificate requests and approve that of this node."
        .into());
    say("kubectl get csr".into());
    say("kubectl certificate approve NAME".into());
    if model.kube.server_tls {
        say("# A second request follows, for the serving certificate. It is never approved automatically."
            .into());
    }
    say(format!("kubectl get node {}", node.name));
}
