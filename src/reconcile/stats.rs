//! What the loop remembers of its own work: plain numbers, which cost next to nothing to keep.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::entry::EntryKey;
use crate::kernel::{Failure, KernelError, Op};
use crate::status::report::ByKind;
use crate::status::summary::DesiredSummary;
use crate::util::histogram::Histogram;

/// Numbers count from the start of the loop.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Desired, and missing: why.
    pub(super) missing: BTreeMap<EntryKey, String>,
    /// Why the kernel could not be read or the devices not be made, if the last resync found so.
    pub(super) kernel: Option<String>,
    /// Resyncs that found nothing to do, set all right, left something undone.
    pub(super) resyncs: [u64; 3],
    /// When the last resync ended, and how long it took.
    pub(super) last: Option<(Instant, Duration)>,
    /// The present resync has changed something.
    pub(super) changed: bool,
    pub(super) events: u64,
    pub(super) repairs: ByKind,
    pub(super) failures: ByKind,
    /// From sending a batch to its last acknowledgement.
    pub(super) batches: Histogram,
    /// From a change's arrival to the kernel's answer.
    pub(super) delays: Histogram,
    /// What follows from the desired state alone, until it changes.
    pub(super) desired_summary: Option<DesiredSummary>,
}

impl Stats {
    /// These writes were tried.
    pub(super) fn wrote(
        &mut self,
        ops: &[Op],
        result: &Result<Vec<Failure>, KernelError>,
        took: Duration,
    ) {
        self.batches.observe(took);
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
        *self.failures.of(key) += 1;
        if matches!(op, Op::Set(_)) {
            self.missing.insert(key, why.to_string());
        }
    }

    /// A resync has ended.
    pub(super) fn record_resync(&mut self, undone: bool, took: Duration, now: Instant) {
        let [clean, repaired, failed] = &mut self.resyncs;
        *match (undone, std::mem::take(&mut self.changed)) {
            (true, _) => failed,
            (false, true) => repaired,
            (false, false) => clean,
        } += 1;
        self.last = Some((now, took));
    }
}
