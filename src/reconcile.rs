//! The loop that makes the kernel hold what the leases say.
//!
//! The hot path: a batch of lease events changes a slice of the wish, and the difference between the slice before and after
//! is written. The cold path, the audit, writes the difference between the whole wish and a dump; it runs at
//! start, after the first complete list, after a failed write, and every `AUDIT`.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::backend::Backend;
use crate::kernel::plan::plan;
use crate::kernel::{Ensured, Failure, Item, Kernel, KernelError, Op};
use crate::peers::{Change, Desired, News};
use crate::retry::Backoff;
use crate::subnet::{LeaseEvent, Lost};
use crate::systemd::Systemd;

/// How often the kernel is compared with the wish although nothing seems to have happened.
const AUDIT: Duration = Duration::from_secs(30);
/// Writes between two chances for other tasks to run: some ten milliseconds.
const CHUNK: usize = 4096;
/// Lines about single peers or failures that one batch may cost.
const LINES: usize = 20;

/// Everything that can wake the loop.
enum Wake {
    Leases(Vec<LeaseEvent>),
    Lost(Lost),
    Audit,
    Heartbeat,
}

/// Owner of the kernel, the wish, and the backend that turns one into the other.
pub struct Reconciler<K> {
    kernel: K,
    backend: Box<dyn Backend>,
    desired: Desired,
    /// What an earlier life of the daemon left, sorted: until the first complete list, what the kernel holds is known from
    /// here, so that adopting a running host writes nothing.
    inherited: Vec<Item>,
    next_audit: Instant,
    backoff: Backoff,
    /// Writes that failed in the last round.
    failing: usize,
    settled: bool,
    lost: Option<Lost>,
}

impl<K: Kernel> Reconciler<K> {
    /// Takes over. The backend's devices are there already.
    pub fn new(kernel: K, backend: Box<dyn Backend>, desired: Desired) -> Self {
        Self {
            kernel,
            backend,
            desired,
            inherited: Vec::new(),
            next_audit: Instant::now(),
            backoff: Backoff::new(Duration::from_secs(1), AUDIT),
            failing: 0,
            settled: false,
            lost: None,
        }
    }

    /// Runs until the future is dropped. `hold` ends when the lease is lost; `check` makes it look at its key.
    pub async fn run(
        &mut self,
        mut leases: mpsc::Receiver<Vec<LeaseEvent>>,
        hold: impl Future<Output = Lost>,
        check: &Notify,
        systemd: &mut Systemd,
    ) {
        tokio::pin!(hold);
        let heartbeat = systemd.heartbeat();
        let mut next_heartbeat = Instant::now();
        self.audit().await;
        loop {
            let wake = tokio::select! {
                Some(events) = leases.recv() => Wake::Leases(events),
                lost = &mut hold, if self.lost.is_none() => Wake::Lost(lost),
                () = sleep_until(self.next_audit) => Wake::Audit,
                () = sleep_until(next_heartbeat), if heartbeat.is_some() => Wake::Heartbeat,
            };
            match wake {
                Wake::Leases(events) => self.leases(with_what_waits(events, &mut leases), check).await,
                Wake::Lost(lost) => self.lose(lost),
                Wake::Audit => self.audit().await,
                Wake::Heartbeat => {
                    systemd.alive();
                    next_heartbeat = Instant::now() + heartbeat.unwrap_or(AUDIT);
                }
            }
            systemd.status(self.summary());
            if self.settled {
                systemd.ready();
            }
        }
    }

    /// The hot path.
    async fn leases(&mut self, events: Vec<LeaseEvent>, check: &Notify) {
        let change = self.desired.apply(events, &*self.backend);
        tell(&change.news);
        if change.own_key {
            check.notify_one();
        }
        if change.listed {
            return self.audit().await;
        }
        let ops = match self.desired.is_complete() {
            true => plan(&change.after, &change.before),
            false => self.additions(&change),
        };
        self.write(&ops).await;
    }

    /// Before the first complete list: what is new compared with an earlier life. Nothing is deleted yet.
    fn additions(&self, change: &Change) -> Vec<Op> {
        let slots = change.after.iter().map(Item::slot);
        let have: Vec<&Item> = slots
            .flat_map(|slot| {
                let rest = &self.inherited[self.inherited.partition_point(|item| item.slot() < slot)..];
                rest.iter().take_while(move |item| item.slot() == slot)
            })
            .collect();
        sets(plan(&change.after, have))
    }

    /// The cold path: devices, then everything on them.
    async fn audit(&mut self) {
        self.next_audit = Instant::now() + AUDIT;
        match self.difference() {
            Ok(ops) => self.repair(&ops).await,
            Err(error) => {
                warn!("{error}");
                self.try_again(1);
            }
        }
    }

    fn difference(&mut self) -> Result<Vec<Op>, KernelError> {
        for (dev, spec) in self.backend.links() {
            let ensured = self.kernel.ensure_link(dev, &spec)?;
            if ensured != Ensured::Adopted {
                warn!("device {}: {ensured}", spec.name);
            }
        }
        let have = self.kernel.dump(&self.backend.owned())?;
        let ops = plan(&self.desired.items(), &have);
        if self.desired.is_complete() {
            self.inherited = Vec::new();
            return Ok(ops);
        }
        self.inherited = have;
        Ok(sets(ops))
    }

    async fn repair(&mut self, ops: &[Op]) {
        if !ops.is_empty() {
            let verb = if self.settled { "repaired" } else { "brought up to date" };
            info!("{verb} {} kernel entries", ops.len());
        }
        self.failing = 0;
        self.write(ops).await;
        self.settled |= self.desired.is_complete();
    }

    async fn write(&mut self, ops: &[Op]) {
        for chunk in ops.chunks(CHUNK) {
            chunk.iter().for_each(|op| debug!("{op}"));
            match self.kernel.apply(chunk) {
                Ok(failures) if failures.is_empty() => {}
                Ok(failures) => self.failed(&failures),
                Err(error) => {
                    warn!("{error}");
                    self.try_again(1);
                }
            }
            tokio::task::yield_now().await;
        }
        if self.failing == 0 {
            self.backoff.reset();
        }
    }

    fn failed(&mut self, failures: &[Failure]) {
        failures.iter().take(LINES).for_each(|failure| warn!("{failure}"));
        if failures.len() > LINES {
            warn!("and {} more failed writes", failures.len() - LINES);
        }
        self.try_again(failures.len());
    }

    fn try_again(&mut self, failures: usize) {
        self.failing += failures;
        let soon = Instant::now() + self.backoff.delay(rand::random());
        self.next_audit = self.next_audit.min(soon);
    }

    /// The data plane stays: pods keep their addresses, and whoever reaches them now goes on doing so.
    fn lose(&mut self, lost: Lost) {
        let Lost::Taken { by } = &lost;
        error!(
            "the lease is lost: its key belongs to {by} now. This host goes on as it is; peers send this subnet's traffic to {by}. Stop one of the two hosts, or restart this daemon to lease another subnet"
        );
        self.lost = Some(lost);
    }

    /// One line for `systemctl status`.
    fn summary(&self) -> String {
        let mut text = match self.desired.is_complete() {
            true => format!("{}, {} peers", self.desired.own(), self.desired.peer_count()),
            false => format!("{}, reading the leases", self.desired.own()),
        };
        let parts = [
            (self.desired.refused_count(), "leases refused (see log)"),
            (self.failing, "kernel writes failing (see log)"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {count} {what}"));
        }
        if let Some(Lost::Taken { by }) = &self.lost {
            text.push_str(&format!(", LEASE LOST to {by}"));
        }
        text
    }
}

/// What has come in the meantime is part of the same change.
fn with_what_waits(
    mut events: Vec<LeaseEvent>,
    leases: &mut mpsc::Receiver<Vec<LeaseEvent>>,
) -> Vec<LeaseEvent> {
    while let Ok(more) = leases.try_recv() {
        events.extend(more);
    }
    events
}

fn sets(mut ops: Vec<Op>) -> Vec<Op> {
    ops.retain(|op| matches!(op, Op::Set(_)));
    ops
}

/// A line for each change while they are few; refusals always by name, they need somebody.
fn tell(news: &[News]) {
    let (troubles, routine): (Vec<_>, Vec<_>) =
        news.iter().partition(|news| matches!(news, News::Refused(..) | News::Contested { .. }));
    troubles.iter().take(LINES).for_each(|news| warn!("{news}"));
    if troubles.len() > LINES {
        warn!("and {} more leases that cannot be used", troubles.len() - LINES);
    }
    match routine.len() > LINES {
        true => info!("{} peers joined, changed or left", routine.len()),
        false => routine.iter().for_each(|news| info!("{news}")),
    }
}
