//! When another program insists on changing what we put back: repair ever more rarely, and say so once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// Repairs of one thing that raise no suspicion.
const PATIENCE: u32 = 3;
/// Longest pause between repairs of one thing.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long without a repair the past is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What has been repaired lately: things of which `S` is the name.
#[derive(Debug)]
pub struct Quarrels<S> {
    subjects: BTreeMap<S, Record>,
}

impl<S> Default for Quarrels<S> {
    fn default() -> Self {
        Self { subjects: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Record {
    repairs: u32,
    last: Duration,
    next: Duration,
}

impl<S: Ord> Quarrels<S> {
    /// When `subject` may be repaired, if not at `now`. Times count from any fixed moment.
    pub fn postponed(&self, subject: &S, now: Duration) -> Option<Duration> {
        self.subjects.get(subject).map(|record| record.next).filter(|next| *next > now)
    }

    /// Notes a repair. `true`: somebody insists, and this is the moment to say so.
    pub fn repaired(&mut self, subject: S, now: Duration) -> bool {
        let record = self.subjects.entry(subject).or_insert(Record { repairs: 0, last: now, next: now });
        record.repairs = record.repairs.saturating_add(1);
        record.last = now;
        if let Some(excess) = record.repairs.checked_sub(PATIENCE) {
            record.next = now + Duration::from_secs(1 << excess.min(6)).min(LONGEST);
        }
        record.repairs == PATIENCE + 1
    }

    /// Forgets what has been quiet for long.
    pub fn calm_down(&mut self, now: Duration) {
        self.subjects.retain(|_, record| now.saturating_sub(record.last) < FORGET);
    }

    /// The things that somebody insists on changing.
    pub fn insistent(&self) -> impl Iterator<Item = &S> {
        self.subjects.iter().filter(|(_, record)| record.repairs > PATIENCE).map(|(subject, _)| subject)
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.insistent().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "flannel.1";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_few_repairs_are_made_at_once_then_ever_more_rarely() {
        let mut quarrels = Quarrels::default();
        for _ in 0..2 {
            assert!(!quarrels.repaired(DEVICE, at(0)));
            assert_eq!(quarrels.postponed(&DEVICE, at(0)), None);
        }
        let mut now = at(0);
        let mut pauses = Vec::new();
        let mut told = Vec::new();
        for _ in 0..9 {
            told.push(quarrels.repaired(DEVICE, now));
            let next = quarrels.postponed(&DEVICE, now).unwrap();
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
        assert_eq!((quarrels.count(), quarrels.postponed(&DEVICE, at(0))), (0, None));
    }
}
