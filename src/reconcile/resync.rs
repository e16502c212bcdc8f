//! The cold path: the host's interfaces, the devices, and everything on them, compared with the desired state.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Channels, MANY, Object, PERIOD, Reconciler, log, sets};
use crate::backend::FormerLink;
use crate::backend::direct_routes::ConnectedSubnets;
use crate::host_setup::ResolvedHost;
use crate::iface::{Addresses, Announced, Follow, InUse};
use crate::kernel::{Ensured, Entry, HostState, Kernel, KernelError, LinkRole, LinkSpec, Op};
use crate::status::leftovers;
use crate::subnet::{LeaseAttrs, LeaseStatus, Range};
use crate::util::flapping::Line;
use crate::util::go_lines::GoLine;
use crate::util::logging::causes;

/// How long the resync that follows a start waits for READY.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long the address in use may be gone before another one that this host had already takes its place: a renewal of a DHCP
/// lease or a reload of the network's configuration takes it away for a moment.
const RETURN: Duration = Duration::from_secs(5);

impl<K: Kernel> Reconciler<'_, K> {
    /// Compares the host and all entries with the desired state.
    pub(super) async fn resync(&mut self, wanted: &watch::Sender<LeaseAttrs>) {
        self.schedule.require_comparison();
        self.resync_as_due(wanted).await;
    }

    /// Compares the host with the desired state, and the entries where that is due.
    pub(super) async fn resync_as_due(&mut self, wanted: &watch::Sender<LeaseAttrs>) {
        let begin = Instant::now();
        self.schedule.begin(begin, PERIOD);
        self.failing = 0;
        self.has_gap = false;
        self.stats.kernel = None;
        let followed = self.follow_host(wanted);
        let devices = self.ensure_devices();
        if followed.is_ok() && devices.is_ok() {
            self.announce();
        }
        self.set_trouble(followed.err());
        match devices.and_then(|()| self.difference()) {
            Ok(ops) => {
                self.repair(ops).await;
                self.listen();
                self.remove_former_links();
            }
            Err(error) => {
                warn!(err = %causes(&error), "{error}");
                self.stats.kernel = Some(error.to_string());
                self.failing += 1;
                self.prefetched = None;
            }
        }
        self.schedule_next();
        self.unsettled.clear();
        let now = Instant::now();
        self.schedule.end(begin, now);
        let undone = self.failing > 0 || self.trouble.is_some() || !self.stats.missing.is_empty();
        self.stats.record_resync(undone, now - begin, now);
    }

    /// This host may have moved to another subnet. The new one is in place before anything of the old one goes.
    pub(super) async fn follow_lease(&mut self, channels: &mut Channels) {
        let own = channels.own.borrow_and_update().clone();
        let left = self.desired.own().subnets;
        if own.subnets == left {
            return;
        }
        let subnets = own.subnets;
        GoLine::LeaseAcquired(&subnets).log();
        self.lease_status = LeaseStatus::Held;
        self.save_schedule.found(LeaseStatus::Held);
        self.desired.relocate(own, &*self.resolved.backend);
        self.save_schedule.outdated();
        (self.since, self.stats.desired_summary, self.peers_changed) = (Instant::now(), None, true);
        self.settled = false;
        self.resync(&channels.wanted).await;
        warn!(
            from = %left, subnet = %subnets,
            "this host has moved from {left} to {subnets}: containers with addresses of {left} are unreachable; restart docker (systemctl restart docker) to give its containers addresses of {subnets}"
        );
    }

    /// Another address, MTU or index of the underlay changes the device, the lease's value and the files.
    fn follow_host(&mut self, wanted: &watch::Sender<LeaseAttrs>) -> Result<(), String> {
        let host_state = self
            .kernel
            .host_state(&self.node_config.query())
            .map_err(|e| e.to_string())?;
        let published = wanted.borrow().clone();
        let in_use = self.in_use(&host_state)?;
        let resolved =
            self.node_config
                .resolve_on(in_use.underlay().clone(), &host_state, Some(&published));
        let mut resolved = ResolvedHost {
            in_use,
            ..resolved.map_err(|e| e.to_string())?
        };
        let has_tunnel = !resolved.backend.links().is_empty();
        self.is_blind = !has_tunnel
            && resolved
                .backend
                .connected_subnets()
                .is_some_and(ConnectedSubnets::is_blind);
        if self.is_blind {
            // Without a tunnel nothing is gained by giving the peers up meanwhile.
            return Err(format!(
                "interface {} has no connected route: keeping the routes to peers unchanged",
                resolved.underlay.name
            ));
        }
        let attrs = resolved.backend.attrs();
        if attrs != published {
            let public_ip = Addresses::announced_by(&attrs);
            info!(%public_ip, "the public address of this host is now {public_ip}");
            wanted.send_replace(attrs);
            self.save_schedule.outdated();
        }
        if resolved.underlay != self.resolved.underlay {
            let to = &resolved.underlay;
            info!(
                dev = %to.name, index = to.index, address = %to.addresses, mtu = to.mtu,
                "the underlay interface is now {} (index {}), address {}, MTU {}",
                to.name,
                to.index,
                to.addresses,
                to.mtu
            );
        }
        // After a flap of the link the kernel may take what it refused in between.
        if let (Some(now), Some(before)) = (
            resolved.backend.connected_subnets_mut(),
            self.resolved.backend.connected_subnets(),
        ) && !self.unsettled.contains(&LinkRole::Underlay)
        {
            now.inherit(before);
        }
        let ranges: Vec<Range> = self.node_config.network.ranges.iter().copied().collect();
        let (links, own) = (resolved.backend.links(), self.desired.own().subnets);
        self.former = resolved.backend.former_links(&host_state, &own);
        self.leftovers =
            leftovers::describe(&host_state, &ranges, &resolved.underlay, &links, &own);
        let moved =
            resolved.backend.connected_subnets() != self.resolved.backend.connected_subnets();
        self.resolved = resolved;
        if moved {
            let others = if has_tunnel {
                "other peers through the tunnel"
            } else {
                "other peers are unreachable"
            };
            info!(
                "the connected networks of the underlay changed: peers in them are reached directly, {others}"
            );
            self.unsettled
                .extend([LinkRole::Overlay, LinkRole::Overlay6, LinkRole::Underlay]);
        }
        let etcd = self.telemetry.members();
        if moved || self.desired.has_moved(&*self.resolved.backend, &etcd) {
            let events = self.desired.reconsider(&*self.resolved.backend, etcd);
            self.log_events(&events);
            self.save_schedule.outdated();
            self.schedule.require_comparison();
            (self.stats.desired_summary, self.peers_changed) = (None, true);
        }
        Ok(())
    }

    /// The interface and addresses to use. Those that are gone are waited for.
    fn in_use(&mut self, host_state: &HostState) -> Result<InUse, String> {
        let ResolvedHost {
            in_use, backend, ..
        } = &self.resolved;
        let by_others = |ip| {
            self.desired
                .announcer(ip, |attrs| backend.is_of_this_host(attrs))
        };
        let announced = Announced {
            own: Addresses::default(),
            by_others: &by_others,
        };
        let now = Instant::now();
        let waited = self.gone_since.is_some_and(|since| now >= since + RETURN);
        match self
            .node_config
            .follow(host_state, in_use, announced, waited)
            .map_err(|error| error.to_string())?
        {
            Follow::Use(in_use) => {
                self.gone_since = None;
                Ok(in_use)
            }
            Follow::Wait(gone) => {
                let since = *self.gone_since.get_or_insert(now);
                self.schedule.by(since + RETURN);
                Err(gone.to_string())
            }
        }
    }

    /// Removes devices that no host needs any longer, once everything that replaces them is in place.
    fn remove_former_links(&mut self) {
        let is_done = self.settled && self.failing == 0 && self.trouble.is_none();
        if !is_done || !self.stats.missing.is_empty() {
            return;
        }
        for FormerLink { link, backend_type } in std::mem::take(&mut self.former) {
            if self
                .desired
                .announcements()
                .any(|attrs| attrs.backend_type == backend_type)
            {
                debug!(
                    dev = %link.name, backend = %backend_type,
                    "keeping device {}: a lease has backend type {backend_type}",
                    link.name
                );
                self.former.push(FormerLink { link, backend_type });
                continue;
            }
            match self.kernel.remove_former_link(&link) {
                Ok(true) => info!(
                    dev = %link.name, backend = %backend_type,
                    "removed device {}: no host uses backend {backend_type} any longer",
                    link.name
                ),
                Ok(false) => debug!(
                    dev = %link.name,
                    "keeping device {}: another daemon manages it",
                    link.name
                ),
                Err(error) => {
                    warn!(
                        dev = %link.name, err = %causes(&error),
                        "cannot remove device {}: {error}; retrying",
                        link.name
                    );
                    self.failing += 1;
                }
            }
        }
    }

    /// Says what keeps this host from following its interfaces, when it changes.
    pub(super) fn set_trouble(&mut self, trouble: Option<String>) {
        match (&trouble, &self.trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => {
                warn!(err = now, "{now}; keeping the current setup meanwhile");
            }
            (None, Some(before)) => info!(err = before, "resolved: {before}"),
            _ => {}
        }
        self.trouble = trouble;
    }

    fn difference(&mut self) -> Result<Vec<Op>, KernelError> {
        // What the kernel tells by notifications needs no dump.
        if self.listening && !self.schedule.compares_entries() {
            return Ok(Vec::new());
        }
        let begin = Instant::now();
        let mut have = match self.prefetched.take() {
            Some(prefetched) => prefetched,
            None => self.kernel.dump(&self.owned)?,
        };
        self.has_freed_much |= have.len() >= MANY;
        let ops = self.desired.plan(&have);
        self.schedule.compared(begin, Instant::now());
        self.stats.missing.clear();
        self.stats.changed |= !ops.is_empty();
        if self.desired.is_complete() {
            self.inherited = Vec::new();
            return Ok(ops);
        }
        have.sort();
        self.inherited = have;
        Ok(sets(ops))
    }

    /// A device that cannot be had is no reason to neglect the other one.
    fn ensure_devices(&mut self) -> Result<(), KernelError> {
        self.kernel.use_underlay(self.resolved.underlay.index);
        let links = self.resolved.backend.links();
        self.unusable.clear();
        for (dev, spec) in &links {
            let Err(error) = self.ensure_device(*dev, spec) else {
                continue;
            };
            self.unusable.insert(*dev);
            if self.unusable.len() == links.len() {
                return Err(error);
            }
            warn!(dev = spec.name, err = %causes(&error), "{error}");
            self.stats.kernel = Some(error.to_string());
            self.failing += 1;
        }
        Ok(())
    }

    fn ensure_device(&mut self, dev: LinkRole, spec: &LinkSpec) -> Result<(), KernelError> {
        let ensured = self.kernel.ensure_link(dev, spec)?;
        let is_foreign = self
            .ensured
            .insert(dev, spec.clone())
            .is_some_and(|before| before == *spec);
        if ensured == Ensured::Adopted {
            return Ok(());
        }
        // What was on it before may be gone.
        self.prefetched = None;
        self.schedule.require_comparison();
        self.unsettled.insert(dev);
        self.stats.changed = true;
        if !is_foreign {
            info!(
                dev = spec.name,
                "device {} follows the underlay: {ensured}", spec.name
            );
            return Ok(());
        }
        self.stats.counts.repairs.device += 1;
        if self.repaired(
            Object {
                dev,
                kind: "device",
            },
            true,
        ) {
            warn!(
                dev = spec.name,
                "repaired device {}, which another program changed: {ensured}", spec.name
            );
        }
        Ok(())
    }

    async fn repair(&mut self, mut ops: Vec<Op>) {
        if !self.settled {
            return self.first_sync(ops).await;
        }
        let open = self.write(&ops).await;
        ops.retain(|op| !open.contains(&op.entry().key()));
        let mut objects: BTreeMap<Object, (bool, Vec<Op>)> = BTreeMap::new();
        for op in &ops {
            let (entry, object) = (op.entry(), Object::of(op.entry()));
            *self.stats.counts.repairs.of(entry.key()) += 1;
            let is_foreign = !self.unsettled.contains(&object.dev);
            objects
                .entry(object)
                .or_insert((is_foreign, Vec::new()))
                .1
                .push(*op);
            // Addresses come first in a plan. With the last one of a device the kernel drops its routes and neighbors.
            self.unsettled
                .extend(matches!(op, Op::Set(Entry::Addr { .. })).then_some(object.dev));
        }
        let logged = objects
            .into_iter()
            .filter(|(object, (is_foreign, _))| self.repaired(*object, *is_foreign));
        log::repairs(&logged.flat_map(|(_, (_, ops))| ops).collect::<Vec<_>>());
    }

    /// Notes the repair of an object. Returns whether it deserves a log line.
    fn repaired(&mut self, object: Object, is_foreign: bool) -> bool {
        let line = self.flapping.repaired(object, is_foreign, Instant::now());
        if line == Line::Flapping {
            warn!(
                dev = self.device_name(object.dev),
                "another program keeps modifying {}: flanneld repairs every change and logs one per minute; find the program (ip monitor shows when it acts) and exclude the device from its configuration",
                self.name(object)
            );
        }
        line != Line::Nothing
    }

    /// The way to the first complete state. From then on changes by others are noticed; what happened just before is what the
    /// resync after it is for.
    async fn first_sync(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            info!(
                count = ops.len(),
                "writing {} kernel entries that differ from the desired state",
                ops.len()
            );
        }
        self.write(&ops).await;
        self.settled = self.desired.is_complete() && self.unusable.is_empty();
    }

    /// Once everything is there.
    pub(super) fn listen(&mut self) {
        if self.listening || !self.is_up() {
            return;
        }
        match self.kernel.listen() {
            Ok(is_early) => {
                (self.listening, self.has_gap) = (true, !is_early);
                self.schedule_resync_after_start();
            }
            Err(error) => {
                let period = PERIOD.as_secs();
                warn!(
                    err = %causes(&error), retry_in_s = period,
                    "{error}; external changes are detected only by the {period} s resync"
                );
            }
        }
    }

    /// Schedules the resync that finds what changed before notifications arrived. It takes time, so it follows READY, unless
    /// that is long in coming.
    pub(super) fn schedule_resync_after_start(&mut self) {
        if !self.has_gap {
            return;
        }
        let now = Instant::now();
        if self.ready {
            self.schedule.soon(now)
        } else {
            self.schedule.by(now + GRACE)
        }
    }
}
