//! Renders containerd's configuration, and a unit if no package has one. Pure.

use std::fmt::Write as _;

use super::{Draft, command};
use crate::apply::header::{self, Header};
use crate::host::CONTAINERD_CONFIG;
use crate::{Effect, Error, FileKind, Host, Model, Service};

const NAME: &str = "containerd.service";
const MIRRORS: &str = "/etc/containerd/certs.d";

pub(super) fn render(draft: &mut Draft, model: &Model, host: &Host) -> Result<(), Error> {
    let foreign = host.containerd_config.as_deref().is_some_and(is_foreign);
    if foreign {
        draft.warn("containerd-config", foreign_text(model));
    } else {
        draft.directory("/etc/containerd", 0o755);
        draft.file(
            (Service::Containerd, FileKind::Config),
            CONTAINERD_CONFIG,
            config(model),
            Effect::Restart(NAME),
        );
    }
    if !model.engine.mirrors.is_empty() {
        let path = format!("{MIRRORS}/docker.io/hosts.toml");
        draft.file(
            (Service::Containerd, FileKind::Config),
            path,
            mirrors(model),
            Effect::None,
        );
    }
    if host.containerd_unit {
        draft.uses(Service::Containerd, NAME, false)
    } else {
        draft.unit(Service::Containerd, NAME, unit(model)?)
    }
    Ok(())
}

fn is_foreign(text: &str) -> bool {
    header::read(text.as_bytes()) == Header::None
}

fn foreign_text(model: &Model) -> String {
    let driver = model.kube.cgroup_driver.as_deref() == Some("systemd");
    format!(
        "{CONTAINERD_CONFIG} was not written by node-setup and is not changed: make sure that it sets SystemdCgroup = {driver}, the pause image \
         {} and, for mirrors, config_path = \"{MIRRORS}\"",
        model.kube.pause_image
    )
}

/// The two major versions have different names for tables. Version 2 understands the names of version 1, but not the other way round.
fn config(model: &Model) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let (image, mirrors) = (text(&model.kube.pause_image), text(MIRRORS));
    let systemd = model.kube.cgroup_driver.as_deref() == Some("systemd");
    let runc = |plugin: &str| {
        format!(
            "[plugins.\"{plugin}\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
             # This must match cgroupDriver in the kubelet's configuration.\n\
             [plugins.\"{plugin}\".containerd.runtimes.runc.options]\nSystemdCgroup = {systemd}\n"
        )
    };
    if model.containerd.is_none_or(|(major, _)| major < 2) {
        format!(
            "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {image}\n\n{}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = {mirrors}\n",
            runc("io.containerd.grpc.v1.cri")
        )
    } else {
        format!(
            "version = 3\n\n[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = {image}\n\n\
         [plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = {mirrors}\n\n{}",
            runc("io.containerd.cri.v1.runtime")
        )
    }
}

fn mirrors(model: &Model) -> String {
    let mut text = String::from("server = \"https://registry-1.docker.io\"\n");
    for url in &model.engine.mirrors {
        let name = toml::Value::from(url.as_str());
        let _ = write!(
            text,
            "\n[host.{name}]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
    }
    text
}

fn unit(model: &Model) -> Result<String, Error> {
    let start = command(&model.program("containerd"), &[])?;
    Ok(format!(
        "# containerd, installed without a package.\n\n[Unit]\nDescription=containerd container runtime\n\
         Documentation=https://containerd.io\nAfter=network.target local-fs.target\n\n\
         # No sandbox: it would hide the host's mounts from container volumes.\n\
         [Service]\nType=notify\nExecStart={start}\nRestart=always\nRestartSec=5\nDelegate=yes\nKillMode=process\n\
         LimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    ))
}
