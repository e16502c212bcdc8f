//! Finds problems of this host that concern all peers. Pure.

use super::evidence::{DeviceFact, LeaseFact};
use super::paths::{LocalEnd, PeerPath};
use super::render::explain;
use flanneld::status::client::Daemon;
use flanneld::status::report::State;
use flanneld::util::table::count;
use node_setup::finding::Finding;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// What is wrong with its lease.
    pub lost: Option<String>,
    /// Number of entries that are missing or wrong, and of unexpected ones.
    pub entries: (usize, usize),
    /// Sysctls that prevent forwarding.
    pub not_forwarding: Vec<String>,
    /// Firewall rules that prevent forwarding.
    pub forward_blocks: Vec<String>,
    /// `FLANNEL_MTU` of `subnet.env` and the device's MTU, if the former is larger.
    pub mtu: Option<(u32, u32)>,
    /// The interface that packets to peers take, if it is not the underlay interface, and one such peer.
    pub detour: Option<(String, String)>,
}

pub fn daemon(daemon: &Daemon) -> Vec<Finding> {
    const ID: &str = "daemon";
    match daemon {
        Daemon::Absent(why) => vec![Finding::warning(
            ID,
            why.as_str(),
            "a running flanneld: without it, this host does not follow changes of leases and repairs nothing",
            "systemctl start flanneld; journalctl -u flanneld shows why it ended",
        )],
        Daemon::Silent(why) => vec![Finding::warning(
            ID,
            why.as_str(),
            "an answer from the daemon: until then, this host does not follow changes of leases",
            "restart it: systemctl restart flanneld (packets keep flowing)",
        )],
        Daemon::Answers(report) => match report.state {
            State::Fine => Vec::new(),
            State::Degraded => report.reasons.iter().map(degraded).collect(),
            State::NotReady | State::NotRunning | State::Silent => {
                report.reasons.iter().map(|why| not_ready(why)).collect()
            }
        },
    }
}

fn degraded(why: &String) -> Finding {
    Finding::warning(
        "daemon",
        why,
        "a daemon without warnings",
        "rflannel status lists the objects, and the reference of log messages has a remedy for each warning",
    )
}

fn not_ready(why: &str) -> Finding {
    Finding::error(
        "daemon",
        why,
        "a daemon that is ready",
        "rflannel status; journalctl -u flanneld",
    )
}

pub fn etcd(trouble: &str) -> Finding {
    Finding::warning(
        "etcd",
        trouble,
        "an answer from etcd: without it, the leases are those of the state file",
        "etcdctl endpoint status with the same endpoints and certificates; check the network to etcd",
    )
}

pub fn unknown(why: &str) -> Finding {
    Finding::error(
        "own-lease",
        why,
        "a lease of this host",
        "start flanneld, or give its flags: rflannel check -- -etcd-endpoints=…",
    )
}

/// Reports that no interface of this host can carry the overlay.
pub fn underlay(why: &str) -> Finding {
    Finding::error(
        "underlay-interface",
        why,
        "an interface with this host's public IP",
        "check ip address show; restore the interface, or choose another one with -iface",
    )
}

/// Reports that no peer answers on the underlay. A fault of this host is more likely than a fault of all peers.
pub fn own_link(underlay: &str, trouble: Option<&str>, peers: usize) -> Finding {
    let trouble = trouble.map_or_else(
        || format!("none of {peers} peers answers on the underlay"),
        |trouble| format!("{underlay} {trouble}, and no peer answers"),
    );
    Finding::error(
        "underlay-link",
        trouble,
        "answers from peers: a fault of this host's link is more likely than that all peers are down",
        format!(
            "check {underlay} on this host first: ip -s link show {underlay}, its cable or virtual switch, its address, and its VLAN"
        ),
    )
}

/// Reports traces of a daemon whose settings are unknown.
pub fn unknown_daemon(left: &[String]) -> Finding {
    Finding::warning(
        "daemon",
        format!(
            "no daemon runs, and no unit, settings file, or context says how it was started; it left {}",
            left.join(", ")
        ),
        "flanneld, started from a unit or /etc/default/flanneld",
        "start flanneld; to compare with etcd without it, give its flags: rflannel check -- -etcd-endpoints=…",
    )
}

pub fn no_flannel() -> Finding {
    Finding::warning(
        "no-flannel",
        "this host has no flannel daemon, unit, or settings; the next lines show what a daemon would find here",
        "flanneld, started from a unit or /etc/default/flanneld",
        "install flannel, or give its flags: rflannel check -- -etcd-endpoints=…",
    )
}

pub fn itself(target: &str) -> Finding {
    Finding::ok(
        "this-host",
        format!("{target} is this host: there is no path to check"),
    )
}

/// Reports a backend that carries no packets.
pub fn carried_by_others(backend: &str) -> Finding {
    Finding::ok(
        "backend",
        format!("backend {backend} only leases subnets: another program carries the packets"),
    )
}

/// Reports another host with this host's public IP.
pub fn duplicate_host(subnet: &str, public: &str) -> Finding {
    Finding::error(
        "duplicate-public-ip",
        format!(
            "the lease of {subnet}, which belongs to another host, announces {public}, this host's address"
        ),
        explain::DUPLICATE_HOST.0,
        explain::DUPLICATE_HOST.1,
    )
}

pub fn findings(facts: &HostFacts, ends: &[LocalEnd], peer_paths: &[PeerPath]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(facts.lost.as_deref().map(lease));
    findings.extend(ends.iter().filter_map(|end| device(&end.name, &end.device)));
    findings.extend(own_duplicates(ends, peer_paths));
    findings.extend(entries(facts.entries));
    findings.extend(facts.not_forwarding.iter().map(|sysctl| forwarding(sysctl)));
    findings.extend(facts.forward_blocks.iter().map(|rule| blocked(rule)));
    findings.extend(facts.mtu.map(mtu));
    findings.extend(
        facts
            .detour
            .as_ref()
            .map(|(link, peer)| detour(link, peer, ends)),
    );
    findings
}

fn lease(why: &str) -> Finding {
    Finding::error(
        "own-lease",
        why,
        "the key of this host in etcd: without it, peers remove their entries for this host",
        "rflannel status shows what the daemon does about it; start the daemon if it does not run",
    )
}

/// Reports a device that differs from the desired one.
pub fn device(name: &str, fact: &DeviceFact) -> Option<Finding> {
    let id = match fact {
        DeviceFact::Right => return None,
        DeviceFact::Missing => "device-missing",
        DeviceFact::Displaced(_) => "vxlan-conflict",
        DeviceFact::Down => "device-down",
        DeviceFact::Differs(_) => "device-mismatch",
    };
    let (found, expected, fix) = explain::device(name, fact);
    Some(Finding::error(id, found, &expected, fix))
}

/// Reports other hosts that announce this host's address.
fn own_duplicates(ends: &[LocalEnd], peer_paths: &[PeerPath]) -> Vec<Finding> {
    let is_ours =
        |peer_path: &&PeerPath| ends.iter().any(|end| end.public == peer_path.names.public);
    let claims = peer_paths
        .iter()
        .filter(is_ours)
        .filter(|peer_path| matches!(peer_path.evidence.lease, LeaseFact::Duplicate(_)));
    claims
        .map(|peer_path| {
            duplicate_host(&peer_path.names.subnet, &peer_path.names.public.to_string())
        })
        .collect()
}

fn entries((wrong, surplus): (usize, usize)) -> Option<Finding> {
    (wrong + surplus > 0).then(|| {
        Finding::warning(
            "kernel-entries",
            format!(
                "{} missing or wrong in the kernel, {surplus} unexpected",
                count(wrong, "entry", "entries")
            ),
            "the entries that the leases require",
            "flanneld repairs this at once if it runs: systemctl status flanneld; the affected peers are listed below",
        )
    })
}

fn forwarding(sysctl: &str) -> Finding {
    Finding::error(
        "forwarding",
        format!("{sysctl} is 0"),
        "1: otherwise pods cannot reach other hosts",
        format!("sysctl -w {sysctl}=1; make it permanent in /etc/sysctl.d"),
    )
}

fn blocked(rule: &str) -> Finding {
    Finding::error(
        "forward-blocked",
        format!("a rule drops forwarded overlay packets: {rule}"),
        "FLANNEL-FWD accepts overlay packets before other rules drop them",
        "remove the rule, or move it after the jump to FLANNEL-FWD",
    )
}

fn mtu((advertised, device): (u32, u32)) -> Finding {
    Finding::error(
        "mtu",
        format!("subnet.env announces MTU {advertised}, but the overlay device has MTU {device}"),
        "an announced MTU that is not larger than the device's",
        "restart flanneld, then docker or the pods",
    )
}

fn detour(link: &str, peer: &str, ends: &[LocalEnd]) -> Finding {
    let locals: Vec<String> = ends.iter().map(|end| end.local.to_string()).collect();
    Finding::warning(
        "egress-interface",
        format!("packets to peers (for example {peer}) leave through {link}"),
        &format!(
            "the interface with {}, from which the overlay sends",
            locals.join(" and ")
        ),
        "harmless if peers can reply; otherwise choose the interface towards them with -iface, and restart flanneld",
    )
}
