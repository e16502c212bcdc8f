//! Files below one root, looked at and changed without ever following a symbolic link.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::{fs, io::Errno};

use super::file_state::{Digest, FileState, Stamp};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing, a directory, or a file with its content.
    Shape(FileState, Vec<u8>),
    /// A symbolic link, or something that is neither file nor directory: never written to. The text says what it is.
    Odd(String),
}

impl Found {
    /// Nothing.
    pub const fn nothing() -> Self {
        Self::Shape(FileState::Absent, Vec::new())
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
pub struct FsError {
    /// Below the root.
    pub path: PathBuf,
    /// The step.
    pub doing: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What a transaction needs. Every path is absolute and means one below the root.
pub trait Fs {
    /// What stands at `path`.
    ///
    /// # Errors
    /// When it cannot be told; also when a directory on the way is a symbolic link.
    fn look(&self, path: &Path) -> Result<Found, FsError>;

    /// Makes a directory in one that exists.
    ///
    /// # Errors
    /// The system's.
    fn create_directory(&self, path: &Path, mode: u32) -> Result<(), FsError>;

    /// Makes a file of these bytes and this stamp, on disk when this returns. Replaces a file that is there.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, path: &Path, bytes: &[u8], stamp: &Stamp) -> Result<(), FsError>;

    /// Moves a file to a name in the same directory, and whatever had that name is gone.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError>;

    /// Removes a file; none is fine, and so is no directory for it.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> Result<(), FsError>;

    /// Removes a directory if it is empty; none is fine, and one with entries stays.
    ///
    /// # Errors
    /// The system's.
    fn remove_directory(&self, path: &Path) -> Result<(), FsError>;

    /// Names in a directory; none if there is no directory.
    ///
    /// # Errors
    /// The system's.
    fn names(&self, path: &Path) -> Result<Vec<String>, FsError>;
}

/// A root on this machine: `/`, or where an image is built.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

const WALK: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const LIST: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Root {
    /// Opens it. Symbolic links in `path` itself are followed: it is the user's word.
    ///
    /// # Errors
    /// When it is no directory.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::openat(CWD, path, flags, Mode::empty());
        directory
            .map(|directory| Self { directory })
            .map_err(failed(path, "open"))
    }

    /// The directory at `path`, component by component: one that is a link ends the walk.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if one is missing.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd, FsError> {
        let mut at = self.directory.try_clone().map_err(|source| FsError {
            path: path.into(),
            doing: "open",
            source,
        })?;
        let mut walked = PathBuf::from("/");
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(failed(path, "leave the root through")(Errno::INVAL));
                }
            };
            walked.push(name);
            let next = fs::openat(&at, name, WALK, Mode::empty());
            at = next.map_err(|errno| blocked(&at, &walked, errno))?;
        }
        Ok(at)
    }

    /// The directory that `path` is in, and its name there.
    fn place<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a Path), FsError> {
        let name = path
            .file_name()
            .ok_or_else(|| failed(path, "use")(Errno::INVAL))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, Path::new(name)))
    }

    fn sync(&self, path: &Path) -> Result<(), FsError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = self.directory(parent)?;
        let opened = fs::openat(&directory, ".", LIST, Mode::empty());
        opened
            .and_then(fs::fsync)
            .map_err(failed(parent, "flush to disk"))
    }
}

impl Fs for Root {
    fn look(&self, path: &Path) -> Result<Found, FsError> {
        let Some((parent, name)) = there(self.place(path))? else {
            return Ok(Found::nothing());
        };
        let step = |doing| failed(path, doing);
        let stat = match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::nothing()),
            stat => stat.map_err(step("look at"))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Found::Shape(
                FileState::Directory(stat.st_mode & 0o7777),
                Vec::new(),
            )),
            FileType::RegularFile => {
                let file = fs::openat(&parent, name, READ, Mode::empty()).map_err(step("open"))?;
                let mut bytes = Vec::new();
                let read = File::from(file).read_to_end(&mut bytes);
                read.map_err(|source| FsError {
                    path: path.into(),
                    doing: "read",
                    source,
                })?;
                Ok(Found::Shape(FileState::File(stamp(&bytes, &stat)), bytes))
            }
            FileType::Symlink => {
                let target =
                    fs::readlinkat(&parent, name, Vec::new()).map_err(step("read the link"))?;
                Ok(Found::Odd(format!(
                    "a symbolic link to {}",
                    target.to_string_lossy()
                )))
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(Found::Odd("neither a file nor a directory".into())),
        }
    }

    fn create_directory(&self, path: &Path, mode: u32) -> Result<(), FsError> {
        let (parent, name) = self.place(path)?;
        let step = |doing| failed(path, doing);
        fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))
            .map_err(step("make the directory"))?;
        // Whatever the umask is.
        let made = fs::openat(&parent, name, LIST, Mode::empty()).map_err(step("open"))?;
        fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(step("set the permissions of"))?;
        self.sync(path)
    }

    fn write(&self, path: &Path, bytes: &[u8], stamp: &Stamp) -> Result<(), FsError> {
        self.remove(path)?;
        let (parent, name) = self.place(path)?;
        let step = |doing| failed(path, doing);
        let created = fs::openat(&parent, name, CREATE, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(created.map_err(step("create"))?);
        let filled = file.write_all(bytes);
        filled.map_err(|source| FsError {
            path: path.into(),
            doing: "write",
            source,
        })?;
        give(&file, stamp).map_err(step("set owner, permissions and time of"))?;
        fs::fsync(&file).map_err(step("flush to disk"))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        let (parent, name) = self.place(to)?;
        let from = Path::new(from.file_name().unwrap_or_default());
        fs::renameat(&parent, from, &parent, name).map_err(failed(to, "put in place"))?;
        self.sync(to)
    }

    fn remove(&self, path: &Path) -> Result<(), FsError> {
        let Some((parent, name)) = there(self.place(path))? else {
            return Ok(());
        };
        match fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => self.sync(path),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(path, "remove")(errno)),
        }
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FsError> {
        let Some((parent, name)) = there(self.place(path))? else {
            return Ok(());
        };
        match fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(()),
            Err(errno) => Err(failed(path, "remove the directory")(errno)),
        }
    }

    fn names(&self, path: &Path) -> Result<Vec<String>, FsError> {
        let Some(directory) = there(self.directory(path))? else {
            return Ok(Vec::new());
        };
        let entries = fs::openat(&directory, ".", LIST, Mode::empty()).and_then(fs::Dir::new);
        let entries = entries.map_err(failed(path, "list"))?;
        let names: Result<Vec<String>, Errno> = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .filter(|name| !matches!(name.as_deref(), Ok("." | "..")))
            .collect();
        names.map_err(failed(path, "list"))
    }
}

/// None where a directory on the way is missing.
fn there<P>(place: Result<P, FsError>) -> Result<Option<P>, FsError> {
    match place {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        place => place.map(Some),
    }
}

/// Owner and times only where they are to be other than a new file's: the first takes a privilege.
fn give(file: &File, stamp: &Stamp) -> Result<(), Errno> {
    if let Some((user, group)) = stamp.owner {
        let now = fs::fstat(file)?;
        if (now.st_uid, now.st_gid) != (user, group) {
            fs::fchown(
                file.as_fd(),
                Some(Uid::from_raw(user)),
                Some(Gid::from_raw(group)),
            )?;
        }
    }
    fs::fchmod(file, Mode::from_raw_mode(stamp.mode))?;
    let Some((tv_sec, tv_nsec)) = stamp.modified else {
        return Ok(());
    };
    let time = Timespec { tv_sec, tv_nsec };
    fs::futimens(
        file,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

fn stamp(bytes: &[u8], stat: &Stat) -> Stamp {
    Stamp {
        digest: Digest::of(bytes),
        mode: stat.st_mode & 0o7777,
        owner: Some((stat.st_uid, stat.st_gid)),
        modified: Some((
            stat.st_mtime,
            i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        )),
    }
}

/// Why a component of a path cannot be walked: a link looks like "not a directory" to the kernel.
fn blocked(parent: &OwnedFd, walked: &Path, errno: Errno) -> FsError {
    let name = walked.file_name().unwrap_or_default();
    let target = fs::readlinkat(parent, name, Vec::new());
    match (errno, target) {
        (Errno::NOTDIR | Errno::LOOP, Ok(target)) => FsError {
            path: walked.into(),
            doing: "go through",
            source: io::Error::other(format!(
                "it is a symbolic link to {}, and none is followed (put a directory there, or a bind mount)",
                target.to_string_lossy()
            )),
        },
        (errno, _) => failed(walked, "open")(errno),
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(Errno) -> FsError {
    move |errno| FsError {
        path: path.into(),
        doing,
        source: errno.into(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run as root)"
    } else {
        ""
    }
}
