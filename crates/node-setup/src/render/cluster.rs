//! Renders objects that the cluster needs before a node can join, for `kubectl apply`. Pure.

use super::yaml::Yaml;
use super::{Draft, notes};
use crate::versions::KubeVersion;
use crate::{Effect, Error, FileKind, Model, Service};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let directory = notes::manifests(model);
    draft.directory(&directory, 0o755);
    let mut manifest = |name: &str, comment: &str, binding: Yaml| {
        let text = format!("# {comment}\n{}", binding.to_file()?);
        draft.file(
            (Service::Cluster, FileKind::Manifest),
            format!("{directory}/{name}"),
            text,
            Effect::None,
        );
        Ok(())
    };
    manifest(
        "kubelet-bootstrap.yaml",
        "Apply once per cluster. Lets the bootstrap token request node certificates.",
        binding(
            model,
            "kubelet-bootstrap",
            "system:node-bootstrapper",
            subject(&model.kube.bootstrap_user),
        ),
    )?;
    if model.kubernetes >= KubeVersion(8) {
        manifest(
            "kubelet-renewal.yaml",
            "Apply once per cluster. Lets nodes renew their certificates. Without it, each renewal must be approved by hand.",
            binding(model, "kubelet-renewal", SELF, ("Group", "system:nodes")),
        )?;
    }
    Ok(())
}

const SELF: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";

fn subject(user: &str) -> (&'static str, &str) {
    let group = user.starts_with("system:bootstrappers");
    (if group { "Group" } else { "User" }, user)
}

fn binding(model: &Model, name: &str, role: &str, (kind, subject): (&str, &str)) -> Yaml {
    let version = if model.kubernetes < KubeVersion(8) {
        "v1beta1"
    } else {
        "v1"
    };
    let text = |text: &str| Yaml::Text(text.to_owned());
    let mut yaml = Yaml::Map(Vec::new());
    yaml.set("apiVersion", text(&format!("{RBAC}/{version}")));
    yaml.set("kind", text("ClusterRoleBinding"));
    yaml.set("metadata.name", text(name));
    for (key, value) in [("apiGroup", RBAC), ("kind", "ClusterRole"), ("name", role)] {
        yaml.set(&format!("roleRef.{key}"), text(value));
    }
    let subject = [("apiGroup", RBAC), ("kind", kind), ("name", subject)];
    yaml.set(
        "subjects",
        Yaml::Maps(
            subject
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
        ),
    );
    yaml
}
