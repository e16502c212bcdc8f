//! Describes what a node must contain: files with their content, directories, and units in the order they start. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// The service that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The host itself: udev, sysctl, modules, directories.
    Host,
    Flanneld,
    /// The container engine, docker.
    Docker,
    /// The adapter with which a kubelet without dockershim uses docker.
    CriDockerd,
    /// The container engine, containerd.
    Containerd,
    Kubelet,
    KubeProxy,
    /// Objects for `kubectl apply`, which are not for this node.
    Cluster,
}

impl Service {
    /// Returns the name that settings and messages use.
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

/// Kind of a file: whether it can have a header, and whether node-setup alone writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A systemd unit. Takes a comment.
    Unit,
    /// A drop-in of another program's unit. Takes a comment.
    DropIn,
    /// Another configuration file in which a line that begins with `#` is a comment (YAML, TOML, sysctl, …).
    Config,
    /// A managed JSON file, which cannot have a header.
    Json,
    /// A file of another program with merged settings. `content` is the whole result.
    Merged {
        /// Content of the file when it was merged; `None` if it did not exist. If the content has changed by the
        /// time of writing, the plan is out of date.
        base: Option<String>,
    },
    /// Objects for `kubectl apply` on a machine with administrator rights. May contain comments.
    Manifest,
}

impl FileKind {
    /// Returns whether the file may begin with a comment line (`# …`).
    pub const fn takes_comment(&self) -> bool {
        match self {
            Self::Unit | Self::DropIn | Self::Config | Self::Manifest => true,
            Self::Json | Self::Merged { .. } => false,
        }
    }
}

/// What must follow a change of a file (and `systemctl daemon-reload`, if it is a unit or a
/// drop-in).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing: the file is read when it is needed.
    None,
    /// The unit has to be restarted.
    Restart(&'static str),
    /// `systemctl reload` of the unit is enough.
    Reload(&'static str),
    /// A command that disturbs nothing: program and arguments.
    Run(&'static [&'static str]),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute path on the target.
    pub path: PathBuf,
    /// Whole content, without a header. Never a secret.
    pub content: String,
    pub mode: u32,
    pub kind: FileKind,
    pub service: Service,
    pub effect: Effect,
}

/// A directory that must exist. It is never emptied or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directory {
    pub path: PathBuf,
    /// Permissions, if it is created. An existing directory keeps its own.
    pub mode: u32,
}

/// A unit to enable and to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitUse {
    /// Its name, such as `flanneld.service`.
    pub name: &'static str,
    pub service: Service,
    /// Whether this plan writes the unit. Otherwise it comes from a package and may be missing.
    pub ours: bool,
}

/// Something that an operator should know. `explain` has more on each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable name, for `explain`.
    pub id: &'static str,
    /// One line: the fact, and what to do.
    pub text: String,
}

/// Something on the host that contradicts the plan. Nothing is written until it is corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The file or unit.
    pub path: String,
    pub found: String,
    pub fix: &'static str,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.found, self.fix)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In the order of writing; no path appears twice.
    pub files: Vec<File>,
    /// Created before the files, parents first.
    pub directories: Vec<Directory>,
    /// In the order in which they are enabled and started.
    pub units: Vec<UnitUse>,
    pub conflicts: Vec<Conflict>,
    pub warnings: Vec<Warning>,
    /// Steps for the operator, as shell lines with `#` comments. Never run.
    pub next_steps: Vec<String>,
    /// The settings of this plan, as TOML.
    pub settings: String,
}
