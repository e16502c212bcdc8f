//! What the run knows of its hosts: what was done to them, and what they said last. Shared with the monitor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use lab::{Flanneld, Node};
use serde::Deserialize;
use tokio::time::Instant;

use crate::story::Story;

/// Time after a start in which the status socket may be missing.
const START: Duration = Duration::from_secs(5);
/// Time after a resume in which no answer is due.
const RESUME: Duration = Duration::from_secs(1);

/// Everything that the driver of the run and its monitor share.
#[derive(Debug)]
pub struct World {
    pub hosts: Vec<Host>,
    pub story: Story,
    /// Broken invariants.
    pub violations: Vec<String>,
}

impl World {
    /// Records a broken invariant, once if it stays broken.
    pub fn broken(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.story.record(&format!("VIOLATION: {what}"));
            self.violations.push(what);
        }
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    pub node: Node,
    /// Runs another `flanneld`, which has no status socket.
    pub is_other: bool,
    pub daemon: Option<Flanneld>,
    /// Number of starts of the daemon.
    pub starts: u32,
    /// Changes whenever something is done to the process: an answer to a question of before counts for nothing.
    pub epoch: u32,
    /// From when on the daemon has to answer.
    pub due: Instant,
    pub is_suspended: bool,
    /// Its key was removed by the run: another host may lease its subnet.
    pub lost_its_key: bool,
    /// The address that the host has to publish.
    pub home: Ipv4Addr,
    /// All addresses of its underlay, and since when it has them.
    pub addresses: BTreeMap<Ipv4Addr, Instant>,
    /// Where its log is.
    pub log: PathBuf,
    /// The last answer of its daemon.
    pub status: Option<Status>,
    /// The start whose READY=1 was looked at.
    pub ready_seen: u32,
    /// Since when it publishes an address that it does not have.
    pub wrong_address: Option<Instant>,
    /// Bytes of the log that were counted, and how many lines there were in them since the present step began.
    log_counted: (u64, usize),
}

impl Host {
    pub fn new(node: Node, is_other: bool, log: PathBuf) -> Self {
        let (home, now) = (node.address(), Instant::now());
        Self {
            node,
            is_other,
            daemon: None,
            starts: 0,
            epoch: 0,
            due: now,
            is_suspended: false,
            lost_its_key: false,
            home,
            addresses: BTreeMap::from([(home, now)]),
            log,
            status: None,
            ready_seen: 0,
            wrong_address: None,
            log_counted: (0, 0),
        }
    }

    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// A new daemon runs here.
    pub fn started(&mut self, daemon: Flanneld) {
        self.daemon = Some(daemon);
        self.starts += 1;
        self.changed(START);
    }

    /// The daemon is about to be ended: the monitor expects nothing of it any more.
    pub fn take_daemon(&mut self) -> Option<Flanneld> {
        self.changed(Duration::ZERO);
        self.daemon.take()
    }

    pub fn suspended(&mut self, is_suspended: bool) {
        self.is_suspended = is_suspended;
        self.changed(RESUME);
    }

    fn changed(&mut self, grace: Duration) {
        self.epoch += 1;
        self.due = Instant::now() + grace;
        self.status = None;
        self.wrong_address = None;
    }

    /// Whether its daemon runs and said READY=1.
    pub fn is_live(&self) -> bool {
        !self.is_suspended
            && self
                .daemon
                .as_ref()
                .is_some_and(|daemon| daemon.notify().ready())
    }

    /// Whether it serves its subnet, by its own account.
    pub fn serves(&self) -> bool {
        let fine = |status: &Status| ["fine", "degraded"].contains(&status.state.as_str());
        self.is_live() && (self.is_other || self.status.as_ref().is_some_and(fine))
    }

    /// `FLANNEL_SUBNET` of its `subnet.env`.
    pub fn subnet(&self) -> Option<String> {
        let text = self.node.read("/run/flannel/subnet.env").ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))
            .map(str::to_owned)
    }

    /// The last key component of its subnet: `172.30.1.0-24` of `172.30.1.1/24`.
    pub fn key(&self) -> Option<String> {
        Some(self.subnet()?.replace(".1/", ".0-"))
    }

    /// Lines in its log since the present step began.
    pub fn lines(&mut self) -> usize {
        let (from, lines) = &mut self.log_counted;
        let mut new = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(*from))?;
            file.read_to_end(&mut new)
        });
        *from += read.map_or(0, |length| length as u64);
        *lines += new.iter().filter(|byte| **byte == b'\n').count();
        *lines
    }

    /// A step begins: its log lines are counted from here.
    pub fn begin_step(&mut self) {
        self.lines();
        self.log_counted.1 = 0;
    }
}

/// The answer of the status socket, as far as it is checked. A missing member is an error, not a default.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    pub state: String,
    pub reasons: Vec<String>,
    pub etcd: Option<EtcdStatus>,
    pub overlay: Option<Overlay>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EtcdStatus {
    pub watching: bool,
}

/// The host's part in the overlay.
#[derive(Debug, Clone, Deserialize)]
pub struct Overlay {
    pub lost: Option<String>,
    pub public_ips: Vec<Ipv4Addr>,
    pub entries: Entries,
    pub firewall: Option<Firewall>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Entries {
    pub missing: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Firewall {
    pub trouble: Option<String>,
}

impl Status {
    /// The address that the host publishes.
    pub fn public_ip(&self) -> Option<Ipv4Addr> {
        self.overlay.as_ref()?.public_ips.first().copied()
    }

    /// Entries that the kernel lacks.
    pub fn missing(&self) -> u64 {
        self.overlay
            .iter()
            .flat_map(|overlay| overlay.entries.missing.values())
            .sum()
    }

    pub fn is_watching(&self) -> bool {
        self.etcd.as_ref().is_some_and(|etcd| etcd.watching)
    }
}
