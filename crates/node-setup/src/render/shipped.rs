//! Includes the files of `systemd/`, which packages install and plans are rendered from. Pure.

use crate::unit::Unit;

macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("../../../../systemd/", $name))
    };
}

pub(super) const FLANNELD: &str = shipped!("flanneld.service");
pub(super) const DOCKER_DROP_IN: &str = shipped!("docker.service.d/flannel.conf");
/// For udev.
pub(super) const LINK: &str = shipped!("10-flannel.link");
/// For systemd-networkd.
pub(super) const NETWORK: &str = shipped!("10-flannel.network");
pub(super) const NETWORK_MANAGER: &str = shipped!("NetworkManager-flannel.conf");
/// For the kernel.
pub(super) const SYSCTL: &str = shipped!("99-flannel.sysctl.conf");
pub(super) const MODULES: &str = shipped!("flannel.modules-load.conf");
/// For directories.
pub(super) const TMPFILES: &str = shipped!("flannel.tmpfiles.conf");

/// Returns the path of a file, which its first line contains.
pub(super) fn target(text: &'static str) -> &'static str {
    text.strip_prefix("# ")
        .and_then(|text| text.split(':').next())
        .unwrap_or_default()
}

/// Returns the unit in one of them, with another header.
pub(super) fn unit(text: &str, head: &str) -> Unit {
    Unit::parse(text).under(head)
}
