//! flanneld: the shipped unit with this node's command line, or the document's: pure.

use super::shipped::{self, FLANNELD};
use super::{Draft, command, document};
use crate::node_setup::argv::{Word, escape_percent};
use crate::node_setup::{Error, Model, Service};

/// Where docker reads its options.
pub(super) const DOCKER_OPTIONS: &str = "/run/flannel/docker";
/// The variable they are in.
pub(super) const DOCKER_KEY: &str = "DOCKER_NETWORK_OPTIONS";
const NAME: &str = "flanneld.service";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let unit = if model.is_document() { document::flanneld(model)? } else { recommended(model)? };
    draft.unit(Service::Flanneld, NAME, unit);
    if model.etcd.tls.is_some() {
        draft.directory(model.dirs.ssl.to_string_lossy(), 0o755);
    }
    Ok(())
}

/// Flags towards etcd, in the document's order.
pub(super) fn etcd_flags(model: &Model) -> Vec<Word> {
    let names = ["-etcd-cafile", "-etcd-certfile", "-etcd-keyfile"];
    let files = model.etcd.tls.iter().flat_map(|files| names.iter().zip(files));
    let mut flags: Vec<Word> =
        files.map(|(name, file)| format!("{name}={}", file.display()).into()).collect();
    flags.push(format!("-etcd-endpoints={}", model.etcd.endpoints.join(",")).into());
    flags.push(format!("-etcd-prefix={}", model.etcd.prefix).into());
    flags.extend(model.etcd.login.iter().map(|(user, _)| Word::from(format!("-etcd-username={user}"))));
    flags
}

/// Interface and further flags.
pub(super) fn own_flags(model: &Model) -> Vec<Word> {
    let iface = model.flannel.iface.iter().map(|name| Word::from(format!("-iface={name}")));
    iface.chain(model.flannel.options.iter().map(|flag| Word::from(flag.as_str()))).collect()
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
