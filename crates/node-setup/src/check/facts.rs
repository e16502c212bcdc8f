//! Facts about a host. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::systemctl::{UnitStatus, Units};

#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Current time in seconds since 1970.
    pub now: u64,
    pub systemd: Option<u16>,
    /// The examined files below the root.
    pub files: BTreeMap<PathBuf, FileFact>,
    /// Facts that only a running host has; `None` for another root.
    pub live: Option<Live>,
}

/// Content of a path, links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    Absent,
    /// A directory, with its file names.
    Directory(Vec<String>),
    File {
        /// Content, up to a limit.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// User ID of the owner.
        user: u32,
    },
    /// The file cannot be read, for this reason.
    Unreadable(String),
}

/// Version of the mounted control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cgroup {
    /// Version 1, possibly with version 2 beside it.
    V1,
    /// Version 2 only.
    #[default]
    V2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    pub port: u16,
    /// Program that has the port open, if known.
    pub program: Option<String>,
}

/// File of a program.
#[derive(Debug, Clone, Default)]
pub struct Binary {
    /// First bytes.
    pub head: Vec<u8>,
    /// SELinux type.
    pub label: Option<String>,
    /// Whether its file system is mounted `noexec`.
    pub noexec: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// A path on it, which may not exist yet.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Free space in bytes.
    pub free: u64,
    /// Number of inodes; 0 if there is no limit.
    pub inodes: u64,
    /// Number of free inodes.
    pub free_inodes: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Live {
    /// User ID of this process.
    pub user: u32,
    /// Kernel release, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// Name of process 1.
    pub init: String,
    pub cgroup: Cgroup,
    /// Swap devices and files.
    pub swaps: Vec<String>,
    pub hostname: String,
    /// Interfaces and their addresses.
    pub addresses: Vec<(String, IpNetwork)>,
    /// Routes other than the default route, with their interfaces.
    pub routes: Vec<(String, Ipv4Network)>,
    pub default_route: bool,
    pub listeners: Vec<Listener>,
    /// States of the examined units.
    pub units: Units,
    /// The examined sysctls that exist.
    pub sysctls: BTreeMap<String, String>,
    /// The examined kernel modules, and whether the kernel has them.
    pub modules: BTreeMap<String, bool>,
    /// Versions that the examined programs report; `None` if a program does not exist or is not executable.
    pub programs: BTreeMap<PathBuf, Option<String>>,
    /// Tools found on the path.
    pub tools: Vec<String>,
    /// Whether the clock is synchronized, if known.
    pub synchronised: Option<bool>,
    /// Output of `iptables-save`, by variant: `iptables-legacy`, `iptables-nft`.
    pub rules: BTreeMap<String, String>,
    /// MTUs of interfaces.
    pub links: Vec<(String, u32)>,
    /// First bytes of this program.
    pub own_head: Vec<u8>,
    /// The programs of the node that exist.
    pub binaries: BTreeMap<PathBuf, Binary>,
    /// Whether SELinux enforces; `None` if it is off.
    pub selinux: Option<bool>,
    /// File systems that need free space.
    pub disks: Vec<Disk>,
    /// Output of `systemd-analyze verify` for installed units of the node.
    pub verified: BTreeMap<String, String>,
}

impl Facts {
    /// Returns the content of a path; `Absent` if it was not examined.
    pub fn at(&self, path: &Path) -> &FileFact {
        self.files.get(path).unwrap_or(&FileFact::Absent)
    }

    /// Returns the text of a file, if it could be read.
    pub fn text(&self, path: &Path) -> Option<&str> {
        match self.at(path) {
            FileFact::File { bytes, .. } => str::from_utf8(bytes).ok(),
            FileFact::Absent | FileFact::Directory(_) | FileFact::Unreadable(_) => None,
        }
    }
}

impl Live {
    /// Returns what the program with this name says of its version.
    pub fn version(&self, program: &str) -> Option<&str> {
        let (_, said) = self
            .programs
            .iter()
            .find(|(path, _)| path.ends_with(program))?;
        said.as_deref()
    }

    pub fn unit(&self, name: &str) -> UnitStatus {
        self.units.get(name).cloned().unwrap_or_default()
    }
}
