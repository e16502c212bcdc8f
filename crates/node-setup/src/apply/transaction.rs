//! All of several changes, or none: also when the process is killed or the power fails in the middle.
//!
//! What stood at each path is kept and the journal written before anything changes; new contents are complete and on disk
//! before the first one gets its name. The new ledger is the point of no return: before it everything is taken back, at
//! once or by the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file_state::{Change, Digest, FileState, Stamp, staged};
use super::filesystem::{Found, Fs, FsError};
use super::ledger::{Journal, Ledger};
use super::store::{Store, StoreError};

/// Changes with the contents they need.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// In order: directories before what is in them.
    pub changes: Vec<Change>,
    /// Each content that is before or after one of them.
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

impl Draft {
    /// Adds a change.
    pub fn change(&mut self, path: PathBuf, before: FileState, after: FileState) {
        self.changes.push(Change {
            path,
            before,
            after,
        });
    }

    /// Adds a content.
    pub fn content(&mut self, bytes: Vec<u8>) {
        self.contents.insert(Digest::of(&bytes), bytes);
    }
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Aborted {
    /// Everything is as it was.
    #[error("{0}; nothing has been changed")]
    Clean(#[source] StoreError),
    /// Another program changed a file in this moment.
    #[error("{} was changed by somebody else in this moment; nothing has been changed: look at it and run this again", .0.display())]
    Race(PathBuf),
    /// It could not be taken back.
    #[error(
        "{cause}; and what had been changed could not be taken back: {undo}; the next run tries again"
    )]
    Stuck {
        /// What went wrong first.
        cause: Box<Aborted>,
        /// What stands in the way.
        #[source]
        undo: StoreError,
    },
}

impl<E: Into<StoreError>> From<E> for Aborted {
    fn from(error: E) -> Self {
        Self::Clean(error.into())
    }
}

/// Carries out a draft and writes `next`.
///
/// # Errors
/// What failed. Everything is as before, or says that it is not.
pub fn commit<T: Fs>(tree: &T, draft: &Draft, next: &Ledger, now: &Ledger) -> Result<(), Aborted> {
    let store = Store::new(tree);
    let journal = Journal {
        generation: next.generation,
        changes: draft.changes.clone(),
    };
    let prepared = keep_befores(&store, draft).and_then(|()| Ok(store.begin(&journal)?));
    let done = prepared
        .map_err(Aborted::from)
        .and_then(|()| carry_out(tree, draft, next));
    match done {
        Ok(()) => {
            // Both are done again by the next run.
            let _ = store.end().and_then(|()| store.sweep(next));
            Ok(())
        }
        Err(cause) => Err(match undo(tree, &draft.changes, now) {
            Ok(_) => cause,
            Err(undo) => Aborted::Stuck {
                cause: Box::new(cause),
                undo,
            },
        }),
    }
}

/// Finishes what an interrupted run left: says which paths stay as they are because another program has changed them since.
/// `None` if there was nothing to finish.
///
/// # Errors
/// What stands in the way.
pub fn recover<T: Fs>(tree: &T) -> Result<Option<Vec<PathBuf>>, StoreError> {
    let store = Store::new(tree);
    let (journal, ledger) = (store.journal()?, store.ledger()?);
    if let Some(journal) = journal.filter(|journal| journal.generation > ledger.generation) {
        return undo(tree, &journal.changes, &ledger).map(Some);
    }
    store.end()?;
    store.sweep(&ledger)?;
    Ok(None)
}

fn keep_befores<T: Fs>(store: &Store<'_, T>, draft: &Draft) -> Result<(), StoreError> {
    for digest in draft
        .changes
        .iter()
        .filter_map(|change| change.before.digest())
    {
        let bytes = draft
            .contents
            .get(digest)
            .map(Vec::as_slice)
            .unwrap_or_default();
        store.keep(digest, bytes)?;
    }
    Ok(())
}

fn carry_out<T: Fs>(tree: &T, draft: &Draft, next: &Ledger) -> Result<(), Aborted> {
    for change in &draft.changes {
        match &change.after {
            FileState::Directory(mode) => make_directory(tree, change, *mode)?,
            FileState::File(stamp) => {
                let bytes = draft
                    .contents
                    .get(&stamp.digest)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                tree.write(&staged(&change.path), bytes, stamp)?;
            }
            FileState::Absent => {}
        }
    }
    let store = Store::new(tree);
    store.stage_ledger(next)?;
    for change in &draft.changes {
        if !is_still(tree, &change.path, &change.before)?
            && !matches!(change.after, FileState::Directory(_))
        {
            return Err(Aborted::Race(change.path.clone()));
        }
        put(tree, &change.path, &change.before, &change.after)?;
    }
    Ok(store.turn_ledger()?)
}

fn make_directory<T: Fs>(tree: &T, change: &Change, mode: u32) -> Result<(), FsError> {
    match change.before {
        FileState::Absent => tree.create_directory(&change.path, mode),
        FileState::Directory(_) | FileState::File(_) => Ok(()),
    }
}

/// The step that others see: a file gets its name, or something goes.
fn put<T: Fs>(tree: &T, path: &Path, before: &FileState, after: &FileState) -> Result<(), FsError> {
    match (after, before) {
        (FileState::File(_), _) => tree.rename(&staged(path), path),
        (FileState::Absent, FileState::File(_)) => tree.remove(path),
        (FileState::Absent, FileState::Directory(_)) => tree.remove_directory(path),
        (FileState::Absent, FileState::Absent) | (FileState::Directory(_), _) => Ok(()),
    }
}

fn is_still<T: Fs>(tree: &T, path: &Path, shape: &FileState) -> Result<bool, FsError> {
    Ok(matches!(tree.look(path)?, Found::Shape(found, _) if found == *shape))
}

/// Takes changes back, whichever of them have happened; ends the transaction. Returns what is neither as before nor as
/// after: it is another program's by now.
fn undo<T: Fs>(tree: &T, changes: &[Change], now: &Ledger) -> Result<Vec<PathBuf>, StoreError> {
    let store = Store::new(tree);
    let mut foreign = Vec::new();
    for change in changes.iter().rev() {
        tree.remove(&staged(&change.path))?;
        if is_still(tree, &change.path, &change.before)? {
            continue;
        }
        if !is_still(tree, &change.path, &change.after)? {
            foreign.push(change.path.clone());
            continue;
        }
        if let FileState::File(stamp) = &change.before {
            stage_kept(tree, &change.path, stamp)?;
        }
        if let FileState::Directory(mode) = change.before {
            tree.create_directory(&change.path, mode)?;
        }
        put(tree, &change.path, &change.after, &change.before)?;
    }
    store.end()?;
    store.sweep(now)?;
    Ok(foreign)
}

fn stage_kept<T: Fs>(tree: &T, path: &Path, stamp: &Stamp) -> Result<(), StoreError> {
    let bytes = Store::new(tree).content(&stamp.digest)?;
    Ok(tree.write(&staged(path), &bytes, stamp)?)
}
