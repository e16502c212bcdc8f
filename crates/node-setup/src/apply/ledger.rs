//! Records the managed paths of a node, their earlier states, and how to undo each apply. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file_state::{Change, Digest, FileState};

/// Number of applies that can be rolled back.
const HISTORY: usize = 10;
/// Version of the format.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owned {
    /// State that node-setup wrote.
    pub ours: FileState,
    /// State before node-setup managed the path.
    pub original: FileState,
}

pub type Holdings = BTreeMap<PathBuf, Owned>;

/// One apply, as far as needed to undo it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The managed paths before.
    pub owned: Holdings,
    /// Its changes, in order.
    pub changes: Vec<Change>,
    /// Units that it enabled.
    #[serde(default)]
    pub enabled: Vec<String>,
}

/// Everything that is recorded about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    /// Increases with each transaction; shows whether the transaction in the journal was completed.
    pub generation: u64,
    pub owned: Holdings,
    /// Units that were not enabled before.
    #[serde(default)]
    pub enabled: BTreeSet<String>,
    /// The applies, the newest last.
    pub history: Vec<Past>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            owned: Holdings::new(),
            enabled: BTreeSet::new(),
            history: Vec::new(),
        }
    }
}

/// A transaction in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// Generation of the ledger that completes it.
    pub generation: u64,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

impl Ledger {
    /// Parses a ledger.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let ledger: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match ledger.version {
            VERSION => Ok(ledger),
            other => Err(format!(
                "has version {other}; this program knows version {VERSION}"
            )),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.owned.is_empty() && self.history.is_empty() && self.enabled.is_empty()
    }

    /// Returns the ledger after an apply with `changes`, after which `owned` are managed.
    #[must_use]
    pub fn applied(&self, owned: Holdings, changes: &[Change]) -> Self {
        let mut next = Self {
            generation: self.generation + 1,
            ..self.clone()
        };
        let past = Past {
            owned: self.owned.clone(),
            changes: changes.to_vec(),
            enabled: Vec::new(),
        };
        next.history.push(past);
        let excess = next.history.len().saturating_sub(HISTORY);
        next.history.drain(..excess);
        next.owned = owned;
        next
    }

    /// Returns the ledger after the last apply was undone.
    #[must_use]
    pub fn rolled_back(&self) -> Self {
        let mut next = Self {
            generation: self.generation + 1,
            ..self.clone()
        };
        if let Some(past) = next.history.pop() {
            next.enabled.retain(|unit| !past.enabled.contains(unit));
            next.owned = past.owned;
        }
        next
    }

    /// Returns the ledger after everything except `kept` was restored.
    #[must_use]
    pub fn uninstalled(&self, kept: Holdings) -> Self {
        Self {
            generation: self.generation + 1,
            owned: kept,
            ..Self::default()
        }
    }

    /// Returns the ledger after the last apply enabled these units.
    #[must_use]
    pub fn with_enabled(&self, units: &[String]) -> Self {
        let mut next = self.clone();
        next.enabled.extend(units.iter().cloned());
        if let Some(past) = next.history.last_mut() {
            past.enabled.extend(units.iter().cloned());
        }
        next
    }

    /// Returns the contents that are needed to undo applies.
    pub fn needed(&self) -> BTreeSet<Digest> {
        let held = |holdings: &Holdings| -> Vec<Digest> {
            holdings
                .values()
                .filter_map(|owned| owned.original.digest().cloned())
                .collect()
        };
        let changes = self.history.iter().flat_map(|past| &past.changes);
        let befores = changes.filter_map(|change| change.before.digest().cloned());
        let past = self.history.iter().flat_map(|past| held(&past.owned));
        befores.chain(past).chain(held(&self.owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, before: FileState) -> Change {
        Change {
            path: path.into(),
            before,
            after: FileState::Directory(0o755),
        }
    }

    fn holdings(path: &str) -> Holdings {
        let owned = Owned {
            ours: FileState::Directory(0o755),
            original: FileState::Absent,
        };
        Holdings::from([(path.into(), owned)])
    }

    #[test]
    fn going_back_is_the_reverse_of_going_on() {
        let first = Ledger::default().applied(holdings("/a"), &[change("/a", FileState::Absent)]);
        let second = first
            .applied(holdings("/b"), &[])
            .with_enabled(&["x.service".into()]);
        assert!(second.enabled.contains("x.service"));
        let back = second.rolled_back();
        assert_eq!(
            (&back.owned, &back.history, &back.enabled),
            (&first.owned, &first.history, &first.enabled)
        );
        assert_eq!(back.generation, 3, "it never goes back itself");
        assert!(second.uninstalled(Holdings::new()).is_empty());
    }

    #[test]
    fn the_history_is_bounded() {
        let many = (0..50).fold(Ledger::default(), |ledger, _| {
            ledger.applied(Holdings::new(), &[])
        });
        assert_eq!((many.history.len(), many.generation), (HISTORY, 50));
    }

    #[test]
    fn a_later_version_is_not_guessed_at() {
        let text = serde_json::to_string(&Ledger::default()).unwrap();
        assert_eq!(Ledger::parse(text.as_bytes()), Ok(Ledger::default()));
        let error =
            Ledger::parse(text.replace("\"version\":1", "\"version\":2").as_bytes()).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
        assert!(Ledger::parse(b"{").is_err());
    }
}
