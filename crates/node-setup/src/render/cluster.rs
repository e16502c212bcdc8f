//! Renders objects that the cluster needs before a node can join, for `kubectl apply`. Pure.

use serde_json::json;

use super::yaml::to_file;
use super::{Draft, notes};
use crate::versions::KubeVersion;
use crate::{Effect, Error, FileKind, Model, Service};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let directory = notes::manifests(model);
    draft.directory(&directory, 0o755);
    let mut manifest = |name: &str, comment: &str, binding: String| {
        draft.file(
            (Service::Cluster, FileKind::Manifest),
            format!("{directory}/{name}"),
            format!("# {comment}\n{binding}"),
            Effect::None,
        );
    };
    manifest(
        "kubelet-bootstrap.yaml",
        "Apply once per cluster. Lets the bootstrap token request node certificates.",
        binding(
            model,
            "kubelet-bootstrap",
            "system:node-bootstrapper",
            subject(&model.kube.bootstrap_user),
        )?,
    );
    if model.kubernetes >= KubeVersion(8) {
        manifest(
            "kubelet-renewal.yaml",
            "Apply once per cluster. Lets nodes renew their certificates. Without it, each renewal must be approved by hand.",
            binding(model, "kubelet-renewal", SELF, ("Group", "system:nodes"))?,
        );
    }
    Ok(())
}

const SELF: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";

fn subject(user: &str) -> (&'static str, &str) {
    let group = user.starts_with("system:bootstrappers");
    (if group { "Group" } else { "User" }, user)
}

fn binding(
    model: &Model,
    name: &str,
    role: &str,
    (kind, subject): (&str, &str),
) -> Result<String, Error> {
    let version = if model.kubernetes < KubeVersion(8) {
        "v1beta1"
    } else {
        "v1"
    };
    let binding = json!({
        "apiVersion": format!("{RBAC}/{version}"),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": kind, "name": subject}],
    });
    to_file(&binding)
}
