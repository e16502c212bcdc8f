//! What a check came to, as one document: pure. This is the JSON of `rflannel check --json`.

use serde::Serialize;

use crate::check::diagnose::{Cause, diagnose};
use crate::check::paths::PeerPath;
use crate::check::{preflight, render::explain, render::trace};
use flanneld::status::report::State;
use node_setup::finding::Finding;
use node_setup::finding::Level;

/// Version of the document. Members may be added to it; one that changes its meaning or goes makes another version.
pub const FORMAT: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// In a word.
    pub verdict: Verdict,
    /// This host's subnets; empty if it has none.
    pub subnet: String,
    /// Who says which leases there are.
    pub source: String,
    /// How the daemon is.
    pub daemon: State,
    /// What became of packets.
    pub data_plane: DataPlane,
    /// Whether the daemon maintains the overlay.
    pub control_plane: ControlPlane,
    /// What is wrong with this host.
    pub findings: Vec<Finding>,
    /// The peers that were asked.
    pub peers: Vec<Peer>,
    /// Peers that do not answer and were not examined, because there are too many of them.
    pub unexamined: usize,
}

/// In a word. As with `rflannel status`, the exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Packets pass, and something needs attention.
    Degraded,
    /// Packets pass, and no daemon runs.
    NotRunning,
    /// Packets pass, and the daemon does not answer.
    Hung,
    /// Some packets do not pass, or this host does not serve.
    Broken,
    /// No packets were sent.
    Unknown,
}

/// What became of packets through the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPlane {
    /// They pass.
    Passes,
    /// Some do not, or this host drops those of its pods.
    Fails,
    /// None were sent.
    Untested,
}

/// Whether the daemon maintains the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlPlane {
    /// It does.
    Running,
    /// It runs, and does not serve yet or any more.
    NotReady,
    /// Its process does not answer.
    Hung,
    /// It does not run.
    Stopped,
}

impl From<State> for ControlPlane {
    fn from(state: State) -> Self {
        match state {
            State::Fine | State::Degraded => ControlPlane::Running,
            State::NotReady => ControlPlane::NotReady,
            State::Silent => ControlPlane::Hung,
            State::NotRunning => ControlPlane::Stopped,
        }
    }
}

impl Verdict {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Verdict::Fine => 0,
            Verdict::Degraded => 1,
            Verdict::NotRunning | Verdict::Hung => 2,
            Verdict::Broken => 3,
            Verdict::Unknown => 4,
        }
    }
}

/// One family of one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
    /// Its host name, where it is known.
    pub host: Option<String>,
    /// Its subnet.
    pub subnet: String,
    /// Its public address.
    pub public_ip: String,
    /// Whether it is reached, or why not.
    #[serde(flatten)]
    pub finding: Finding,
    /// Round trip through the overlay.
    pub overlay_ms: Option<f64>,
    /// Round trip on the underlay.
    pub underlay_ms: Option<f64>,
    /// The largest packet that comes through the overlay, as far as that was tried.
    pub largest: Option<u32>,
    /// What was tried.
    pub trail: Vec<String>,
}

impl Peer {
    /// The verdict on a way.
    pub fn of(peer_path: &PeerPath) -> Self {
        let PeerPath {
            names, evidence, ..
        } = peer_path;
        let probes = &evidence.probes;
        let full = probes.full.is_answered().then_some(names.mtu);
        Self {
            host: names.host.clone(),
            subnet: names.subnet.clone(),
            public_ip: names.public.to_string(),
            finding: explain::finding(diagnose(evidence), names, evidence),
            overlay_ms: milliseconds(probes.overlay.time()),
            underlay_ms: milliseconds(probes.underlay.time()),
            largest: probes.largest.or(full),
            trail: trace::lines(names, probes),
        }
    }

    /// Whether packets of all sizes come through.
    pub fn is_reached(&self) -> bool {
        self.finding.id == Cause::None.id()
    }
}

fn milliseconds(time: Option<std::time::Duration>) -> Option<f64> {
    time.map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
}

/// Findings that say something of the daemon or of etcd alone.
const CONTROL: [&str; 3] = ["daemon", "etcd", "own-lease"];

impl Document {
    /// Fills in the planes and the verdict, which follow from the rest.
    pub fn judged(mut self) -> Self {
        let is_broken = |finding: &Finding| finding.level == Level::Error;
        let is_control = |id: &str| CONTROL.contains(&id) || id.starts_with(preflight::PREFIX);
        let on_host = |finding: &&Finding| is_broken(finding) && !is_control(finding.id);
        let fails = self.findings.iter().any(|finding| on_host(&finding))
            || self.peers.iter().any(|peer| is_broken(&peer.finding));
        // A host without peers has no one to send packets to.
        let is_tested = !self.peers.is_empty() || !self.subnet.is_empty() && self.unexamined == 0;
        self.data_plane = match (fails, is_tested) {
            (true, _) => DataPlane::Fails,
            (false, true) => DataPlane::Passes,
            (false, false) => DataPlane::Untested,
        };
        self.control_plane = self.daemon.into();
        let worst = self.findings.iter().map(|finding| finding.level).max();
        self.verdict = match (self.data_plane, self.control_plane, worst) {
            (DataPlane::Fails, _, _) | (_, ControlPlane::NotReady, _) => Verdict::Broken,
            (DataPlane::Untested, _, _) => Verdict::Unknown,
            (DataPlane::Passes, ControlPlane::Hung, _) => Verdict::Hung,
            (DataPlane::Passes, ControlPlane::Stopped, _) if worst != Some(Level::Error) => {
                Verdict::NotRunning
            }
            (DataPlane::Passes, _, Some(Level::Error)) => Verdict::Broken,
            (DataPlane::Passes, _, Some(Level::Warning)) => Verdict::Degraded,
            (DataPlane::Passes, _, Some(Level::Ok) | None) => Verdict::Fine,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(daemon: State, subnet: &str, findings: Vec<Finding>) -> (DataPlane, Verdict) {
        let document = Document {
            format: FORMAT,
            verdict: Verdict::Unknown,
            subnet: subnet.into(),
            source: String::new(),
            daemon,
            data_plane: DataPlane::Untested,
            control_plane: ControlPlane::Stopped,
            findings,
            peers: Vec::new(),
            unexamined: 0,
        };
        let document = document.judged();
        (document.data_plane, document.verdict)
    }

    #[test]
    fn verdict_keeps_packets_and_daemon_apart() {
        let error = |id| vec![Finding::error(id, "found", "expected", "fix")];
        let warning = |id| vec![Finding::warning(id, "found", "expected", "fix")];
        let lease = "172.30.1.0/24";
        for (daemon, subnet, findings, data, verdict) in [
            (
                State::Fine,
                lease,
                Vec::new(),
                DataPlane::Passes,
                Verdict::Fine,
            ),
            (
                State::Degraded,
                lease,
                warning("daemon"),
                DataPlane::Passes,
                Verdict::Degraded,
            ),
            (
                State::Silent,
                lease,
                warning("daemon"),
                DataPlane::Passes,
                Verdict::Hung,
            ),
            (
                State::NotRunning,
                lease,
                warning("daemon"),
                DataPlane::Passes,
                Verdict::NotRunning,
            ),
            (
                State::NotRunning,
                lease,
                error("forwarding"),
                DataPlane::Fails,
                Verdict::Broken,
            ),
            (
                State::NotRunning,
                lease,
                error("own-lease"),
                DataPlane::Passes,
                Verdict::Broken,
            ),
            (
                State::NotRunning,
                "",
                error("own-lease"),
                DataPlane::Untested,
                Verdict::Unknown,
            ),
            (
                State::Silent,
                "",
                error("own-lease"),
                DataPlane::Untested,
                Verdict::Unknown,
            ),
            (
                State::NotReady,
                "",
                error("daemon"),
                DataPlane::Untested,
                Verdict::Broken,
            ),
            (
                State::NotRunning,
                "",
                error("vxlan-user"),
                DataPlane::Fails,
                Verdict::Broken,
            ),
        ] {
            let found = judged(daemon, subnet, findings.clone());
            assert_eq!(found, (data, verdict), "{daemon:?} {subnet:?} {findings:?}");
        }
    }
}
