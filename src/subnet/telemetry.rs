//! What is known about the datastore and the own lease there: noted by those who talk to it, read by those who report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Revision;
use crate::util::histogram::Histogram;
use crate::util::lock;

/// A notebook. Clones share it; no one holds it longer than a note takes.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Mutex<EtcdActivity>>);

#[derive(Debug, Clone, Default)]
pub struct EtcdActivity {
    /// The endpoint that answered last.
    pub endpoint: String,
    /// Where etcd listens: the addresses of each endpoint, as far as they are known.
    pub members: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Attempts by request and whether they were answered.
    pub requests: BTreeMap<(&'static str, bool), u64>,
    pub latency: Histogram,
    pub watch: Watch,
    pub renewal: Renewal,
}

/// How the watch of all leases goes.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    pub link: Link,
    /// When it was last heard of.
    pub last_message: Option<Instant>,
    /// The last change that was told of.
    pub revision: Revision,
    pub breaks: u64,
    pub lists: u64,
    /// Since when changes wait for being taken.
    pub waiting: Option<Instant>,
}

/// Whether the watch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Opening,
    Open,
    /// It is being opened again.
    Lost {
        /// Since when.
        since: Instant,
        /// What the last attempt said.
        why: String,
    },
}

/// How the own key is kept alive.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// When that was last done, and for how long; without a duration the key does not expire.
    pub last: Option<(Instant, Option<Duration>)>,
    /// Why it does not work, and since when.
    pub trouble: Option<(Instant, String)>,
}

impl Telemetry {
    pub fn activity(&self) -> EtcdActivity {
        self.note(|activity| activity.clone())
    }

    /// The addresses of all endpoints, as far as they are known.
    pub fn members(&self) -> BTreeSet<IpAddr> {
        self.note(|activity| activity.members.values().flatten().copied().collect())
    }

    /// An endpoint has these addresses now.
    pub(super) fn resolved(&self, endpoint: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().collect();
        self.note(|activity| activity.members.insert(endpoint.to_owned(), addresses));
    }

    /// Changes are taken from the watch: since when they have been waiting.
    pub fn taken(&self) -> Option<Instant> {
        self.note(|activity| activity.watch.waiting.take())
    }

    /// A request was answered, or not, by `endpoint`.
    pub(super) fn asked(
        &self,
        request: &'static str,
        endpoint: &str,
        answered: bool,
        took: Duration,
    ) {
        self.note(|activity| {
            *activity.requests.entry((request, answered)).or_default() += 1;
            if answered {
                activity.latency.observe(took);
                activity.endpoint.clear();
                activity.endpoint.push_str(endpoint);
            }
        });
    }

    /// The watch stands, and goes to `endpoint`.
    pub(super) fn watch_opened(&self, endpoint: &str) {
        self.note(|activity| {
            activity.watch.link = Link::Open;
            activity.watch.last_message = Some(Instant::now());
            activity.endpoint.clear();
            activity.endpoint.push_str(endpoint);
        });
    }

    /// The watch has been heard of, with a change if there is a revision.
    pub(super) fn watch_received(&self, revision: Option<Revision>) {
        self.note(|activity| {
            activity.watch.last_message = Some(Instant::now());
            activity.watch.revision = revision.unwrap_or(activity.watch.revision);
        });
    }

    /// The watch broke, or another attempt to open it failed.
    pub(super) fn watch_lost(&self, why: &str) {
        self.note(|activity| {
            let since = match activity.watch.link {
                Link::Lost { since, .. } => since,
                Link::Opening | Link::Open => {
                    activity.watch.breaks += 1;
                    Instant::now()
                }
            };
            let why = why.to_owned();
            activity.watch.link = Link::Lost { since, why };
        });
    }

    /// All leases have been listed, as of this revision.
    pub(super) fn listed(&self, revision: Revision) {
        self.note(|activity| {
            activity.watch.lists += 1;
            activity.watch.revision = revision;
        });
    }

    /// Changes are there to be taken.
    pub(super) fn changes_wait(&self) {
        self.note(|activity| {
            activity.watch.waiting.get_or_insert_with(Instant::now);
        });
    }

    /// The own key lives for so long from now on; without a duration for good.
    pub(super) fn renewed(&self, ttl: Option<Duration>) {
        self.note(|activity| activity.renewal.last = Some((Instant::now(), ttl)));
    }

    /// The own key is looked after; or not, for this reason.
    pub(super) fn kept(&self, trouble: Option<&str>) {
        self.note(|activity| {
            let before = activity.renewal.trouble.take();
            let since = before.map_or_else(Instant::now, |(since, _)| since);
            activity.renewal.trouble = trouble.map(|why| (since, why.to_owned()));
        });
    }

    fn note<T>(&self, note: impl FnOnce(&mut EtcdActivity) -> T) -> T {
        note(&mut lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_address_of_an_endpoint_is_forgotten() {
        let telemetry = Telemetry::default();
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        telemetry.resolved("a", [ip(1), ip(2)]);
        telemetry.resolved("b", [ip(3)]);
        telemetry.resolved("a", [ip(4)]);
        assert_eq!(telemetry.members(), [ip(3), ip(4)].into());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_counts_once_however_often_it_is_tried() {
        let telemetry = Telemetry::default();
        telemetry.watch_opened("a");
        let since = Instant::now();
        for why in ["one", "two"] {
            telemetry.watch_lost(why);
            telemetry.kept(Some(why));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        let activity = telemetry.activity();
        assert_eq!(
            activity.watch.link,
            Link::Lost {
                since,
                why: "two".into()
            }
        );
        assert_eq!(activity.renewal.trouble, Some((since, "two".into())));
        assert_eq!(activity.watch.breaks, 1);
        telemetry.watch_opened("b");
        telemetry.kept(None);
        let activity = telemetry.activity();
        assert_eq!(
            (activity.watch.link, activity.renewal.trouble),
            (Link::Open, None)
        );
        assert_eq!(activity.endpoint, "b");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_wait_from_the_first_on_until_they_are_taken() {
        let (telemetry, start) = (Telemetry::default(), Instant::now());
        telemetry.changes_wait();
        tokio::time::advance(Duration::from_secs(1)).await;
        telemetry.changes_wait();
        assert_eq!((telemetry.taken(), telemetry.taken()), (Some(start), None));
    }
}
