//! Keeps a node's ledger, journal, and earlier contents in a directory that only root can read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file_state::{Digest, FileState, Stamp, staged};
use super::filesystem::{Found, Fs, FsError};
use super::ledger::{Journal, Ledger};

/// The directory, below the root.
pub const STATE: &str = "/var/lib/rflannel/node-setup";
/// Earlier contents may hold secrets.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Tree(#[from] FsError),
    /// A file of the store is damaged.
    #[error("cannot read {}: {why}; the recorded files remain as they are: move the file elsewhere to start without it", path.display())]
    Damaged { path: PathBuf, why: String },
}

/// The store below one root.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a, T> {
    tree: &'a T,
}

impl<'a, T: Fs> Store<'a, T> {
    /// Returns the store, without creating it.
    pub const fn new(tree: &'a T) -> Self {
        Self { tree }
    }

    /// Creates the store's directories.
    pub fn create(&self) -> Result<(), FsError> {
        let state = Path::new(STATE);
        let mut missing = Vec::new();
        for path in state.ancestors().filter(|path| *path != Path::new("/")) {
            match self.tree.look(path)? {
                Found::Shape(FileState::Absent, _) => missing.push(path),
                Found::Shape(..) | Found::Special(_) => break,
            }
        }
        for path in missing.into_iter().rev() {
            let mode = if path == state {
                PRIVATE_DIRECTORY
            } else {
                0o755
            };
            self.tree.create_directory(path, mode)?;
        }
        Ok(())
    }

    /// Reads the ledger; an empty one if it does not exist.
    pub fn ledger(&self) -> Result<Ledger, StoreError> {
        let path = ledger_path();
        let Some(json) = self.read(&path)? else {
            return Ok(Ledger::default());
        };
        Ledger::parse(&json).map_err(|why| StoreError::Damaged { path, why })
    }

    /// Writes a ledger that is not in effect yet.
    pub fn stage_ledger(&self, ledger: &Ledger) -> Result<(), FsError> {
        self.stage(&ledger_path(), &json(ledger))
    }

    /// Replaces the ledger by the staged one, atomically and without needing disk space.
    /// Returns the system's error; the previous ledger stays in effect.
    pub fn turn_ledger(&self) -> Result<(), FsError> {
        self.tree.rename(&staged(&ledger_path()), &ledger_path())
    }

    /// Returns the unfinished transaction, if there is one.
    pub fn journal(&self) -> Result<Option<Journal>, StoreError> {
        let path = journal_path();
        let Some(json) = self.read(&path)? else {
            return Ok(None);
        };
        let journal = serde_json::from_slice(&json);
        journal.map(Some).map_err(|error| StoreError::Damaged {
            path,
            why: error.to_string(),
        })
    }

    /// Begins a transaction.
    pub fn begin(&self, journal: &Journal) -> Result<(), FsError> {
        self.put(&journal_path(), &json(journal))
    }

    /// Ends a transaction. On an error, the ledger shows whether the transaction was completed.
    pub fn end(&self) -> Result<(), FsError> {
        self.tree.remove(&journal_path())
    }

    /// Stores a content.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FsError> {
        let path = object_path(digest);
        if matches!(self.tree.look(&path)?, Found::Shape(FileState::File(found), _) if found.digest == *digest)
        {
            return Ok(());
        }
        if self.tree.look(&objects_path())? == Found::Shape(FileState::Absent, Vec::new()) {
            self.tree
                .create_directory(&objects_path(), PRIVATE_DIRECTORY)?;
        }
        self.put(&path, bytes)
    }

    /// Returns a stored content. Fails if it cannot be read, or has changed.
    pub fn content(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = object_path(digest);
        match self.read(&path)? {
            Some(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
            Some(_) => damaged(&path, "it was changed"),
            None => damaged(&path, "it is missing"),
        }
    }

    /// Removes contents that `ledger` does not need, and unfinished files. On an error, the remaining files are harmless.
    pub fn sweep(&self, ledger: &Ledger) -> Result<(), FsError> {
        [ledger_path(), journal_path()]
            .iter()
            .try_for_each(|path| self.tree.remove(&staged(path)))?;
        let needed = ledger.needed();
        let needed: BTreeSet<&str> = needed.iter().map(Digest::as_str).collect();
        let names = self.tree.names(&objects_path())?;
        let useless = names.iter().filter(|name| !needed.contains(name.as_str()));
        useless
            .map(|name| objects_path().join(name))
            .try_for_each(|path| self.tree.remove(&path))
    }

    /// Removes the store. On an error, the remaining files are harmless.
    pub fn remove(&self) -> Result<(), FsError> {
        self.sweep(&Ledger::default())?;
        self.tree.remove_directory(&objects_path())?;
        self.tree.remove(&ledger_path())?;
        let state = Path::new(STATE);
        [Some(state), state.parent()]
            .into_iter()
            .flatten()
            .try_for_each(|path| self.tree.remove_directory(path))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tree.look(path)? {
            Found::Shape(FileState::Absent, _) => Ok(None),
            Found::Shape(FileState::File(_), bytes) => Ok(Some(bytes)),
            Found::Shape(FileState::Directory(_), _) => damaged(path, "it is a directory"),
            Found::Special(what) => damaged(path, &format!("it is {what}")),
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), FsError> {
        self.stage(path, bytes)?;
        self.tree.rename(&staged(path), path)
    }

    fn stage(&self, path: &Path, bytes: &[u8]) -> Result<(), FsError> {
        let stamp = Stamp {
            digest: Digest::of(bytes),
            mode: PRIVATE_FILE,
            owner: None,
            modified: None,
        };
        self.tree.write(&staged(path), bytes, &stamp)
    }
}

fn damaged<T>(path: &Path, why: &str) -> Result<T, StoreError> {
    Err(StoreError::Damaged {
        path: path.into(),
        why: why.into(),
    })
}

/// Neither has a map with keys other than strings, the only thing that serde_json cannot write.
fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn ledger_path() -> PathBuf {
    Path::new(STATE).join("ledger.json")
}

fn journal_path() -> PathBuf {
    Path::new(STATE).join("journal.json")
}

fn objects_path() -> PathBuf {
    Path::new(STATE).join("objects")
}

fn object_path(digest: &Digest) -> PathBuf {
    objects_path().join(digest.as_str())
}
