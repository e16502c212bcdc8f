//! The sequence of faults: follows from the seed and the options alone.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::faults::{Fault, Kind, Part, TABLE, Target};
use crate::settings::Settings;

/// Faults at the same time, at most.
const MOST: usize = 3;
/// Faults drawn for a step.
const DRAWS: usize = 8;

/// Some faults that overlap, and what is between them.
pub struct Step {
    /// In the order of their injection; they are healed in the same order.
    pub faults: Vec<Box<dyn Fault>>,
    /// Pause after each injection, and after each healing.
    pub pauses: Vec<Duration>,
    /// How long all of them last.
    pub hold: Duration,
}

/// Steps without end.
pub struct Plan {
    random: StdRng,
    kinds: Vec<&'static Kind>,
    target: Target,
}

impl Plan {
    pub fn new(settings: &Settings) -> Self {
        let named = |kind: &&Kind| {
            settings.names.is_empty()
                || settings
                    .names
                    .iter()
                    .any(|name| kind.name.contains(name.as_str()))
        };
        let kinds: Vec<_> = TABLE
            .iter()
            .filter(|kind| settings.groups.contains(&kind.group))
            .filter(named)
            .collect();
        assert!(
            !kinds.is_empty(),
            "no fault has such a name: {:?}",
            settings.names
        );
        let ours = (1..=settings.hosts)
            .filter(|host| !settings.is_other(*host))
            .collect();
        let target = Target {
            hosts: settings.hosts,
            ours,
        };
        Self {
            random: StdRng::seed_from_u64(settings.seed),
            kinds,
            target,
        }
    }

    fn fault(&mut self) -> Box<dyn Fault> {
        let total: u32 = self.kinds.iter().map(|kind| kind.weight).sum();
        let mut left = self.random.random_range(0..total);
        let kind = self
            .kinds
            .iter()
            .find(|kind| match left.checked_sub(kind.weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
        (kind.unwrap().make)(&mut self.random, &self.target)
    }

    fn pause(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..=most))
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let count = self.random.random_range(1..=MOST);
        let mut faults: Vec<Box<dyn Fault>> = Vec::new();
        let mut used: BTreeSet<Part> = BTreeSet::new();
        // Not every pair of faults can be done at the same time: what does not fit is drawn again, a few times.
        for _ in 0..DRAWS {
            let fault = self.fault();
            if faults.len() < count && fault.uses().iter().all(|part| !used.contains(part)) {
                used.extend(fault.uses());
                faults.push(fault);
            }
        }
        let pauses = (0..2 * faults.len()).map(|_| self.pause(700)).collect();
        let hold = Duration::from_millis(500) + self.pause(3_000);
        Some(Step {
            faults,
            pauses,
            hold,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GATE_SEEDS;
    use crate::faults::Group;

    fn sequence(settings: &Settings, count: usize) -> Vec<String> {
        let steps = Plan::new(settings).take(count);
        steps
            .map(|step| {
                let names: Vec<String> = step.faults.iter().map(ToString::to_string).collect();
                format!("{names:?} {:?} {:?}", step.pauses, step.hold)
            })
            .collect()
    }

    #[test]
    fn same_seed_makes_same_sequence() {
        let first = sequence(&Settings::gate(7), 50);
        assert_eq!(first, sequence(&Settings::gate(7), 50));
        assert_eq!(first[..20], sequence(&Settings::gate(7), 20));
        assert_ne!(first, sequence(&Settings::gate(8), 50));
    }

    #[test]
    fn every_fault_of_the_table_is_drawn() {
        let all: String = (1..=20)
            .flat_map(|seed| sequence(&Settings::gate(seed), 50))
            .collect();
        for kind in TABLE {
            assert!(all.contains(kind.name), "{} is never drawn", kind.name);
        }
    }

    #[test]
    fn faults_of_one_step_use_different_parts() {
        for step in Plan::new(&Settings::gate(1)).take(200) {
            let parts: Vec<Part> = step.faults.iter().flat_map(|fault| fault.uses()).collect();
            let different: BTreeSet<&Part> = parts.iter().collect();
            assert_eq!(parts.len(), different.len(), "{parts:?}");
        }
    }

    #[test]
    fn gate_seeds_inject_most_kinds_in_four_steps() {
        let steps = GATE_SEEDS
            .iter()
            .flat_map(|seed| sequence(&Settings::gate(*seed), 4));
        let all: String = steps.collect();
        let kinds = TABLE.iter().filter(|kind| all.contains(kind.name)).count();
        assert!(
            kinds + 4 >= TABLE.len(),
            "{kinds} of {}: choose other seeds",
            TABLE.len()
        );
    }

    #[test]
    fn only_chosen_groups_and_names_are_drawn() {
        let settings = Settings {
            groups: vec![Group::Kernel],
            ..Settings::gate(1)
        };
        assert!(
            Plan::new(&settings)
                .kinds
                .iter()
                .all(|kind| kind.group == Group::Kernel)
        );
        let settings = Settings {
            names: vec!["no space".into()],
            ..Settings::gate(1)
        };
        assert_eq!(Plan::new(&settings).kinds.len(), 1);
    }
}
