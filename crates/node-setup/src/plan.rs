//! What a node is to hold: files with their content, directories, units in the order they start: pure.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Whom a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The host under the services: udev, sysctl, modules, directories.
    Host,
    /// The overlay's daemon.
    Flanneld,
    /// The container engine, docker.
    Docker,
    /// What lets a kubelet without dockershim use docker.
    CriDockerd,
    /// The container engine, containerd.
    Containerd,
    /// The node's agent.
    Kubelet,
    /// Service addresses.
    KubeProxy,
    /// Not for this node: objects for `kubectl apply`.
    Cluster,
}

impl Service {
    /// The name that settings and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Flanneld => "flanneld",
            Self::Docker => "docker",
            Self::CriDockerd => "cri-dockerd",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of file it is: whether a marker can stand in it, and whether it is ours alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A systemd unit. Takes a comment.
    Unit,
    /// A drop-in of another program's unit. Takes a comment.
    DropIn,
    /// Another configuration file in which a line that begins with `#` is a comment (YAML, TOML, sysctl, …).
    Config,
    /// A JSON managed file: it has no room for a marker.
    Json,
    /// A file of another program's that ours was merged into. `content` is the whole result.
    Merged {
        /// What the file held when the merge was made; `None` if it was not there. If it holds something else by the
        /// time of writing, the plan is stale.
        base: Option<String>,
    },
    /// Objects for `kubectl apply` on a machine that administers the cluster. Takes a comment.
    Manifest,
}

impl FileKind {
    /// Whether the file may begin with a comment line (`# …`).
    pub const fn takes_comment(&self) -> bool {
        match self {
            Self::Unit | Self::DropIn | Self::Config | Self::Manifest => true,
            Self::Json | Self::Merged { .. } => false,
        }
    }
}

/// What a changed file asks for, once it has been written (and after `systemctl daemon-reload` if it is a unit or a
/// drop-in).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing: it is read when it is needed.
    None,
    /// The unit has to be restarted to follow the file.
    Restart(&'static str),
    /// `systemctl reload` of the unit is enough.
    Reload(&'static str),
    /// A command that disturbs nothing: program and arguments.
    Run(&'static [&'static str]),
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Where it belongs on the target, absolute.
    pub path: PathBuf,
    /// All of it, without a marker. Never a secret.
    pub content: String,
    /// Permissions.
    pub mode: u32,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Whom it belongs to.
    pub service: Service,
    /// What follows from a change.
    pub effect: Effect,
}

/// A directory that has to be there. Never emptied, never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Absolute.
    pub path: PathBuf,
    /// Permissions, if it has to be made. One that is there keeps its own.
    pub mode: u32,
}

/// A unit to enable and to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitUse {
    /// Its name, such as `flanneld.service`.
    pub name: &'static str,
    /// Whose it is.
    pub service: Service,
    /// Whether this plan writes the unit itself. Otherwise it comes from a package (and may be missing).
    pub ours: bool,
}

/// Something an operator should know. `explain` has more on each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable name, for `explain`.
    pub id: &'static str,
    /// One line: what, and what to do.
    pub text: String,
}

/// Something on the host that contradicts the plan: nothing may be written before it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The file or unit that it is in.
    pub path: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// All that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In the order they are to be written; no path appears twice.
    pub files: Vec<File>,
    /// Made before the files, parents first.
    pub directories: Vec<Directory>,
    /// In the order they start. Enabled in the same order.
    pub units: Vec<UnitUse>,
    /// What has to be changed on the host before anything of this is written.
    pub conflicts: Vec<Conflict>,
    /// What to know.
    pub warnings: Vec<Warning>,
    /// What is left to people, as lines of a shell with `#` comments between them. Never run.
    pub next_steps: Vec<String>,
    /// The settings that this plan follows from, as TOML.
    pub settings: String,
}
