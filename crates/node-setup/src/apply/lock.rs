//! One run at a time below a root: a lock on the directory of the store, that goes with the process however it ends.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::filesystem::{FsError, Root};
use super::store::{STATE, Store};

/// Runs that begin and end in the same moment make and remove the directory under each other's hands.
const ATTEMPTS: usize = 100;

/// The right to change what is below a root.
#[derive(Debug)]
pub struct Lock<'a> {
    root: &'a Root,
    _directory: OwnedFd,
}

/// Why the right is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run has it.
    #[error(
        "another node-setup is changing this root (it holds {STATE}): wait for it to end, then run this again"
    )]
    Taken,
    /// A step failed.
    #[error(transparent)]
    Tree(#[from] FsError),
}

impl<'a> Lock<'a> {
    /// Takes it, until dropped. Makes the store's directory.
    ///
    /// # Errors
    /// When another run has it, or the directory cannot be made.
    pub fn take(root: &'a Root) -> Result<Self, LockError> {
        for _ in 0..ATTEMPTS {
            let Some(directory) = created(root)? else {
                continue;
            };
            match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(LockError::Taken),
                locked => locked.map_err(|errno| failed("lock", errno))?,
            }
            // Anyone who had it may have removed the directory: then this is the lock of nothing.
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

/// None if another run has made or removed a part of it in this moment.
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
    /// A store with nothing in it goes again. Errors leave an empty directory.
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

/// None if the directory has just been removed.
fn open(root: &Root) -> Result<Option<OwnedFd>, FsError> {
    let parent = match root.directory(Path::new(STATE)) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(None),
        parent => parent?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match fs::openat(&parent, ".", flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some).map_err(|errno| failed("open", errno)),
    }
}

fn is_there(root: &Root, held: &OwnedFd) -> Result<bool, FsError> {
    let Some(now) = open(root)? else {
        return Ok(false);
    };
    let inode = |directory: &OwnedFd| fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino));
    match (inode(&now), inode(held)) {
        (Ok(now), Ok(held)) => Ok(now == held),
        (Err(errno), _) | (_, Err(errno)) => Err(failed("look at", errno)),
    }
}

fn failed(doing: &'static str, errno: Errno) -> FsError {
    FsError {
        path: STATE.into(),
        doing,
        source: errno.into(),
    }
}
