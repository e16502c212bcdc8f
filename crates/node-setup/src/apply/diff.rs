//! What a plan means for what is there: created, updated, left alone, or refused, path by path: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::file_state::{Change, Digest, FileState, Stamp};
use super::filesystem::Found;
use super::header::{self, Header};
use super::ledger::{Holdings, Owned, Past};
use super::transaction::Draft;
use crate::{File, FileKind, Plan};

/// Permissions of a directory that the plan does not name.
const DIRECTORY_MODE: u32 = 0o755;

/// What is to become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is as desired.
    Unchanged,
    /// It is made.
    Created,
    /// It gets another content or other permissions.
    Updated,
    /// It becomes again what it was before.
    Restored,
    /// There was nothing before, and there is nothing again.
    Removed,
}

impl Fate {
    /// Whether the path is not ours afterwards.
    pub const fn is_return(self) -> bool {
        matches!(self, Self::Restored | Self::Removed)
    }

    /// One word.
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
    /// A file of another program's is there.
    Foreign,
    /// Ours, edited since.
    Edited,
    /// The plan was made for another content.
    Stale,
    /// A symbolic link or a directory is there: the text says what.
    Odd(String),
}

impl Obstacle {
    /// Whether `--force` is an answer to it.
    pub const fn yields_to_force(&self) -> bool {
        matches!(self, Self::Foreign | Self::Edited)
    }

    /// What it is, and what to do.
    pub fn text(&self) -> String {
        match self {
            Self::Foreign => "it is not ours: move it away, or overwrite it with --force (rollback brings it back)".into(),
            Self::Edited => {
                "it has been edited: see `node-setup diff`; --force overwrites the edit (rollback brings it back)".into()
            }
            Self::Stale => "it has changed since the plan was made: run this again".into(),
            Self::Odd(what) if what.ends_with("/dev/null") => {
                format!("it is {what}, so the unit is masked: `systemctl unmask` it, or leave its service out")
            }
            Self::Odd(what) => format!("it is {what}: move it away"),
        }
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathDiff {
    /// Absolute.
    pub path: PathBuf,
    /// What becomes of it.
    pub fate: Fate,
    /// What forbids that.
    pub obstacle: Option<Obstacle>,
    /// What is there.
    pub before: FileState,
    /// The desired content.
    pub after: FileState,
    /// The contents of both.
    pub contents: (Vec<u8>, Vec<u8>),
    /// What was there before it was ours.
    pub original: FileState,
}

/// The whole of it, in the order of writing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    /// Each path once.
    pub paths: Vec<PathDiff>,
}

/// The bytes of a file, with the marker where its format has room for one.
pub fn bytes(file: &File) -> Vec<u8> {
    if file.kind.takes_comment() {
        header::mark(&file.content)
    } else {
        file.content.clone()
    }
    .into_bytes()
}

/// Every path that has to be looked at, directories before what is in them: those of the plan, with all they are in, and those
/// that are ours.
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

/// Directories that have to be there. In the order of paths, which has parents first.
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
    /// Compares. `found` has every one of [`paths`].
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
        // What is in a directory goes before it.
        let stale = owned
            .iter()
            .rev()
            .filter(|(path, _)| !kept.contains(path.as_path()));
        let given_back = stale.filter_map(|(path, owned)| give_back(path, owned, at(path)));
        Self {
            paths: made.chain(files).chain(given_back).collect(),
        }
    }

    /// What it takes to give everything back.
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

    /// What it takes to undo an apply.
    pub fn of_rollback(past: &Past, found: &BTreeMap<PathBuf, Found>) -> Self {
        let nothing = Found::nothing();
        let undone = past.changes.iter().rev().map(Change::reversed);
        let paths = undone
            .filter_map(|change| take_back(&change, found.get(&change.path).unwrap_or(&nothing)));
        Self {
            paths: paths.collect(),
        }
    }

    /// What forbids it.
    pub fn obstacles(&self, force: bool) -> Vec<(&Path, &Obstacle)> {
        let all = self
            .paths
            .iter()
            .filter_map(|path_diff| Some((path_diff.path.as_path(), path_diff.obstacle.as_ref()?)));
        all.filter(|(_, obstacle)| !(force && obstacle.yields_to_force()))
            .collect()
    }

    /// Whether everything is as desired.
    pub fn is_settled(&self) -> bool {
        self.paths
            .iter()
            .all(|path_diff| path_diff.fate == Fate::Unchanged)
    }

    /// The changes, with what they need.
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

    /// What is ours once that has happened.
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

/// None where there is a directory that is not ours: it stays another program's.
fn directory(path: &Path, mode: u32, found: &Found, owned: Option<&Owned>) -> Option<PathDiff> {
    let (before, obstacle) = match found {
        Found::Shape(FileState::File(_), _) => {
            (FileState::Absent, Some(Obstacle::Odd("a file".into())))
        }
        // A link to a directory is the administrator's: nothing is written through it.
        Found::Odd(what) if what.starts_with("a symbolic link") => return None,
        Found::Odd(what) => (FileState::Absent, Some(Obstacle::Odd(what.clone()))),
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
        Found::Odd(_) => (FileState::Absent, Vec::new()),
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
        Found::Odd(what) => return Some(Obstacle::Odd(what.clone())),
        Found::Shape(shape, bytes) => (shape, bytes),
    };
    if let FileKind::Merged { base } = &wanted.kind {
        let there = matches!(shape, FileState::File(_)).then_some(bytes.as_slice());
        return (there != base.as_ref().map(String::as_bytes)).then_some(Obstacle::Stale);
    }
    match (shape, owned) {
        (FileState::Absent, _) => None,
        (FileState::Directory(_), _) => Some(Obstacle::Odd("a directory".into())),
        (FileState::File(_), Some(owned)) => is_edited(shape, owned).then_some(Obstacle::Edited),
        (FileState::File(_), None) => match header::read(bytes) {
            Header::None => Some(Obstacle::Foreign),
            Header::Edited => Some(Obstacle::Edited),
            Header::Intact => None,
        },
    }
}

/// Other permissions are no edit: they are corrected.
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

/// None where it is done already. What is after the change is in the store, and comes from there.
fn take_back(change: &Change, found: &Found) -> Option<PathDiff> {
    let (before, there, odd) = match found {
        Found::Shape(shape, bytes) => (shape.clone(), bytes.clone(), None),
        Found::Odd(what) => (
            FileState::Absent,
            Vec::new(),
            Some(Obstacle::Odd(what.clone())),
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
