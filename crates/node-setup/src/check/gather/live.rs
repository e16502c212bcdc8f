//! Reads the facts of the running host.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::machine;
use super::ports::listeners;
use crate::Service;
use crate::check::facts::{Cgroup, Live};
use crate::check::os;
use crate::command::said;
use crate::host::SEARCH_PATH;
use crate::model::{Model, Runtime};
use crate::systemctl::Systemctl;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::{Kernel, Query};

const SYSCTLS: &[&str] = &["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"];
const MODULES: &[&str] = &["vxlan", "br_netfilter", "overlay"];
const UNITS: &[&str] = &[
    "firewalld.service",
    "ufw.service",
    "nftables.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "NetworkManager-wait-online.service",
    "systemd-networkd-wait-online.service",
    "ifupdown-wait-online.service",
    "nm-cloud-setup.service",
    "nm-cloud-setup.timer",
    "flanneld.service",
    "docker.service",
    "kubelet.service",
    "kube-proxy.service",
];

/// Reads all facts. What cannot be read is left out.
pub(super) fn read(model: &Model) -> Live {
    let text = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let programs = programs(model);
    Live {
        user: rustix::process::getuid().as_raw(),
        kernel: text("/proc/sys/kernel/osrelease"),
        init: text("/proc/1/comm"),
        cgroup: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Cgroup::V2
        } else {
            Cgroup::V1
        },
        swaps: text("/proc/swaps")
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect(),
        hostname: text("/proc/sys/kernel/hostname"),
        routes: routes(&text("/proc/net/route")),
        listeners: listeners(),
        units: Systemctl::live().show(UNITS),
        sysctls: sysctls(),
        modules: modules(&text("/proc/sys/kernel/osrelease")),
        own_head: machine::head(Path::new("/proc/self/exe")),
        binaries: machine::binaries(programs.keys()),
        selinux: machine::selinux(),
        disks: machine::disks(model),
        verified: machine::verified(model),
        programs,
        tools: [os::NEEDED_TOOLS, os::HANDY_TOOLS]
            .concat()
            .into_iter()
            .filter(|tool| on_path(tool).is_some())
            .map(str::to_owned)
            .collect(),
        synchronised: said(
            "timedatectl",
            &["show", "--property=NTPSynchronized", "--value"],
        )
        .map(|answer| answer == "yes"),
        rules: rules(),
        ..network()
    }
}

/// Reads the interfaces, their addresses, and whether there is a default route, from the kernel.
fn network() -> Live {
    let asked = Query {
        default_routes: true,
        ..Query::default()
    };
    let Some(facts) = Netlink::open()
        .ok()
        .and_then(|mut kernel| kernel.host_state(&asked).ok())
    else {
        return Live {
            default_route: true,
            ..Live::default()
        };
    };
    let named = facts.addrs.iter().filter_map(|addr| {
        let link = facts.links.iter().find(|link| link.index == addr.link)?;
        Some((
            link.name.clone(),
            IpNetwork::new(addr.ip, addr.prefix_len).ok()?,
        ))
    });
    Live {
        addresses: named.collect(),
        links: facts
            .links
            .iter()
            .map(|link| (link.name.clone(), link.mtu))
            .collect(),
        default_route: !facts.default_links.is_empty(),
        ..Live::default()
    }
}

/// Parses `/proc/net/route`: interface, destination, …, mask. Numbers are in the processor's byte order.
fn routes(table: &str) -> Vec<(String, Ipv4Network)> {
    let number = |field: Option<&&str>| u32::from_str_radix(field?, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, mask) = (number(fields.get(1))?, number(fields.get(7))?);
        let length = u8::try_from(mask.count_ones())
            .ok()
            .filter(|length| *length > 0)?;
        Some((
            (*fields.first()?).to_owned(),
            Ipv4Network::new(Ipv4Addr::from_bits(to), length).ok()?,
        ))
    };
    table.lines().skip(1).filter_map(route).collect()
}

fn sysctls() -> BTreeMap<String, String> {
    let value =
        |name: &&str| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok();
    SYSCTLS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), value(name)?.trim().to_owned())))
        .collect()
}

/// Returns nothing if the kernel's modules are not on this file system, because then it is unknown which ones exist.
fn modules(release: &str) -> BTreeMap<String, bool> {
    let directory = PathBuf::from("/lib/modules").join(release);
    let lists = ["modules.dep", "modules.builtin"]
        .map(|name| fs::read_to_string(directory.join(name)).unwrap_or_default());
    let listed = |name: &str| {
        lists.iter().any(|list| {
            list.lines().any(|line| {
                line.split(':')
                    .next()
                    .is_some_and(|path| path.contains(&format!("/{name}.ko")))
            })
        })
    };
    let loaded = |name: &str| Path::new("/sys/module").join(name).exists();
    if lists.iter().all(String::is_empty) {
        return BTreeMap::new();
    }
    MODULES
        .iter()
        .map(|name| ((*name).to_owned(), loaded(name) || listed(name)))
        .collect()
}

fn programs(model: &Model) -> BTreeMap<PathBuf, Option<String>> {
    let own = |name: &str| PathBuf::from(model.program(name));
    let packaged = |name: &str| on_path(name).unwrap_or_else(|| own(name));
    let mut wanted = Vec::new();
    wanted.extend(model.has(Service::Flanneld).then(|| own("flanneld")));
    wanted.extend(model.has(Service::Kubelet).then(|| own("kubelet")));
    wanted.extend(model.has(Service::KubeProxy).then(|| own("kube-proxy")));
    if model.has(Service::Docker) {
        match model.runtime {
            Runtime::Docker if model.is_document() => wanted.push(own("dockerd")),
            Runtime::Docker => wanted.push(packaged("dockerd")),
            Runtime::Containerd => wanted.extend(["containerd", "runc"].map(packaged)),
        }
        wanted.extend(model.needs_cri_dockerd().then(|| own("cri-dockerd")));
    }
    wanted
        .into_iter()
        .map(|path| (path.clone(), said(&path, &["--version"])))
        .collect()
}

fn on_path(tool: &str) -> Option<PathBuf> {
    SEARCH_PATH
        .iter()
        .map(|directory| Path::new(directory).join(tool))
        .find(|path| path.exists())
}

/// Reads the rules of both variants. A host with only one variant may have no program named after it.
pub fn rules() -> BTreeMap<String, String> {
    let saved = |kind: &str| Some((kind.to_owned(), said(format!("{kind}-save"), &[])?));
    let both: BTreeMap<_, _> = ["iptables-legacy", "iptables-nft"]
        .into_iter()
        .filter_map(saved)
        .collect();
    if both.is_empty() {
        saved("iptables").into_iter().collect()
    } else {
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_routes_are_read() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0100400A\t0003\t0\t0\t0\t00000000\n\
                     eth0\t0000400A\t00000000\t0001\t0\t0\t0\t0000FFFF\n";
        assert_eq!(
            routes(table),
            [("eth0".to_owned(), "10.64.0.0/16".parse().unwrap())]
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        let modules = modules("no such kernel");
        assert!(modules.is_empty());
        assert!(on_path("sh").is_some() && on_path("no-such-tool").is_none());
    }
}
