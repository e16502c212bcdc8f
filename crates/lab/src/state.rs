//! Labs that outlive the process that made them: one JSON file each.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::is_name;
use super::process::send;
use super::{LabError, Node, Signal, tools, wait_until};

/// A lab that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLab {
    name: String,
    /// Its outer namespaces; their first process holds the lab.
    #[serde(rename = "switch")]
    bridge: Node,
    /// When that process started, in clock ticks since boot: a process id alone may be someone else's by now.
    started: u64,
    nodes: Vec<Node>,
    /// The daemon of every host: program and flags.
    #[serde(default)]
    flanneld: Vec<String>,
}

/// All labs that were kept, dead ones too, by name.
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
    let step = format!("read {} (remove it if the lab is gone)", path.display());
    lab.map_err(|error| LabError::failed("this machine", step, error))
}

impl KeptLab {
    /// The lab of this name, if it was kept and lives.
    pub fn find(name: &str) -> Result<Self, LabError> {
        let found = kept_labs()?
            .into_iter()
            .find(|lab| lab.name == name && lab.alive());
        let hint = "start it with `rflannel lab up --keep`, list all with `rflannel lab ps`";
        found.ok_or_else(|| LabError::BadOption(format!("no lab {name:?} is up: {hint}")))
    }

    /// Checks, before a lab of this name is made, that it can be kept; forgets a dead one.
    pub fn reserve(name: &str) -> Result<(), LabError> {
        match kept_labs()?.into_iter().find(|lab| lab.name == name) {
            Some(lab) if lab.alive() => {
                let way = format!(
                    "`rflannel lab down --name {name}` ends it, `--name` gives another name"
                );
                Err(LabError::BadOption(format!(
                    "lab {name} is up already: {way}"
                )))
            }
            Some(dead) => dead.down(),
            None => Ok(()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its outer namespaces.
    pub(super) fn bridge(&self) -> &Node {
        &self.bridge
    }

    /// The daemon of every host: program and flags.
    pub fn flanneld(&self) -> &[String] {
        &self.flanneld
    }

    /// Hosts and etcd members.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name; `2` means `h2`.
    pub fn node(&self, name: &str) -> Result<&Node, LabError> {
        let number = format!("h{name}");
        let all = || self.nodes.iter().chain([&self.bridge]);
        let names = || all().map(Node::name).collect::<Vec<_>>().join(", ");
        let unknown = || {
            LabError::BadOption(format!(
                "{} has no host {name:?}, only {}",
                self.name,
                names()
            ))
        };
        all()
            .find(|node| node.name == name || node.name == number)
            .ok_or_else(unknown)
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        start_of(self.bridge.pid) == Some(self.started)
    }

    /// Ends it and forgets it.
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
                "its first process does not die",
            ));
        }
        let removed = file(&self.name).and_then(fs::remove_file);
        removed.map_err(|error| LabError::failed(&self.name, "forget the lab", error))
    }
}

/// Writes down a lab that is to be kept.
pub(super) fn save(
    name: &str,
    bridge: &Node,
    nodes: &[Node],
    flanneld: Vec<String>,
) -> Result<(), LabError> {
    let fail = |error: io::Error| LabError::failed(name, "write down the lab", error);
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
        // Readers see all of it or nothing.
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

/// Where labs are written down: under `/run`, or in the directory for temporary files if that is read-only.
fn base() -> io::Result<PathBuf> {
    let run = PathBuf::from("/run/rflannel-lab");
    if private_dir(&run).is_ok() {
        return Ok(run);
    }
    let temporary = std::env::temp_dir().join("rflannel-lab");
    private_dir(&temporary).map(|()| temporary)
}

/// A directory that only we can have written into.
fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    let meta = fs::symlink_metadata(path)?;
    let private = meta.is_dir()
        && meta.mode() & 0o077 == 0
        && meta.uid() == rustix::process::geteuid().as_raw();
    let other = || {
        io::Error::other(format!(
            "{} belongs to someone else: remove it",
            path.display()
        ))
    };
    if private { Ok(()) } else { Err(other()) }
}

/// When a living process started: field 22 of its `stat`, the 20th after the parenthesised name.
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
