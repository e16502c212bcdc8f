//! What the loop remembers of its own work: plain numbers, which cost next to nothing to keep.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::entry::EntryKey;
use crate::kernel::{Failure, KernelError, Op};
use crate::status::Timings;
use crate::status::report::{Overlay, Reconcile};

/// Numbers count from the start of the loop.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Desired, and missing: why.
    pub(super) missing: BTreeMap<EntryKey, String>,
    /// Why the kernel could not be read or the devices not be made, if the last resync found so.
    pub(super) kernel: Option<String>,
    /// When the last resync ended, and how long it took.
    pub(super) last: Option<(Instant, Duration)>,
    /// The present resync has changed something.
    pub(super) changed: bool,
    /// The counts of the report; the rest of it is filled in for each report.
    pub(super) counts: Reconcile,
    pub(super) timings: Timings,
    /// What follows from the desired state alone, until it changes.
    pub(super) desired_summary: Option<Overlay>,
}

impl Stats {
    /// These writes were tried.
    pub(super) fn wrote(
        &mut self,
        ops: &[Op],
        result: &Result<Vec<Failure>, KernelError>,
        took: Duration,
    ) {
        self.timings.batches.observe(took);
        if !self.missing.is_empty() {
            ops.iter()
                .for_each(|op| drop(self.missing.remove(&op.entry().key())));
        }
        match result {
            Ok(failures) => failures
                .iter()
                .for_each(|failure| self.failed(&failure.op, failure)),
            Err(error) => ops.iter().for_each(|op| self.failed(op, error)),
        }
    }

    fn failed(&mut self, op: &Op, why: &dyn std::fmt::Display) {
        let key = op.entry().key();
        *self.counts.failures.of(key) += 1;
        if matches!(op, Op::Set(_)) {
            self.missing.insert(key, why.to_string());
        }
    }

    /// A resync has ended.
    pub(super) fn record_resync(&mut self, undone: bool, took: Duration, now: Instant) {
        *match (undone, std::mem::take(&mut self.changed)) {
            (true, _) => &mut self.counts.failed,
            (false, true) => &mut self.counts.repaired,
            (false, false) => &mut self.counts.clean,
        } += 1;
        self.last = Some((now, took));
    }
}
