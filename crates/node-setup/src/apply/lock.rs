//! Allows one run at a time below a root, by a lock on the store's directory, which the kernel releases when the process ends.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, FlockOperation};
use rustix::io::Errno;

use super::filesystem::{FsError, Root, there};
use super::store::{STATE, Store};

/// Runs that begin and end at the same time create and remove the directory concurrently.
const ATTEMPTS: usize = 100;

/// The exclusive right to change files below a root.
#[derive(Debug)]
pub struct Lock<'a> {
    root: &'a Root,
    _directory: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error(
        "another node-setup is changing this root (it holds {STATE}): run this again after it has ended"
    )]
    Taken,
    #[error(transparent)]
    Tree(#[from] FsError),
}

impl<'a> Lock<'a> {
    /// Takes the lock until it is dropped. Creates the store's directory.
    pub fn take(root: &'a Root) -> Result<Self, LockError> {
        for _ in 0..ATTEMPTS {
            let Some(directory) = created(root)? else {
                continue;
            };
            match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(LockError::Taken),
                locked => locked.map_err(|errno| failed("lock", errno))?,
            }
            // The previous holder may have removed the directory, so that this lock protects nothing.
            if is_there(root, &directory)? {
                return Ok(Self {
                    root,
                    _directory: directory,
                });
            }
        }
        Err(LockError::Taken)
    }
}

/// Creates the directory. Returns `None` if another run has just created or removed a part of it.
fn created(root: &Root) -> Result<Option<OwnedFd>, FsError> {
    match Store::new(root).create() {
        Err(error)
            if [ErrorKind::AlreadyExists, ErrorKind::NotFound].contains(&error.source.kind()) =>
        {
            Ok(None)
        }
        made => made.and_then(|()| open(root)),
    }
}

impl Drop for Lock<'_> {
    /// Removes an empty store. Errors leave an empty directory.
    fn drop(&mut self) {
        let store = Store::new(self.root);
        let idle = matches!(store.journal(), Ok(None));
        if let (true, Ok(ledger)) = (idle, store.ledger())
            && ledger.is_empty()
        {
            let _ = store.remove();
        }
    }
}

/// Opens the directory. Returns `None` if it has just been removed.
fn open(root: &Root) -> Result<Option<OwnedFd>, FsError> {
    there(root.opened(Path::new(STATE), "open"))
}

fn is_there(root: &Root, held: &OwnedFd) -> Result<bool, FsError> {
    let Some(now) = open(root)? else {
        return Ok(false);
    };
    let inode = |directory: &OwnedFd| fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino));
    match (inode(&now), inode(held)) {
        (Ok(now), Ok(held)) => Ok(now == held),
        (Err(errno), _) | (_, Err(errno)) => Err(failed("examine", errno)),
    }
}

fn failed(doing: &'static str, errno: Errno) -> FsError {
    FsError {
        path: STATE.into(),
        doing,
        source: errno.into(),
    }
}
