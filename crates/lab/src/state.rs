//! Records the labs that outlive the process that created them, in one JSON file each.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::is_name;
use super::process::send;
use super::{LabError, Node, Signal, tools, wait_until};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLab {
    name: String,
    /// Its outer namespaces, whose first process holds the lab.
    #[serde(rename = "switch")]
    bridge: Node,
    /// Start time of that process in clock ticks since boot, because a process ID may be reused.
    started: u64,
    nodes: Vec<Node>,
    /// The daemon of every host: program and flags.
    #[serde(default)]
    flanneld: Vec<String>,
}

/// Returns all kept labs by name, including dead ones.
pub fn kept_labs() -> Result<Vec<KeptLab>, LabError> {
    tools::check_root()?;
    let fail = |error: io::Error| LabError::failed("this machine", "list labs", error);
    let mut labs = Vec::new();
    for entry in fs::read_dir(base().map_err(fail)?).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            labs.push(load(&path)?);
        }
    }
    labs.sort_by(|a: &KeptLab, b: &KeptLab| a.name.cmp(&b.name));
    Ok(labs)
}

fn load(path: &Path) -> Result<KeptLab, LabError> {
    let lab = fs::read_to_string(path).and_then(|text| Ok(serde_json::from_str(&text)?));
    let step = format!(
        "read {} (remove it if the lab no longer exists)",
        path.display()
    );
    lab.map_err(|error| LabError::failed("this machine", step, error))
}

impl KeptLab {
    /// Returns the lab with this name, if it was kept and runs.
    pub fn find(name: &str) -> Result<Self, LabError> {
        let found = kept_labs()?
            .into_iter()
            .find(|lab| lab.name == name && lab.alive());
        let hint = "start it with `rflannel lab up --keep`, list all with `rflannel lab ps`";
        found.ok_or_else(|| LabError::BadOption(format!("no lab {name:?} is running: {hint}")))
    }

    /// Checks before the creation of a lab that it can be kept under this name, and forgets a dead one.
    pub fn reserve(name: &str) -> Result<(), LabError> {
        match kept_labs()?.into_iter().find(|lab| lab.name == name) {
            Some(lab) if lab.alive() => {
                let way = format!(
                    "`rflannel lab down --name {name}` ends it, `--name` chooses another name"
                );
                Err(LabError::BadOption(format!(
                    "lab {name} is already running: {way}"
                )))
            }
            Some(dead) => dead.down(),
            None => Ok(()),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bridge(&self) -> &Node {
        &self.bridge
    }

    pub fn flanneld(&self) -> &[String] {
        &self.flanneld
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the node with this name; `2` means `h2`.
    pub fn node(&self, name: &str) -> Result<&Node, LabError> {
        let number = format!("h{name}");
        let all = || self.nodes.iter().chain([&self.bridge]);
        let names = || all().map(Node::name).collect::<Vec<_>>().join(", ");
        let unknown = || {
            LabError::BadOption(format!(
                "{} has no host {name:?}; it has {}",
                self.name,
                names()
            ))
        };
        all()
            .find(|node| node.name == name || node.name == number)
            .ok_or_else(unknown)
    }

    /// Returns whether it still runs.
    pub fn alive(&self) -> bool {
        start_of(self.bridge.pid) == Some(self.started)
    }

    /// Ends the lab and deletes its record.
    pub fn down(&self) -> Result<(), LabError> {
        if self.alive() {
            let sent = send(self.bridge.pid, Signal::KILL);
            sent.map_err(|error| LabError::failed(&self.name, "end the lab", error))?;
        }
        let ended = wait_until(Duration::from_secs(10), || {
            super::faults::wake(&self.nodes);
            !self.alive()
        });
        if !ended {
            return Err(LabError::failed(
                &self.name,
                "end the lab",
                "its first process does not end",
            ));
        }
        let removed = file(&self.name).and_then(fs::remove_file);
        removed.map_err(|error| LabError::failed(&self.name, "delete the record of the lab", error))
    }
}

pub(super) fn save(
    name: &str,
    bridge: &Node,
    nodes: &[Node],
    flanneld: Vec<String>,
) -> Result<(), LabError> {
    let fail = |error: io::Error| LabError::failed(name, "record the lab", error);
    if !is_name(name) {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    }
    let started = start_of(bridge.pid).ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    let lab = KeptLab {
        name: name.into(),
        bridge: bridge.clone(),
        started,
        nodes: nodes.to_vec(),
        flanneld,
    };
    let write = || {
        // Readers see the complete file or none.
        let (path, text) = (file(name)?, serde_json::to_string_pretty(&lab)?);
        let fresh = path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, path)
    };
    write().map_err(fail)
}

fn file(name: &str) -> io::Result<PathBuf> {
    Ok(base()?.join(name).with_extension("json"))
}

/// Returns the directory of records: below `/run`, or in the directory for temporary files if `/run` is read-only.
fn base() -> io::Result<PathBuf> {
    let run = PathBuf::from("/run/rflannel-lab");
    if private_dir(&run).is_ok() {
        return Ok(run);
    }
    let temporary = std::env::temp_dir().join("rflannel-lab");
    private_dir(&temporary).map(|()| temporary)
}

/// Creates a directory that only this user can write to.
fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    let meta = fs::symlink_metadata(path)?;
    let private = meta.is_dir()
        && meta.mode() & 0o077 == 0
        && meta.uid() == rustix::process::geteuid().as_raw();
    let other = || {
        io::Error::other(format!(
            "{} belongs to another user: remove it",
            path.display()
        ))
    };
    if private { Ok(()) } else { Err(other()) }
}

/// Returns the start time of a running process: field 22 of its `stat`, the 20th after the name in parentheses.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_start_and_no_dead_process() {
        let own = start_of(std::process::id());
        assert!(own.is_some_and(|ticks| ticks > 0));
        assert_eq!(own, start_of(std::process::id()));
        assert_eq!(start_of(u32::MAX), None);
    }
}
