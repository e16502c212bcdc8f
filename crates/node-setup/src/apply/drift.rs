//! Compares a managed path with what was written. Pure.

use super::file_state::FileState;
use super::filesystem::Found;
use super::ledger::Owned;

/// State of a managed path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    Ours,
    Edited,
    /// Permissions or owner differ, but not the content.
    Altered,
    Missing,
    /// The path is a link or a directory.
    Replaced,
}

impl Drift {
    /// Compares a managed path.
    pub fn of(owned: &Owned, found: &Found) -> Self {
        match (found, &owned.ours) {
            (Found::Shape(found, _), ours) if found == ours => Self::Ours,
            (Found::Shape(FileState::Absent, _), _) => Self::Missing,
            (Found::Shape(FileState::File(found), _), FileState::File(ours))
                if found.digest == ours.digest =>
            {
                Self::Altered
            }
            (Found::Shape(FileState::File(_), _), FileState::File(_)) => Self::Edited,
            (Found::Shape(..) | Found::Special(_), _) => Self::Replaced,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ok",
            Self::Edited => "edited",
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Replaced => "replaced",
        }
    }

    /// Returns whether the path is as written.
    pub const fn is_sound(self) -> bool {
        matches!(self, Self::Ours)
    }
}
