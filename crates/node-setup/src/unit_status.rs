//! Defines the state of a unit. Pure.

use std::collections::BTreeMap;

/// States by the names of the units.
pub type Units = BTreeMap<String, UnitStatus>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, …
    pub active: String,
    /// `running`, `exited`, …
    pub sub: String,
    /// `enabled`, `disabled`, …; empty if there is no unit file.
    pub file: String,
    /// Whether its file has changed since systemd read it.
    pub stale: bool,
    /// Status text of the program.
    pub status: String,
    /// Result of the last run: `success`, `exit-code`, …
    pub result: String,
}

impl UnitStatus {
    pub fn exists(&self) -> bool {
        !matches!(self.load.as_str(), "" | "not-found")
    }

    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
}
