//! Keeping the state file true, and starting from it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

use super::{Channels, Reconciler};
use crate::kernel::Kernel;
use crate::state_file::{self, Owner};
use crate::subnet::{Lease, LeaseEvent, LeaseStatus};

/// From a change to the write that covers it: a burst of changes costs one write.
const DELAY: Duration = Duration::from_secs(5);
/// From one write to the next where nothing changes: the file says when the lease was last confirmed.
const REFRESH: Duration = Duration::from_secs(3600);

/// What an earlier life of the daemon left, where etcd could not be asked at start.
#[derive(Debug, Clone)]
pub struct SavedState {
    /// The peers at that moment.
    pub peers: Vec<Lease>,
    /// When etcd last confirmed the lease at that moment.
    pub saved: SystemTime,
}

/// When the file is written next.
#[derive(Debug)]
pub(super) struct SaveSchedule {
    due: Option<Instant>,
    /// When etcd last confirmed the own lease.
    confirmed: SystemTime,
    /// It has done so since the start.
    is_confirmed: bool,
}

impl SaveSchedule {
    /// For a lease that was confirmed just now, or with what an earlier life left.
    pub(super) fn since(saved_state: Option<&SavedState>) -> Self {
        let confirmed = saved_state.map_or_else(SystemTime::now, |saved_state| saved_state.saved);
        Self {
            due: None,
            confirmed,
            is_confirmed: saved_state.is_none(),
        }
    }

    /// etcd says how the own lease stands.
    pub(super) fn found(&mut self, lease_status: LeaseStatus) {
        self.is_confirmed |= lease_status == LeaseStatus::Held;
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// What the file says is no longer true.
    pub(super) fn outdated(&mut self) {
        self.by(Instant::now() + DELAY);
    }

    fn by(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The lease is lost: a file that names it must not be used at a start.
    pub(super) fn disavow(&mut self) {
        self.confirmed = SystemTime::UNIX_EPOCH;
        self.outdated_now();
    }

    /// The file is gone.
    pub(super) fn outdated_now(&mut self) {
        self.due = Some(Instant::now());
    }
}

impl<K: Kernel> Reconciler<'_, K> {
    /// Writes the state file, if there is one to write and something confirmed to write into it. One write at a time: while one
    /// runs, the next waits its turn.
    pub(super) fn save(&mut self, channels: &Channels) {
        self.save_schedule.due = None;
        let Some(path) = &self.config.state_file else {
            return;
        };
        if self.files.is_saving() {
            return self.save_schedule.outdated();
        }
        let owner = Owner {
            machine: &self.node_config.machine,
            prefix: &self.config.etcd.prefix,
        };
        let own = Lease {
            attrs: channels.wanted.borrow().clone(),
            ..self.desired.own().clone()
        };
        let renewed = channels
            .telemetry
            .activity()
            .renewal
            .last
            .filter(|_| self.lease_status == LeaseStatus::Held);
        if let Some((at, _)) = renewed.filter(|_| self.save_schedule.is_confirmed) {
            let confirmed = SystemTime::now().checked_sub(at.elapsed());
            self.save_schedule.confirmed = confirmed.unwrap_or(SystemTime::UNIX_EPOCH);
        }
        self.save_schedule.by(Instant::now() + REFRESH);
        match state_file::render(
            owner,
            self.save_schedule.confirmed,
            &self.node_config.network,
            &own,
            self.desired.peers(),
        ) {
            Ok(bytes) => self.files.save(bytes),
            Err(error) => warn!(
                path = %path.display(), err = %error,
                "cannot write {}: {error}",
                path.display()
            ),
        }
    }

    /// The peers of an earlier life are part of the desired state. Nothing is deleted on their account.
    pub(super) fn load_state(&mut self) {
        if let Some(saved_state) = &mut self.saved_state {
            let puts = std::mem::take(&mut saved_state.peers)
                .into_iter()
                .map(LeaseEvent::Put);
            let events = std::iter::once(LeaseEvent::ListStart).chain(puts).collect();
            self.desired.apply(events, &*self.resolved.backend);
        }
    }
}
