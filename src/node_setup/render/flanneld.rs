//! flanneld: the shipped unit with this node's command line, or the document's: pure.

use super::daemon_flags::{DOCKER_OPTIONS, etcd_flags, own_flags};
use super::shipped::{self, FLANNELD};
use super::{Draft, command, document};
use crate::node_setup::argv::escape_percent;
use crate::node_setup::{Error, Model, Service};

const NAME: &str = "flanneld.service";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let unit = if model.is_document() { document::flanneld(model)? } else { recommended(model)? };
    draft.unit(Service::Flanneld, NAME, unit);
    if model.etcd.tls.is_some() {
        draft.directory(model.dirs.ssl.to_string_lossy(), 0o755);
    }
    Ok(())
}

fn recommended(model: &Model) -> Result<String, Error> {
    let mut flags = etcd_flags(model);
    if model.on_docker_bridge() {
        flags.push(format!("-docker-opts-file={DOCKER_OPTIONS}").into());
    }
    if model.flannel.masquerade {
        flags.push("-ip-masq=true".into());
    }
    flags.extend(own_flags(model));
    let line = command(&model.program("flanneld"), &flags)?;
    let password = model.etcd.login.iter().map(|(_, file)| escape_percent(&file.to_string_lossy()));
    let unit = shipped::unit(
        FLANNELD,
        "The overlay's daemon. `rflannel node-setup explain flanneld.service` says why each line is there.",
    )
    .with("Service", "EnvironmentFile", &password.collect::<Vec<_>>())
    .with("Service", "ExecStart", &[line]);
    Ok(unit.to_string())
}
