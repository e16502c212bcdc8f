//! Makes reports: asks the loop and the datastore's notebook, and judges what they say.

use std::convert::Infallible;
use std::process;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::prober::Probing;
use super::report::{Etcd, FORMAT, Report, State, Trouble};
use super::{Answer, Names, StatusRequest, Timings, verdict};
use crate::subnet::Telemetry;
use crate::subnet::telemetry::{EtcdActivity, Link};
use crate::util::histogram::Histogram;
use crate::util::lock;
use crate::util::read_trimmed;
use crate::util::systemd::ServiceState;

/// Questions that may wait for the loop.
const REQUESTS: usize = 16;
/// A loop that is busy with many entries answers later.
const PATIENCE: Duration = Duration::from_secs(5);
/// `rflannel` waits for 2 s.
const PATIENCE_OF_RFLANNEL: Duration = Duration::from_millis(1500);
/// How long a report waits for host names. An etcd that answers does so in a tenth of it; without one the names come with a later
/// report.
const NAMING: Duration = Duration::from_millis(300);
/// Ample for a loop that has nothing to do, and less than a liveness probe waits.
const SHORT_PATIENCE: Duration = Duration::from_millis(200);
/// A loop that has answered no one for so long is stuck. Its longest work, a hundred thousand entries, takes seconds.
const STUCK: Duration = Duration::from_secs(60);

/// Makes reports. Clones make the same.
#[derive(Debug, Clone)]
pub struct Reporter {
    born: Instant,
    telemetry: Telemetry,
    names: Names,
    systemd_state: watch::Receiver<ServiceState>,
    requests: mpsc::Sender<StatusRequest>,
    /// Since when no question has been answered.
    unresponsive_since: Arc<Mutex<Option<Instant>>>,
    /// What is wrong with the status socket.
    socket: Arc<Mutex<Option<String>>>,
    probing: Probing,
}

/// A report, and what only metrics show.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    pub(super) report: Report,
    pub(super) activity: EtcdActivity,
    pub(super) timings: Timings,
    pub(super) round_trips: Histogram,
}

impl Findings {
    /// A loop that does not answer has been judged already.
    fn judged(mut self) -> Self {
        if self.report.reasons.is_empty() {
            (self.report.state, self.report.reasons) = verdict::judge(&self.report);
        }
        self
    }
}

/// What becomes of a question to the loop.
enum Reply {
    Answer(Box<Answer>),
    /// There is no loop yet.
    NotYet,
    /// No answer for so long, to this question and those before.
    Silence(Duration),
}

impl Reporter {
    /// And where its questions arrive. Peers are probed at this interval, if at all.
    pub fn new(
        telemetry: Telemetry,
        names: Names,
        systemd_state: watch::Receiver<ServiceState>,
        interval: Option<Duration>,
    ) -> (Self, mpsc::Receiver<StatusRequest>) {
        let (requests, questions) = mpsc::channel(REQUESTS);
        let reporter = Self {
            born: Instant::now(),
            telemetry,
            names,
            systemd_state,
            requests,
            unresponsive_since: Arc::default(),
            socket: Arc::default(),
            probing: Probing::new(interval),
        };
        (reporter, questions)
    }

    /// Probes peers forever, where that is asked for.
    pub(super) async fn probe(&self) -> Infallible {
        self.probing.clone().run(self.requests.clone()).await
    }

    /// How it is now, with the host names that are known already: who asks for health and metrics waits for nothing.
    pub(super) async fn findings(&self) -> Findings {
        let mut findings = self.collect(PATIENCE).await;
        if findings.report.names_hosts() {
            findings.report.name_hosts(&self.names.known());
        }
        findings.judged()
    }

    /// The report for `rflannel`, in time for it, with host names.
    pub(super) async fn report(&self) -> Report {
        let mut findings = self.collect(PATIENCE_OF_RFLANNEL).await;
        if findings.report.names_hosts() {
            let names = self.names.read(NAMING).await;
            findings.report.name_hosts(&names);
        }
        findings.judged().report
    }

    /// Notes what is wrong with the status socket. Whether that is new.
    pub(super) fn note_socket(&self, trouble: Option<String>) -> bool {
        let mut known = lock(&self.socket);
        let is_new = *known != trouble;
        *known = trouble;
        is_new
    }

    async fn collect(&self, patience: Duration) -> Findings {
        let reply = self.request(patience).await;
        let (activity, now) = (self.telemetry.activity(), Instant::now());
        let (probes, round_trips) = self.probing.report().unzip();
        let socket = lock(&self.socket);
        let report = Report {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            host: read_trimmed("/proc/sys/kernel/hostname"),
            pid: Some(process::id()),
            uptime: Some((now - self.born).as_secs_f64()),
            status: self.systemd_state.borrow().status.clone(),
            etcd: Some(etcd(&activity, now)),
            socket: socket.clone(),
            probes,
            ..Report::default()
        };
        let mut findings = Findings {
            report,
            activity,
            timings: Timings::default(),
            round_trips: round_trips.unwrap_or_default(),
        };
        let Findings {
            report, timings, ..
        } = &mut findings;
        match reply {
            Reply::Answer(answer) => {
                (report.overlay, *timings) = (Some(answer.overlay), answer.timings);
            }
            Reply::Silence(age) => {
                let age = age.as_secs();
                let why = format!("the main loop is busy or stuck: no answer for {age} s");
                (report.state, report.reasons) = (State::NotReady, vec![why]);
            }
            Reply::NotYet => {}
        }
        findings
    }

    /// # Errors
    /// For how long the loop has been stuck.
    pub(super) async fn check_alive(&self) -> Result<(), Duration> {
        match self.request(SHORT_PATIENCE).await {
            Reply::Silence(age) if age > STUCK => Err(age),
            Reply::Silence(_) | Reply::Answer(_) | Reply::NotYet => Ok(()),
        }
    }

    async fn request(&self, patience: Duration) -> Reply {
        let (request, answer) = oneshot::channel();
        // Where the queue is full, or no one is left to read it, the answer does not come either.
        let asked = self.requests.try_send(StatusRequest::Report(request));
        let reply = timeout(patience, async {
            match asked {
                Ok(()) => answer.await,
                Err(_) => std::future::pending().await,
            }
        })
        .await;
        let mut unresponsive_since = lock(&self.unresponsive_since);
        match reply {
            Ok(answer) => {
                *unresponsive_since = None;
                answer.map_or(Reply::NotYet, |answer| Reply::Answer(Box::new(answer)))
            }
            Err(_) => Reply::Silence(
                unresponsive_since
                    .get_or_insert_with(|| Instant::now() - patience)
                    .elapsed(),
            ),
        }
    }
}

fn etcd(activity: &EtcdActivity, now: Instant) -> Etcd {
    let since = |at: Instant| (now - at).as_secs_f64();
    let trouble = |at: Instant, why: &str| Trouble {
        since: since(at),
        why: why.to_owned(),
    };
    let watch = &activity.watch;
    let renewal = &activity.renewal;
    let expires = renewal
        .last
        .and_then(|(at, ttl)| Some(ttl?.saturating_sub(now - at).as_secs_f64()));
    Etcd {
        endpoint: activity.endpoint.clone(),
        watching: watch.link == Link::Open,
        lost: match &watch.link {
            Link::Lost { since, why } => Some(trouble(*since, why)),
            Link::Opening | Link::Open => None,
        },
        silence: watch.last_message.map(since),
        revision: watch.revision,
        backlog: watch.waiting.map(since),
        breaks: watch.breaks,
        lists: watch.lists,
        renewed: renewal.last.map(|(at, _)| since(at)),
        expires,
        renewal: renewal.trouble.as_ref().map(|(at, why)| trouble(*at, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Duplicate;
    use super::*;

    fn reporter() -> (Reporter, mpsc::Receiver<StatusRequest>) {
        let (sender, systemd_state) = watch::channel(ServiceState::default());
        sender.send_modify(|systemd_state| systemd_state.status = "waiting: no config".into());
        Reporter::new(Telemetry::default(), Names::default(), systemd_state, None)
    }

    fn answer() -> Answer {
        let overlay = super::super::Overlay {
            settled: true,
            firewall: Some(Default::default()),
            ..Default::default()
        };
        Answer {
            overlay,
            timings: Timings::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_there_is_a_loop_the_status_says_what_is_waited_for() {
        let (reporter, mut requests) = reporter();
        let report = tokio::select! {
            findings = reporter.findings() => findings.report,
            never = super::super::not_yet(&mut requests) => match never {},
        };
        assert_eq!(
            (report.state, report.reasons),
            (State::NotReady, vec!["waiting: no config".into()])
        );
    }

    /// `rflannel status` waits for 2 s.
    #[tokio::test(start_paused = true)]
    async fn busy_loop_is_reported_before_rflannel_gives_up() {
        let (reporter, _asks) = reporter();
        let start = Instant::now();
        let report = reporter.report().await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(report.state, State::NotReady);
        assert_eq!(
            report.reasons,
            ["the main loop is busy or stuck: no answer for 1 s"]
        );
    }

    /// An etcd that does not answer makes no reader late: nothing here reads the names.
    #[tokio::test(start_paused = true)]
    async fn report_waits_half_a_second_for_host_names_at_most() {
        let (names, _reader) = Names::new();
        let (_, systemd_state) = watch::channel(ServiceState::default());
        let (reporter, mut requests) =
            Reporter::new(Telemetry::default(), names, systemd_state, None);
        let twice = Duplicate {
            subnets: vec!["10.5.2.0/24".into(), "10.5.3.0/24".into()],
            ..Default::default()
        };
        let mut answer = answer();
        answer.overlay.duplicates = vec![twice];
        let reply = async {
            let Some(StatusRequest::Report(request)) = requests.recv().await else {
                panic!("nothing was asked")
            };
            drop(request.send(answer));
        };
        let start = Instant::now();
        let (report, ()) = tokio::join!(reporter.report(), reply);
        assert!(report.names_hosts());
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silent_loop_is_stuck_after_a_minute_until_it_answers() {
        let (reporter, mut requests) = reporter();
        let start = Instant::now();
        while reporter.check_alive().await.is_ok() {
            assert!(start.elapsed() < STUCK * 2);
        }
        assert!(start.elapsed() > STUCK, "not because of one slow answer");
        assert_eq!(reporter.findings().await.report.state, State::NotReady);
        while requests.try_recv().is_ok() {}
        let loop_ = async {
            while let Some(request) = requests.recv().await {
                let StatusRequest::Report(request) = request else {
                    continue;
                };
                let _ = request.send(answer());
            }
        };
        tokio::select! {
            () = async {
                assert!(reporter.check_alive().await.is_ok());
                assert_eq!(reporter.findings().await.report.state, State::Fine);
            } => {}
            () = loop_ => {}
        }
    }
}
