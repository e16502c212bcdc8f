//! Two daemons on one host, each with a cluster of its own: prefix, VNI, network and files. Neither touches what is the other's.

use lab::{Lab, LabError, Node, NotifySocket, Process, Signal};

use super::assertions::Monitor;
use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, options, prepared};

/// A cluster: its prefix and the stem of its files, its device, its configuration.
struct Cluster {
    name: &'static str,
    device: &'static str,
    config: &'static str,
}

const CLUSTERS: [Cluster; 2] = [
    Cluster {
        name: "blue",
        device: "flannel.1",
        config: r#"{"Network":"172.30.0.0/16","Backend":{"Type":"vxlan"}}"#,
    },
    Cluster {
        name: "red",
        device: "flannel.2",
        config: r#"{"Network":"10.99.0.0/16","Backend":{"Type":"vxlan","VNI":2}}"#,
    },
];

impl Cluster {
    fn start(&self, lab: &Lab, node: &Node) -> Result<Process, LabError> {
        let Self { name, .. } = self;
        let notify = NotifySocket::bind(node, name)?;
        let mut command = node.command([FLANNELD]);
        command
            .args(lab.flanneld_args()?)
            .arg(format!("-etcd-prefix=/{name}"))
            .args([
                format!("-subnet-file=/run/flannel/{name}.env"),
                format!("-docker-opts-file=/run/flannel/{name}.docker"),
                format!("-state-file=/run/flannel/{name}.json"),
            ]);
        command.env("NOTIFY_SOCKET", notify.path());
        let process = node.start(name, command)?;
        assert!(
            notify.wait_for("READY=1", PATIENCE),
            "{name}: {:#?}",
            process.log_tail(10)
        );
        Ok(process)
    }

    /// All that it has in the kernel and on disk. Its files count as touched when they were written again.
    fn held(&self, node: &Node) -> Result<String, LabError> {
        let Self { name, device, .. } = self;
        node.sh(&format!(
            "ip -d link show {device}; ip -4 addr show {device}; ip route show dev {device}
            ip neigh show dev {device} nud permanent; bridge fdb show dev {device} | sort
            for file in env docker; do stat -c '%n %i %Y' /run/flannel/{name}.$file; cat /run/flannel/{name}.$file; done"
        ))
    }

    fn has_a_peer(&self, node: &Node) -> bool {
        let routes = node
            .sh(&format!("ip route show dev {}", self.device))
            .unwrap_or_default();
        routes
            .lines()
            .filter(|line| line.contains("onlink"))
            .count()
            == 1
    }
}

#[test]
fn two_instances_on_one_host_do_not_touch_each_other() -> Test {
    let lab = prepared(options(), 2)?;
    let mut running = Vec::new();
    for cluster in &CLUSTERS {
        lab.etcd()?
            .put(&format!("/{}/config", cluster.name), cluster.config)?;
        for host in lab.hosts() {
            running.push(cluster.start(&lab, host.node())?);
        }
    }
    let host = lab.host(1);
    for cluster in &CLUSTERS {
        eventually("each has its peer", || cluster.has_a_peer(host));
    }
    let monitor = Monitor::start(host)?;
    // Of each cluster the one on the first host.
    for (index, (own, other)) in [(0, (0, 1)), (2, (1, 0))] {
        let (own, other) = (&CLUSTERS[own], &CLUSTERS[other]);
        let heard = || -> Result<Vec<String>, LabError> {
            Ok(monitor
                .changes()?
                .into_iter()
                .filter(|line| line.contains(other.device))
                .collect())
        };
        let before = (other.held(host)?, heard()?);
        for signal in [Signal::TERM, Signal::KILL] {
            running[index].signal(signal)?;
            running[index].wait(PATIENCE)?;
            running[index] = own.start(&lab, host)?;
        }
        host.sh(&format!("ip link del {}", own.device))?;
        eventually("the device is healed", || own.has_a_peer(host));
        assert_eq!(
            (other.held(host)?, heard()?),
            before,
            "{} was touched by {}",
            other.name,
            own.name
        );
    }
    Ok(())
}
