//! Units as distributions and tutorials have them, with this daemon and this `mk-docker-opts.sh` in the place of flannel's: three
//! hosts, three shapes, one cluster.

use crate::support::tool::rflannel;
use std::fs;

use lab::Lab;

use crate::support::docker::{Container, UNITS};
use crate::support::installed::{SSL, certificates, file};
use crate::support::systemd_host::{File, SystemdHost};
use crate::{FLANNELD, cluster};

/// Where a shape has its things, and what docker starts with.
struct Shape {
    name: &'static str,
    address: &'static str,
    flanneld: &'static str,
    mk_docker_opts: &'static str,
    /// Path and text of everything else; `@ETCD@` stands for the endpoints, `@SSL@` for the directory of certificates.
    files: &'static [(&'static str, &'static str)],
    /// Path and text of a script.
    script: (&'static str, &'static str),
}

/// RHEL, CentOS, Fedora: settings in /etc/sysconfig under names without the D, a wrapper that gives the two flags always, empty
/// where nothing is set, and again by FLANNEL_OPTIONS.
const RHEL: Shape = Shape {
    name: "rhel",
    address: "10.64.0.101",
    flanneld: "/usr/bin/flanneld",
    mk_docker_opts: "/usr/libexec/flannel/mk-docker-opts.sh",
    files: &[
        (
            "/etc/sysconfig/flanneld",
            "FLANNEL_ETCD_PREFIX=\"/kubernetes/network\"\n\
             FLANNEL_OPTIONS=\"--etcd-endpoints=@ETCD@ -etcd-cafile=@SSL@/ca.pem -etcd-certfile=@SSL@/kubernetes.pem -etcd-keyfile=@SSL@/kubernetes-key.pem -iface=eth0\"\n",
        ),
        (
            "/etc/sysconfig/docker-network",
            "# /etc/sysconfig/docker-network\nDOCKER_NETWORK_OPTIONS=\n",
        ),
        (
            "/etc/systemd/system/flanneld.service",
            "[Unit]\nAfter=network.target\nBefore=docker.service\n\
             [Service]\nType=notify\nEnvironmentFile=/etc/sysconfig/flanneld\n\
             EnvironmentFile=-/etc/sysconfig/docker-network\n\
             ExecStart=/usr/bin/flanneld-start $FLANNEL_OPTIONS\n\
             ExecStartPost=/usr/libexec/flannel/mk-docker-opts.sh -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker\n\
             Restart=on-failure\n\
             [Install]\nWantedBy=multi-user.target\nRequiredBy=docker.service\n",
        ),
        (
            "/etc/systemd/system/docker.service.d/flannel.conf",
            "[Service]\nEnvironmentFile=-/run/flannel/docker\nExecStart=\n\
             ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_NETWORK_OPTIONS\n",
        ),
    ],
    script: (
        "/usr/bin/flanneld-start",
        "#!/bin/sh\nexec /usr/bin/flanneld -etcd-endpoints=${FLANNEL_ETCD_ENDPOINTS:-${FLANNEL_ETCD}} \
         -etcd-prefix=${FLANNEL_ETCD_PREFIX:-${FLANNEL_ETCD_KEY}} \"$@\"\n",
    ),
};

/// CoreOS Container Linux: settings as FLANNELD_ variables, docker's options line by line in a file of their own.
const COREOS: Shape = Shape {
    name: "coreos",
    address: "10.64.0.102",
    flanneld: "/opt/bin/flanneld",
    mk_docker_opts: "/opt/bin/mk-docker-opts.sh",
    files: &[
        (
            "/etc/flannel/options.env",
            "FLANNELD_IFACE=10.64.0.102\nFLANNELD_ETCD_ENDPOINTS=@ETCD@\nFLANNELD_ETCD_PREFIX=/kubernetes/network\n\
             FLANNELD_ETCD_CAFILE=@SSL@/ca.pem\nFLANNELD_ETCD_CERTFILE=@SSL@/kubernetes.pem\nFLANNELD_ETCD_KEYFILE=@SSL@/kubernetes-key.pem\n",
        ),
        (
            "/etc/systemd/system/flanneld.service",
            "[Unit]\nBefore=docker.service\n\
             [Service]\nType=notify\nRestart=always\nRestartSec=10s\nTimeoutStartSec=0\n\
             ExecStartPre=/bin/mkdir -p /run/flannel\n\
             ExecStartPre=/bin/ln -sf /etc/flannel/options.env /run/flannel/options.env\n\
             EnvironmentFile=-/etc/flannel/options.env\n\
             ExecStart=/opt/bin/flanneld\n\
             ExecStartPost=/opt/bin/mk-docker-opts.sh -d /run/flannel/flannel_docker_opts.env -i\n\
             [Install]\nWantedBy=multi-user.target\n",
        ),
        (
            "/etc/systemd/system/docker.service.d/flannel.conf",
            "[Unit]\nRequires=flanneld.service\nAfter=flanneld.service\n\
             [Service]\nEnvironmentFile=/run/flannel/flannel_docker_opts.env\nExecStart=\n\
             ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS $DOCKER_OPT_BIP $DOCKER_OPT_MTU $DOCKER_OPT_IPMASQ\n",
        ),
    ],
    script: ("/usr/local/bin/unused", ""),
};

/// Tutorials: docker's options over subnet.env itself, so that nothing is left of it.
const TUTORIAL: Shape = Shape {
    name: "tutorial",
    address: "10.64.0.103",
    flanneld: "/usr/local/bin/flanneld",
    mk_docker_opts: "/usr/local/bin/mk-docker-opts.sh",
    files: &[
        (
            "/etc/systemd/system/flanneld.service",
            "[Unit]\nBefore=docker.service\n\
             [Service]\nType=notify\n\
             ExecStart=/usr/local/bin/flanneld --etcd-endpoints=@ETCD@ -etcd-cafile=@SSL@/ca.pem -etcd-certfile=@SSL@/kubernetes.pem -etcd-keyfile=@SSL@/kubernetes-key.pem -etcd-prefix=/kubernetes/network -iface=eth0\n\
             ExecStartPost=/usr/local/bin/mk-docker-opts.sh -k DOCKER_NETWORK_OPTIONS -d /run/flannel/subnet.env\n\
             Restart=on-failure\n\
             [Install]\nWantedBy=multi-user.target\nRequiredBy=docker.service\n",
        ),
        (
            "/etc/systemd/system/docker.service.d/flannel.conf",
            "[Service]\nEnvironmentFile=-/run/flannel/subnet.env\nExecStart=\n\
             ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_NETWORK_OPTIONS\n",
        ),
    ],
    script: ("/usr/local/bin/unused", ""),
};

impl Shape {
    fn boot<'lab>(&self, lab: &'lab Lab) -> SystemdHost<'lab> {
        let etcd = lab.etcd().unwrap().endpoints();
        let fill = |text: &str| text.replace("@ETCD@", &etcd).replace("@SSL@", SSL);
        let mut files: Vec<File> = self
            .files
            .iter()
            .map(|(path, text)| file(path, &fill(text)))
            .collect();
        files.extend(certificates(lab));
        files.push((self.flanneld.into(), fs::read(FLANNELD).unwrap(), 0o755));
        files.push((
            self.mk_docker_opts.into(),
            fs::read(rflannel()).unwrap(),
            0o755,
        ));
        files.push((self.script.0.into(), self.script.1.into(), 0o755));
        SystemdHost::boot(lab, self.name, self.address, &files, &UNITS).unwrap()
    }
}

#[test]
fn usual_units_start_docker_with_the_subnet_across_restarts() {
    let lab = cluster();
    let hosts = [RHEL, COREOS, TUTORIAL].map(|shape| shape.boot(&lab));
    let mut containers = Vec::new();
    for (host, name) in hosts.iter().zip(["rhel", "coreos", "tutorial"]) {
        host.wait("systemctl is-active docker", |state| state == "active");
        containers.push(Container::run(host, name));
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        containers[from].wait_reaches(&containers[to]);
    }
    for host in &hosts {
        let before = host.must("ip -4 -o addr show flannel.1; ip -4 -o addr show docker0");
        host.must("systemctl restart flanneld");
        host.wait("systemctl is-active docker", |state| state == "active");
        assert_eq!(
            host.must("ip -4 -o addr show flannel.1; ip -4 -o addr show docker0"),
            before
        );
    }
}
