//! Probes every peer through the overlay, once an interval, each at a moment of its own: a low, even rate, whatever the number of
//! peers.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::probe_stats::ProbeStats;
use super::report::Probes;
use super::{StatusRequest, Target};
use crate::probe::EchoSocket;
use crate::probe::ping::{Outcome, Timing, ping};
use crate::util::histogram::Histogram;
use crate::util::lock;

/// How long an answer may take: then the probe is lost.
const LONGEST: Duration = Duration::from_secs(2);
/// Probes under way at a time; a later one waits.
const LIMIT: usize = 256;
/// Size of a probe.
const SIZE: u32 = 84;
/// Where there is no loop yet.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known from probes, shared with those who report it.
#[derive(Debug, Clone)]
pub(super) struct Probing {
    interval: Option<Duration>,
    list: Arc<Mutex<ProbeStats>>,
}

impl Probing {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            list: Arc::default(),
        }
    }

    /// None where no one is probed.
    pub(super) fn report(&self) -> Option<(Probes, Histogram)> {
        let list = self.list();
        self.interval
            .map(|interval| (list.report(interval), list.times.clone()))
    }

    /// Probes forever.
    pub(super) async fn run(self, requests: mpsc::Sender<StatusRequest>) -> Infallible {
        let Some(interval) = self.interval else {
            return pending().await;
        };
        loop {
            let end = Instant::now() + interval;
            match ask_for_targets(&requests).await {
                Some(targets) => {
                    self.round(targets, interval).await;
                    sleep_until(end).await;
                }
                None => sleep(PAUSE).await,
            }
        }
    }

    /// Everybody once, at random moments of the interval.
    async fn round(&self, targets: BTreeSet<Target>, interval: Duration) {
        self.list()
            .keep(&targets.iter().map(|target| target.subnet).collect());
        let begin = Instant::now();
        let at = |target| (begin + interval.mul_f64(rand::random()), target);
        let mut due: Vec<(Instant, Target)> = targets.into_iter().map(at).collect();
        due.sort_unstable();
        let mut running = JoinSet::new();
        for (at, target) in due {
            sleep_until(at).await;
            running.spawn(async move { (target.subnet, probe(target, interval).await) });
            while let Some(done) = running.try_join_next() {
                self.note(done.ok());
            }
            if running.len() >= LIMIT {
                self.note(running.join_next().await.and_then(Result::ok));
            }
        }
        while let Some(done) = running.join_next().await {
            self.note(done.ok());
        }
    }

    fn note(&self, done: Option<(IpNetwork, Outcome)>) {
        if let Some((peer, outcome)) = done {
            self.list().note(peer, outcome.time());
        }
    }

    fn list(&self) -> MutexGuard<'_, ProbeStats> {
        lock(&self.list)
    }
}

/// Who the peers are; none while there is no loop, or it is busy.
async fn ask_for_targets(requests: &mpsc::Sender<StatusRequest>) -> Option<BTreeSet<Target>> {
    let (request, answer) = tokio::sync::oneshot::channel();
    requests.try_send(StatusRequest::Peers(request)).ok()?;
    answer.await.ok()
}

async fn probe(Target { from, to, .. }: Target, interval: Duration) -> Outcome {
    let timing = Timing {
        attempts: 1,
        gap: Duration::ZERO,
        patience: LONGEST.min(interval),
    };
    match EchoSocket::open(from, to, rand::random()) {
        Ok(line) => ping(&line, 0, SIZE, timing).await,
        Err(error) => Outcome::Refused((&error).into()),
    }
}
