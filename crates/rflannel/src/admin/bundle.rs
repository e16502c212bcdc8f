//! Lists the contents of a support bundle. Pure.

use std::path::{Path, PathBuf};

use flanneld::config::Config;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub name: String,
    pub source: Source,
}

/// Where the content of a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Command(Vec<String>),
    File(PathBuf),
    /// Files of `/proc/sys`, one line each.
    Settings(Vec<&'static str>),
}

/// Commands for every host: path in the bundle, command line.
const COMMANDS: &[(&str, &str)] = &[
    ("versions/kernel", "uname -a"),
    ("versions/os-release", "cat /etc/os-release"),
    ("versions/iproute2", "ip -V"),
    ("versions/iptables", "iptables -V"),
    ("versions/nft", "nft -v"),
    ("versions/systemd", "systemctl --version"),
    ("versions/docker", "docker version"),
    ("versions/containerd", "containerd --version"),
    ("kernel/links.json", "ip -d -s -j link show"),
    ("kernel/addresses.json", "ip -d -j address show"),
    ("kernel/rules", "ip rule show"),
    ("kernel/routes.json", "ip -d -j route show table all"),
    ("kernel/routes6.json", "ip -d -j -6 route show table all"),
    ("kernel/udp-sockets", "ss -uanp"),
    ("kernel/vxlan.json", "ip -d -s -j link show type vxlan"),
    ("kernel/modules", "cat /proc/modules"),
    ("kernel/snmp", "cat /proc/net/snmp"),
    ("firewall/iptables", "iptables-save -c"),
    ("firewall/ip6tables", "ip6tables-save -c"),
    ("firewall/nft", "nft list ruleset"),
];

const OF_DEVICE: &[(&str, &str)] = &[
    ("routes.json", "ip -d -j route show dev DEVICE"),
    ("routes6.json", "ip -d -j -6 route show dev DEVICE"),
    ("neighbors.json", "ip -d -s -j neigh show dev DEVICE"),
    ("fdb.json", "bridge -d -s -j fdb show dev DEVICE"),
    ("offload", "ethtool -k DEVICE"),
    ("counters", "ethtool -S DEVICE"),
];

/// Units related to the daemon.
const UNITS: &[&str] = &["docker.service", "containerd.service", "kubelet.service"];

/// Files with settings, in the places that distributions use.
const FILES: &[&str] = &[
    "/etc/default/flanneld",
    "/etc/sysconfig/flanneld",
    "/etc/docker/daemon.json",
    "/etc/cni/net.d/10-flannel.conflist",
    "/etc/modules-load.d/flannel.conf",
    "/etc/sysctl.d/99-flannel.conf",
];

/// Paths below `/proc/sys`.
const SYSCTLS: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/accept_ra",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/core/rmem_max",
    "net/core/netdev_max_backlog",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
];

/// Returns the files for a daemon with this configuration and unit, and these overlay devices, with so many lines of the journal.
pub fn pieces(config: &Config, devices: &[String], unit: &str, lines: u32) -> Vec<Piece> {
    let commands = COMMANDS.iter().map(|(name, line)| command(name, line));
    let devices = devices.iter().flat_map(|device| {
        let of = move |(name, line): &(&str, &str)| {
            command(
                &format!("kernel/{device}/{name}"),
                &line.replace("DEVICE", device),
            )
        };
        OF_DEVICE.iter().map(of)
    });
    let settings = Piece {
        name: "kernel/sysctl".into(),
        source: Source::Settings(SYSCTLS.to_vec()),
    };
    commands
        .chain(devices)
        .chain([settings])
        .chain(units(unit, lines))
        .chain(files(config))
        .collect()
}

fn units(unit: &str, lines: u32) -> impl Iterator<Item = Piece> {
    let journal = format!(
        "journalctl --no-pager --quiet --output=short-iso-precise --lines={lines} --unit={unit}"
    );
    let state = format!("systemctl show --no-pager {unit}");
    let all = std::iter::once(unit).chain(UNITS.iter().copied());
    all.map(|unit| {
        let line = format!("systemctl cat --no-pager {unit}");
        command(&format!("units/{unit}"), &line)
    })
    .chain([command("units/state", &state), command("journal", &journal)])
}

fn files(config: &Config) -> Vec<Piece> {
    let fixed = FILES.iter().map(PathBuf::from);
    let docker = config.docker_opts.iter().map(|docker| docker.path.clone());
    let own = std::iter::once(config.subnet_file.clone())
        .chain(config.state_file.clone())
        .chain(docker);
    fixed
        .chain(own)
        .map(|path| Piece {
            name: format!("files{}", path.display()),
            source: Source::File(path),
        })
        .collect()
}

fn command(name: &str, line: &str) -> Piece {
    let words = line.split_whitespace().map(str::to_owned).collect();
    Piece {
        name: name.into(),
        source: Source::Command(words),
    }
}

/// Makes a name safe for an archive: relative and without `..`.
pub fn safe(name: &str) -> PathBuf {
    let parts = Path::new(name).components().filter_map(|part| match part {
        std::path::Component::Normal(part) => Some(part),
        std::path::Component::Prefix(_)
        | std::path::Component::RootDir
        | std::path::Component::CurDir
        | std::path::Component::ParentDir => None,
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(safe("files/../../etc/../x"), PathBuf::from("files/etc/x"));
        assert_eq!(safe("/a/./b"), PathBuf::from("a/b"));
    }

    #[test]
    fn no_piece_takes_the_name_of_another() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
    }
}
