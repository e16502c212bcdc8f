//! Finds out why hosts cannot reach each other. It compares leases, kernel, and device, and then sends packets on the underlay and
//! through the overlay. The results select one most likely cause.
//!
//! ```text
//!  leases, kernel ─► paths ─► paths to peers ─┐
//!  /proc, firewall ─► collect ────────────────┼─► Evidence ─► diagnose ─► Cause ─► render/{explain, text, json}
//!  packets ─► probe ─► capture ───────────────┘               one table
//! ```
//!
//! `collect` and `probe` do I/O; everything else is pure. A check changes nothing and works with a daemon
//! and without.

pub mod capture;
mod collect;
pub mod diagnose;
pub mod evidence;
pub mod firewall_rules;
pub mod host;
pub mod junit;
pub mod paths;
mod preflight;
mod probe;
pub mod render;
pub mod target;
pub mod underlay;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::{StreamExt, stream};

use diagnose::{Cause, diagnose};
use evidence::{DeviceFact, LeaseFact};
use firewall_rules::Texts;
use flanneld::config::Config;
use flanneld::host_setup::NodeConfig;
use flanneld::iface::{Addresses, Announced};
use flanneld::kernel::Kernel;
use flanneld::kernel::netlink::Netlink;
use flanneld::probe::ping::Timing;
use flanneld::status::client::Daemon;
use flanneld::status::offline::{self, Comparison, FromEtcd, Known};
use flanneld::status::report::State;
use flanneld::subnet::{Lease, NetworkConfig, PublicAddrs};
use flanneld::util::family::Family;
use node_setup::finding::Finding;
use paths::{LocalEnd, PeerPath, Sources};
pub use preflight::overlay_devices;
use render::json::{ControlPlane, DataPlane, Document, FORMAT, Peer};
use target::{Resolved, Target};

/// Peers that are probed quickly at a time.
const QUICK: usize = 64;
/// Peers that are examined thoroughly at a time; each needs about ten sockets.
const THOROUGH: usize = 16;
/// Most unreachable peers that are examined.
const EXAMINED: usize = 64;

pub struct Question<'a> {
    pub config: &'a Config,
    pub machine: &'a str,
    pub daemon: Daemon,
    /// What etcd holds, if it was asked.
    pub etcd: Option<Result<FromEtcd, String>>,
    /// Whether this host has no settings of a daemon.
    pub has_no_settings: bool,
    /// The peer to check; all peers if absent.
    pub target: Option<Target>,
    pub timing: Timing,
}

pub async fn check(mut question: Question<'_>) -> Document {
    let Question {
        config, machine, ..
    } = question;
    let mut findings = host::daemon(&question.daemon);
    let etcd = question.etcd.take().transpose().unwrap_or_else(|trouble| {
        findings.push(host::etcd(&trouble));
        None
    });
    let state = match &question.daemon {
        Daemon::Answers(report) => report.state,
        Daemon::Silent(_) => State::Silent,
        Daemon::Absent(_) => State::NotRunning,
    };
    let strangers = etcd.clone();
    let compared = offline::known(config, machine, etcd)
        .map_err(|why| host::unknown(&why))
        .and_then(|known| {
            let compared =
                offline::compare(config, machine, &known).map_err(|why| host::underlay(&why))?;
            Ok((compared, known))
        });
    let document = Document {
        format: FORMAT,
        verdict: render::json::Verdict::Unknown,
        subnet: String::new(),
        source: String::new(),
        daemon: state,
        data_plane: DataPlane::Untested,
        control_plane: ControlPlane::Stopped,
        findings,
        peers: Vec::new(),
        unexamined: 0,
    };
    let document = match compared {
        Ok((comparison, known)) => look(comparison, &known, &question, document).await,
        Err(_) if question.has_no_settings && state == State::NotRunning => {
            let mut document = document;
            let left = preflight::leftovers();
            document.findings = if left.is_empty() {
                std::iter::once(host::no_flannel())
                    .chain(preflight::findings())
                    .collect()
            } else {
                vec![host::unknown_daemon(&left)]
            };
            document
        }
        Err(why) => without_lease(config, machine, strangers, why, document),
    };
    document.judged()
}

async fn look(
    comparison: Comparison,
    known: &Known,
    question: &Question<'_>,
    mut document: Document,
) -> Document {
    let Comparison {
        mut kernel,
        host_state,
        resolved,
        desired,
        have,
        ..
    } = comparison;
    document.subnet = known.own.subnets.to_string();
    document.source.clone_from(&known.source);
    if !resolved.backend.carries_packets() {
        document
            .findings
            .push(host::carried_by_others(&known.network.backend_type));
        return document;
    }
    let ends = paths::local_ends(
        &*resolved.backend,
        &known.own,
        &host_state,
        &resolved.underlay.name,
        &collect::taken_ports(),
    );
    let sources = Sources {
        backend: &*resolved.backend,
        desired: &desired,
        have: &have,
        host_state: &host_state,
        own: (&known.own, known.lost.clone()),
        peers: &known.peers,
        underlay: &resolved.underlay.name,
        machines: &known.machines,
    };
    let texts = collect::rules();
    let all = sources.peer_paths(&ends);
    let here = collect::host(
        &mut kernel,
        &sources,
        &ends,
        &question.config.subnet_file,
        &texts,
    );
    document.findings.extend(host::findings(&here, &ends, &all));
    let mut examiner = Examiner {
        kernel: &mut kernel,
        sources: &sources,
        texts: &texts,
        timing: question.timing,
    };
    let peer_paths = match &question.target {
        Some(target) => match chosen(target, known, &sources, &ends, all) {
            Ok(peer_paths) if peer_paths.is_empty() => {
                document.findings.push(host::itself(&target.to_string()));
                Vec::new()
            }
            Ok(peer_paths) => examiner.thorough(peer_paths).await,
            Err(finding) => {
                document.findings.push(finding);
                Vec::new()
            }
        },
        None => {
            let (peer_paths, unexamined) = examiner.everybody(all).await;
            document.unexamined = unexamined;
            peer_paths
        }
    };
    document
        .findings
        .extend(own_link(&peer_paths, sources.underlay));
    document.peers = peer_paths.iter().map(Peer::of).collect();
    document
}

/// Reports this host's link as the likely fault if no peer answers on the underlay.
fn own_link(peer_paths: &[PeerPath], underlay: &str) -> Option<Finding> {
    let is_silent = |peer_path: &PeerPath| {
        matches!(
            diagnose(&peer_path.evidence),
            Cause::PeerDown | Cause::PublicAddress | Cause::NoRoute
        )
    };
    let publics: BTreeSet<IpAddr> = peer_paths
        .iter()
        .map(|peer_path| peer_path.names.public)
        .collect();
    let trouble = collect::link_trouble(underlay);
    let is_likely = publics.len() > 1 || trouble.is_some();
    (is_likely && !peer_paths.is_empty() && peer_paths.iter().all(is_silent))
        .then(|| host::own_link(underlay, trouble, publics.len()))
}

fn chosen(
    target: &Target,
    known: &Known,
    sources: &Sources<'_>,
    ends: &[LocalEnd],
    all: Vec<PeerPath>,
) -> Result<Vec<PeerPath>, Finding> {
    match target::find(target, known) {
        Resolved::Here => Ok(Vec::new()),
        Resolved::Peer { lease, family, pod } => {
            let is_meant = |peer_path: &PeerPath| {
                let family = family.is_none_or(|family| family == peer_path.end.family);
                family
                    && lease
                        .subnets
                        .iter()
                        .any(|subnet| subnet.to_string() == peer_path.names.subnet)
            };
            let with_pod = |mut peer_path: PeerPath| {
                peer_path.names.pod = pod.filter(|pod| Family::of(*pod) == peer_path.end.family);
                peer_path
            };
            Ok(all.into_iter().filter(is_meant).map(with_pod).collect())
        }
        Resolved::Unknown {
            subnet: Some(subnet),
            why,
        } => {
            let end = ends
                .iter()
                .find(|end| end.family == Family::of(subnet.ip()));
            end.map(|end| vec![sources.nowhere(subnet, end, why.clone())])
                .ok_or_else(|| missing(&why))
        }
        Resolved::Unknown { subnet: None, why } => Err(missing(&why)),
    }
}

fn missing(why: &str) -> Finding {
    let id = Cause::LeaseMissing.id();
    let (expected, fix) = render::explain::MISSING;
    Finding::error(id, why, expected, fix)
}

struct Examiner<'a> {
    kernel: &'a mut Netlink,
    sources: &'a Sources<'a>,
    texts: &'a Texts,
    timing: Timing,
}

impl Examiner<'_> {
    async fn thorough(&mut self, mut peer_paths: Vec<PeerPath>) -> Vec<PeerPath> {
        let (timing, outsiders) = (self.timing, self.outsiders());
        for peer_path in &mut peer_paths {
            let alone = outsiders.len() == 1 && outsiders.contains(&peer_path.names.public);
            collect::complete(self.kernel, self.sources, peer_path, self.texts, alone);
        }
        // If two leases announce one address, a probe cannot tell which host it reached.
        let (mut settled, open): (Vec<PeerPath>, Vec<PeerPath>) =
            peer_paths.into_iter().partition(is_duplicate);
        let mut asked = each(open, THOROUGH, |peer_path| {
            probe::thorough(peer_path, timing)
        })
        .await;
        // Any answer shows that the next hop is right.
        let is_silent = |peer_path: &&mut PeerPath| {
            !peer_path.evidence.probes.overlay.is_answered()
                && !peer_path.evidence.probes.underlay.is_answered()
        };
        for peer_path in asked.iter_mut().filter(is_silent) {
            peer_path.evidence.next_hop = collect::next_hop(peer_path);
        }
        settled.extend(asked);
        settled
    }

    /// Returns the public IPs of peers behind a router; empty if all peers are.
    fn outsiders(&self) -> BTreeSet<IpAddr> {
        let peers = self.sources.peers.iter();
        let publics = peers.flat_map(|lease| {
            Family::ALL
                .into_iter()
                .filter_map(|family| lease.attrs.public(family))
        });
        let (inside, outside): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) =
            publics.partition(|ip| self.sources.is_on_link(*ip));
        if inside.is_empty() {
            BTreeSet::new()
        } else {
            outside
        }
    }

    /// Probes all peers and examines those that do not answer, up to a limit. Returns the paths and the number of peers beyond the limit.
    async fn everybody(&mut self, all: Vec<PeerPath>) -> (Vec<PeerPath>, usize) {
        let timing = self.timing;
        let (duplicates, all): (Vec<PeerPath>, Vec<PeerPath>) =
            all.into_iter().partition(is_duplicate);
        let asked = each(all, QUICK, |peer_path| probe::quick(peer_path, timing)).await;
        let (mut settled, mut open): (Vec<PeerPath>, Vec<PeerPath>) =
            asked.into_iter().partition(probe::is_settled);
        settled.extend(duplicates);
        let rest = open.split_off(open.len().min(EXAMINED));
        settled.extend(self.thorough(open).await);
        settled.sort_by_key(|peer_path| peer_path.names.address);
        (settled, rest.len())
    }
}

fn is_duplicate(peer_path: &PeerPath) -> bool {
    matches!(peer_path.evidence.lease, LeaseFact::Duplicate(_))
}

/// Does some work on each path, at most `limit` at a time, and keeps their order.
async fn each<F: Future<Output = PeerPath>>(
    peer_paths: Vec<PeerPath>,
    limit: usize,
    work: impl Fn(PeerPath) -> F,
) -> Vec<PeerPath> {
    let work = peer_paths
        .into_iter()
        .enumerate()
        .map(|(place, peer_path)| {
            let work = work(peer_path);
            async move { (place, work.await) }
        });
    let mut done: Vec<(usize, PeerPath)> =
        stream::iter(work).buffer_unordered(limit).collect().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, peer_path)| peer_path).collect()
}

/// Reports why this host has no lease to compare with.
fn without_lease(
    config: &Config,
    machine: &str,
    etcd: Option<FromEtcd>,
    why: Finding,
    mut document: Document,
) -> Document {
    let waits = document.daemon == State::NotReady;
    if let Some(FromEtcd {
        network, leases, ..
    }) = etcd
    {
        document.source = "etcd".into();
        document
            .findings
            .extend(obstacles(config, machine, network, &leases, waits));
    }
    document.findings.push(why);
    document
}

/// Reports devices in the way, and another host with this host's address.
fn obstacles(
    config: &Config,
    machine: &str,
    network: NetworkConfig,
    leases: &[Lease],
    waits: bool,
) -> Vec<Finding> {
    let node_config = NodeConfig::new(network, config, machine);
    let host_state = Netlink::open().and_then(|mut kernel| kernel.host_state(&node_config.query()));
    let Ok(host_state) = host_state else {
        return Vec::new();
    };
    let Ok(resolved) =
        node_config.resolve(&host_state, Announced::by(Addresses::default()), |_| None)
    else {
        return Vec::new();
    };
    let taken = collect::taken_ports();
    let devices = resolved
        .backend
        .links()
        .into_iter()
        .filter_map(|(_, spec)| {
            let fact = paths::device(&spec, &host_state, &taken);
            matches!(fact, DeviceFact::Displaced(_))
                .then(|| host::device(&spec.name, &fact))
                .flatten()
        });
    let public = node_config.public().or(resolved.underlay.addresses);
    let duplicates = leases.iter().filter(|lease| waits && is_of(lease, public));
    let duplicates = duplicates
        .map(|lease| host::duplicate_host(&lease.subnets.to_string(), &public.to_string()));
    devices.chain(duplicates).collect()
}

fn is_of(lease: &Lease, public: Addresses) -> bool {
    let ours = PublicAddrs::new(public.v4, public.v6);
    ours.zip(PublicAddrs::of(&lease.attrs))
        .is_some_and(|(ours, theirs)| ours.is(&theirs))
}
