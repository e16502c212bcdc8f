//! Defines the state of a path and changes of it. Pure.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of a content in hexadecimal digits, which is also its name in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = String::new();
        for byte in digest(&SHA256, bytes).as_ref() {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A regular file, without its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stamp {
    /// Digest of the content.
    pub digest: Digest,
    /// Permission bits.
    pub mode: u32,
    /// User and group; `None` for the user that writes the file.
    pub owner: Option<(u32, u32)>,
    /// Time of the last change, in seconds and nanoseconds since 1970; `None` for now.
    pub modified: Option<(i64, i64)>,
}

/// Compares content and mode only: a `touch` is not an edit, and an owner that is not named may be any user.
impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        let owners = |(mine, theirs)| mine == theirs;
        self.digest == other.digest
            && self.mode == other.mode
            && self.owner.zip(other.owner).is_none_or(owners)
    }
}

/// The existing or desired state of a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    Absent,
    /// A directory with these permissions. Its entries are separate paths.
    Directory(u32),
    File(Stamp),
}

/// Directories are equal regardless of their permissions, because an existing one keeps its own.
impl PartialEq for FileState {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) | (Self::Directory(_), Self::Directory(_)) => true,
            (Self::File(mine), Self::File(theirs)) => mine == theirs,
            (Self::Absent | Self::Directory(_) | Self::File(_), _) => false,
        }
    }
}

impl FileState {
    /// Returns the digest of the content, if it is a file.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::File(stamp) => Some(&stamp.digest),
            Self::Absent | Self::Directory(_) => None,
        }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute path below the root.
    pub path: PathBuf,
    pub before: FileState,
    pub after: FileState,
}

impl Change {
    /// Returns the change that undoes this one.
    pub fn reversed(&self) -> Self {
        Self {
            path: self.path.clone(),
            before: self.after.clone(),
            after: self.before.clone(),
        }
    }
}

/// Returns the hidden path where new content waits, complete and on disk, until it is renamed.
pub fn staged(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".rflannel-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_equal_by_content_mode_and_known_owner() {
        let stamp = |owner, mode, modified| Stamp {
            digest: Digest::of(b"x"),
            mode,
            owner,
            modified,
        };
        assert_eq!(
            stamp(None, 0o644, None),
            stamp(Some((1, 1)), 0o644, Some((5, 0)))
        );
        assert_ne!(
            stamp(Some((0, 0)), 0o644, None),
            stamp(Some((1, 1)), 0o644, None)
        );
        assert_ne!(stamp(None, 0o644, None), stamp(None, 0o600, None));
    }

    #[test]
    fn the_digest_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
    }

    #[test]
    fn a_staged_file_is_hidden_beside_its_place() {
        assert_eq!(
            staged(Path::new("/etc/a/x.service")),
            Path::new("/etc/a/.rflannel-x.service")
        );
    }
}
