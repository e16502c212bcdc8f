//! Writes a plan and undoes it: completely or not at all, without losing changes of other programs.
//!
//! [`mod@diff`] compares a plan with the existing files and decides path by path. [`transaction`] carries that out. [`mod@ledger`] is the
//! record of it, in a [`store`] below the root. Only [`filesystem`] touches files.

pub mod diff;
pub mod file_state;
pub mod filesystem;
pub mod header;
pub mod ledger;
pub mod lock;
pub mod store;
pub mod text_diff;
pub mod transaction;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::diff::Drift;
use self::diff::{Diff, Fate};
use self::filesystem::{Found, Fs, FsError, Root};
use self::ledger::{Holdings, Ledger, Owned};
use self::lock::{Lock, LockError};
use self::store::{Store, StoreError};
use self::transaction::{Aborted, Draft};
use super::Plan;

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another run is in progress, or the store cannot be created.
    #[error(transparent)]
    Guard(#[from] LockError),
    /// Files that are not managed, or were edited.
    #[error("nothing was changed:{}", lines(.0))]
    Obstacles(Vec<(PathBuf, String)>),
    /// There is no apply to undo.
    #[error("there is nothing to roll back: node-setup has not changed this host")]
    NoHistory,
    #[error(transparent)]
    Aborted(#[from] Aborted),
    /// The existing files or the record cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FsError> for ApplyError {
    fn from(error: FsError) -> Self {
        Self::Store(error.into())
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Every path and its fate.
    pub fates: Vec<(PathBuf, Fate)>,
    /// Formerly managed paths that were left alone because they were edited.
    pub kept: Vec<PathBuf>,
}

impl Report {
    pub fn changed(&self) -> impl Iterator<Item = &Path> {
        self.fates
            .iter()
            .filter(|(_, fate)| *fate != Fate::Unchanged)
            .map(|(path, _)| path.as_path())
    }
}

/// A root that only this run changes.
#[derive(Debug)]
pub struct Session<'a, T = Root> {
    root: &'a T,
    /// Paths that an interrupted run changed and another program has changed since.
    recovered: Option<Vec<PathBuf>>,
    _guard: Option<Lock<'a>>,
}

impl<'a> Session<'a> {
    /// Takes the lock and undoes the changes of an interrupted run.
    pub fn open(root: &'a Root) -> Result<Self, ApplyError> {
        let guard = Lock::take(root)?;
        let recovered = transaction::recover(root)?;
        Ok(Self {
            root,
            recovered,
            _guard: Some(guard),
        })
    }
}

impl<T: Fs> Session<'_, T> {
    /// Returns whether an interrupted run was undone, and the paths that another program has changed since.
    pub fn recovered(&self) -> Option<&[PathBuf]> {
        self.recovered.as_deref()
    }

    /// Applies `plan`.
    pub fn apply(&self, plan: &Plan, force: bool) -> Result<Report, ApplyError> {
        let now = self.ledger()?;
        let diff = compare(self.root, plan, &now)?;
        refuse(&diff, force)?;
        let (draft, owned) = (self.completed(diff.draft())?, diff.holdings());
        if !draft.changes.is_empty() || owned != now.owned {
            let next = now.applied(owned, &draft.changes);
            transaction::commit(self.root, &draft, &next, &now)?;
        }
        Ok(report(&diff))
    }

    /// Restores the state before the last apply.
    pub fn rollback(&self, force: bool) -> Result<Report, ApplyError> {
        let now = self.ledger()?;
        let past = now.history.last().ok_or(ApplyError::NoHistory)?;
        let found = look(
            self.root,
            past.changes.iter().map(|change| change.path.clone()),
        )?;
        let diff = Diff::of_rollback(past, &found);
        refuse(&diff, force)?;
        let draft = self.completed(diff.draft())?;
        transaction::commit(self.root, &draft, &now.rolled_back(), &now)?;
        Ok(report(&diff))
    }

    /// Restores the state before the first apply. Edited files remain, unless forced.
    pub fn uninstall(&self, force: bool) -> Result<Report, ApplyError> {
        let now = self.ledger()?;
        let found = look(self.root, now.owned.keys().cloned())?;
        let mut diff = Diff::of_uninstall(&now.owned, &found);
        let kept: Vec<PathBuf> = diff
            .obstacles(force)
            .into_iter()
            .map(|(path, _)| path.into())
            .collect();
        // A directory remains managed while something in it does.
        let stays = |path: &Path| kept.iter().any(|kept| kept.starts_with(path));
        diff.paths.retain(|path_diff| !stays(&path_diff.path));
        let draft = self.completed(diff.draft())?;
        let held: Holdings = now
            .owned
            .clone()
            .into_iter()
            .filter(|(path, _)| stays(path))
            .collect();
        transaction::commit(self.root, &draft, &now.uninstalled(held), &now)?;
        Ok(Report {
            kept,
            ..report(&diff)
        })
    }

    /// Records that the last apply enabled these units.
    pub fn enabled(&self, units: &[String]) -> Result<(), ApplyError> {
        let ledger = self.ledger()?.with_enabled(units);
        let store = Store::new(self.root);
        store.stage_ledger(&ledger)?;
        Ok(store.turn_ledger()?)
    }

    fn ledger(&self) -> Result<Ledger, StoreError> {
        Store::new(self.root).ledger()
    }

    /// Adds the contents that only the store has.
    fn completed(&self, mut draft: Draft) -> Result<Draft, StoreError> {
        let wanted = draft
            .changes
            .iter()
            .filter_map(|change| change.after.digest().cloned());
        for digest in wanted.collect::<Vec<_>>() {
            if !draft.contents.contains_key(&digest) {
                draft.content(Store::new(self.root).content(&digest)?);
            }
        }
        Ok(draft)
    }
}

/// Compares `plan` with the files below `root`. Changes nothing.
pub fn diff_against(root: &Root, plan: &Plan) -> Result<Diff, ApplyError> {
    compare(root, plan, &Store::new(root).ledger()?)
}

/// Returns whether a run is in progress or was interrupted, so that the files are between two states.
pub fn is_unfinished(root: &Root) -> Result<bool, ApplyError> {
    Ok(Store::new(root).journal()?.is_some())
}

/// Returns the state of every managed path. Changes nothing.
pub fn drift(root: &Root, ledger: &Ledger) -> Result<Vec<(PathBuf, Drift)>, ApplyError> {
    let drift = |(path, owned): (&PathBuf, &Owned)| {
        root.look(path)
            .map(|found| (path.clone(), Drift::of(owned, &found)))
    };
    Ok(ledger
        .owned
        .iter()
        .map(drift)
        .collect::<Result<_, FsError>>()?)
}

/// Returns the record of the managed paths below `root`. Changes nothing.
pub fn ledger(root: &Root) -> Result<Ledger, ApplyError> {
    Ok(Store::new(root).ledger()?)
}

fn compare(root: &impl Fs, plan: &Plan, now: &Ledger) -> Result<Diff, ApplyError> {
    let found = look(root, diff::paths(plan, &now.owned).into_iter())?;
    Ok(Diff::new(plan, &now.owned, &found))
}

fn look(
    root: &impl Fs,
    paths: impl Iterator<Item = PathBuf>,
) -> Result<BTreeMap<PathBuf, Found>, FsError> {
    paths
        .map(|path| root.look(&path).map(|found| (path, found)))
        .collect()
}

fn refuse(diff: &Diff, force: bool) -> Result<(), ApplyError> {
    let obstacles = diff.obstacles(force);
    if obstacles.is_empty() {
        return Ok(());
    }
    let told = obstacles
        .into_iter()
        .map(|(path, obstacle)| (path.into(), obstacle.text()));
    Err(ApplyError::Obstacles(told.collect()))
}

fn report(diff: &Diff) -> Report {
    let fates = diff
        .paths
        .iter()
        .map(|path_diff| (path_diff.path.clone(), path_diff.fate));
    Report {
        fates: fates.collect(),
        ..Report::default()
    }
}

fn lines(obstacles: &[(PathBuf, String)]) -> String {
    obstacles
        .iter()
        .map(|(path, why)| format!("\n  {}: {why}", path.display()))
        .collect()
}

#[cfg(test)]
mod tests;
