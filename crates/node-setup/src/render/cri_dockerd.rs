//! Renders the units of cri-dockerd, with which a kubelet without dockershim uses docker. Pure.

use super::kubelet::CRI_DOCKERD;
use super::{Draft, UNITS, command};
use crate::model::PodNetwork;
use crate::{Effect, Error, FileKind, Model, Service};

const NAME: &str = "cri-docker.service";
const SOCKET: &str = "cri-docker.socket";

pub(super) fn render(draft: &mut Draft, model: &Model) -> Result<(), Error> {
    let mut flags = vec![
        "--container-runtime-endpoint=fd://".to_owned(),
        format!("--pod-infra-container-image={}", model.kube.pause_image),
    ];
    match model.pod_network {
        PodNetwork::Cni => flags.extend([
            "--network-plugin=cni".to_owned(),
            "--cni-conf-dir=/etc/cni/net.d".to_owned(),
            "--cni-bin-dir=/opt/cni/bin".to_owned(),
        ]),
        PodNetwork::Bip => flags.push("--network-plugin=".to_owned()),
    }
    let words: Vec<_> = flags.into_iter().map(Into::into).collect();
    let start = command(&model.program("cri-dockerd"), &words)?;
    let path = CRI_DOCKERD.trim_start_matches("unix://");
    let socket = format!(
        "# The socket that the kubelet uses to reach cri-dockerd.\n\n[Unit]\nDescription=Socket of cri-dockerd\nPartOf={NAME}\n\n\
         [Socket]\nListenStream={path}\nSocketMode=0660\nSocketUser=root\nSocketGroup=root\n\n\
         [Install]\nWantedBy=sockets.target\n"
    );
    draft.file(
        (Service::CriDockerd, FileKind::Unit),
        format!("{UNITS}/{SOCKET}"),
        socket,
        Effect::Restart(SOCKET),
    );
    draft.uses(Service::CriDockerd, SOCKET, true);
    draft.unit(Service::CriDockerd, NAME, service(&start));
    Ok(())
}

fn service(start: &str) -> String {
    format!(
        "# Connects the kubelet to docker. Kubernetes 1.24 and later have no dockershim.\n\n\
         [Unit]\nDescription=CRI for Docker Engine\nDocumentation=https://mirantis.github.io/cri-dockerd/\n\
         Requires={SOCKET}\nWants=network-online.target docker.service\nAfter=network-online.target docker.service\n\
         StartLimitIntervalSec=0\n\n[Service]\nType=notify\nExecStart={start}\nExecReload=/bin/kill -s HUP $MAINPID\n\
         TimeoutSec=0\nRestart=always\nRestartSec=5\nLimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\n\
         Delegate=yes\nKillMode=process\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}
