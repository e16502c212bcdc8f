//! What a run is told: seed, time, hosts, groups of faults.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::Group;

/// Some faults need two hosts of this project beside others; subnets and addresses are numbered by host.
const HOSTS: RangeInclusive<usize> = 3..=30;

/// Options of one run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Decides the sequence of faults.
    pub seed: u64,
    /// How long steps are begun.
    pub time: Duration,
    /// Number of hosts.
    pub hosts: usize,
    /// Another `flanneld`, which every third host runs.
    pub other: Option<PathBuf>,
    /// Only faults of these groups.
    pub groups: Vec<Group>,
    /// Only faults whose names contain one of these; all if empty.
    pub names: Vec<String>,
    /// The run goes on after a violation.
    pub keeps_going: bool,
}

impl Settings {
    /// A seed of the gate: all groups, three seeds together about a minute.
    pub fn gate(seed: u64) -> Self {
        Self {
            seed,
            time: Duration::from_secs(20),
            hosts: 5,
            other: None,
            groups: Group::ALL.to_vec(),
            names: Vec::new(),
            keeps_going: false,
        }
    }

    /// The variables that `scripts/chaos` sets; `seed` if it sets none.
    pub fn from_environment(seed: u64) -> Self {
        let gate = Self::gate(number("SEED").unwrap_or(seed));
        let chosen = Self {
            time: number("MINUTES").map_or(gate.time, |minutes| Duration::from_secs(60 * minutes)),
            hosts: number("HOSTS").map_or(gate.hosts, |hosts| usize::try_from(hosts).unwrap()),
            other: variable("GO").map(PathBuf::from),
            groups: variable("GROUPS").map_or(gate.groups.clone(), |list| {
                words(&list).map(Group::named).collect()
            }),
            keeps_going: variable("KEEP_GOING").is_some(),
            names: variable("FAULTS")
                .iter()
                .flat_map(|list| words(list))
                .map(str::to_owned)
                .collect(),
            ..gate
        };
        assert!(
            HOSTS.contains(&chosen.hosts),
            "{} hosts: a run has {HOSTS:?}",
            chosen.hosts
        );
        chosen
    }

    /// Whether host `index`, counted from 1, runs the other `flanneld`.
    pub fn is_other(&self, index: usize) -> bool {
        self.other.is_some() && index.is_multiple_of(3)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("RFLANNEL_CHAOS_{name}"))
        .ok()
        .filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let value = variable(name)?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("RFLANNEL_CHAOS_{name}={value}: not a number")),
    )
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}
