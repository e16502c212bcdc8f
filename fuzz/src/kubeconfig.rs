//! Any text where a node has kubeconfigs, token.csv and runtimes' files, and as what programs print: findings, never a panic.

use std::path::Path;

use node_setup::check::facts::{Facts, FileFact, Live};
use node_setup::check::{self, kubeconfig};
use node_setup::{Model, Settings};

const NODE: &str = "node-ip = '10.64.3.7'\netcd-endpoints = 'https://10.64.3.7:2379'\nkubernetes-version = '1.23'\n";
const FILES: [&str; 6] = [
    "/etc/kubernetes/bootstrap.kubeconfig",
    "/etc/kubernetes/kube-proxy.kubeconfig",
    "/etc/kubernetes/token.csv",
    "/etc/docker/daemon.json",
    "/etc/containerd/config.toml",
    "/run/flannel/subnet.env",
];

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new(FILES[0]);
    let _ = kubeconfig::files(text, path);
    for runtime in ["docker", "containerd"] {
        let settings = Settings::from_toml(&format!("{NODE}runtime = '{runtime}'\n"));
        let Ok(model) = settings.and_then(Model::new) else {
            panic!("the node is wrong")
        };
        let _ = check::offline(&model, &facts(text));
    }
}

fn facts(text: &str) -> Facts {
    let file = FileFact::File {
        bytes: text.into(),
        mode: 0o600,
        user: 0,
    };
    let live = Live {
        kernel: text.into(),
        hostname: text.into(),
        rules: [("iptables-nft".into(), text.into())].into(),
        verified: [("flanneld.service".into(), text.into())].into(),
        programs: [("/usr/local/bin/kubelet".into(), Some(text.into()))].into(),
        own_head: text.into(),
        ..Live::default()
    };
    Facts {
        now: 1_700_000_000,
        systemd: Some(252),
        files: FILES.map(|path| (path.into(), file.clone())).into(),
        live: Some(live),
    }
}
