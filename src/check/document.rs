//! What a check came to, as one document: pure. This is the JSON of `rflannel check --json`.

use serde::Serialize;

use super::diagnose::{Cause, diagnose};
use super::roster::Way;
use super::{trail, words};
use crate::node_setup::check::Finding;
use crate::node_setup::check::finding::Level;
use crate::observe::report::State;

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
    /// Some packets do not pass.
    Broken,
}

impl Verdict {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Verdict::Fine => 0,
            Verdict::Degraded => 1,
            Verdict::NotRunning => 2,
            Verdict::Broken => 3,
        }
    }
}

/// One family of one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
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
    pub fn of(way: &Way) -> Self {
        let Way { names, evidence, .. } = way;
        let probes = &evidence.probes;
        let full = probes.full.is_answered().then_some(names.mtu);
        Self {
            subnet: names.subnet.clone(),
            public_ip: names.public.to_string(),
            finding: words::finding(diagnose(evidence), names, evidence),
            overlay_ms: milliseconds(probes.overlay.time()),
            underlay_ms: milliseconds(probes.underlay.time()),
            largest: probes.largest.or(full),
            trail: trail::lines(names, probes),
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

/// Of all findings.
pub fn verdict<'a>(findings: impl IntoIterator<Item = &'a Finding>, daemon: State) -> Verdict {
    match findings.into_iter().map(|finding: &Finding| finding.level).max() {
        Some(Level::Error) => Verdict::Broken,
        _ if daemon == State::NotRunning => Verdict::NotRunning,
        Some(Level::Warning) => Verdict::Degraded,
        Some(Level::Ok) | None => Verdict::Fine,
    }
}
