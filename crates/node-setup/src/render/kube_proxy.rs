//! Renders kube-proxy's unit and, since 1.10, its configuration file. Pure.

use super::option::{ProgramOption, configured, gate, text};
use super::yaml::Yaml;
use super::{Draft, document};
use crate::model::Node;
use crate::versions::{KubeVersion, Program};
use crate::{Error, Model, Service};

const NAME: &str = "kube-proxy.service";
/// The feature gate for ipvs.
pub(super) const IPVS_GATE: &str = "SupportIPVSProxyMode";
const HEAD: [(&str, &str); 2] = [
    ("apiVersion", "kubeproxy.config.k8s.io/v1alpha1"),
    ("kind", "KubeProxyConfiguration"),
];

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let Some(node) = &model.node else {
        return Ok(());
    };
    if !model.has(Service::Kubelet) {
        draft.directory(model.dirs.kubernetes.to_string_lossy(), 0o755);
    }
    draft.directory("/var/lib/kube-proxy", 0o755);
    if model.is_document() {
        draft.unit(Service::KubeProxy, NAME, document::kube_proxy(model, node)?);
        return Ok(());
    }
    let program = (Program::KubeProxy, Service::KubeProxy, NAME);
    let start = configured(draft, model, program, &HEAD, options(model, node))?;
    draft.unit(Service::KubeProxy, NAME, unit(&start));
    Ok(())
}

fn options(model: &Model, node: &Node) -> Vec<ProgramOption> {
    let mut options = vec![
        (
            "kubeconfig",
            text(model.kubernetes_file("kube-proxy.kubeconfig")),
        ),
        ("bind-address", text(node.ip)),
        ("hostname-override", text(&node.name)),
        ("cluster-cidr", text(model.pod_cidr)),
    ];
    if let Some(mode) = &model.kube.proxy_mode {
        options.push(("proxy-mode", text(mode)));
    }
    options.extend(needs_ipvs_gate(model).then(|| gate(IPVS_GATE)));
    options.push(("v", Yaml::Number(2)));
    options
}

/// Returns whether this release supports the ipvs mode, but not by default.
pub(super) fn needs_ipvs_gate(model: &Model) -> bool {
    model.kube.proxy_mode.as_deref() == Some("ipvs") && model.kubernetes < KubeVersion::IPVS_UNGATED
}

fn unit(start: &str) -> String {
    format!(
        "# kube-proxy. `rflannel node-setup explain kube-proxy.service` explains this unit.\n\n\
         [Unit]\nDescription=Kubernetes service proxy\nDocumentation=https://kubernetes.io/docs/\n\
         Wants=network-online.target\nAfter=network-online.target flanneld.service\nStartLimitIntervalSec=0\n\n\
         [Service]\nStateDirectory=kube-proxy\nWorkingDirectory=/var/lib/kube-proxy\nExecStart={start}\n\
         # kube-proxy exits when its configuration file changes, and expects to be restarted.\n\
         Restart=always\nRestartSec=5\nLimitNOFILE=65536\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}
