//! Renders the files of the host itself: udev, networkd, NetworkManager, sysctl, modules, directories. Pure.

use super::Draft;
use super::shipped::{LINK, MODULES, NETWORK, NETWORK_MANAGER, SYSCTL, TMPFILES, target};
use crate::versions::SystemdVersion;
use crate::{Effect, FileKind, Host, Model, Service};

const UDEV: Effect = Effect::Run(&["udevadm", "control", "--reload"]);
const NETWORKD: Effect = Effect::Run(&["networkctl", "reload"]);
const NMCLI: Effect = Effect::Run(&["nmcli", "general", "reload"]);
const MODPROBE: Effect = Effect::Run(&["systemctl", "restart", "systemd-modules-load.service"]);
/// Applies this file only, because applying all files would undo temporary settings.
const SYSCTLS: Effect = Effect::Run(&[
    "/usr/lib/systemd/systemd-sysctl",
    "/etc/sysctl.d/99-flannel.conf",
]);
/// If `/lib` and `/usr/lib` are different directories.
const SPLIT_SYSCTLS: Effect = Effect::Run(&[
    "/lib/systemd/systemd-sysctl",
    "/etc/sysctl.d/99-flannel.conf",
]);
const DIRECTORIES: Effect = Effect::Run(&[
    "systemd-tmpfiles",
    "--create",
    "/etc/tmpfiles.d/flannel.conf",
]);

pub(super) fn render(draft: &mut Draft, model: &Model, host: &Host) {
    if !model.has(Service::Flanneld) {
        return;
    }
    let systemd = draft.systemd;
    let mut file = |text: &'static str, content: String, effect| {
        draft.file(
            (Service::Host, FileKind::Config),
            target(text),
            content,
            effect,
        );
    };
    file(LINK, LINK.to_owned(), UDEV);
    // Without Unmanaged=, the file would make networkd manage the device.
    if host.networkd && systemd >= SystemdVersion::UNMANAGED_LINKS {
        let reads_again = systemd >= SystemdVersion::NETWORKD_RELOAD;
        file(
            NETWORK,
            NETWORK.to_owned(),
            if reads_again { NETWORKD } else { Effect::None },
        );
    }
    if host.network_manager {
        file(NETWORK_MANAGER, network_manager(), NMCLI);
    }
    file(MODULES, modules(model), MODPROBE);
    file(
        SYSCTL,
        SYSCTL.to_owned(),
        if host.split_usr {
            SPLIT_SYSCTLS
        } else {
            SYSCTLS
        },
    );
    file(TMPFILES, tmpfiles(model, systemd), DIRECTORIES);
}

/// Also excludes the devices of pods, because NetworkManager would assign addresses to them.
fn network_manager() -> String {
    NETWORK_MANAGER.replace(
        "name:flannel*",
        "name:flannel*;interface-name:cni*;interface-name:veth*",
    )
}

fn modules(model: &Model) -> String {
    let mut text = MODULES.to_owned();
    if model.kube.proxy_mode.as_deref() == Some("ipvs") {
        text.push_str(
            "# For kube-proxy's ipvs mode.\nip_vs\nip_vs_rr\nip_vs_wrr\nip_vs_sh\nnf_conntrack\n",
        );
    }
    text
}

fn tmpfiles(model: &Model, systemd: SystemdVersion) -> String {
    let mut text = TMPFILES.to_owned();
    if systemd < SystemdVersion::SERVICE_DIRECTORIES && !model.is_document() {
        text.push_str(
            "# The state directory of flanneld. systemd before 235 does not create it (StateDirectory=).\n",
        );
        text.push_str("d /var/lib/flannel 0700 root root -\n");
    }
    let directories = [
        (Service::Kubelet, "/var/lib/kubelet 0750"),
        (Service::KubeProxy, "/var/lib/kube-proxy 0755"),
    ];
    for (service, directory) in directories {
        if model.has(service) {
            text.push_str(&format!(
                "# The working directory of {service}. Without it the unit fails with status 200/CHDIR.\n"
            ));
            text.push_str(&format!("d {directory} root root -\n"));
        }
    }
    text
}
