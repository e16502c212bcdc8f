//! Defines the result of a check as a JSON document, for `rflannel check --json`. Pure.

use serde::Serialize;

use crate::check::diagnose::{Cause, diagnose};
use crate::check::paths::PeerPath;
use crate::check::{preflight, render::explain, render::trace};
use flanneld::status::report::State;
use node_setup::finding::Finding;
use node_setup::finding::Level;

/// Version of the document. New members keep the version; changing the meaning of a member or removing one raises it.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    pub format: u32,
    pub verdict: Verdict,
    /// This host's subnets; empty if it has none.
    pub subnet: String,
    /// Where the list of leases comes from.
    pub source: String,
    pub daemon: State,
    pub data_plane: DataPlane,
    pub control_plane: ControlPlane,
    /// Problems of this host.
    pub findings: Vec<Finding>,
    /// The peers that were probed.
    pub peers: Vec<Peer>,
    /// Number of peers that do not answer and were not examined because there are too many of them.
    pub unexamined: usize,
}

/// Overall result, from which the exit code follows, as in `rflannel status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No problem was found.
    Fine,
    /// Packets pass, but something needs attention.
    Degraded,
    /// Packets pass, but no daemon runs.
    NotRunning,
    /// Packets pass, but the daemon does not answer.
    Hung,
    /// Some packets do not pass, or the daemon is not ready.
    Broken,
    /// No packets were sent.
    Unknown,
}

/// Whether packets pass through the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPlane {
    Passes,
    /// Some packets do not pass, or this host drops packets of its pods.
    Fails,
    /// No packets were sent.
    Untested,
}

/// Whether the daemon maintains the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlPlane {
    /// The daemon runs and is ready.
    Running,
    /// The daemon runs but is not ready.
    NotReady,
    /// The daemon's process does not answer.
    Hung,
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

/// One address family of one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
    /// Host name, if known.
    pub host: Option<String>,
    pub subnet: String,
    pub public_ip: String,
    /// `reached`, or the cause why it is not.
    #[serde(flatten)]
    pub finding: Finding,
    /// Round-trip time through the overlay.
    pub overlay_ms: Option<f64>,
    /// Round-trip time on the underlay.
    pub underlay_ms: Option<f64>,
    /// The largest packet that passes through the overlay, if it was measured.
    pub largest: Option<u32>,
    /// Results of the single probes.
    pub trail: Vec<String>,
}

impl Peer {
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

    /// Returns whether packets of all sizes pass.
    pub fn is_reached(&self) -> bool {
        self.finding.id == Cause::None.id()
    }
}

fn milliseconds(time: Option<std::time::Duration>) -> Option<f64> {
    time.map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
}

/// Findings about the daemon or etcd, not about packets.
const CONTROL: [&str; 3] = ["daemon", "etcd", "own-lease"];

impl Document {
    /// Returns the findings of this host and of the peers.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        let peers = self.peers.iter().map(|peer| &peer.finding);
        self.findings.iter().chain(peers)
    }

    /// Sets the planes and the verdict, which follow from the findings.
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
                error("vxlan-conflict"),
                DataPlane::Fails,
                Verdict::Broken,
            ),
        ] {
            let found = judged(daemon, subnet, findings.clone());
            assert_eq!(found, (data, verdict), "{daemon:?} {subnet:?} {findings:?}");
        }
    }
}
