//! The walk-through's units as it writes them, key by key, with the document's exports filled in.

use node_setup::Host;
use node_setup::argv::{Word, decode};
use node_setup::unit::Unit;

use super::planned;

const FLANNELD: &str = r"
[Unit]
Description=Flanneld overlay address etcd agent
After=network.target
After=network-online.target
Wants=network-online.target
After=etcd.service
Before=docker.service
[Service]
Type=notify
ExecStart=/root/local/bin/flanneld \
-etcd-cafile=/etc/kubernetes/ssl/ca.pem \
-etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem \
-etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem \
-etcd-endpoints=https://10.64.3.7:2379,https://10.64.3.8:2379,https://10.66.3.86:2379 \
-etcd-prefix=/kubernetes/network \
-iface=eth0
ExecStartPost=/root/local/bin/mk-docker-opts.sh -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker
Restart=on-failure
[Install]
WantedBy=multi-user.target
RequiredBy=docker.service
";

const DOCKER: &str = r#"
[Unit]
Description=Docker Application Container Engine
Documentation=http://docs.docker.io
[Service]
Environment="PATH=/root/local/bin:/usr/bin:/bin:/usr/sbin:/usr/bin"
EnvironmentFile=-/run/flannel/docker
ExecStart=/root/local/bin/dockerd --log-level=error $DOCKER_NETWORK_OPTIONS
ExecReload=/bin/kill -s HUP $MAINPID
Restart=on-failure
RestartSec=5
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
Delegate=yes
KillMode=process
[Install]
WantedBy=multi-user.target
"#;

const KUBELET: &str = r"
[Unit]
Description=Kubernetes Kubelet
Documentation=https://github.com/GoogleCloudPlatform/kubernetes
After=docker.service
Requires=docker.service
[Service]
WorkingDirectory=/var/lib/kubelet
ExecStart=/root/local/bin/kubelet \
--address=10.64.3.7 \
--hostname-override=10.64.3.7 \
--pod-infra-container-image=registry.access.redhat.com/rhel7/pod-infrastructure:latest \
--experimental-bootstrap-kubeconfig=/etc/kubernetes/bootstrap.kubeconfig \
--kubeconfig=/etc/kubernetes/kubelet.kubeconfig \
--require-kubeconfig \
--cert-dir=/etc/kubernetes/ssl \
--cluster_dns=10.254.0.2 \
--cluster_domain=cluster.local. \
--hairpin-mode promiscuous-bridge \
--allow-privileged=true \
--serialize-image-pulls=false \
--logtostderr=true \
--v=2
Restart=on-failure
RestartSec=5
[Install]
WantedBy=multi-user.target
";

/// As the document has it but for one value: its CLUSTER_CIDR is the network of the services.
const KUBE_PROXY: &str = r"
[Unit]
Description=Kubernetes Kube-Proxy Server
Documentation=https://github.com/GoogleCloudPlatform/kubernetes
After=network.target
[Service]
WorkingDirectory=/var/lib/kube-proxy
ExecStart=/root/local/bin/kube-proxy \
--bind-address=10.64.3.7 \
--hostname-override=10.64.3.7 \
--cluster-cidr=172.30.0.0/16 \
--kubeconfig=/etc/kubernetes/kube-proxy.kubeconfig \
--logtostderr=true \
--v=2
Restart=on-failure
RestartSec=5
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
";

/// Section, key, and the value as systemd splits it.
fn keys(text: &str) -> Vec<(String, String, Vec<Word>)> {
    let unit = Unit::parse(text);
    unit.entries()
        .map(|(section, key, value)| (section.into(), key.into(), decode(&value)))
        .collect()
}

#[test]
fn its_four_units_come_back_key_by_key() {
    let plan = planned(&[("style", "document")], &Host::default()).unwrap();
    let units = [
        ("flanneld", FLANNELD),
        ("docker", DOCKER),
        ("kubelet", KUBELET),
        ("kube-proxy", KUBE_PROXY),
    ];
    for (name, want) in units {
        let path = format!("/etc/systemd/system/{name}.service");
        let file = plan
            .files
            .iter()
            .find(|file| file.path.to_str() == Some(&path))
            .unwrap();
        assert_eq!(keys(&file.content), keys(want), "{name}");
    }
}

#[test]
fn what_was_corrected_is_told() {
    let plan = planned(&[("style", "document")], &Host::default()).unwrap();
    let told = |id: &str| {
        plan.warnings
            .iter()
            .any(|one| one.id == id && one.text.starts_with("corrected: "))
    };
    assert!(told("cluster-cidr") && told("kubelet-directory") && told("registry-mirrors"));
    assert!(
        plan.directories
            .iter()
            .any(|dir| dir.path.ends_with("var/lib/kubelet"))
    );
    assert!(
        !plan
            .directories
            .iter()
            .any(|dir| dir.path.ends_with("kublet"))
    );
}
