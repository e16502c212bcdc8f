//! Renders flanneld's command line, which is the same in every style. Pure.

use crate::Model;
use crate::argv::Word;

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
    flags.extend(
        model
            .etcd
            .login
            .iter()
            .map(|(user, _)| Word::from(format!("-etcd-username={user}"))),
    );
    flags
}

/// Returns the interface and further flags.
pub(super) fn own_flags(model: &Model) -> Vec<Word> {
    let iface = model
        .flannel
        .iface
        .iter()
        .map(|name| Word::from(format!("-iface={name}")));
    iface
        .chain(
            model
                .flannel
                .options
                .iter()
                .map(|flag| Word::from(flag.as_str())),
        )
        .collect()
}
