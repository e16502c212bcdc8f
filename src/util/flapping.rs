//! Which objects are changed again and again, and which repairs of them are worth a log line. Repairs themselves never wait.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Repairs of one object that are all logged.
const PATIENCE: u32 = 3;
/// Between two log lines about one object after that.
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// An object that needs no repair for so long is no longer flapping.
const QUIET: Duration = Duration::from_secs(600);

/// What was repaired lately: objects of which `S` is the name.
#[derive(Debug)]
pub struct Flapping<S> {
    objects: BTreeMap<S, Record>,
}

impl<S> Default for Flapping<S> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Record {
    repairs: u32,
    /// Those of what another program did.
    foreign: u32,
    last: Instant,
    logged: Instant,
}

/// What to log about a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing: there were enough lines about this object.
    Nothing,
    Repair,
    /// The repair, and that another program keeps modifying the object.
    Flapping,
}

impl<S: Ord> Flapping<S> {
    /// Notes a repair. `is_foreign`: another program changed the object itself.
    pub fn repaired(&mut self, object: S, is_foreign: bool, now: Instant) -> Line {
        self.objects.retain(|_, record| now - record.last < QUIET);
        let record = self.objects.entry(object).or_insert(Record {
            repairs: 0,
            foreign: 0,
            last: now,
            logged: now,
        });
        record.repairs = record.repairs.saturating_add(1);
        record.foreign = record.foreign.saturating_add(u32::from(is_foreign));
        record.last = now;
        let line = match is_foreign && record.foreign == PATIENCE + 1 {
            true => Line::Flapping,
            false if record.repairs > PATIENCE && now - record.logged < LOG_PERIOD => {
                return Line::Nothing;
            }
            false => Line::Repair,
        };
        record.logged = now;
        line
    }

    /// The objects that another program keeps modifying.
    pub fn objects(&self, now: Instant) -> impl Iterator<Item = &S> {
        let flaps = move |record: &Record| record.foreign > PATIENCE && now - record.last < QUIET;
        self.objects
            .iter()
            .filter(move |(_, record)| flaps(record))
            .map(|(object, _)| object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "flannel.1";

    /// Repairs once a second, from `start` on, and the lines about them by the second.
    fn lines(start: Instant, is_foreign: bool) -> (Flapping<&'static str>, Vec<(u64, Line)>) {
        let mut flapping = Flapping::default();
        let at = |second| start + Duration::from_secs(second);
        let repaired = |second| (second, flapping.repaired(DEVICE, is_foreign, at(second)));
        let lines = (0..150)
            .map(repaired)
            .filter(|(_, line)| *line != Line::Nothing)
            .collect();
        (flapping, lines)
    }

    #[test]
    fn flapping_object_is_named_once_and_logged_once_a_minute() {
        let start = Instant::now();
        let (flapping, lines) = lines(start, true);
        let repairs = [0, 1, 2].map(|second| (second, Line::Repair));
        let later = [(3, Line::Flapping), (63, Line::Repair), (123, Line::Repair)];
        assert_eq!(lines, [repairs, later].concat());
        for (second, flaps) in [(150, 1), (748, 1), (749, 0)] {
            assert_eq!(
                flapping
                    .objects(start + Duration::from_secs(second))
                    .count(),
                flaps,
                "{second}"
            );
        }
    }

    #[test]
    fn consequence_is_logged_once_a_minute_and_not_flapping() {
        let start = Instant::now();
        let (flapping, lines) = lines(start, false);
        assert_eq!(
            lines,
            [0, 1, 2, 62, 122].map(|second| (second, Line::Repair))
        );
        assert_eq!(
            flapping.objects(start + Duration::from_secs(150)).count(),
            0
        );
    }

    #[test]
    fn repairs_after_a_quiet_time_are_logged_again() {
        let start = Instant::now();
        let (mut flapping, _) = lines(start, true);
        let later = start + Duration::from_secs(749);
        assert_eq!(flapping.repaired(DEVICE, true, later), Line::Repair);
        assert_eq!(flapping.objects(later).count(), 0);
    }
}
