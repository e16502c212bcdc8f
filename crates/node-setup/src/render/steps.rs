//! Renders the steps that are left to the operator. They are printed and never run. Pure.

use super::Draft;
use crate::etcd_config;
use crate::{Model, Service};

/// Returns the directory of the objects for `kubectl apply`.
pub(super) fn manifests(model: &Model) -> String {
    model.kubernetes_file("cluster")
}

pub(super) fn render(draft: &mut Draft, model: &Model) {
    let mut say = |line: String| draft.plan.next_steps.push(line);
    if model.has(Service::Flanneld) {
        say("# Once per cluster, on a machine that can reach etcd: write the network configuration.".into());
        etcd_config::command(model)
            .lines()
            .for_each(|line| say(line.to_owned()));
    }
    if model.has(Service::Flanneld) {
        say("# Check that flanneld has a lease.".into());
        say("journalctl -u flanneld | grep 'Lease acquired'".into());
    }
    let Some(node) = model.node.as_ref().filter(|_| model.has(Service::Kubelet)) else {
        return;
    };
    say("# Once per cluster, where kubectl has administrator rights (copy the directory there): let nodes join."
        .into());
    say(format!("kubectl apply -f {}", manifests(model)));
    say("# After the kubelet has started: list the certificate requests and approve that of this node."
        .into());
    say("kubectl get csr".into());
    say("kubectl certificate approve NAME".into());
    if model.kube.server_tls {
        say("# A second request follows, for the serving certificate. It is never approved automatically."
            .into());
    }
    say(format!("kubectl get node {}", node.name));
}
