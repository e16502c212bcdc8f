//! Renders the four units of the tutorial, key by key. Pure.
//!
//! Two values are corrected: the kubelet starts in a directory that is created, and kube-proxy's cluster-cidr is
//! the network of the pods. Warnings report other mistakes.

use super::command;
use super::flanneld::{DOCKER_KEY, DOCKER_OPTIONS, etcd_flags, own_flags};
use super::kube_proxy::{IPVS_GATE, needs_ipvs_gate};
use super::kubelet::SERVER_TLS_GATE;
use crate::argv::{Word, escape_percent, quote};
use crate::model::Node;
use crate::versions::KubeVersion;
use crate::{Error, Model};

const KUBERNETES: &str = "https://github.com/GoogleCloudPlatform/kubernetes";

pub(super) fn flanneld(model: &Model) -> Result<String, Error> {
    let flags: Vec<Word> = [etcd_flags(model), own_flags(model)].concat();
    let start = command(&model.program("flanneld"), &flags)?;
    let options = ["-k", DOCKER_KEY, "-d", DOCKER_OPTIONS].map(Word::from);
    let post = command(&model.program("mk-docker-opts.sh"), &options)?.replace(" \\\n   ", "");
    let password = model.etcd.login.iter().map(|(_, file)| {
        format!(
            "EnvironmentFile={}\n",
            escape_percent(&file.to_string_lossy())
        )
    });
    let password: String = password.collect();
    Ok(format!(
        "[Unit]\nDescription=Flanneld overlay address etcd agent\nAfter=network.target\nAfter=network-online.target\n\
         Wants=network-online.target\nAfter=etcd.service\nBefore=docker.service\n\n\
         [Service]\nType=notify\n{password}ExecStart={start}\nExecStartPost={post}\nRestart=on-failure\n\n\
         [Install]\nWantedBy=multi-user.target\nRequiredBy=docker.service\n"
    ))
}

pub(super) fn docker(model: &Model) -> Result<String, Error> {
    let words = [
        Word::from("--log-level=error"),
        Word::Variable(DOCKER_KEY.into()),
    ];
    let start = command(&model.program("dockerd"), &words)?.replace(" \\\n   ", "");
    let path = quote(&format!(
        "PATH={}:/usr/bin:/bin:/usr/sbin:/usr/bin",
        model.dirs.bin.display()
    ));
    Ok(format!(
        "[Unit]\nDescription=Docker Application Container Engine\nDocumentation=http://docs.docker.io\n\n\
         [Service]\nEnvironment={path}\nEnvironmentFile=-{DOCKER_OPTIONS}\nExecStart={start}\n\
         ExecReload=/bin/kill -s HUP $MAINPID\nRestart=on-failure\nRestartSec=5\nLimitNOFILE=infinity\n\
         LimitNPROC=infinity\nLimitCORE=infinity\nDelegate=yes\nKillMode=process\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    ))
}

pub(super) fn kubelet(model: &Model, node: &Node) -> Result<String, Error> {
    let start = command(&model.program("kubelet"), &kubelet_flags(model, node))?;
    let head = head(
        "Kubernetes Kubelet",
        "After=docker.service\nRequires=docker.service\n",
    );
    Ok(format!(
        "{head}\n[Service]\nWorkingDirectory=/var/lib/kubelet\nExecStart={start}\nRestart=on-failure\nRestartSec=5\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    ))
}

fn kubelet_flags(model: &Model, node: &Node) -> Vec<Word> {
    let bootstrap = if model.kubernetes > KubeVersion::OLDEST {
        ""
    } else {
        "experimental-"
    };
    let mut flags = vec![
        format!("--address={}", node.ip),
        format!("--hostname-override={}", node.name),
        format!("--pod-infra-container-image={}", model.kube.pause_image),
        format!(
            "--{bootstrap}bootstrap-kubeconfig={}",
            model.kubernetes_file("bootstrap.kubeconfig")
        ),
        format!(
            "--kubeconfig={}",
            model.kubernetes_file("kubelet.kubeconfig")
        ),
        "--require-kubeconfig".into(),
        format!("--cert-dir={}", model.dirs.ssl.display()),
        format!("--cluster_dns={}", model.cluster_dns),
        format!("--cluster_domain={}", model.cluster_domain),
        "--hairpin-mode".into(),
        "promiscuous-bridge".into(),
        "--allow-privileged=true".into(),
        "--serialize-image-pulls=false".into(),
        "--logtostderr=true".into(),
        "--v=2".into(),
    ];
    if model.kube.secure {
        flags.extend(secure(model));
    }
    if model.kube.server_tls {
        flags.push(format!("--feature-gates={SERVER_TLS_GATE}=true"));
    }
    flags.into_iter().map(Word::from).collect()
}

/// Returns the flags that secure the kubelet's API.
fn secure(model: &Model) -> [String; 6] {
    [
        format!("--client-ca-file={}", model.kube.client_ca.display()),
        "--anonymous-auth=false".into(),
        "--authentication-token-webhook=true".into(),
        "--authorization-mode=Webhook".into(),
        "--read-only-port=0".into(),
        "--cadvisor-port=0".into(),
    ]
}

pub(super) fn kube_proxy(model: &Model, node: &Node) -> Result<String, Error> {
    let mut flags = vec![
        format!("--bind-address={}", node.ip),
        format!("--hostname-override={}", node.name),
        format!("--cluster-cidr={}", model.pod_cidr),
        format!(
            "--kubeconfig={}",
            model.kubernetes_file("kube-proxy.kubeconfig")
        ),
        "--logtostderr=true".into(),
        "--v=2".into(),
    ];
    if let Some(mode) = &model.kube.proxy_mode {
        flags.push(format!("--proxy-mode={mode}"));
    }
    if needs_ipvs_gate(model) {
        flags.push(format!("--feature-gates={IPVS_GATE}=true"));
    }
    let words: Vec<Word> = flags.into_iter().map(Word::from).collect();
    let start = command(&model.program("kube-proxy"), &words)?;
    let head = head("Kubernetes Kube-Proxy Server", "After=network.target\n");
    Ok(format!(
        "{head}\n[Service]\nWorkingDirectory=/var/lib/kube-proxy\nExecStart={start}\nRestart=on-failure\nRestartSec=5\n\
         LimitNOFILE=65536\n\n[Install]\nWantedBy=multi-user.target\n"
    ))
}

fn head(description: &str, order: &str) -> String {
    format!(
        "[Unit]\nDescription={}\nDocumentation={KUBERNETES}\n{order}",
        escape_percent(description)
    )
}
