//! Renders a [`Plan`] from [`Model`] and [`Host`], with a renderer for each service. Pure.

mod cluster;
mod cni;
mod containerd;
mod cri_dockerd;
mod daemon_json;
mod docker;
mod dockerd_flags;
mod document;
mod flanneld;
mod host_files;
mod install;
mod kube_proxy;
mod kubelet;
mod notes;
mod option;
mod shipped;
mod yaml;

use super::versions::{SystemdVersion, systemd};
use super::{
    Conflict, Directory, Effect, Error, File, FileKind, Host, Model, Plan, Service, UnitUse,
    Warning, argv,
};

/// Directory of the administrator's units.
const UNITS: &str = "/etc/systemd/system";

/// Returns what the node needs. Reads and writes nothing.
pub fn plan(model: &Model, host: &Host) -> Result<Plan, Error> {
    let mut draft = Draft::new(model, systemd_version(model, host)?);
    host_files::render(&mut draft, model, host);
    if model.has(Service::Flanneld) {
        flanneld::render(&mut draft, model)?;
    }
    if model.has(Service::Docker) {
        runtime(&mut draft, model, host)?;
    }
    if model.has(Service::Kubelet) {
        kubelet::render(&mut draft, model)?;
        cluster::render(&mut draft, model)?;
    }
    if model.has(Service::KubeProxy) {
        kube_proxy::render(&mut draft, model)?;
    }
    notes::render(&mut draft, model);
    install::render(&mut draft, model, host);
    notes::next_steps(&mut draft, model);
    let (systemd, mut plan) = (draft.systemd, draft.plan);
    for file in plan
        .files
        .iter_mut()
        .filter(|file| matches!(file.kind, FileKind::Unit | FileKind::DropIn))
    {
        file.content = systemd::adapt(&file.content, systemd);
    }
    // Parents before their content.
    plan.directories
        .sort_by(|one, other| one.path.cmp(&other.path));
    plan.directories.dedup();
    Ok(plan)
}

/// Returns the version that the units are for. The tutorial's units have only directives that every version knows.
fn systemd_version(model: &Model, host: &Host) -> Result<SystemdVersion, Error> {
    let version = model
        .systemd
        .or(host.systemd.map(SystemdVersion))
        .unwrap_or(SystemdVersion::NEWEST);
    if version < SystemdVersion::OLDEST && !model.is_document() {
        let why = format!(
            "{version} is older than {}, the oldest supported version",
            SystemdVersion::OLDEST
        );
        return Err(Error::setting("systemd-version", why));
    }
    Ok(version)
}

fn runtime(draft: &mut Draft, model: &Model, host: &Host) -> Result<(), Error> {
    match model.runtime {
        super::model::Runtime::Docker => docker::render(draft, model, host)?,
        super::model::Runtime::Containerd => containerd::render(draft, model, host)?,
    }
    if model.needs_cri_dockerd() {
        cri_dockerd::render(draft, model)?;
    }
    if model.pod_network == super::model::PodNetwork::Cni {
        cni::render(draft, model);
    }
    Ok(())
}

struct Draft {
    plan: Plan,
    /// The version of systemd that the units are for.
    systemd: SystemdVersion,
}

impl Draft {
    fn new(model: &Model, systemd: SystemdVersion) -> Self {
        let plan = Plan {
            settings: model.settings.to_toml(),
            ..Plan::default()
        };
        Self { plan, systemd }
    }

    /// Adds a file that any user may read.
    fn file(
        &mut self,
        (service, kind): (Service, FileKind),
        path: impl AsRef<str>,
        content: String,
        effect: Effect,
    ) {
        let path = path.as_ref().into();
        self.plan.files.push(File {
            path,
            content,
            mode: 0o644,
            kind,
            service,
            effect,
        });
    }

    /// Adds a managed unit, to be enabled and started.
    fn unit(&mut self, service: Service, name: &'static str, content: String) {
        self.file(
            (service, FileKind::Unit),
            format!("{UNITS}/{name}"),
            content,
            Effect::Restart(name),
        );
        self.uses(service, name, true);
    }

    /// Adds a unit to be enabled and started.
    fn uses(&mut self, service: Service, name: &'static str, ours: bool) {
        self.plan.units.push(UnitUse {
            name,
            service,
            ours,
        });
    }

    fn directory(&mut self, path: impl AsRef<str>, mode: u32) {
        self.plan.directories.push(Directory {
            path: path.as_ref().into(),
            mode,
        });
    }

    fn conflict(&mut self, path: &str, found: impl Into<String>, fix: &'static str) {
        self.plan.conflicts.push(Conflict {
            path: path.to_owned(),
            found: found.into(),
            fix,
        });
    }

    fn warn(&mut self, id: &'static str, text: impl Into<String>) {
        self.plan.warnings.push(Warning {
            id,
            text: text.into(),
        });
    }
}

/// Formats a command line for a unit.
fn command(program: &str, words: &[argv::Word]) -> Result<String, Error> {
    argv::encode(program, words).map_err(|why| Error::setting("bin-dir", why))
}
