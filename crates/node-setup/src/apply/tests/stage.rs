//! Trees in temporary directories, plans for them, and steps that fail.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::file_state::Stamp;
use super::super::filesystem::{Found, Fs, FsError, Root};
use super::super::{Session, diff, diff_against, store};
use crate::{Effect, File, FileKind, Plan, Service};

/// Everything plans and trees are made of: few, so that they meet.
const PATHS: &[&str] = &[
    "/etc/a/one.service",
    "/etc/a/one.service.d/50-x.conf",
    "/etc/b/two.conf",
    "/etc/b/deep/er/three.json",
    "/opt/four",
];

/// What an entry of a tree is: permissions, time, owner, content (none: a directory).
type Entry = (u32, Option<(i64, i64)>, (u32, u32), Option<Vec<u8>>);

/// A file by content and mode, a day old.
#[derive(Debug, Clone, Default)]
pub(super) struct Prior(BTreeMap<String, (String, u32)>);

impl Prior {
    pub(super) fn of(files: &[(&str, &str, u32)]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text, mode)| ((*path).into(), ((*text).into(), *mode)))
                .collect(),
        )
    }
}

pub(super) fn priors() -> impl Strategy<Value = Prior> {
    let mode = prop::sample::select(&[0o644_u32, 0o600, 0o755][..]);
    let path = prop::sample::select(PATHS).prop_map(str::to_owned);
    let other = "/etc/(a|b|z)/[a-c]{1,2}".prop_map(|path| path);
    let files = btree_map(prop_oneof![path, other], ("[a-z]{0,4}", mode), 0..5);
    files.prop_map(Prior)
}

/// Three plans.
pub(super) fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let paths = btree_set(prop::sample::select(PATHS), 1..5);
    let one = (paths, "[a-b]{1}")
        .prop_map(|(paths, text)| plan(&paths.into_iter().collect::<Vec<_>>(), &text));
    vec(one, 3)
}

pub(super) fn plan(paths: &[&str], text: &str) -> Plan {
    let kind = |path: &str| {
        if path.ends_with("json") {
            FileKind::Json
        } else {
            FileKind::Config
        }
    };
    plan_of(
        paths
            .iter()
            .map(|path| file(path, text, kind(path)))
            .collect(),
    )
}

pub(super) fn plan_of(files: Vec<File>) -> Plan {
    Plan {
        files,
        directories: Vec::new(),
        units: Vec::new(),
        conflicts: Vec::new(),
        warnings: Vec::new(),
        next_steps: Vec::new(),
        settings: String::new(),
    }
}

pub(super) fn file(path: &str, text: &str, kind: FileKind) -> File {
    File {
        path: path.into(),
        content: text.into(),
        mode: 0o644,
        kind,
        service: Service::Host,
        effect: Effect::None,
    }
}

/// A root in a temporary directory.
pub(super) struct Node {
    directory: TempDir,
    pub(super) root: Root,
}

impl Node {
    pub(super) fn new(prior: &Prior) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("var/lib")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let node = Self { directory, root };
        for (path, (text, mode)) in &prior.0 {
            let path = node.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            let yesterday = SystemTime::now() - Duration::from_secs(86_400);
            fs::File::open(&path)
                .unwrap()
                .set_modified(yesterday)
                .unwrap();
        }
        node
    }

    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory
            .path()
            .join(path.as_ref().strip_prefix("/").unwrap())
    }

    pub(super) fn session(&self) -> Session<'_> {
        Session::open(&self.root).unwrap()
    }

    /// Every path with what it is; without the store.
    pub(super) fn snapshot(&self) -> BTreeMap<PathBuf, Entry> {
        let mut all = self.everything();
        all.retain(|path, _| !path.starts_with("/var/lib/rflannel"));
        all
    }

    /// With it.
    pub(super) fn everything(&self) -> BTreeMap<PathBuf, Entry> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.directory.path().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = meta.is_file().then(|| fs::read(&path).unwrap());
                // A directory's time is that of its last entry.
                let time = meta.is_file().then(|| (meta.mtime(), meta.mtime_nsec()));
                let name = Path::new("/").join(path.strip_prefix(self.directory.path()).unwrap());
                found.insert(
                    name,
                    (
                        meta.mode() & 0o7777,
                        time,
                        (meta.uid(), meta.gid()),
                        content,
                    ),
                );
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        found
    }

    /// Whether the files of a prior tree are there and no other one.
    pub(super) fn holds(&self, prior: &Prior) -> bool {
        let files = self
            .snapshot()
            .into_iter()
            .filter_map(|(path, (mode, .., bytes))| Some((path, (mode, bytes?))));
        let expected = prior
            .0
            .iter()
            .map(|(path, (text, mode))| (path.into(), (*mode, text.clone().into_bytes())));
        files.collect::<BTreeMap<PathBuf, _>>() == expected.collect()
    }

    /// Files that a transaction should have cleared away.
    pub(super) fn strays(&self) -> Vec<String> {
        let all = self
            .everything()
            .into_keys()
            .map(|path| path.to_string_lossy().into_owned());
        all.filter(|path| path.contains(".rflannel-") || path.ends_with("journal.json"))
            .collect()
    }
}

/// Whether everything is as the plan says.
pub(super) fn settled(node: &Node, plan: &Plan) -> bool {
    let there = plan
        .files
        .iter()
        .all(|file| fs::read(node.path(&file.path)).is_ok_and(|bytes| bytes == diff::bytes(file)));
    there && diff_against(&node.root, plan).unwrap().is_settled() && node.strays().is_empty()
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// One step.
    Once,
    /// That one and all after it: the process is dead.
    ForGood,
}

/// A tree whose changing steps fail from some step on. A write that fails has written half.
pub(super) struct Faulty<'a> {
    root: &'a Root,
    left: Cell<Option<u32>>,
    trouble: Trouble,
}

impl<'a> Faulty<'a> {
    pub(super) fn new(root: &'a Root, at: u32, trouble: Trouble) -> Self {
        store::Store::new(root).create().unwrap();
        Self {
            root,
            left: Cell::new(Some(at)),
            trouble,
        }
    }

    pub(super) fn session(&self) -> Session<'_, Self> {
        Session {
            root: self,
            recovered: None,
            _guard: None,
        }
    }

    pub(super) fn fired(&self) -> bool {
        self.left
            .get()
            .is_none_or(|left| left == 0 && self.trouble == Trouble::ForGood)
    }

    fn step(&self, path: &Path) -> Result<(), FsError> {
        match (self.left.get(), self.trouble) {
            (None, _) => return Ok(()),
            (Some(0), Trouble::Once) => self.left.set(None),
            (Some(0), Trouble::ForGood) => {}
            (Some(left), _) => {
                self.left.set(Some(left - 1));
                return Ok(());
            }
        }
        Err(FsError {
            path: path.into(),
            doing: "spite",
            source: io::Error::other("this step fails"),
        })
    }
}

impl Fs for Faulty<'_> {
    fn look(&self, path: &Path) -> Result<Found, FsError> {
        self.root.look(path)
    }

    fn create_directory(&self, path: &Path, mode: u32) -> Result<(), FsError> {
        self.step(path)
            .and_then(|()| self.root.create_directory(path, mode))
    }

    fn write(&self, path: &Path, bytes: &[u8], stamp: &Stamp) -> Result<(), FsError> {
        self.step(path).inspect_err(|_| {
            self.root
                .write(path, &bytes[..bytes.len() / 2], stamp)
                .unwrap()
        })?;
        self.root.write(path, bytes, stamp)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.step(to).and_then(|()| self.root.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), FsError> {
        self.step(path).and_then(|()| self.root.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FsError> {
        self.step(path)
            .and_then(|()| self.root.remove_directory(path))
    }

    fn names(&self, path: &Path) -> Result<Vec<String>, FsError> {
        self.root.names(path)
    }
}
