//! Reads the facts of a host: files, the kernel, systemd, programs. Changes nothing.

mod live;
mod machine;
mod ports;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::command::said;
pub use live::rules;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::facts::{Facts, FileFact};
use super::{conflicts, kubeconfig, needs, runtime};
use crate::host;
use crate::model::Model;

/// Size limit of examined files.
const LIMIT: u64 = 1 << 20;

/// Reads everything that the checks of `model` need, below `root`.
pub fn gather(model: &Model, root: &Path) -> io::Result<Facts> {
    let directory = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut facts = Facts {
        now: now(),
        systemd: host::installed_systemd(root),
        ..Facts::default()
    };
    for path in paths(model) {
        let fact = look(&directory, &path);
        facts.files.insert(path, fact);
    }
    for path in named_by_kubeconfigs(&facts) {
        let fact = look(&directory, &path);
        facts.files.insert(path, fact);
    }
    facts.live = (root == Path::new("/")).then(|| live::read(model));
    Ok(facts)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn paths(model: &Model) -> Vec<PathBuf> {
    let kubeconfigs = [
        "bootstrap.kubeconfig",
        "kubelet.kubeconfig",
        "kube-proxy.kubeconfig",
        "token.csv",
    ];
    let mut paths: Vec<PathBuf> = kubeconfigs
        .iter()
        .map(|name| model.dirs.kubernetes.join(name))
        .collect();
    paths.extend(
        ["ca-key.pem", "ca.key"]
            .iter()
            .map(|name| model.dirs.ssl.join(name)),
    );
    paths.extend(model.etcd.tls.iter().flatten().cloned());
    paths.extend(
        conflicts::paths()
            .chain(runtime::paths())
            .chain([needs::PLUGINS])
            .map(PathBuf::from),
    );
    paths
}

fn named_by_kubeconfigs(facts: &Facts) -> Vec<PathBuf> {
    let configs = facts
        .files
        .keys()
        .filter(|path| path.extension().is_some_and(|end| end == "kubeconfig"));
    configs
        .flat_map(|path| {
            facts
                .text(path)
                .map(|text| kubeconfig::files(text, path))
                .unwrap_or_default()
        })
        .collect()
}

/// Reads a path. Links are followed, but only below the root.
fn look(root: &OwnedFd, path: &Path) -> FileFact {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat2(root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Kernels before 5.6 do not have this call.
        Err(rustix::io::Errno::NOSYS) => openat(root, relative, flags, Mode::empty()),
        opened => opened,
    };
    match file.map_err(io::Error::from) {
        Ok(file) => {
            read(File::from(file)).unwrap_or_else(|error| FileFact::Unreadable(error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => FileFact::Absent,
        Err(error) => FileFact::Unreadable(format!("cannot be opened: {error}")),
    }
}

fn read(file: File) -> io::Result<FileFact> {
    let meta = file.metadata()?;
    if meta.is_dir() {
        return names(&file).map(FileFact::Directory);
    }
    if !meta.is_file() {
        return Ok(FileFact::Unreadable("is not a file".into()));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(FileFact::File {
        bytes,
        mode: meta.permissions().mode() & 0o7777,
        user: meta.uid(),
    })
}

fn names(directory: &File) -> io::Result<Vec<String>> {
    let entries = rustix::fs::Dir::read_from(directory)?;
    let names: Result<Vec<String>, _> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    let mut names = names?;
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}
