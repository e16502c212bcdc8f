//! Checks addresses, networks, ports, and firewalls. Pure.

use ipnetwork::{IpNetwork, Ipv4Network};

use super::facts::Live;
use crate::Service;
use crate::finding::{Finding, or_ok};
use crate::model::Model;

/// Prefixes of interfaces that belong to the overlay or get their addresses from it.
const OURS: &[&str] = &["flannel", "docker0", "cni0", "kube-ipvs0", "nodelocaldns"];
/// Units that manage a firewall, and the rules that they need.
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
        "accept 8472/udp and 10250/tcp in the input chain, and flannel.1 and docker0 in the forward chain",
    ),
];

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
                format!("no interface has {ip}"),
                &own(live),
                "use one of these addresses with --node-ip",
            ),
        },
    )
}

/// Returns the host's addresses that other hosts may reach, with their interfaces.
fn reachable(live: &Live) -> impl Iterator<Item = &(String, IpNetwork)> {
    let all = live.addresses.iter();
    all.filter(|(name, own)| !own.ip().is_loopback() && own.is_ipv4() && !is_ours(name))
}

fn own(live: &Live) -> String {
    reachable(live)
        .map(|(name, own)| format!("{} ({name})", own.ip()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn interface(model: &Model, live: &Live) -> Option<Finding> {
    let fix = "choose the interface towards the other nodes with --iface";
    match &model.flannel.iface {
        Some(wanted)
            if !live
                .addresses
                .iter()
                .any(|(name, own)| name == wanted || own.ip().to_string() == *wanted) =>
        {
            Some(Finding::error(
                "iface",
                format!("{wanted} does not exist or has no address"),
                &own(live),
                fix,
            ))
        }
        Some(wanted) => Some(Finding::ok(
            "iface",
            format!("{wanted} carries the overlay"),
        )),
        None if !live.default_route => Some(Finding::error(
            "iface",
            "no default route",
            "a default route, or an interface chosen with --iface",
            fix,
        )),
        None => {
            let mut names: Vec<&str> = reachable(live).map(|(name, _)| name.as_str()).collect();
            names.dedup();
            (names.len() > 1).then(|| {
                Finding::warning(
                    "iface",
                    format!("several interfaces have addresses: {}", names.join(", ")),
                    "an explicit choice; otherwise the overlay uses the interface of the default route",
                    fix,
                )
            })
        }
    }
}

/// Checks the networks of pods and services against those of the host.
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
                    "the network {network} of the {name} overlaps {} on {device}",
                    masked(other)
                ),
                "a network that is not used elsewhere: overlapping hosts become unreachable",
                "choose another network for the cluster, in etcd and on all nodes",
            )
        }));
    }
    let unused = format!("{pods} and {services} are not used elsewhere");
    or_ok(findings, "cidr-overlap", unused)
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

/// Checks that ports are free or used by their own programs.
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
    or_ok(
        taken,
        "ports",
        "all ports are free or used by the right program",
    )
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
            format!("port {port}/{protocol} is used by {name}"),
            &format!("a port that is free for {program}"),
            format!("find the program with `ss -lptn 'sport = :{port}'` and stop it"),
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
                "rules that allow the overlay; the firewall must not flush rules of other programs",
                *fix,
            )
        })
        .collect();
    or_ok(told, "firewall", "only docker and kube-proxy manage it")
}

/// Checks that the network manager leaves the overlay devices alone, and that units can wait for the network.
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
            "no unit waits for the network at boot",
            "a wait-online unit, so that network-online.target waits for the network",
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
            "a host without it: it removes routes and rules of other programs",
            "systemctl disable --now nm-cloud-setup.service nm-cloud-setup.timer; reboot",
        ));
    }
    findings
}
