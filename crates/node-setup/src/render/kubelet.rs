//! Renders the kubelet's unit and, since 1.10, its configuration file. Pure.

use super::option::{ProgramOption, configured, gate, text};
use super::yaml::Yaml;
use super::{Draft, document};
use crate::model::{Node, PodNetwork, Runtime};
use crate::versions::{KubeVersion, Program};
use crate::{Error, Model, Service};

const NAME: &str = "kubelet.service";
const HEAD: [(&str, &str); 2] = [
    ("apiVersion", "kubelet.config.k8s.io/v1beta1"),
    ("kind", "KubeletConfiguration"),
];
pub(super) const CRI_DOCKERD: &str = "unix:///run/cri-dockerd.sock";
/// The feature gate with which the kubelet requests a serving certificate.
pub(super) const SERVER_TLS_GATE: &str = "RotateKubeletServerCertificate";
const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let Some(node) = &model.node else {
        return Ok(());
    };
    draft.directory(model.dirs.kubernetes.to_string_lossy(), 0o755);
    draft.directory(model.dirs.ssl.to_string_lossy(), 0o755);
    draft.directory("/var/lib/kubelet", 0o750);
    if model.is_document() {
        draft.unit(Service::Kubelet, NAME, document::kubelet(model, node)?);
        return Ok(());
    }
    let program = (Program::Kubelet, Service::Kubelet, NAME);
    let start = configured(draft, model, program, &HEAD, options(model, node))?;
    draft.unit(Service::Kubelet, NAME, unit(model, &start));
    Ok(())
}

fn unit(model: &Model, start: &str) -> String {
    let runtime = match model.runtime {
        Runtime::Docker if model.needs_cri_dockerd() => "docker.service cri-docker.service",
        Runtime::Docker => "docker.service",
        Runtime::Containerd => "containerd.service",
    };
    format!(
        "# The kubelet. `rflannel node-setup explain kubelet.service` explains this unit.\n\n\
         [Unit]\nDescription=Kubernetes node agent\nDocumentation=https://kubernetes.io/docs/\n\
         # Not Requires=: a restart of the container runtime would restart the kubelet, which can wait for the runtime itself.\n\
         Wants=network-online.target {runtime}\nAfter=network-online.target flanneld.service {runtime}\n\
         # The kubelet exits while the container runtime does not answer; old releases also while their CSR is not approved.\n\
         StartLimitIntervalSec=0\n\n\
         # No sandbox: it would hide the host's mounts from pod volumes.\n\
         [Service]\nStateDirectory=kubelet\nStateDirectoryMode=0750\nWorkingDirectory=/var/lib/kubelet\n\
         ExecStart={start}\nRestart=always\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn options(model: &Model, node: &Node) -> Vec<ProgramOption> {
    let bootstrap = model.kubernetes_file("bootstrap.kubeconfig");
    let old = model.kubernetes == KubeVersion::OLDEST;
    let mut options = vec![
        (
            if old {
                "experimental-bootstrap-kubeconfig"
            } else {
                "bootstrap-kubeconfig"
            },
            text(bootstrap),
        ),
        (
            "kubeconfig",
            text(model.kubernetes_file("kubelet.kubeconfig")),
        ),
        ("cert-dir", text(model.dirs.ssl.display())),
        ("hostname-override", text(&node.name)),
        ("node-ip", text(node.ip)),
        ("address", text(node.ip)),
    ];
    if model.kubernetes < KubeVersion(8) {
        options.push(("require-kubeconfig", Yaml::Switch(true)));
    }
    options.extend(security(model));
    options.extend([
        ("rotate-certificates", Yaml::Switch(true)),
        (
            "cluster-dns",
            Yaml::List(vec![model.cluster_dns.to_string()]),
        ),
        (
            "cluster-domain",
            text(model.cluster_domain.trim_end_matches('.')),
        ),
        ("hairpin-mode", text("hairpin-veth")),
        ("serialize-image-pulls", Yaml::Switch(false)),
    ]);
    if model.kubernetes < KubeVersion(11) {
        options.push(("allow-privileged", Yaml::Switch(true)));
    }
    if let Some(driver) = &model.kube.cgroup_driver {
        options.push(("cgroup-driver", text(driver)));
    }
    options.extend(runtime(model));
    options.push(("v", Yaml::Number(2)));
    options
}

/// Returns settings that are the defaults of the file, but not of the flags.
fn security(model: &Model) -> Vec<ProgramOption> {
    let secure = model.kube.secure;
    let mut options = vec![
        ("anonymous-auth", Yaml::Switch(!secure)),
        ("authentication-token-webhook", Yaml::Switch(secure)),
        (
            "authorization-mode",
            text(if secure { "Webhook" } else { "AlwaysAllow" }),
        ),
    ];
    if secure {
        options.insert(0, ("client-ca-file", text(model.kube.client_ca.display())));
        options.push(("read-only-port", Yaml::Number(0)));
    }
    options.push(("cadvisor-port", Yaml::Number(0)));
    if model.kube.server_tls {
        options.push(("rotate-server-certificates", Yaml::Switch(true)));
        if model.kubernetes < KubeVersion::SERVER_TLS_UNGATED {
            options.push(gate(SERVER_TLS_GATE));
        }
    }
    options
}

fn runtime(model: &Model) -> Vec<ProgramOption> {
    let shim = model.runtime == Runtime::Docker && !model.needs_cri_dockerd();
    let mut options = Vec::new();
    if shim {
        options.push(("pod-infra-container-image", text(&model.kube.pause_image)));
    }
    if shim && model.pod_network == PodNetwork::Cni {
        options.push(("network-plugin", text("cni")));
        options.push(("cni-conf-dir", text("/etc/cni/net.d")));
        options.push(("cni-bin-dir", text("/opt/cni/bin")));
    }
    if !shim && model.kubernetes < KubeVersion::NO_DOCKERSHIM {
        options.push(("container-runtime", text("remote")));
    }
    if !shim {
        let endpoint = if model.needs_cri_dockerd() {
            CRI_DOCKERD
        } else {
            CONTAINERD
        };
        options.push(("container-runtime-endpoint", text(endpoint)));
    }
    options
}
