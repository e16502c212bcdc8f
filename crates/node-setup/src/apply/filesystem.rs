//! Reads and changes files below a root without following symbolic links.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::{fs, io::Errno};

use super::file_state::{Digest, FileState, Stamp};

/// What exists at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing, a directory, or a file with its content.
    Shape(FileState, Vec<u8>),
    /// Something that is never written to.
    Special(PathType),
}

/// Types of paths, as errors name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathType {
    File,
    Directory,
    /// A symbolic link and its target.
    Link(PathBuf),
    /// A socket, a pipe, or a device.
    Other,
}

impl std::fmt::Display for PathType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => f.write_str("a file"),
            Self::Directory => f.write_str("a directory"),
            Self::Link(target) => write!(f, "a symbolic link to {}", target.display()),
            Self::Other => f.write_str("neither a file nor a directory"),
        }
    }
}

impl Found {
    pub const fn nothing() -> Self {
        Self::Shape(FileState::Absent, Vec::new())
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
pub struct FsError {
    /// Path below the root.
    pub path: PathBuf,
    pub doing: &'static str,
    #[source]
    pub source: io::Error,
}

/// The operations that a transaction needs. Every path is absolute and below the root.
pub trait Fs {
    /// Reads what exists at `path`. Fails if it cannot be read, or a directory of the path is a symbolic link.
    fn look(&self, path: &Path) -> Result<Found, FsError>;

    /// Creates a directory in an existing one.
    fn create_directory(&self, path: &Path, mode: u32) -> Result<(), FsError>;

    /// Creates or replaces a file with these bytes and this stamp. The file is on disk when this returns.
    fn write(&self, path: &Path, bytes: &[u8], stamp: &Stamp) -> Result<(), FsError>;

    /// Renames a file within its directory and replaces a file with the new name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError>;

    /// Removes a file. The file and its directory need not exist.
    fn remove(&self, path: &Path) -> Result<(), FsError>;

    /// Removes a directory if it is empty. It need not exist.
    fn remove_directory(&self, path: &Path) -> Result<(), FsError>;

    /// Lists the names in a directory; none if it does not exist.
    fn names(&self, path: &Path) -> Result<Vec<String>, FsError>;
}

/// A root on this machine: `/`, or the directory of an image.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
const WALK: OFlags = SAFE.union(OFlags::PATH).union(OFlags::DIRECTORY);
const READ: OFlags = SAFE.union(OFlags::RDONLY).union(OFlags::NONBLOCK);
const CREATE: OFlags = SAFE
    .union(OFlags::WRONLY)
    .union(OFlags::CREATE)
    .union(OFlags::EXCL);
const LIST: OFlags = SAFE.union(OFlags::RDONLY).union(OFlags::DIRECTORY);

impl Root {
    /// Opens a root. Symbolic links in `path` itself are followed, because the user gave it.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::openat(CWD, path, flags, Mode::empty());
        directory
            .map(|directory| Self { directory })
            .map_err(failed(path, "open"))
    }

    /// Opens the directory at `path`, component by component. A symbolic link is an error.
    /// [`io::ErrorKind::NotFound`] if a component is missing.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd, FsError> {
        let mut at = self.directory.try_clone().map_err(failed(path, "open"))?;
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

    /// Opens the directory of `path`, and returns the name in it.
    fn place<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a Path), FsError> {
        let name = path
            .file_name()
            .ok_or_else(|| failed(path, "use")(Errno::INVAL))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, Path::new(name)))
    }

    /// Opens the directory at `path` itself, to list, lock, or flush it: `doing`.
    pub fn opened(&self, path: &Path, doing: &'static str) -> Result<OwnedFd, FsError> {
        let directory = self.directory(path)?;
        fs::openat(&directory, ".", LIST, Mode::empty()).map_err(failed(path, doing))
    }

    fn sync(&self, path: &Path) -> Result<(), FsError> {
        const DOING: &str = "flush to disk";
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::fsync(self.opened(parent, DOING)?).map_err(failed(parent, DOING))
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
            stat => stat.map_err(step("examine"))?,
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
                read.map_err(failed(path, "read"))?;
                Ok(Found::Shape(FileState::File(stamp(&bytes, &stat)), bytes))
            }
            FileType::Symlink => {
                let target =
                    fs::readlinkat(&parent, name, Vec::new()).map_err(step("read the link"))?;
                let target = std::ffi::OsStr::from_bytes(target.to_bytes());
                Ok(Found::Special(PathType::Link(target.into())))
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(Found::Special(PathType::Other)),
        }
    }

    fn create_directory(&self, path: &Path, mode: u32) -> Result<(), FsError> {
        let (parent, name) = self.place(path)?;
        let step = |doing| failed(path, doing);
        fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))
            .map_err(step("create the directory"))?;
        // Independent of the umask.
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
        file.write_all(bytes).map_err(failed(path, "write"))?;
        give(&file, stamp).map_err(step("set owner, permissions, and time of"))?;
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
        let Some(directory) = there(self.opened(path, "list"))? else {
            return Ok(Vec::new());
        };
        let entries = fs::Dir::new(directory).map_err(failed(path, "list"))?;
        let names: Result<Vec<String>, Errno> = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .filter(|name| !matches!(name.as_deref(), Ok("." | "..")))
            .collect();
        names.map_err(failed(path, "list"))
    }
}

/// Returns `None` if a directory of the path is missing.
pub(super) fn there<P>(place: Result<P, FsError>) -> Result<Option<P>, FsError> {
    match place {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        place => place.map(Some),
    }
}

/// Sets the owner and times only if they differ from those of a new file, because setting the owner needs a privilege.
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

/// Explains why a component of a path cannot be opened: for the kernel, a link is "not a directory".
fn blocked(parent: &OwnedFd, walked: &Path, errno: Errno) -> FsError {
    let name = walked.file_name().unwrap_or_default();
    let target = fs::readlinkat(parent, name, Vec::new());
    match (errno, target) {
        (Errno::NOTDIR | Errno::LOOP, Ok(target)) => FsError {
            path: walked.into(),
            doing: "go through",
            source: io::Error::other(format!(
                "it is a symbolic link to {}, and links are not followed (use a directory or a bind mount instead)",
                target.to_string_lossy()
            )),
        },
        (errno, _) => failed(walked, "open")(errno),
    }
}

fn failed<E: Into<io::Error>>(path: &Path, doing: &'static str) -> impl FnOnce(E) -> FsError {
    move |error| FsError {
        path: path.into(),
        doing,
        source: error.into(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run as root)"
    } else {
        ""
    }
}
