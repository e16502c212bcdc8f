//! Sends probes and evaluates the answers: quick ones to many peers, thorough ones to one.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::capture::{Capture, Ends, Question, progress};
use super::evidence::{Checksum, Echo, Neighbor, Port, Probes};
use super::paths::PeerPath;
use flanneld::kernel::{LinkSpec, Mac};
use flanneld::probe::packet::{self, Mark};
use flanneld::probe::ping::{Outcome, Timing, largest, ping};
use flanneld::probe::{ArpSocket, CaptureSocket, EchoSocket, Refusal, Tunnel, is_refused};
use flanneld::util::family::Family;

/// Size of a small packet.
pub(super) const SMALL: u32 = 84;
/// A port that no program listens at, as traceroute uses. A host answers a packet to it only if the checksum is correct.
const UNUSED_PORT: u16 = 33_434;
pub(super) const DATAGRAM: &[u8] = b"rflannel check";

/// Probes a peer with a small and a large packet. The round trip on the underlay is measured for comparison.
pub(super) async fn quick(mut peer_path: PeerPath, timing: Timing) -> PeerPath {
    let session = Session::new(&peer_path, timing);
    let PeerPath { names, end, .. } = &peer_path;
    let through = async {
        let overlay = session
            .echo(Some(end.address), names.address, Question::Overlay, SMALL)
            .await;
        let full = match overlay.time() {
            Some(_) => session.full().await,
            None => Echo::Untried,
        };
        (unseen(overlay), full)
    };
    let below = session.echo(Some(end.local), names.public, Question::Underlay, SMALL);
    let ((overlay, full), underlay) = tokio::join!(through, timeout(timing.gap, below));
    let underlay = underlay.map_or(Echo::Untried, unseen);
    peer_path.evidence.probes = Probes {
        overlay,
        full,
        underlay,
        ..Probes::default()
    };
    peer_path
}

/// Returns whether the quick probes leave nothing to find out.
pub(super) fn is_settled(peer_path: &PeerPath) -> bool {
    peer_path.evidence.probes.full.is_answered()
}

pub(super) async fn thorough(mut peer_path: PeerPath, timing: Timing) -> PeerPath {
    let session = Session::new(&peer_path, timing);
    let tap = (peer_path.end.family == Family::V4)
        .then(|| CaptureSocket::open(session.id, peer_path.names.port).ok())
        .flatten();
    let is_tapped = tap.is_some();
    let (mut probes, neighbor) = tokio::select! {
        found = session.ask(is_tapped) => found,
        never = session.watch(tap) => match never {},
    };
    if probes.overlay.is_answered() {
        (probes.port, probes.left) = (Port::Untried, None);
    }
    peer_path.evidence.probes = probes;
    peer_path.evidence.neighbor = neighbor.unwrap_or(peer_path.evidence.neighbor);
    peer_path
}

struct Session<'a> {
    peer_path: &'a PeerPath,
    /// ID of all echo requests.
    id: u16,
    timing: Timing,
    notes: Mutex<Capture>,
}

impl<'a> Session<'a> {
    fn new(peer_path: &'a PeerPath, timing: Timing) -> Self {
        Self {
            peer_path,
            id: rand::random(),
            timing,
            notes: Mutex::default(),
        }
    }

    async fn watch(&self, tap: Option<CaptureSocket>) -> std::convert::Infallible {
        let Some(tap) = tap else {
            return std::future::pending().await;
        };
        let ends = self.ends();
        loop {
            let seen = tap.next().await;
            self.notes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(seen, &ends);
        }
    }

    fn ends(&self) -> Ends {
        let PeerPath { names, end, .. } = self.peer_path;
        let mac = end.tunnel.as_ref().map_or(Mac([0; 6]), |spec| spec.mac);
        Ends {
            here: end.address,
            mac,
            there: names.address,
            public: names.public,
        }
    }

    fn noted(&self) -> Capture {
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, is_tapped: bool) -> (Probes, Option<Neighbor>) {
        let PeerPath { names, end, .. } = self.peer_path;
        let (overlay, underlay, any_source, neighbor) = tokio::join!(
            self.echo(Some(end.address), names.address, Question::Overlay, SMALL),
            self.echo(Some(end.local), names.public, Question::Underlay, SMALL),
            self.any_source(),
            self.neighbor(),
        );
        let (mut probes, mut by_underlay) = (
            Probes {
                any_source,
                ..Probes::default()
            },
            false,
        );
        match overlay.time() {
            Some(_) => self.all_probes(&mut probes).await,
            None if self.peer_path.evidence.direct => {
                let asked = self
                    .echo(Some(end.local), names.address, Question::ByUnderlay, SMALL)
                    .await;
                by_underlay = asked.time().is_some();
            }
            None => probes.port = self.by_hand().await,
        }
        let notes = self.noted();
        let is_seen = is_tapped && overlay == Outcome::Silent && !self.peer_path.evidence.direct;
        probes.overlay = notes.overlay(overlay);
        probes.underlay = notes.underlay(underlay);
        probes.left = is_seen.then_some(notes.left);
        probes.answered_other_mac = notes.other_mac;
        (probes.handmade, probes.by_underlay, probes.owner) = (
            notes.handmade,
            notes.by_underlay || by_underlay,
            notes.owner,
        );
        (probes, neighbor)
    }

    async fn echo(
        &self,
        source: Option<IpAddr>,
        to: IpAddr,
        question: Question,
        size: u32,
    ) -> Outcome {
        match EchoSocket::open(source, to, self.id) {
            Ok(line) => ping(&line, question.first(), size, self.timing).await,
            Err(error) => Outcome::Refused(Refusal::from(&error)),
        }
    }

    async fn full(&self) -> Echo {
        let PeerPath { names, end, .. } = self.peer_path;
        let full = self.echo(Some(end.address), names.address, Question::Full, names.mtu);
        unseen(full.await)
    }

    async fn any_source(&self) -> Echo {
        if !self.peer_path.other_source {
            return Echo::Untried;
        }
        let public = self.peer_path.names.public;
        unseen(self.echo(None, public, Question::AnySource, SMALL).await)
    }

    async fn neighbor(&self) -> Option<Neighbor> {
        let IpAddr::V4(public) = self.peer_path.names.public else {
            return None;
        };
        let wire = self
            .peer_path
            .on_link
            .then(|| ArpSocket::open(&self.peer_path.names.underlay).ok())
            .flatten()?;
        Some(Neighbor::OnLink(wire.owners(public, self.timing).await))
    }

    /// Probes what a peer that is reached may still lack: large packets, checksums, and the pod.
    async fn all_probes(&self, probes: &mut Probes) {
        let PeerPath { names, end, .. } = self.peer_path;
        probes.full = self.full().await;
        if !probes.full.is_answered()
            && let Ok(line) = EchoSocket::open(Some(end.address), names.address, self.id)
        {
            probes.largest = Some(largest(&line, names.mtu, self.timing).await);
        }
        probes.checksum = self.checksum().await.unwrap_or_default();
        if let Some(pod) = names.pod {
            probes.pod = unseen(self.echo(None, pod, Question::Pod, SMALL).await);
        }
    }

    /// Sends a UDP packet whose checksum is computed on output. If there is no answer, sends the same packet with a checksum computed here.
    async fn checksum(&self) -> Option<Checksum> {
        let PeerPath {
            names,
            end,
            evidence,
            ..
        } = self.peer_path;
        let (IpAddr::V4(here), IpAddr::V4(there)) = (end.address, names.address) else {
            return None;
        };
        let socket = UdpSocket::bind((here, 0)).await.ok()?;
        socket.connect((there, UNUSED_PORT)).await.ok()?;
        if self.is_minded(&socket, None).await {
            return Some(Checksum::Right);
        }
        let from = (here, socket.local_addr().ok()?.port());
        let datagram = packet::udp_v4(from, (there, UNUSED_PORT), DATAGRAM).ok()?;
        let spec = end.tunnel.as_ref()?;
        let frame = packet::frame(spec.mac, evidence.mac?, &datagram);
        let tunnel = self.tunnel(spec).await.ok()?;
        let is_minded = self.is_minded(&socket, Some((&tunnel, &frame))).await;
        is_minded.then_some(Checksum::Wrong)
    }

    /// Returns whether the peer reports the port as closed.
    async fn is_minded(&self, socket: &UdpSocket, by_hand: Option<(&Tunnel, &[u8])>) -> bool {
        for attempt in 1..=self.timing.attempts {
            let sent = match by_hand {
                Some((tunnel, frame)) => tunnel.send(frame).await,
                None => socket.send(DATAGRAM).await.map(drop),
            };
            // The answer to the previous packet may arrive only now.
            if sent.is_err_and(|error| is_refused(&error)) {
                return true;
            }
            if is_reported_closed(socket, pause_after(self.timing, attempt)).await {
                return true;
            }
        }
        false
    }

    async fn tunnel(&self, spec: &LinkSpec) -> io::Result<Tunnel> {
        Tunnel::open(spec.local, self.peer_path.names.public, spec.port, spec.vni).await
    }

    /// Sends handmade frames, which bypass this host's entries, to learn what the peer answers.
    async fn by_hand(&self) -> Port {
        let Some(spec) = self
            .peer_path
            .end
            .tunnel
            .as_ref()
            .filter(|_| !self.peer_path.evidence.direct)
        else {
            return Port::Untried;
        };
        let tunnel = match self.tunnel(spec).await {
            Ok(tunnel) => tunnel,
            Err(error) => return refused(&error),
        };
        let frames = self.frames(spec);
        for attempt in 1..=self.timing.attempts {
            for frame in &frames {
                match tunnel.send(frame).await {
                    Err(error) if refused(&error) != Port::Silent => return refused(&error),
                    _ => {}
                }
            }
            if timeout(pause_after(self.timing, attempt), tunnel.refused())
                .await
                .is_ok()
            {
                return Port::Refused;
            }
            if self.noted().is_complete() {
                break;
            }
        }
        Port::Silent
    }

    /// Returns frames whose answers come back through the overlay, over the underlay, and from the owner of the address (ARP). Over
    /// IPv6, one frame that only tests whether the port is open.
    fn frames(&self, spec: &LinkSpec) -> Vec<Vec<u8>> {
        let PeerPath {
            names,
            end,
            evidence,
            ..
        } = self.peer_path;
        let (IpAddr::V4(here), IpAddr::V4(there), IpAddr::V4(local), Some(mac)) =
            (end.address, names.address, spec.local, evidence.mac)
        else {
            return vec![Vec::new()];
        };
        let echo = |source, question| self.echo_frame(source, there, (spec.mac, mac), question);
        let asking = packet::who_has(spec.mac, there);
        [
            echo(here, Question::Handmade),
            echo(local, Question::ByUnderlay),
        ]
        .into_iter()
        .flatten()
        .chain([asking])
        .collect()
    }

    fn echo_frame(
        &self,
        source: Ipv4Addr,
        to: Ipv4Addr,
        macs: (Mac, Mac),
        question: Question,
    ) -> Option<Vec<u8>> {
        let mark = Mark {
            id: self.id,
            seq: question.first(),
        };
        let echo = packet::echo_v4(source, to, mark, SMALL).ok()?;
        Some(packet::frame(macs.0, macs.1, &echo))
    }
}

/// Returns how far a probe got that is not captured.
fn unseen(outcome: Outcome) -> Echo {
    progress(outcome, false, false)
}

/// Waits for the report that the port is closed.
pub(super) async fn is_reported_closed(socket: &UdpSocket, pause: Duration) -> bool {
    let answer = timeout(pause, socket.recv(&mut [0; 1])).await;
    answer.is_ok_and(|answer| answer.is_err_and(|error| is_refused(&error)))
}

pub(super) fn pause_after(timing: Timing, attempt: u16) -> Duration {
    if attempt >= timing.attempts {
        timing.patience
    } else {
        timing.gap
    }
}

/// Interprets an error of sending to a port.
pub(super) fn refused(error: &io::Error) -> Port {
    if is_refused(error) {
        return Port::Refused;
    }
    match Refusal::from(error) {
        Refusal::Blocked => Port::Blocked,
        Refusal::NoRoute | Refusal::NoAddress => Port::NoRoute,
        Refusal::TooLong | Refusal::Other(_) => Port::Silent,
    }
}
