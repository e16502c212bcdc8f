//! Compares a plan with the existing files: each path is created, updated, left alone, or refused. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::file_state::{Change, Digest, FileState, Stamp};
use super::filesystem::{Found, PathType};
use super::header::{self, Header};
use super::ledger::{Holdings, Owned, Past};
use super::transaction::Draft;
use crate::{File, FileKind, Plan};

/// Permissions of directories that the plan does not name.
const DIRECTORY_MODE: u32 = 0o755;

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It already is as desired.
    Unchanged,
    Created,
    /// It gets another content or other permissions.
    Updated,
    /// Its earlier content is restored.
    Restored,
    /// It did not exist before, and is removed.
    Removed,
}

impl Fate {
    /// Returns whether the path is no longer managed afterwards.
    pub const fn is_return(self) -> bool {
        matches!(self, Self::Restored | Self::Removed)
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Restored => "restored",
            Self::Removed => "removed",
        }
    }
}

/// Why a path is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A file of another program exists.
    Foreign,
    /// The managed file was edited.
    Edited,
    /// The file has changed since the plan was made.
    Stale,
    /// The path is not what the plan needs, such as a symbolic link.
    WrongType(PathType),
}

impl Obstacle {
    /// Returns whether `--force` overrides the obstacle.
    pub const fn yields_to_force(&self) -> bool {
        matches!(self, Self::Foreign | Self::Edited)
    }

    /// Returns what was found, and what to do.
    pub fn text(&self) -> String {
        format!("{}; {}", self.found(), self.fix())
    }

    pub fn found(&self) -> String {
        match self {
            Self::Foreign => "node-setup did not write it".into(),
            Self::Edited => "it was edited".into(),
            Self::Stale => "it has changed since the plan was made".into(),
            Self::WrongType(what) if self.is_mask() => {
                format!("it is {what}, which masks the unit")
            }
            Self::WrongType(what) => format!("it is {what}"),
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Foreign => {
                "move it elsewhere, or overwrite it with --force (rollback restores it)"
            }
            Self::Edited => {
                "see `node-setup diff`; --force overwrites the edit (rollback restores it)"
            }
            Self::Stale => "run this again",
            Self::WrongType(_) if self.is_mask() => "run `systemctl unmask`, or omit its service",
            Self::WrongType(_) => "move it elsewhere",
        }
    }

    fn is_mask(&self) -> bool {
        matches!(self, Self::WrongType(PathType::Link(target)) if target == Path::new("/dev/null"))
    }
}

/// Comparison of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathDiff {
    pub path: PathBuf,
    pub fate: Fate,
    pub obstacle: Option<Obstacle>,
    pub before: FileState,
    pub after: FileState,
    /// The existing and the desired content.
    pub contents: (Vec<u8>, Vec<u8>),
    /// The state before node-setup managed the path.
    pub original: FileState,
}

/// All comparisons, in the order of writing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    /// Each path once.
    pub paths: Vec<PathDiff>,
}

/// Returns the content of a file, with the header if the format has comments.
pub fn bytes(file: &File) -> Vec<u8> {
    if file.kind.takes_comment() {
        header::mark(&file.content)
    } else {
        file.content.clone()
    }
    .into_bytes()
}

/// Returns every path to examine, directories before their content: the paths of the plan with their parents, and the managed
/// paths.
pub fn paths(plan: &Plan, owned: &Holdings) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let wanted = directories(plan)
        .into_keys()
        .chain(plan.files.iter().map(|file| file.path.clone()));
    wanted
        .chain(owned.keys().cloned())
        .filter(|path| seen.insert(path.clone()))
        .collect()
}

/// Returns the directories that must exist. The order of paths puts parents first.
fn directories(plan: &Plan) -> BTreeMap<PathBuf, u32> {
    let named: BTreeMap<PathBuf, u32> = plan
        .directories
        .iter()
        .map(|directory| (directory.path.clone(), directory.mode))
        .collect();
    let leaves = named.keys().cloned().chain(
        plan.files
            .iter()
            .filter_map(|file| Some(file.path.parent()?.into())),
    );
    let all: BTreeSet<PathBuf> = leaves
        .flat_map(|path: PathBuf| path.ancestors().map(Path::to_path_buf).collect::<Vec<_>>())
        .collect();
    all.into_iter()
        .filter(|path| path != Path::new("/"))
        .map(|path| {
            let mode = named.get(&path).copied().unwrap_or(DIRECTORY_MODE);
            (path, mode)
        })
        .collect()
}

impl Diff {
    /// Compares a plan with the existing files. `found` has every path of [`paths`].
    pub fn new(plan: &Plan, owned: &Holdings, found: &BTreeMap<PathBuf, Found>) -> Self {
        let nothing = Found::nothing();
        let at = |path: &Path| found.get(path).unwrap_or(&nothing);
        let directories = directories(plan);
        let made = directories
            .iter()
            .filter_map(|(path, mode)| directory(path, *mode, at(path), owned.get(path)));
        let files = plan
            .files
            .iter()
            .map(|wanted| file(wanted, at(&wanted.path), owned.get(&wanted.path)));
        let kept: BTreeSet<&Path> = plan
            .files
            .iter()
            .map(|file| file.path.as_path())
            .chain(directories.keys().map(PathBuf::as_path))
            .collect();
        // The content of a directory is removed before the directory.
        let stale = owned
            .iter()
            .rev()
            .filter(|(path, _)| !kept.contains(path.as_path()));
        let given_back = stale.filter_map(|(path, owned)| give_back(path, owned, at(path)));
        Self {
            paths: made.chain(files).chain(given_back).collect(),
        }
    }

    /// Returns the changes that restore everything.
    pub fn of_uninstall(owned: &Holdings, found: &BTreeMap<PathBuf, Found>) -> Self {
        let nothing = Found::nothing();
        let at = |path: &Path| found.get(path).unwrap_or(&nothing);
        Self {
            paths: owned
                .iter()
                .rev()
                .filter_map(|(path, owned)| give_back(path, owned, at(path)))
                .collect(),
        }
    }

    /// Returns the changes that undo an apply.
    pub fn of_rollback(past: &Past, found: &BTreeMap<PathBuf, Found>) -> Self {
        let nothing = Found::nothing();
        let undone = past.changes.iter().rev().map(Change::reversed);
        let paths = undone
            .filter_map(|change| take_back(&change, found.get(&change.path).unwrap_or(&nothing)));
        Self {
            paths: paths.collect(),
        }
    }

    pub fn obstacles(&self, force: bool) -> Vec<(&Path, &Obstacle)> {
        let all = self
            .paths
            .iter()
            .filter_map(|path_diff| Some((path_diff.path.as_path(), path_diff.obstacle.as_ref()?)));
        all.filter(|(_, obstacle)| !(force && obstacle.yields_to_force()))
            .collect()
    }

    /// Returns whether nothing would change.
    pub fn is_settled(&self) -> bool {
        self.paths
            .iter()
            .all(|path_diff| path_diff.fate == Fate::Unchanged)
    }

    /// Returns the changes with the contents that they need.
    pub fn draft(&self) -> Draft {
        let mut draft = Draft::default();
        for path_diff in self
            .paths
            .iter()
            .filter(|path_diff| path_diff.fate != Fate::Unchanged)
        {
            draft.change(
                path_diff.path.clone(),
                path_diff.before.clone(),
                path_diff.after.clone(),
            );
            draft.content(path_diff.contents.0.clone());
            draft.content(path_diff.contents.1.clone());
        }
        draft
    }

    /// Returns the managed paths after the changes.
    pub fn holdings(&self) -> Holdings {
        let held = self
            .paths
            .iter()
            .filter(|path_diff| !path_diff.fate.is_return());
        held.map(|path_diff| {
            let owned = Owned {
                ours: path_diff.after.clone(),
                original: path_diff.original.clone(),
            };
            (path_diff.path.clone(), owned)
        })
        .collect()
    }
}

/// Compares a directory. Returns `None` for an existing directory that is not managed, which remains that of another program.
fn directory(path: &Path, mode: u32, found: &Found, owned: Option<&Owned>) -> Option<PathDiff> {
    let (before, obstacle) = match found {
        Found::Shape(FileState::File(_), _) => {
            (FileState::Absent, Some(Obstacle::WrongType(PathType::File)))
        }
        // A link to a directory belongs to the administrator. Nothing is written through it.
        Found::Special(PathType::Link(_)) => return None,
        Found::Special(what) => (FileState::Absent, Some(Obstacle::WrongType(what.clone()))),
        Found::Shape(shape, _) => (shape.clone(), None),
    };
    let fate = if before == FileState::Absent {
        Fate::Created
    } else {
        Fate::Unchanged
    };
    (fate == Fate::Created || owned.is_some()).then(|| PathDiff {
        path: path.into(),
        fate,
        obstacle,
        after: if fate == Fate::Created {
            FileState::Directory(mode)
        } else {
            before.clone()
        },
        before,
        contents: Default::default(),
        original: FileState::Absent,
    })
}

fn file(wanted: &File, found: &Found, owned: Option<&Owned>) -> PathDiff {
    let content = bytes(wanted);
    let stamp = Stamp {
        digest: Digest::of(&content),
        mode: wanted.mode,
        owner: None,
        modified: None,
    };
    let after = FileState::File(stamp);
    let (before, there) = match found {
        Found::Shape(shape, bytes) => (shape.clone(), bytes.clone()),
        Found::Special(_) => (FileState::Absent, Vec::new()),
    };
    let fate = match &before {
        shape if *shape == after => Fate::Unchanged,
        FileState::Absent => Fate::Created,
        FileState::File(_) | FileState::Directory(_) => Fate::Updated,
    };
    let lost = owned.is_none() && header::read(&there) == Header::Intact;
    let original = owned.map(|owned| owned.original.clone());
    let original = original.unwrap_or_else(|| {
        if lost {
            FileState::Absent
        } else {
            before.clone()
        }
    });
    let obstacle = obstacle(wanted, found, owned).filter(|_| fate != Fate::Unchanged);
    PathDiff {
        path: wanted.path.clone(),
        fate,
        obstacle,
        before,
        after,
        contents: (there, content),
        original,
    }
}

fn obstacle(wanted: &File, found: &Found, owned: Option<&Owned>) -> Option<Obstacle> {
    let (shape, bytes) = match found {
        Found::Special(what) => return Some(Obstacle::WrongType(what.clone())),
        Found::Shape(shape, bytes) => (shape, bytes),
    };
    if let FileKind::Merged { base } = &wanted.kind {
        let there = matches!(shape, FileState::File(_)).then_some(bytes.as_slice());
        return (there != base.as_ref().map(String::as_bytes)).then_some(Obstacle::Stale);
    }
    match (shape, owned) {
        (FileState::Absent, _) => None,
        (FileState::Directory(_), _) => Some(Obstacle::WrongType(PathType::Directory)),
        (FileState::File(_), Some(owned)) => is_edited(shape, owned).then_some(Obstacle::Edited),
        (FileState::File(_), None) => match header::read(bytes) {
            Header::None => Some(Obstacle::Foreign),
            Header::Edited => Some(Obstacle::Edited),
            Header::Intact => None,
        },
    }
}

/// Returns whether the content differs. Other permissions do not count as an edit; they are corrected.
fn is_edited(found: &FileState, owned: &Owned) -> bool {
    found.digest() != owned.ours.digest()
}

fn give_back(path: &Path, owned: &Owned, found: &Found) -> Option<PathDiff> {
    let change = Change {
        path: path.into(),
        before: owned.ours.clone(),
        after: owned.original.clone(),
    };
    take_back(&change, found)
}

/// Undoes a change; `None` if that is done already. The earlier content comes from the store.
fn take_back(change: &Change, found: &Found) -> Option<PathDiff> {
    let (before, there, odd) = match found {
        Found::Shape(shape, bytes) => (shape.clone(), bytes.clone(), None),
        Found::Special(what) => (
            FileState::Absent,
            Vec::new(),
            Some(Obstacle::WrongType(what.clone())),
        ),
    };
    if odd.is_none() && before == change.after {
        return None;
    }
    let edited = (before.digest() != change.before.digest()).then_some(Obstacle::Edited);
    Some(PathDiff {
        path: change.path.clone(),
        fate: if change.after == FileState::Absent {
            Fate::Removed
        } else {
            Fate::Restored
        },
        obstacle: odd.or(edited),
        before,
        after: change.after.clone(),
        contents: (there, Vec::new()),
        original: change.after.clone(),
    })
}

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
