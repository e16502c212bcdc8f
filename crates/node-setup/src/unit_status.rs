//! What systemd says about a unit: pure.

use std::collections::BTreeMap;

/// By the names of the units.
pub type Units = BTreeMap<String, UnitStatus>;

/// What systemd says about a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, …
    pub active: String,
    /// `running`, `exited`, …
    pub sub: String,
    /// `enabled`, `disabled`, …; empty if there is none.
    pub file: String,
    /// Whether its file is newer than what systemd has read.
    pub stale: bool,
    /// What the program says about itself.
    pub status: String,
    /// How it ended: `success`, `exit-code`, …
    pub result: String,
}

impl UnitStatus {
    /// Whether there is such a unit.
    pub fn exists(&self) -> bool {
        !matches!(self.load.as_str(), "" | "not-found")
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
}
