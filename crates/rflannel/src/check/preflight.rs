//! Examines what a host without flannel provides for it: kernel, capabilities, port, firewall. Changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::collect;
use super::firewall_rules::{self, Wanted};
use node_setup::finding::Finding;

/// flannel's VXLAN port on Linux.
const PORT: u16 = 8472;
/// Default path of the file that flanneld writes.
const SUBNET_FILE: &str = "/run/flannel/subnet.env";
/// Bits of `CapEff`: CAP_NET_ADMIN and CAP_NET_RAW.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

#[derive(Debug, Clone, Default, PartialEq)]
struct Host {
    /// Kernel modules that are loaded, built in, or on disk.
    modules: BTreeSet<&'static str>,
    capabilities: u64,
    /// Whether a program has the port open.
    is_port_taken: bool,
    /// `net.ipv4.ip_forward`.
    forwards: bool,
    /// Rules that drop packets to the port.
    blocks: Vec<String>,
    programs: BTreeSet<&'static str>,
}

/// Prefix of the names of all findings here, which say nothing about packets.
pub(super) const PREFIX: &str = "host-";

pub(super) fn findings() -> Vec<Finding> {
    judge(&read())
}

/// Returns what a daemon left on this host: devices, and the file for docker and CNI plugins.
pub(super) fn leftovers() -> Vec<String> {
    let file = Path::new(SUBNET_FILE).exists();
    let file = file.then(|| SUBNET_FILE.to_owned());
    overlay_devices().into_iter().chain(file).collect()
}

/// Returns the devices of this host that have flannel's names.
pub fn overlay_devices() -> Vec<String> {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten();
    let names = links.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("flannel")).collect();
    names.sort();
    names
}

fn read() -> Host {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = text("/proc/sys/kernel/osrelease");
    let tree = ["builtin", "dep"]
        .map(|kind| text(&format!("/lib/modules/{}/modules.{kind}", release.trim())));
    let has_module = |name: &str| {
        let file = format!("/{name}.ko");
        Path::new("/sys/module").join(name).exists() || tree.iter().any(|list| list.contains(&file))
    };
    let status = text("/proc/self/status");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_program = |name: &str| {
        let usual = ["/usr/sbin", "/sbin"].map(Into::into);
        std::env::split_paths(&path)
            .chain(usual)
            .any(|dir| dir.join(name).exists())
    };
    let wanted = Wanted {
        devices: Vec::new(),
        ports: vec![PORT],
    };
    Host {
        modules: ["vxlan", "br_netfilter"]
            .into_iter()
            .filter(|name| has_module(name))
            .collect(),
        capabilities: capabilities
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or_default(),
        is_port_taken: collect::taken_ports().contains(&PORT),
        forwards: text("/proc/sys/net/ipv4/ip_forward").trim() != "0",
        blocks: firewall_rules::suspects(&collect::rules(), &wanted),
        programs: ["iptables", "nft"]
            .into_iter()
            .filter(|name| has_program(name))
            .collect(),
    }
}

fn judge(host: &Host) -> Vec<Finding> {
    let lacking: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| host.capabilities & (1_u64 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    vec![
        unless(
            host.modules.contains("vxlan"),
            "the kernel has vxlan",
            Finding::error(
                "host-kernel",
                "the kernel has no module vxlan",
                "CONFIG_VXLAN, built in or as a module of the running kernel",
                "modprobe vxlan; if that fails, install the modules of this kernel (linux-modules-extra on some distributions)",
            ),
        ),
        unless(
            host.modules.contains("br_netfilter"),
            "the kernel has br_netfilter",
            Finding::warning(
                "host-br-netfilter",
                "the kernel has no module br_netfilter",
                "br_netfilter: without it, Kubernetes services do not reach pods on the same host",
                "modprobe br_netfilter",
            ),
        ),
        unless(
            lacking.is_empty(),
            "the process has CAP_NET_ADMIN and CAP_NET_RAW",
            Finding::error(
                "host-capabilities",
                format!("the process lacks {}", lacking.join(" and ")),
                "both capabilities, for the daemon and for this check",
                "run as root, outside of containers that drop capabilities",
            ),
        ),
        unless(
            !host.is_port_taken,
            format!("UDP port {PORT} is free"),
            Finding::error(
                "host-port",
                format!("a program uses UDP port {PORT}"),
                "a free port for the overlay",
                format!(
                    "ss -ulpn sport = {PORT} names the program; stop it, or choose another Backend Port for the whole cluster"
                ),
            ),
        ),
        unless(
            host.blocks.is_empty(),
            format!("no rule that names UDP port {PORT} drops packets"),
            Finding::error(
                "host-firewall",
                format!(
                    "rules that may drop UDP port {PORT}: {}",
                    host.blocks.join("; ")
                ),
                "the port open between all hosts",
                "remove the rule, or accept the port before it",
            ),
        ),
        unless(
            !host.programs.is_empty(),
            "iptables or nft is installed",
            Finding::error(
                "host-tools",
                "neither iptables nor nft is installed",
                "iptables, or nft with \"EnableNFTables\" in the network configuration",
                "apt-get install iptables",
            ),
        ),
        unless(
            host.forwards,
            "net.ipv4.ip_forward is 1",
            Finding::warning(
                "host-forwarding",
                "net.ipv4.ip_forward is 0",
                "1, so that pods reach other hosts (docker sets it)",
                "sysctl -w net.ipv4.ip_forward=1; make it permanent in /etc/sysctl.d",
            ),
        ),
    ]
}

/// Returns the problem, or what was found instead of it.
fn unless(is_fine: bool, found: impl Into<String>, problem: Finding) -> Finding {
    if is_fine {
        Finding::ok(problem.id, found)
    } else {
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_setup::finding::Level;

    #[test]
    fn everything_that_is_missing_is_named() {
        let bad: Vec<(&str, Level)> = judge(&Host {
            is_port_taken: true,
            blocks: vec!["r".into()],
            ..Host::default()
        })
        .iter()
        .map(|finding| (finding.id, finding.level))
        .collect();
        let (error, warning) = (Level::Error, Level::Warning);
        let want = [
            ("host-kernel", error),
            ("host-br-netfilter", warning),
            ("host-capabilities", error),
            ("host-port", error),
            ("host-firewall", error),
            ("host-tools", error),
            ("host-forwarding", warning),
        ];
        assert_eq!(bad, want);
        let good = Host {
            modules: ["vxlan", "br_netfilter"].into(),
            capabilities: u64::MAX,
            forwards: true,
            programs: ["nft"].into(),
            ..Host::default()
        };
        assert!(
            judge(&good)
                .iter()
                .all(|finding| finding.level == Level::Ok && finding.id.starts_with(PREFIX))
        );
    }
}
