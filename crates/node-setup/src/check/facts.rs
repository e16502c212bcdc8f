//! What is known about a host, as read: pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::unit_status::{UnitStatus, Units};

/// A host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Seconds since 1970.
    pub now: u64,
    /// The version of systemd, if it is installed.
    pub systemd: Option<u16>,
    /// What was looked for below the root.
    pub files: BTreeMap<PathBuf, FileFact>,
    /// What only a running host has. None below another root.
    pub live: Option<Live>,
}

/// What stands at a path, links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    /// Nothing.
    Absent,
    /// A directory, with the names in it.
    Directory(Vec<String>),
    /// A file.
    File {
        /// Its content, up to a limit.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Who has it.
        user: u32,
    },
    /// The text says why it cannot be read.
    Unreadable(String),
}

/// How the kernel's control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cgroup {
    /// Version 1, perhaps with version 2 beside it.
    V1,
    /// Version 2 alone.
    #[default]
    V2,
}

/// An open port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The port.
    pub port: u16,
    /// Who has it, if that can be told.
    pub program: Option<String>,
}

/// A program as a file.
#[derive(Debug, Clone, Default)]
pub struct Binary {
    /// Its first bytes.
    pub head: Vec<u8>,
    /// What SELinux knows it as.
    pub label: Option<String>,
    /// Its file system is mounted `noexec`.
    pub noexec: bool,
}

/// A file system, in bytes and files.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// What lies on it, or will.
    pub path: PathBuf,
    /// All of it.
    pub size: u64,
    /// What is left.
    pub free: u64,
    /// Files that it can have; 0 if that is no matter.
    pub inodes: u64,
    /// Files that it can have in addition.
    pub free_inodes: u64,
}

/// A running host.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The user that checks.
    pub user: u32,
    /// Such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// Name of the first process.
    pub init: String,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Devices and files that are swapped to.
    pub swaps: Vec<String>,
    /// The host's name.
    pub hostname: String,
    /// Interfaces and their addresses.
    pub addresses: Vec<(String, IpNetwork)>,
    /// Routes that are not the default one, and their interfaces.
    pub routes: Vec<(String, Ipv4Network)>,
    /// Whether there is a default route.
    pub default_route: bool,
    /// Open ports.
    pub listeners: Vec<Listener>,
    /// Units that were asked for.
    pub units: Units,
    /// Kernel settings that were asked for: those that exist.
    pub sysctls: BTreeMap<String, String>,
    /// Modules and built-in parts that were asked for, and whether the kernel has them.
    pub modules: BTreeMap<String, bool>,
    /// Programs that were asked for, and what they say is their version; none: not there or not executable.
    pub programs: BTreeMap<PathBuf, Option<String>>,
    /// Tools that are on the path.
    pub tools: Vec<String>,
    /// Whether the clock is synchronised, if that can be told.
    pub synchronised: Option<bool>,
    /// What `iptables-save` prints, by its kind: `iptables-legacy`, `iptables-nft`.
    pub rules: BTreeMap<String, String>,
    /// The largest packets of interfaces, in bytes.
    pub links: Vec<(String, u32)>,
    /// The first bytes of the program that checks.
    pub own_head: Vec<u8>,
    /// The programs of the node that are there.
    pub binaries: BTreeMap<PathBuf, Binary>,
    /// Whether SELinux forbids what is against its rules. None: it is off.
    pub selinux: Option<bool>,
    /// Where there has to be room.
    pub disks: Vec<Disk>,
    /// What `systemd-analyze verify` says about units of the node that are installed.
    pub verified: BTreeMap<String, String>,
}

impl Facts {
    /// What stands at a path; nothing if no one looked.
    pub fn at(&self, path: &Path) -> &FileFact {
        self.files.get(path).unwrap_or(&FileFact::Absent)
    }

    /// The content of a file, if it could be read.
    pub fn text(&self, path: &Path) -> Option<&str> {
        match self.at(path) {
            FileFact::File { bytes, .. } => str::from_utf8(bytes).ok(),
            FileFact::Absent | FileFact::Directory(_) | FileFact::Unreadable(_) => None,
        }
    }
}

impl Live {
    /// What systemd says about a unit.
    pub fn unit(&self, name: &str) -> UnitStatus {
        self.units.get(name).cloned().unwrap_or_default()
    }

    /// Whether an address is the host's own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(_, own)| own.ip() == address)
    }
}
