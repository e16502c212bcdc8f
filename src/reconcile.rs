//! The loop that makes the kernel hold what the leases say.
//!
//! The hot path, `Reconciler::leases`: a batch of lease events changes a slice of the desired state, and the difference between the
//! slice before and after is written. The cold path, `resync`, writes the difference between the whole desired state and a dump; it
//! runs at start, after each complete list, when a notification contradicts the desired state, after a failed write, and
//! every 30 s (`PERIOD`). The last kind compares the entries less often where there are so many that it would take more than a
//! thousandth of the time.

mod announce;
mod log;
mod resync;
mod state_file;
mod stats;
mod status;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::backend::FormerLink;
use crate::config::Config;
use crate::desired::DesiredState;
use crate::files::{Files, Keepers};
use crate::firewall;
use crate::host_setup::{NodeConfig, ResolvedHost};
use crate::kernel::entry::EntryKey;
use crate::kernel::host_state::LinkFact;
use crate::kernel::notification::is_expected;
use crate::kernel::plan::plan;
use crate::kernel::{Entry, Kernel, LinkRole, LinkSpec, Notification, Op, Owned};
use crate::schedule::Schedule;
use crate::status::{Names, StatusRequest};
use crate::subnet::{Lease, LeaseAttrs, LeaseEvent, LeaseStatus, Subnets, Telemetry};
use crate::util::backoff::Backoff;
use crate::util::flapping::Flapping;
use crate::util::systemd::{Notifier, Systemd};
use state_file::SaveSchedule;
pub use state_file::SavedState;
use stats::Stats;

/// How often the kernel is compared with the desired state although nothing seems to have happened.
const PERIOD: Duration = Duration::from_secs(30);
/// After a notification, so that what belongs together is seen together.
const SETTLE: Duration = Duration::from_millis(20);
/// A round that handled so many leases or entries leaves much free memory behind.
const MANY: usize = 1000;
/// First pause after a failure; it doubles up to [`PERIOD`].
const RETRY: Duration = Duration::from_millis(500);

/// Everything that can wake the loop.
enum Wake {
    Leases(Vec<LeaseEvent>),
    Kernel(Vec<Notification>),
    LeaseStatus,
    Own,
    Firewall,
    Files,
    StatusRequest(StatusRequest),
    Resync,
    Save,
    Heartbeat,
}

/// What can flap: a device, or its entries of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    dev: LinkRole,
    kind: &'static str,
}

/// What the loop talks to.
pub struct Channels {
    /// Lease events, from the watch.
    pub leases: mpsc::Receiver<Vec<LeaseEvent>>,
    /// How the own lease stands.
    pub lease_status: watch::Receiver<LeaseStatus>,
    /// The own lease: another one if the host has moved.
    pub own: watch::Receiver<Lease>,
    /// What the own lease must announce. Marked as changed when the own key deserves a look.
    pub wanted: watch::Sender<LeaseAttrs>,
    /// Where peers send from, once they are known. No one may listen.
    pub sources: watch::Sender<Option<BTreeSet<IpAddr>>>,
    /// How the firewall stands. None before its rules were looked at: until then no one here is told of the subnet.
    pub firewall: watch::Receiver<Option<firewall::State>>,
    /// Questions about how it goes.
    pub requests: mpsc::Receiver<StatusRequest>,
    /// What the watch notes.
    pub telemetry: Telemetry,
    /// Names of hosts, for the log.
    pub names: Names,
}

/// Owner of the kernel, the desired state, and the backend that turns leases into it.
pub struct Reconciler<'a, K> {
    kernel: K,
    config: &'a Config,
    node_config: NodeConfig,
    resolved: ResolvedHost,
    files: Files,
    /// The subnet and MTU that the files hold, or will when they are written.
    announced: Option<(Subnets, u32)>,
    owned: Owned,
    desired: DesiredState,
    /// What an earlier life of the daemon left, sorted: until the first complete list, what the kernel holds is known from
    /// here, so that adopting a running host writes nothing.
    inherited: Vec<Entry>,
    /// What the kernel held a moment before this began, for the first look at it.
    prefetched: Option<Vec<Entry>>,
    schedule: Schedule,
    flapping: Flapping<Object>,
    /// The devices as they were made or adopted last.
    ensured: BTreeMap<LinkRole, LinkSpec>,
    /// Links of which the kernel may have dropped entries since the last resync, or this daemon moves them.
    unsettled: BTreeSet<LinkRole>,
    /// Since when this host has its lease.
    since: Instant,
    stats: Stats,
    /// Writes that failed since the last resync began.
    failing: usize,
    /// Devices that could not be had at the last resync.
    unusable: BTreeSet<LinkRole>,
    /// What keeps this host from following its interfaces.
    trouble: Option<String>,
    /// What earlier leases and configurations have left on this host.
    leftovers: Vec<String>,
    /// Devices of this host's earlier life with another backend.
    former: Vec<FormerLink>,
    /// No network is connected to the underlay: the kernel would refuse every route to a peer.
    is_blind: bool,
    /// Since when the addresses in use have been gone.
    gone_since: Option<Instant>,
    /// The kernel has held everything of a complete list.
    settled: bool,
    /// Changes in the kernel are heard of.
    listening: bool,
    /// What changed between the last dump and the first notification is not known.
    has_gap: bool,
    /// Until etcd has answered: what this start was made from instead.
    saved_state: Option<SavedState>,
    save_schedule: SaveSchedule,
    /// Knows where etcd listens.
    telemetry: Telemetry,
    names: Names,
    lease_status: LeaseStatus,
    /// How the firewall stands.
    firewall: Option<firewall::State>,
    /// The service manager knows that this host serves.
    ready: bool,
    /// The log says that the firewall's rules are in place.
    bootstrapped: bool,
    /// Peers may send from elsewhere than the firewall was told.
    peers_changed: bool,
    /// Much memory is free since the allocator was last asked to give it back.
    has_freed_much: bool,
}

impl<'a, K: Kernel> Reconciler<'a, K> {
    /// Takes over. The backend's devices are there already. The files are kept by the futures beside it.
    pub fn new(
        kernel: K,
        config: &'a Config,
        node_config: NodeConfig,
        resolved: ResolvedHost,
        own: Lease,
    ) -> (Self, Keepers) {
        let (files, keepers) = Files::new(config);
        let now = Instant::now();
        let desired = DesiredState::new(node_config.network.clone(), own, &*resolved.backend);
        let reconciler = Self {
            kernel,
            config,
            node_config,
            owned: resolved.backend.owned(),
            files,
            announced: None,
            resolved,
            desired,
            inherited: Vec::new(),
            prefetched: None,
            schedule: Schedule::new(now, SETTLE, Backoff::new(RETRY, PERIOD)),
            flapping: Flapping::default(),
            ensured: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            since: now,
            stats: Stats::default(),
            failing: 0,
            unusable: BTreeSet::new(),
            trouble: None,
            leftovers: Vec::new(),
            former: Vec::new(),
            is_blind: false,
            gone_since: None,
            settled: false,
            listening: false,
            has_gap: false,
            saved_state: None,
            save_schedule: SaveSchedule::since(None),
            telemetry: Telemetry::default(),
            names: Names::default(),
            lease_status: LeaseStatus::Held,
            firewall: None,
            ready: false,
            bootstrapped: false,
            peers_changed: true,
            has_freed_much: false,
        };
        (reconciler, keepers)
    }

    /// Begins with what an earlier life remembers, until the leases can be read.
    #[must_use]
    pub fn from_saved_state(self, saved_state: Option<SavedState>) -> Self {
        Self {
            save_schedule: SaveSchedule::since(saved_state.as_ref()),
            saved_state,
            ..self
        }
    }

    /// Begins with what the kernel held, all owned entries, a moment ago. Of what has changed since, the kernel notifies; else it is
    /// found by the resync that follows as soon as it does.
    #[must_use]
    pub fn with_prefetched(self, prefetched: Option<Vec<Entry>>) -> Self {
        Self { prefetched, ..self }
    }

    /// Runs until the future is dropped.
    pub async fn run(
        mut self,
        mut channels: Channels,
        systemd: &mut Systemd,
        notifier: Notifier,
    ) -> Infallible {
        let heartbeat = notifier.heartbeat();
        let mut next_heartbeat = Instant::now();
        self.telemetry = channels.telemetry.clone();
        self.names = channels.names.clone();
        // Before there are peers, so that each lease is read once.
        self.desired
            .reconsider(&*self.resolved.backend, self.telemetry.members());
        self.load_state();
        self.begin(&mut channels).await;
        loop {
            self.on_firewall_state(&mut channels.firewall);
            self.publish(&mut channels);
            systemd.status(self.summary());
            self.notify_ready(systemd);
            if self.ready && std::mem::take(&mut self.has_freed_much) {
                malloc_trim::malloc_trim();
            }
            let wake = tokio::select! {
                Some(events) = channels.leases.recv() => Wake::Leases(events),
                notices = self.kernel.notices(&self.owned) => Wake::Kernel(notices),
                Ok(()) = channels.lease_status.changed() => Wake::LeaseStatus,
                Ok(()) = channels.own.changed() => Wake::Own,
                Ok(()) = channels.firewall.changed() => Wake::Firewall,
                () = self.files.changed() => Wake::Files,
                Some(request) = channels.requests.recv() => Wake::StatusRequest(request),
                () = sleep_until(self.schedule.next()) => Wake::Resync,
                () = sleep_until(self.save_schedule.due().unwrap_or(next_heartbeat)), if self.save_schedule.due().is_some() => Wake::Save,
                () = sleep_until(next_heartbeat), if heartbeat.is_some() => Wake::Heartbeat,
            };
            // Before anything else: what comes now is about the lease of now.
            self.follow_lease(&mut channels).await;
            match wake {
                Wake::Own | Wake::Firewall => {}
                Wake::Files => {
                    // The state file has all leases.
                    self.has_freed_much |= self.desired.peer_count() >= MANY;
                    self.on_files()
                }
                Wake::StatusRequest(request) => self.answer(request, &channels.wanted),
                Wake::Leases(events) => self.leases(events, &mut channels).await,
                Wake::Kernel(notices) => self.notice(&notices),
                Wake::LeaseStatus => {
                    self.on_lease_status(*channels.lease_status.borrow_and_update())
                }
                Wake::Resync => self.resync_as_due(&channels.wanted).await,
                Wake::Save => self.save(&channels),
                Wake::Heartbeat => {
                    notifier.alive();
                    next_heartbeat = Instant::now() + heartbeat.unwrap_or(PERIOD);
                }
            }
        }
    }

    /// The first look at the kernel; with a complete list, if there is one already.
    async fn begin(&mut self, channels: &mut Channels) {
        let events = channels.leases.try_recv().unwrap_or_default();
        if !events.contains(&LeaseEvent::ListEnd) {
            self.resync(&channels.wanted).await;
        }
        if !events.is_empty() {
            self.leases(events, channels).await;
        }
    }

    /// Whether the kernel has what is known of the peers.
    fn is_up(&self) -> bool {
        self.settled || self.saved_state.is_some()
    }

    /// Whether every device has its own address.
    pub(super) fn has_own_addresses(&self) -> bool {
        self.stats.kernel.is_none() && self.unusable.is_empty() && self.refused_address().is_none()
    }

    /// Why an own address is not there.
    fn refused_address(&self) -> Option<&String> {
        let mut missing = self.stats.missing.iter();
        missing
            .find(|(key, _)| matches!(key, EntryKey::Addr(..)))
            .map(|(_, why)| why)
    }

    async fn leases(&mut self, mut events: Vec<LeaseEvent>, channels: &mut Channels) {
        // What has come in the meantime is part of the same change.
        while let Ok(more) = channels.leases.try_recv() {
            events.extend(more);
        }
        let came = channels.telemetry.taken().unwrap_or_else(Instant::now);
        self.stats.counts.events += u64::try_from(events.len()).unwrap_or_default();
        self.has_freed_much |= events.len() >= MANY;
        self.stats.desired_summary = None;
        let failing = self.failing;
        let known = self.desired.is_complete();
        let change = self.desired.apply(events, &*self.resolved.backend);
        self.log_events(&change.events);
        if !change.events.is_empty() || change.listed {
            self.save_schedule.outdated();
            self.peers_changed = true;
        }
        if change.own_key {
            channels.wanted.send_modify(|_| {});
        }
        // The first list is compared with what is there. What a later one changes is no different from other changes.
        if known || !change.listed {
            let ops = if known {
                plan(&change.after, &change.before)
            } else {
                self.additions(&change)
            };
            self.write(&ops).await;
            // What failed before has its turn already.
            if self.failing > failing {
                self.schedule_next();
            }
        }
        if change.listed {
            self.saved_state = None;
            self.resync(&channels.wanted).await;
        } else if self.trouble.is_some() || !self.former.is_empty() {
            // The lease that announces the address which this host waits for may be gone, or that of the last host which needs
            // a device of an earlier life.
            self.schedule.soon(Instant::now());
        }
        self.stats.timings.delays.observe(came.elapsed());
    }

    /// Something changed in the kernel: by us, or by others and then perhaps for the worse.
    fn notice(&mut self, notices: &[Notification]) {
        let flushed: Vec<LinkRole> = notices
            .iter()
            .filter_map(|notice| self.flushed(notice))
            .collect();
        self.unsettled.extend(flushed);
        if let Some(notice) = notices.iter().find(|notice| self.contradicts(notice)) {
            debug!(entry = ?notice, "the kernel reported a change: {notice:?}");
            self.schedule.soon(Instant::now());
        }
    }

    /// The link of which the kernel drops entries, by itself, when this happens.
    fn flushed(&self, notice: &Notification) -> Option<LinkRole> {
        let (links, underlay) = (self.resolved.backend.links(), &self.resolved.underlay);
        match notice {
            Notification::Address { link, .. } => {
                (*link == underlay.index).then_some(LinkRole::Underlay)
            }
            Notification::Link { fact, gone } if fact.name == underlay.name => {
                (*gone || !fact.up).then_some(LinkRole::Underlay)
            }
            Notification::Link { fact, gone } => {
                let (dev, spec) = links.iter().find(|(_, spec)| spec.name == fact.name)?;
                (*gone || !spec.is_fulfilled_by(fact)).then_some(*dev)
            }
            Notification::Entry { .. } | Notification::Overrun => None,
        }
    }

    fn contradicts(&self, notice: &Notification) -> bool {
        let ResolvedHost {
            underlay, in_use, ..
        } = &self.resolved;
        let is_choosing = self.trouble.is_some();
        match notice {
            Notification::Entry { key, entry, gone } => {
                let follows = |net| {
                    self.node_config.follows_route(net, underlay)
                        || (is_choosing || in_use.is_substitute())
                            && self.node_config.chooses_by_route(net)
                };
                let followed = matches!(key, EntryKey::Route(net, _) if follows(*net));
                followed || !is_expected(self.desired.entry(*key).as_ref(), entry.as_ref(), *gone)
            }
            Notification::Link { fact, gone } => {
                self.flushed(notice).is_some_and(LinkRole::is_overlay)
                    || is_choosing
                    || in_use.awaits_link(fact)
                    || !underlay.is_untouched_by(fact)
                    || (*gone && self.depends_on(fact))
            }
            Notification::Address { link, ip } => {
                is_choosing
                    || in_use.awaits_address(*link, *ip)
                    || *link == underlay.index
                    || self.node_config.follows_address(*ip)
            }
            Notification::Overrun => true,
        }
    }

    /// Whether this host is another one without the link. Of the routes that go with a link the kernel tells nothing.
    fn depends_on(&self, link: &LinkFact) -> bool {
        let ResolvedHost {
            underlay, backend, ..
        } = &self.resolved;
        let is_route = backend
            .connected_subnets()
            .is_some_and(|near| near.depends_on(link.index));
        // Where a device cannot be had, this one may have been in its way.
        underlay.is_meant_by(link) || is_route || !self.unusable.is_empty()
    }

    /// The end of a round: what went wrong in it is tried again.
    fn schedule_next(&mut self) {
        if self.failing > 0 || self.trouble.is_some() {
            self.schedule.failed(Instant::now(), rand::random())
        } else {
            self.schedule.succeeded()
        }
    }
}

fn sets(mut ops: Vec<Op>) -> Vec<Op> {
    ops.retain(|op| matches!(op, Op::Set(_)));
    ops
}

#[cfg(test)]
mod tests;
