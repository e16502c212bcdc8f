//! Makes several changes completely or not at all, even if the process is killed or the power fails.
//!
//! The earlier contents are stored and the journal is written before anything changes. New contents are complete and on disk
//! before the first one is renamed. The new ledger is the point of no return: before it, everything is undone, at
//! once or by the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file_state::{Change, Digest, FileState, Stamp, staged};
use super::filesystem::{Found, Fs, FsError};
use super::ledger::{Journal, Ledger};
use super::store::{Store, StoreError};

/// Changes and the contents that they need.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// In order: directories before their content.
    pub changes: Vec<Change>,
    /// The contents before and after the changes.
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

impl Draft {
    pub fn change(&mut self, path: PathBuf, before: FileState, after: FileState) {
        self.changes.push(Change {
            path,
            before,
            after,
        });
    }

    pub fn content(&mut self, bytes: Vec<u8>) {
        self.contents.insert(Digest::of(&bytes), bytes);
    }

    fn bytes(&self, digest: &Digest) -> &[u8] {
        self.contents.get(digest).map_or(&[], Vec::as_slice)
    }
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Aborted {
    /// Everything is as it was.
    #[error("{0}; nothing was changed")]
    Clean(#[source] StoreError),
    /// Another program changed a file at the same time.
    #[error("another program changed {} at the same time; nothing was changed: check the file and run this again", .0.display())]
    Race(PathBuf),
    /// The changes could not be undone.
    #[error("{cause}; the changes could not be undone: {undo}; the next run tries again")]
    Stuck {
        cause: Box<Aborted>,
        /// Why they could not be undone.
        #[source]
        undo: StoreError,
    },
}

impl<E: Into<StoreError>> From<E> for Aborted {
    fn from(error: E) -> Self {
        Self::Clean(error.into())
    }
}

/// Carries out a draft and writes the ledger `next`. On an error, everything is as before, unless the error says otherwise.
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
            // The next run repeats both.
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

/// Undoes an interrupted run. Returns the paths that remain because another program has changed them since,
/// or `None` if there was nothing to undo.
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
    let befores = draft
        .changes
        .iter()
        .filter_map(|change| change.before.digest());
    for digest in befores {
        store.keep(digest, draft.bytes(digest))?;
    }
    Ok(())
}

fn carry_out<T: Fs>(tree: &T, draft: &Draft, next: &Ledger) -> Result<(), Aborted> {
    for change in &draft.changes {
        match &change.after {
            FileState::Directory(mode) => make_directory(tree, change, *mode)?,
            FileState::File(stamp) => {
                tree.write(&staged(&change.path), draft.bytes(&stamp.digest), stamp)?;
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

/// Renames or removes a file, which makes the change visible.
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

/// Undoes the changes that were made and ends the transaction. Returns paths that are neither in the state before nor in the
/// state after, because another program has changed them.
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
