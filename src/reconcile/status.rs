//! The loop's part of the daemon's report: made when someone asks, from what the loop knows anyway.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Object, Reconciler, log};
use crate::iface::Addresses;
use crate::kernel::{Entry, Kernel, LinkRole};
use crate::status::report::{NAMED, Overlay, Reconcile};
use crate::status::summary;
use crate::status::{Answer, StatusRequest, Target};
use crate::subnet::{LeaseAttrs, LeaseStatus};
use crate::util::family::Family;

impl<K: Kernel> Reconciler<'_, K> {
    /// Anyone who has given up waiting costs nothing.
    pub(super) fn answer(&mut self, request: StatusRequest, wanted: &watch::Sender<LeaseAttrs>) {
        match request {
            StatusRequest::Report(request) if !request.is_closed() => {
                let _ = request.send(Answer {
                    overlay: self.overlay(&wanted.borrow()),
                    timings: self.stats.timings.clone(),
                });
            }
            StatusRequest::Peers(request) => {
                let _ = request.send(self.targets());
            }
            StatusRequest::Report(_) => {}
        }
    }

    /// Where the peers answer.
    fn targets(&self) -> BTreeSet<Target> {
        let backend = &self.resolved.backend;
        if !backend.carries_packets() {
            return BTreeSet::new();
        }
        let has_tunnel = !backend.links().is_empty();
        let own = self.desired.own().subnets;
        let subnets = self
            .desired
            .peers()
            .flat_map(|(subnets, ..)| subnets.iter());
        let target = |subnet: IpNetwork| {
            let from = backend.inside(own.of(Family::of(subnet.ip()))?);
            Some(Target {
                subnet,
                to: backend.inside(subnet),
                from: has_tunnel.then_some(from),
            })
        };
        subnets.filter_map(target).collect()
    }

    fn overlay(&mut self, published: &LeaseAttrs) -> Overlay {
        let now = Instant::now();
        let found = self.summarize_desired();
        Overlay {
            held: Some((now - self.since).as_secs_f64()),
            lease_status: lease_status_name(self.lease_status).into(),
            lost: log::lease_trouble(self.lease_status),
            public_ips: summary::texts(Addresses::announced_by(published)),
            listed: self.desired.is_complete(),
            settled: self.settled,
            stale: self
                .saved_state
                .as_ref()
                .map(|r| r.saved.elapsed().unwrap_or_default().as_secs_f64()),
            trouble: self.trouble.clone().or_else(|| self.files.trouble()),
            files: self.files.remarks(),
            kernel: self
                .stats
                .kernel
                .as_ref()
                .or(self.refused_address())
                .cloned(),
            leftovers: self.leftovers.clone(),
            reconcile: self.work(now),
            firewall: self.firewall.clone(),
            ..summary::overlay(
                found,
                &self.desired,
                &self.node_config.network,
                &self.resolved,
                &self.stats.missing,
            )
        }
    }

    /// Worked out again when it has changed since someone asked.
    fn summarize_desired(&mut self) -> Overlay {
        let desired = &self.desired;
        self.stats
            .desired_summary
            .get_or_insert_with(|| summary::desired(desired))
            .clone()
    }

    fn work(&self, now: Instant) -> Reconcile {
        Reconcile {
            last: self.stats.last.map(|(at, _)| (now - at).as_secs_f64()),
            took: self.stats.last.map_or(0.0, |(_, took)| took.as_secs_f64()),
            flapping: self
                .flapping
                .objects(now)
                .take(NAMED)
                .map(|object| self.name(*object))
                .collect(),
            ..self.stats.counts.clone()
        }
    }

    pub(super) fn name(&self, Object { dev, kind }: Object) -> String {
        match dev {
            LinkRole::Blackhole => format!("blackhole {kind}"),
            LinkRole::Underlay | LinkRole::Overlay | LinkRole::Overlay6 => {
                format!("{kind} {}", self.device_name(dev).unwrap_or_default())
            }
        }
    }

    /// Returns the name of a device in use.
    pub(super) fn device_name(&self, dev: LinkRole) -> Option<String> {
        match dev {
            LinkRole::Blackhole => None,
            LinkRole::Underlay => Some(self.resolved.underlay.name.clone()),
            LinkRole::Overlay | LinkRole::Overlay6 => {
                let mut links = self.resolved.backend.links().into_iter();
                let link = links.find(|(one, _)| *one == dev);
                link.map(|(_, spec)| spec.name)
            }
        }
    }
}

impl Object {
    pub(super) fn of(entry: &Entry) -> Self {
        let kind = match entry {
            Entry::Addr { .. } => "addresses on",
            Entry::Neigh { .. } => "neighbors on",
            Entry::Fdb { .. } => "FDB entries on",
            Entry::Route {
                dev: LinkRole::Blackhole,
                ..
            } => "routes",
            Entry::Route { .. } => "routes on",
        };
        Self {
            dev: entry.dev(),
            kind,
        }
    }
}

fn lease_status_name(lease_status: LeaseStatus) -> &'static str {
    match lease_status {
        LeaseStatus::Held => "held",
        LeaseStatus::TakenOver { .. } => "taken_over",
        LeaseStatus::DuplicateHost { .. } => "duplicate_host",
        LeaseStatus::ConfigChanged => "config_changed",
        LeaseStatus::Moved { .. } => "moved",
    }
}
