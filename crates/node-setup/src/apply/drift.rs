//! How an owned path stands now: pure.

use super::file_state::FileState;
use super::filesystem::Found;
use super::ledger::Owned;

/// Compared with what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// As we wrote it.
    Ours,
    /// Another content.
    Edited,
    /// The same content with other permissions or another owner.
    Altered,
    /// It is not there any more.
    Missing,
    /// Something else is there: a link, a directory.
    Replaced,
}

impl Drift {
    /// Compares.
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
            (Found::Shape(..) | Found::Odd(_), _) => Self::Replaced,
        }
    }

    /// One word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ok",
            Self::Edited => "edited",
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Replaced => "replaced",
        }
    }

    /// Whether it is as it was set up.
    pub const fn is_sound(self) -> bool {
        matches!(self, Self::Ours)
    }
}
