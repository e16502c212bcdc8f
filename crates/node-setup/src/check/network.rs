//! Whether addresses, networks, ports and firewalls agree: pure.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network};

use super::facts::Live;
use crate::Service;
use crate::finding::Finding;
use crate::model::Model;

/// Interfaces of flannel and of those who get their addresses from us.
const OURS: &[&str] = &["flannel", "docker0", "cni0", "kube-ipvs0", "nodelocaldns"];
/// Who manages the firewall by itself, and what to tell it.
const FIREWALLS: &[(&str, &str)] = &[
    (
        "firewalld.service",
        "firewall-cmd --permanent --zone=trusted --add-interface=flannel.1 --add-interface=docker0; open 10250/tcp and 8472/udp; firewall-cmd --reload",
    ),
    (
        "ufw.service",
        "ufw route allow in on flannel.1; ufw allow 8472/udp; ufw allow 10250/tcp",
    ),
    (
        "nftables.service",
        "accept 8472/udp and 10250/tcp in input, and flannel.1 and docker0 in forward",
    ),
];

/// All of it.
pub fn judge(model: &Model, live: &Live) -> Vec<Finding> {
    let mut findings = overlaps(model, live);
    findings.extend(node_ip(model, live));
    findings.extend(interface(model, live));
    findings.extend(ports(model, live));
    findings.extend(firewalls(live));
    findings.extend(managers(live));
    findings
}

fn node_ip(model: &Model, live: &Live) -> Option<Finding> {
    let ip = model.node.as_ref()?.ip;
    Some(
        match live.addresses.iter().find(|(_, own)| own.ip() == ip) {
            Some((name, _)) => Finding::ok("node-ip", format!("{ip} is on {name}")),
            None => Finding::error(
                "node-ip",
                format!("{ip} is on no interface"),
                &own(live),
                "give one of these with --node-ip",
            ),
        },
    )
}

/// The host's addresses that others may reach.
fn own(live: &Live) -> String {
    let all = live
        .addresses
        .iter()
        .filter(|(name, own)| !own.ip().is_loopback() && own.is_ipv4() && !is_ours(name));
    all.map(|(name, own)| format!("{} ({name})", own.ip()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn interface(model: &Model, live: &Live) -> Option<Finding> {
    let fix = "name the one towards the other nodes with --iface";
    match &model.flannel.iface {
        Some(wanted)
            if !live
                .addresses
                .iter()
                .any(|(name, own)| name == wanted || own.ip().to_string() == *wanted) =>
        {
            Some(Finding::error(
                "iface",
                format!("{wanted} is no interface, or has no address"),
                &own(live),
                fix,
            ))
        }
        Some(wanted) => Some(Finding::ok(
            "iface",
            format!("the overlay is carried by {wanted}"),
        )),
        None if !live.default_route => Some(Finding::error(
            "iface",
            "no default route",
            "one, or a named interface",
            fix,
        )),
        None => {
            let mut names: Vec<&str> = live
                .addresses
                .iter()
                .filter(|(name, own)| !own.ip().is_loopback() && own.is_ipv4() && !is_ours(name))
                .map(|(name, _)| name.as_str())
                .collect();
            names.dedup();
            (names.len() > 1).then(|| {
                Finding::warning(
                    "iface",
                    format!("several interfaces have addresses: {}", names.join(", ")),
                    "a choice; otherwise it is the one of the default route",
                    fix,
                )
            })
        }
    }
}

/// The three networks of a cluster, and what the host is connected to.
fn overlaps(model: &Model, live: &Live) -> Vec<Finding> {
    let (pods, services) = (model.pod_cidr, model.service_cidr);
    let mut findings = Vec::new();
    for (name, network) in [("pods", pods), ("services", services)] {
        let connected = live
            .addresses
            .iter()
            .filter(|(device, _)| !is_ours(device))
            .filter_map(|(device, own)| match own {
                IpNetwork::V4(own) => Some((device, *own)),
                IpNetwork::V6(_) => None,
            });
        let routed = live
            .routes
            .iter()
            .filter(|(device, _)| !is_ours(device))
            .map(|(device, route)| (device, *route));
        let hit = connected
            .chain(routed)
            .find(|(_, other)| overlap(network, *other));
        findings.extend(hit.map(|(device, other)| {
            Finding::error(
                "cidr-overlap",
                format!(
                    "{network} of the {name} overlaps {} on {device}",
                    masked(other)
                ),
                "a network that is nowhere else: what is there becomes unreachable",
                "choose another one for the cluster, in etcd and on all nodes",
            )
        }));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "cidr-overlap",
            format!("{pods} and {services} are nowhere else"),
        ));
    }
    findings
}

fn overlap(one: Ipv4Network, other: Ipv4Network) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

fn masked(network: Ipv4Network) -> String {
    format!("{}/{}", network.network(), network.prefix())
}

fn is_ours(device: &str) -> bool {
    OURS.iter().any(|name| device.starts_with(name)) || device.starts_with("veth") || device == "lo"
}

/// Ports that have to be free, or taken by whom they are for.
fn ports(model: &Model, live: &Live) -> Vec<Finding> {
    let kubelet = [("tcp", 10250, "kubelet"), ("tcp", 10248, "kubelet")];
    let proxy = [("tcp", 10249, "kube-proxy"), ("tcp", 10256, "kube-proxy")];
    let wanted = kubelet
        .into_iter()
        .filter(|_| model.has(Service::Kubelet))
        .chain(proxy.into_iter().filter(|_| model.has(Service::KubeProxy)));
    let taken: Vec<Finding> = wanted
        .filter_map(|(protocol, port, program)| taken(live, protocol, port, program))
        .collect();
    match taken.is_empty() {
        true => vec![Finding::ok("ports", "free, or taken by whom they are for")],
        false => taken,
    }
}

fn taken(live: &Live, protocol: &str, port: u16, program: &str) -> Option<Finding> {
    let holder = live
        .listeners
        .iter()
        .find(|listener| listener.protocol == protocol && listener.port == port)?;
    let name = holder.program.as_deref().unwrap_or("another program");
    (holder.program.is_some() && name != program).then(|| {
        Finding::error(
            "ports",
            format!("{port}/{protocol} is taken by {name}"),
            &format!("free for {program}"),
            format!("find it with `ss -lptn 'sport = :{port}'` and stop it"),
        )
    })
}

fn firewalls(live: &Live) -> Vec<Finding> {
    let active = FIREWALLS
        .iter()
        .filter(|(unit, _)| live.unit(unit).is_active());
    let told: Vec<Finding> = active
        .map(|(unit, fix)| {
            Finding::warning(
                "firewall",
                format!("{unit} is active"),
                "it has to let the overlay through, and not to flush the rules of others",
                *fix,
            )
        })
        .collect();
    if told.is_empty() {
        vec![Finding::ok(
            "firewall",
            "nobody manages it but docker and kube-proxy",
        )]
    } else {
        told
    }
}

/// Whether who configures the network leaves ours alone, and says when it is there.
fn managers(live: &Live) -> Vec<Finding> {
    let mut findings = Vec::new();
    let waits = [
        "NetworkManager-wait-online.service",
        "systemd-networkd-wait-online.service",
        "ifupdown-wait-online.service",
    ];
    let managed = ["NetworkManager.service", "systemd-networkd.service"]
        .iter()
        .any(|unit| live.unit(unit).is_active());
    if managed
        && !waits
            .iter()
            .any(|unit| live.unit(unit).file.starts_with("enabled"))
    {
        findings.push(Finding::warning(
            "wait-online",
            "nothing waits for the network at boot",
            "network-online.target means something",
            "systemctl enable NetworkManager-wait-online (or systemd-networkd-wait-online)",
        ));
    }
    if ["nm-cloud-setup.service", "nm-cloud-setup.timer"]
        .iter()
        .any(|unit| live.unit(unit).file == "enabled")
    {
        findings.push(Finding::error(
            "nm-cloud-setup",
            "nm-cloud-setup is enabled",
            "it removes routes and rules that are not its own",
            "systemctl disable --now nm-cloud-setup.service nm-cloud-setup.timer; reboot",
        ));
    }
    findings
}

/// Whether an address can be a node's.
pub fn is_outside(ip: IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}
