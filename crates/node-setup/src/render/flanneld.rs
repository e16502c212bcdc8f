//! Renders flanneld's unit: the shipped unit with this node's command line, or the tutorial's. Pure.

use super::shipped::{self, FLANNELD};
use super::{Draft, command, document};
use crate::argv::{Word, escape_percent};
use crate::unit::Unit;
use crate::versions::{SystemdVersion, systemd};
use crate::{Error, Model, Service};

const NAME: &str = "flanneld.service";
const HEAD: &str =
    "The flannel daemon. `rflannel node-setup explain flanneld.service` explains this unit.";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    if model.is_document() {
        draft.unit(Service::Flanneld, NAME, document::flanneld(model)?);
    } else {
        let unit = recommended(model)?;
        note_version(draft, &unit.to_string());
        draft.unit(
            Service::Flanneld,
            NAME,
            for_version(unit, draft.systemd).to_string(),
        );
    }
    if model.etcd.tls.is_some() {
        draft.directory(model.dirs.ssl.to_string_lossy(), 0o755);
    }
    Ok(())
}

fn recommended(model: &Model) -> Result<Unit, Error> {
    let mut flags = etcd_flags(model);
    if model.on_docker_bridge() {
        flags.push(format!("-docker-opts-file={DOCKER_OPTIONS}").into());
    }
    if model.flannel.masquerade {
        flags.push("-ip-masq=true".into());
    }
    flags.extend(own_flags(model));
    let line = command(&model.program("flanneld"), &flags)?;
    let password = model
        .etcd
        .login
        .iter()
        .map(|(_, file)| escape_percent(&file.to_string_lossy()));
    let unit = shipped::unit(FLANNELD, HEAD);
    Ok(unit
        .with("Service", "EnvironmentFile", &password.collect::<Vec<_>>())
        .with("Service", "ExecStart", &[line]))
}

/// Comment for the directories that a newer systemd creates and keeps by itself.
const DIRECTORIES: &str = "Creates both directories if tmpfiles.d has not: systemd before 235 has no StateDirectory=, and its \
                           RuntimeDirectory=\nremoves /run/flannel at each stop.";

/// Adds what flanneld needs with an older systemd. The general rewriting of units does not know what directives are for.
fn for_version(unit: Unit, version: SystemdVersion) -> Unit {
    if version >= SystemdVersion::SERVICE_DIRECTORIES {
        return unit;
    }
    let make = [("0755", "/run/flannel"), ("0700", "/var/lib/flannel")];
    let made = make.map(|(mode, directory)| format!("+/bin/mkdir -p -m {mode} {directory}"));
    let touched = unit.values("Service", "ExecStartPre");
    let touched = touched
        .into_iter()
        .map(|line| line.replace("/usr/bin/touch", "/bin/touch"));
    let writable: Vec<String> = unit.values("Service", "ReadWritePaths");
    let writable = writable
        .into_iter()
        .chain(make.map(|(_, directory)| format!("-{directory}")));
    unit.set("Service", "ExecStartPre", &touched.collect::<Vec<_>>())
        .insert("Service", "ExecStartPre", DIRECTORIES, &made)
        .set(
            "Service",
            "ReadWritePaths",
            &[writable.collect::<Vec<_>>().join(" ")],
        )
}

/// Warns that a newer systemd would get a stricter unit.
fn note_version(draft: &mut Draft, unit: &str) {
    let count = systemd::left_out(unit, draft.systemd);
    if count > 0 {
        let text = format!(
            "flanneld.service is written for systemd {}, without {count} directives that this version does not know; run \
             node-setup again after an upgrade of systemd",
            draft.systemd
        );
        draft.warn("systemd-version", text);
    }
}

/// The file from which docker reads its options.
pub(super) const DOCKER_OPTIONS: &str = "/run/flannel/docker";
/// The variable with the options.
pub(super) const DOCKER_KEY: &str = "DOCKER_NETWORK_OPTIONS";

/// Returns the flags for etcd, in the tutorial's order.
pub(super) fn etcd_flags(model: &Model) -> Vec<Word> {
    let names = ["-etcd-cafile", "-etcd-certfile", "-etcd-keyfile"];
    let files = model
        .etcd
        .tls
        .iter()
        .flat_map(|files| names.iter().zip(files));
    let mut flags: Vec<Word> = files
        .map(|(name, file)| format!("{name}={}", file.display()).into())
        .collect();
    flags.push(format!("-etcd-endpoints={}", model.etcd.endpoints.join(",")).into());
    flags.push(format!("-etcd-prefix={}", model.etcd.prefix).into());
    if let Some((user, _)) = &model.etcd.login {
        flags.push(format!("-etcd-username={user}").into());
    }
    flags
}

/// Returns the interface and further flags.
pub(super) fn own_flags(model: &Model) -> Vec<Word> {
    let flannel = &model.flannel;
    let iface = flannel.iface.iter().map(|name| format!("-iface={name}"));
    let all = iface.chain(flannel.options.iter().cloned());
    all.map(Word::from).collect()
}
