//! What is wrong with this host, whichever peer it talks to: pure.

use super::evidence::{DeviceFact, LeaseFact};
use super::paths::{LocalEnd, PeerPath};
use super::render::explain;
use flanneld::status::client::Daemon;
use flanneld::status::report::State;
use flanneld::util::table::count;
use node_setup::finding::Finding;

/// What was read on this host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// What is wrong with its lease.
    pub lost: Option<String>,
    /// Entries that are missing or wrong, and those that no one wants.
    pub entries: (usize, usize),
    /// Sysctls that keep it from forwarding.
    pub not_forwarding: Vec<String>,
    /// Rules that keep it from forwarding.
    pub forward_blocks: Vec<String>,
    /// `FLANNEL_MTU` of `subnet.env`, where it is larger than the device's.
    pub mtu: Option<(u32, u32)>,
    /// The interface that packets to peers take, where it is not the overlay's: name, and a peer.
    pub detour: Option<(String, String)>,
}

/// What the daemon says of itself.
pub fn daemon(daemon: &Daemon) -> Vec<Finding> {
    const ID: &str = "daemon";
    match daemon {
        Daemon::Absent(why) => vec![Finding::warning(
            ID,
            why.as_str(),
            "flanneld runs: nothing follows the leases and nothing is put right",
            "systemctl start flanneld; journalctl -u flanneld says why it ended",
        )],
        Daemon::Silent(why) => vec![Finding::warning(
            ID,
            why.as_str(),
            "an answer: until then this host does not follow changes of the leases",
            "continue or restart it: systemctl restart flanneld (packets flow on meanwhile)",
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
        "nothing to complain of",
        "rflannel status has the details",
    )
}

fn not_ready(why: &str) -> Finding {
    Finding::error(
        "daemon",
        why,
        "a daemon that serves",
        "rflannel status; journalctl -u flanneld",
    )
}

/// Etcd was asked and did not answer.
pub fn etcd(trouble: &str) -> Finding {
    Finding::warning(
        "etcd",
        trouble,
        "an answer: without it leases are those that this host remembers",
        "etcdctl endpoint status with the same endpoints and certificates; the network to etcd",
    )
}

/// Nothing can be compared.
pub fn unknown(why: &str) -> Finding {
    Finding::error(
        "own-lease",
        why,
        "a lease of this host",
        "give the daemon's flags: rflannel check -- -etcd-endpoints=…; or start flanneld",
    )
}

/// No interface of this host can carry the overlay.
pub fn underlay(why: &str) -> Finding {
    Finding::error(
        "underlay",
        why,
        "the interface with this host's public address",
        "ip address show; bring the interface back, or name another one with -iface",
    )
}

/// Peers do not answer on the underlay, and all of them: more likely this host than all others.
pub fn own_link(underlay: &str, trouble: Option<&str>, peers: usize) -> Finding {
    let trouble = trouble.map_or_else(
        || format!("none of {peers} peers answers on the underlay"),
        |trouble| format!("{underlay} {trouble}, and no peer answers"),
    );
    Finding::error(
        "own-link",
        trouble,
        "answers: that all peers are down at once is less likely than a fault of this host's own link",
        format!(
            "look at {underlay} here first: ip -s link show {underlay}, its cable or virtual switch, its address and VLAN"
        ),
    )
}

/// A daemon ran here, and how it was started is not known.
pub fn unknown_daemon(left: &[String]) -> Finding {
    Finding::warning(
        "daemon",
        format!(
            "no daemon runs, and no unit, settings, or context says how it was started; left of it: {}",
            left.join(", ")
        ),
        "flanneld, started from a unit or /etc/default/flanneld",
        "start it; to compare with etcd meanwhile, give its flags: rflannel check -- -etcd-endpoints=…",
    )
}

/// Nothing of flannel was found here.
pub fn no_flannel() -> Finding {
    Finding::warning(
        "no-flannel",
        "no daemon, unit, or settings of flannel on this host; what it has and lacks for one follows",
        "flanneld, started from a unit or /etc/default/flanneld",
        "install it, or name the settings: rflannel check -- -etcd-endpoints=…",
    )
}

/// The target is this host.
pub fn itself(target: &str) -> Finding {
    Finding::ok(
        "this-host",
        format!("{target} is this host itself: there is no path to check"),
    )
}

/// Nothing of what brings packets to peers is this daemon's.
pub fn carried_by_others(backend: &str) -> Finding {
    Finding::ok(
        "backend",
        format!("backend {backend} leases subnets only: another program carries the packets"),
    )
}

/// Another host has the address that this one waits to use.
pub fn duplicate_host(subnet: &str, public: &str) -> Finding {
    Finding::error(
        "duplicate-address",
        format!(
            "the lease of {subnet} announces {public}, this host's own address, and is another host's"
        ),
        explain::DUPLICATE_HOST.0,
        explain::DUPLICATE_HOST.1,
    )
}

/// All of it.
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
        "the key of this host in etcd: without it peers drop their entries of it",
        "rflannel status says what the daemon does about it; start it if it does not run",
    )
}

/// A device that is not right.
pub fn device(name: &str, fact: &DeviceFact) -> Option<Finding> {
    let id = match fact {
        DeviceFact::Right => return None,
        DeviceFact::Missing => "device-missing",
        DeviceFact::Displaced(_) => "vxlan-user",
        DeviceFact::Down => "device-down",
        DeviceFact::Differs(_) => "device-differs",
    };
    let (found, expected, fix) = explain::device(name, fact);
    Some(Finding::error(id, found, &expected, fix))
}

/// Other hosts that announce this one's address.
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
            "entries",
            format!(
                "{} missing or wrong in this kernel, {surplus} too many",
                count(wrong, "entry", "entries")
            ),
            "what the leases say",
            "flanneld puts it right at once: is it running? Peers that this concerns are named below",
        )
    })
}

fn forwarding(sysctl: &str) -> Finding {
    Finding::error(
        "forwarding",
        format!("{sysctl} is 0"),
        "1: otherwise nothing goes from pods to other hosts",
        format!("sysctl -w {sysctl}=1, and the same in /etc/sysctl.d"),
    )
}

fn blocked(rule: &str) -> Finding {
    Finding::error(
        "forward-blocked",
        format!("a rule drops what is forwarded over the overlay: {rule}"),
        "what is of the overlay's networks is accepted first, by FLANNEL-FWD",
        "remove the rule, or put it behind the jump to FLANNEL-FWD",
    )
}

fn mtu((advertised, device): (u32, u32)) -> Finding {
    Finding::error(
        "mtu",
        format!(
            "subnet.env tells pods of an MTU of {advertised}, and the overlay's device has {device}"
        ),
        "no larger packets of pods than fit through",
        "restart flanneld, then docker or the pods",
    )
}

fn detour(link: &str, peer: &str, ends: &[LocalEnd]) -> Finding {
    let locals: Vec<String> = ends.iter().map(|end| end.local.to_string()).collect();
    Finding::warning(
        "detour",
        format!("packets to peers, such as {peer}, leave over {link}"),
        &format!(
            "the interface that has {}, which the overlay sends from",
            locals.join(" and ")
        ),
        "if peers cannot answer: name the interface towards them with -iface, and restart flanneld",
    )
}
