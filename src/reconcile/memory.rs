//! Keeping the state file true, and starting from it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::warn;

use super::Reconciler;
use crate::atomic_file;
use crate::kernel::Kernel;
use crate::state::{self, Owner};
use crate::subnet::{Lease, LeaseAttrs, LeaseEvent};

/// From a change to the write that covers it: a burst of changes costs one write.
const DELAY: Duration = Duration::from_secs(5);
/// Readable by root only: it says how the whole cluster is reached.
const MODE: u32 = 0o600;

/// What an earlier life of the daemon left, where etcd could not be asked at start.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The peers of then.
    pub peers: Vec<Lease>,
    /// When that was.
    pub saved: SystemTime,
}

/// When the file is written next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl Memory {
    /// What the file says is no longer true.
    pub(super) fn outdated(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + DELAY);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an earlier write still runs.
    fn is_writing(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
    }

    /// Writes beside the loop: a disk may hang.
    fn write(&mut self, path: PathBuf, bytes: Vec<u8>) {
        let write = move || {
            if let Err(error) = atomic_file::write(&path, &bytes, MODE) {
                warn!("{error}; a start without etcd would not know the latest peers");
            }
        };
        self.writing = Some(spawn_blocking(write));
    }
}

impl<K: Kernel> Reconciler<'_, K> {
    /// Writes the state file, if there is one to write and something confirmed to write into it. One write at a time: while one
    /// runs, the next waits its turn.
    pub(super) fn save(&mut self, wanted: &watch::Sender<LeaseAttrs>) {
        self.memory.due = None;
        let Some(path) = self.config.state_file.clone() else { return };
        if self.memory.is_writing() {
            return self.memory.outdated();
        }
        let owner = Owner { machine: &self.setup.machine, prefix: &self.config.etcd.prefix };
        let own = Lease { attrs: wanted.borrow().clone(), ..self.desired.own().clone() };
        match state::render(owner, SystemTime::now(), &self.setup.network, &own, self.desired.peers()) {
            Ok(bytes) => self.memory.write(path, bytes),
            Err(error) => warn!("cannot write {}: {error}", path.display()),
        }
    }

    /// The peers of an earlier life are wished for. Nothing is deleted on their account.
    pub(super) fn recall(&mut self) {
        if let Some(remembered) = &mut self.remembered {
            let puts = std::mem::take(&mut remembered.peers).into_iter().map(LeaseEvent::Put);
            let events = std::iter::once(LeaseEvent::Listing).chain(puts).collect();
            self.desired.apply(events, &*self.survey.backend);
        }
    }
}
