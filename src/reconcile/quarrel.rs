//! When another program insists on changing what we put back: repair ever more rarely, and say so once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kernel::Dev;
use crate::kernel::state::Slot;

/// Repairs of one thing that raise no suspicion.
const PATIENCE: u32 = 3;
/// Longest pause between repairs of one thing.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long without a repair the past is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What can be quarrelled about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A device's attributes or existence.
    Device(Dev),
    /// An entry.
    Entry(Slot),
}

/// What has been repaired lately.
#[derive(Debug, Default)]
pub(super) struct Quarrels {
    subjects: BTreeMap<Subject, Record>,
}

#[derive(Debug)]
struct Record {
    repairs: u32,
    last: Duration,
    next: Duration,
}

impl Quarrels {
    /// When `subject` may be repaired, if not at `now`. Times count from any fixed moment.
    pub(super) fn postponed(&self, subject: Subject, now: Duration) -> Option<Duration> {
        self.subjects.get(&subject).map(|record| record.next).filter(|next| *next > now)
    }

    /// Notes a repair. `true`: somebody insists, and this is the moment to say so.
    pub(super) fn repaired(&mut self, subject: Subject, now: Duration) -> bool {
        let record = self.subjects.entry(subject).or_insert(Record { repairs: 0, last: now, next: now });
        record.repairs = record.repairs.saturating_add(1);
        record.last = now;
        if let Some(excess) = record.repairs.checked_sub(PATIENCE) {
            record.next = now + Duration::from_secs(1 << excess.min(6)).min(LONGEST);
        }
        record.repairs == PATIENCE + 1
    }

    /// Forgets what has been quiet for long.
    pub(super) fn calm_down(&mut self, now: Duration) {
        self.subjects.retain(|_, record| now.saturating_sub(record.last) < FORGET);
    }

    /// How many things somebody insists on changing.
    pub(super) fn count(&self) -> usize {
        self.subjects.values().filter(|record| record.repairs > PATIENCE).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Subject = Subject::Device(Dev::Overlay);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_few_repairs_are_made_at_once_then_ever_more_rarely() {
        let mut quarrels = Quarrels::default();
        for _ in 0..2 {
            assert!(!quarrels.repaired(DEVICE, at(0)));
            assert_eq!(quarrels.postponed(DEVICE, at(0)), None);
        }
        let mut now = at(0);
        let mut pauses = Vec::new();
        let mut told = Vec::new();
        for _ in 0..9 {
            told.push(quarrels.repaired(DEVICE, now));
            let next = quarrels.postponed(DEVICE, now).unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert_eq!(quarrels.count(), 1);
    }

    #[test]
    fn a_quiet_subject_is_forgotten() {
        let mut quarrels = Quarrels::default();
        for _ in 0..9 {
            quarrels.repaired(DEVICE, at(0));
        }
        quarrels.calm_down(at(601));
        assert_eq!((quarrels.count(), quarrels.postponed(DEVICE, at(0))), (0, None));
    }
}
