//! Following all leases forever: list, then watch; resume where it broke; list again where the history is lost.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::super::{Lease, LeaseAttrs, LeaseEvent, Revision, Snapshot};
use super::outage_log::Outage;
use super::store::{Changes, ListProgress, Store, WatchMessage};
use super::tombstones::Tombstones;
use super::{Error, Telemetry};
use crate::util::backoff::Backoff;
use crate::util::random::Random;

/// The member of a quiet stream is probed this often.
const PROBE: Duration = Duration::from_secs(10);
/// A member that was not heard for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// Between an answer and what is concluded from it: changes that the answer has overtaken come first.
const SETTLE: Duration = Duration::from_secs(1);
/// An answer that took longer says that etcd was away meanwhile.
const PROMPT: Duration = Duration::from_secs(5);

/// What has happened on a stream, and when.
struct Times {
    opened: Instant,
    /// Something came from etcd.
    last_message: Instant,
    /// The member was asked for a sign of life.
    asked: Instant,
    /// The watch has begun.
    is_created: bool,
}

impl Times {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            opened: now,
            last_message: now,
            asked: now,
            is_created: false,
        }
    }
}

/// Sends `known`, or a list, and then every change of every lease, until the receiver is dropped.
pub(super) async fn watch<S: Store>(
    store: &S,
    random: &Random,
    telemetry: &Telemetry,
    (known, had_list): (Option<Snapshot>, bool),
    events: mpsc::Sender<Vec<LeaseEvent>>,
) {
    let place = match known {
        Some(known) => {
            telemetry.listed(known.revision);
            send_known(known, &events).await
        }
        None => None,
    };
    let mut watcher = Watcher {
        store,
        random,
        telemetry,
        events: &events,
        had_list: had_list || place.is_some(),
        place,
        born: Instant::now(),
        tombstones: Tombstones::default(),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
        outage: Outage::new("lost the watch of the leases", "watching the leases again"),
    };
    tokio::select! {
        biased;
        () = events.closed() => {}
        () = watcher.run() => {}
    }
}

async fn send_known(known: Snapshot, events: &mpsc::Sender<Vec<LeaseEvent>>) -> Option<Place> {
    // Where the leases are: there may be many.
    let mut list: Vec<LeaseEvent> = puts(known.leases).collect();
    list.push(LeaseEvent::ListStart);
    let last = list.len() - 1;
    list.swap(0, last);
    list.push(LeaseEvent::ListEnd);
    let place = Place {
        cluster: known.cluster_id,
        seen: known.revision,
        whole: true,
    };
    events.send(list).await.is_ok().then_some(place)
}

/// The leases of a list that can be read.
fn puts(leases: Vec<Lease>) -> impl Iterator<Item = LeaseEvent> {
    leases
        .into_iter()
        .filter(|lease| lease.attrs != LeaseAttrs::default())
        .map(LeaseEvent::Put)
}

struct Watcher<'a, S> {
    store: &'a S,
    random: &'a Random,
    telemetry: &'a Telemetry,
    events: &'a mpsc::Sender<Vec<LeaseEvent>>,
    /// How far the receiver has been told; `None` before a new complete list.
    place: Option<Place>,
    /// The receiver has seen a complete list.
    had_list: bool,
    born: Instant,
    tombstones: Tombstones,
    backoff: Backoff,
    outage: Outage,
}

/// A place in the history of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    cluster: u64,
    seen: Revision,
    /// Whether all changes of revision `seen` are known. A large transaction arrives in fragments that cannot be told
    /// from whole ones, so after a break the last revision is read again: saying a thing twice does no harm.
    whole: bool,
}

impl Place {
    fn next(self) -> Revision {
        self.seen + Revision::from(self.whole)
    }

    /// Whether a member's history continues ours. It does not in a cluster restored from an older backup.
    fn is_continued_by(self, cluster: u64, revision: Revision) -> bool {
        self.cluster == cluster && revision >= self.seen
    }
}

enum Broken {
    /// The member fails: go on with another one.
    Member(String),
    /// The place is not in the history any more: list again.
    History(&'static str),
}

impl<S: Store> Watcher<'_, S> {
    async fn run(&mut self) {
        loop {
            let Err(broken) = self.follow().await;
            let pause = self.backoff.delay(self.random.share());
            match broken {
                Broken::Member(why) => {
                    self.telemetry.watch_lost(&why);
                    self.outage.failed(&why, pause);
                }
                Broken::History(why) => {
                    info!(err = why, "listing all leases again: {why}");
                    self.place = None;
                }
            }
            sleep(pause).await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Broken> {
        let place = match self.place {
            Some(place) => place,
            None => self.list().await?,
        };
        let opened = self.store.watch(place.next()).await;
        let mut stream = opened.map_err(|error| self.lose_place(&error))?;
        let Err(broken) = self.listen(&mut stream, place).await;
        if matches!(broken, Broken::Member(_)) {
            self.store.leave(stream).await;
        }
        Err(broken)
    }

    /// No member could be asked. What comes back after that may be a restored backup, and its revisions may have passed
    /// ours: only a list is right whatever happened.
    fn lose_place(&mut self, error: &Error) -> Broken {
        self.place = None;
        Broken::Member(error.to_string())
    }

    async fn list(&mut self) -> Result<Place, Broken> {
        self.tombstones = Tombstones::default();
        let mut progress = ListProgress::default();
        let mut batch = vec![LeaseEvent::ListStart];
        while !progress.is_complete() {
            let page = self.store.page(&mut progress).await;
            let page = page.map_err(|error| Broken::Member(error.to_string()))?;
            batch.extend(puts(self.store.read(&page)));
            if progress.is_complete() && !self.had_list {
                batch.push(LeaseEvent::ListEnd);
            }
            self.send(std::mem::take(&mut batch)).await?;
        }
        if std::mem::replace(&mut self.had_list, true) {
            self.tombstones.listed(self.born.elapsed());
        }
        let (cluster, seen) = progress.origin();
        self.telemetry.listed(seen);
        let place = Place {
            cluster,
            seen,
            whole: true,
        };
        self.place = Some(place);
        Ok(place)
    }

    async fn listen(&mut self, stream: &mut S::Stream, place: Place) -> Result<Infallible, Broken> {
        let address = stream.source().to_owned();
        let at = |why: String| Broken::Member(format!("{address}: {why}"));
        self.tombstones.begin(self.born.elapsed());
        let mut times = Times::new();
        let mut probe: Option<Probe> = None;
        loop {
            let quiet = times.last_message.max(times.asked) + PROBE;
            let due = self
                .tombstones
                .due()
                .map(|due| (self.born + due).max(times.asked + SETTLE));
            let last_message = tokio::select! {
                biased;
                last_message = stream.next() => last_message.map_err(at)?,
                answer = answer(&mut probe) => {
                    probe = None;
                    match self.on_answer(answer, &address, &times).await? {
                        Some(last_message) => last_message,
                        None => continue,
                    }
                }
                () = sleep_until(due.map_or(quiet, |due| due.min(quiet))), if probe.is_none() => {
                    times.asked = Instant::now();
                    probe = Some(Box::pin(timed(stream.probe())));
                    continue;
                }
            };
            times.last_message = Instant::now();
            match last_message {
                WatchMessage::Created { cluster, revision } => {
                    if !place.is_continued_by(cluster, revision) {
                        return Err(Broken::History(
                            "etcd was restored or replaced, its history is a different one",
                        ));
                    }
                    times.is_created = true;
                    debug!(
                        endpoint = address,
                        revision = place.next(),
                        "watching the leases at {address} from revision {}",
                        place.next()
                    );
                    self.telemetry.watch_opened(&address);
                    self.outage.over();
                }
                WatchMessage::Changed(changes, seen) => {
                    self.telemetry.watch_received(Some(seen));
                    let changes = self.tombstones.keep_deleted(changes, self.born.elapsed());
                    self.send(changes).await?;
                    self.place = Some(Place {
                        seen,
                        whole: false,
                        ..place
                    });
                    self.backoff.reset();
                }
                WatchMessage::Alive => {
                    self.telemetry.watch_received(None);
                    self.backoff.reset();
                }
                WatchMessage::Compacted => {
                    return Err(Broken::History("etcd compacted the changes in between"));
                }
                WatchMessage::Canceled(why) => {
                    return Err(at(format!("the server canceled the watch: {why}")));
                }
            }
        }
    }

    /// Takes the answer to the question whether the member is there. `None`: it says nothing about the watch.
    async fn on_answer(
        &mut self,
        answer: Result<Duration, String>,
        address: &str,
        times: &Times,
    ) -> Result<Option<WatchMessage>, Broken> {
        let broken = |why: String| Broken::Member(format!("{address}: {why}"));
        match answer {
            Ok(took) if times.is_created => {
                self.expire_tombstones(times.asked, took).await.map(Some)
            }
            // Nothing may be concluded: what was written meanwhile has not come.
            Ok(_) if times.opened.elapsed() < PROBE => Ok(None),
            Ok(_) => Err(broken(
                "it answers requests, but does not start the watch".into(),
            )),
            Err(why) if times.last_message.elapsed() < SILENCE => {
                debug!(
                    endpoint = address,
                    err = why,
                    "{address} does not answer: {why}"
                );
                // Others may not have been heard either, and have had no chance to write their keys again.
                self.tombstones.begin(self.born.elapsed());
                Ok(None)
            }
            Err(why) => Err(broken(format!(
                "no message for {} s: {why}",
                SILENCE.as_secs()
            ))),
        }
    }

    /// Etcd has answered what it was asked at `asked`. What was due by then is true, unless the answer was long in coming.
    async fn expire_tombstones(
        &mut self,
        asked: Instant,
        took: Duration,
    ) -> Result<WatchMessage, Broken> {
        if took > PROMPT {
            self.tombstones.begin(self.born.elapsed());
        } else {
            let expired = self.tombstones.expire(asked - self.born);
            self.send(expired).await?;
        }
        Ok(WatchMessage::Alive)
    }

    async fn send(&self, batch: Vec<LeaseEvent>) -> Result<(), Broken> {
        if batch.is_empty() {
            return Ok(());
        }
        self.telemetry.changes_wait();
        // Fails only when the receiver is gone, which ends the watch anyway.
        self.events
            .send(batch)
            .await
            .map_err(|_| Broken::Member("the receiver is gone".into()))?;
        // What waited before was taken while this waited for room.
        self.telemetry.changes_wait();
        Ok(())
    }
}

/// A probe under way.
type Probe = Pin<Box<dyn Future<Output = Result<Duration, String>> + Send>>;

/// How long the answer took. It is told a moment later.
async fn timed(probe: impl Future<Output = Result<(), String>>) -> Result<Duration, String> {
    let asked = Instant::now();
    probe.await?;
    let took = asked.elapsed();
    sleep(SETTLE).await;
    Ok(took)
}

/// The answer of a probe; never where there is none.
async fn answer(probe: &mut Option<Probe>) -> Result<Duration, String> {
    match probe {
        Some(probe) => probe.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_continued_after_it_and_a_change_is_read_again() {
        let listed = Place {
            cluster: 1,
            seen: 7,
            whole: true,
        };
        assert_eq!(listed.next(), 8);
        assert_eq!(
            Place {
                whole: false,
                ..listed
            }
            .next(),
            7
        );
    }

    #[test]
    fn another_cluster_or_an_older_history_does_not_continue() {
        let place = Place {
            cluster: 1,
            seen: 7,
            whole: true,
        };
        assert!(place.is_continued_by(1, 7) && place.is_continued_by(1, 9));
        assert!(!place.is_continued_by(1, 6));
        assert!(!place.is_continued_by(2, 9));
    }
}
