//! Files that appear complete or not at all.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Mode of a directory that has to be created.
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes that [`probe`] writes: about the size of what this program writes.
const PROBE: usize = 512;

/// Why a file could not be written. The old one, if any, is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {doing}: {source}{}", path.display(), remedy(source))]
pub struct Error {
    pub path: PathBuf,
    /// The step that failed.
    pub doing: &'static str,
    #[source]
    pub source: io::Error,
}

/// Puts `bytes` at `path` with permissions `mode`, whatever the umask is; creates missing directories (0755).
///
/// A symbolic link at `path` is replaced, not followed. The content is on disk before it gets its name; the name itself
/// is not synced, because what this program writes is written again at its next start.
///
/// # Errors
/// The step that failed; nothing is left behind.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    create_directory(path)?;
    replace(path, bytes, mode)
}

/// As [`write()`], in a directory that exists.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let file = beside(path, bytes, mode)?;
    file.persist(path)
        .map(drop)
        .map_err(|error| failed(path, "rename the temporary file")(error.error))
}

/// Finds out whether [`write()`] would work; leaves nothing but missing directories.
pub fn probe(path: &Path) -> Result<(), Error> {
    create_directory(path)?;
    if path.is_dir() {
        return Err(failed(path, "replace it")(
            io::ErrorKind::IsADirectory.into(),
        ));
    }
    beside(path, &[0; PROBE], 0o600).map(drop)
}

fn create_directory(path: &Path) -> Result<(), Error> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory(path));
    created.map_err(failed(path, "create its directory"))
}

/// A complete file with a name of its own, which deletes itself when dropped before `persist`.
fn beside(path: &Path, bytes: &[u8], mode: u32) -> Result<NamedTempFile, Error> {
    let step = |doing| failed(path, doing);
    let mut file = tempfile::Builder::new()
        .prefix(".rflannel-")
        .tempfile_in(directory(path))
        .map_err(|error| step("create a temporary file beside it")(without_name(&error)))?;
    file.write_all(bytes)
        .map_err(step("write the temporary file"))?;
    let handle = file.as_file();
    handle
        .set_permissions(Permissions::from_mode(mode))
        .map_err(step("set its permissions"))?;
    handle.sync_all().map_err(step("flush it to disk"))?;
    Ok(file)
}

/// What the system said, without the random name that `tempfile` adds: a message that is new each time cannot be recognized.
fn without_name(error: &io::Error) -> io::Error {
    let text = error.to_string();
    io::Error::new(
        error.kind(),
        text.rsplit_once(" at path ")
            .map_or(&*text, |(text, _)| text),
    )
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error {
        path: path.into(),
        doing,
        source,
    }
}

/// `tempfile` and `rename` need a directory even for a bare file name.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most errors have no remedy to name"
)]
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or choose a directory that this user may write to"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a directory on a writable file system, such as /run"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space on the file system"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a part of the path is a file, not a directory"
        }
        io::ErrorKind::IsADirectory => "; the path is a directory, name a file in it",
        io::ErrorKind::NotFound => "; create the directory first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn creates_directories_and_replaces() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/subnet.env");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o666).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o666
        );
        assert_eq!(names(&root.path().join("a/b")), ["subnet.env"]);
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (victim, link) = (root.path().join("victim"), root.path().join("link"));
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, &link).unwrap();
        write(&link, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn failure_leaves_nothing_and_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        let message = |path: &str| {
            write(&root.path().join(path), b"x", 0o644)
                .unwrap_err()
                .to_string()
        };
        assert!(
            message("dir").contains("name a file in it"),
            "{}",
            message("dir")
        );
        assert!(
            message("file/x").contains("not a directory"),
            "{}",
            message("file/x")
        );
        assert!(message("file/x").contains(file.join("x").to_str().unwrap()));
        let probed = |path: &str| probe(&root.path().join(path)).unwrap_err().to_string();
        assert!(
            probed("dir").contains("name a file in it"),
            "{}",
            probed("dir")
        );
        assert!(
            probed("file/x").contains("not a directory"),
            "{}",
            probed("file/x")
        );
        probe(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"", "untouched");
        let unwritable = || {
            replace(Path::new("/proc/rflannel"), b"x", 0o644)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(unwritable(), unwritable(), "one failure has one message");
        let missing = replace(&root.path().join("no/x"), b"x", 0o644).unwrap_err();
        assert!(missing.to_string().contains("create the directory first"));
        let mut left = names(root.path());
        left.sort();
        assert_eq!(left, ["dir", "file"]);
    }
}
