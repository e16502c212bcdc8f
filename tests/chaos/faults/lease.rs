//! Faults of leases, and hosts that believe to have another host's subnet.

use std::fmt;

use lab::{LabError, Signal};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done};

/// The key of a host is deleted by hand.
pub struct KeyDeleted(usize);

impl KeyDeleted {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.ours(random))
    }
}

impl fmt::Display for KeyDeleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: key deleted", self.0)
    }
}

impl Fault for KeyDeleted {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Lease(self.0), Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let Some(key) = cluster.lease_key(self.0) else {
            return Ok(());
        };
        cluster.with_host(self.0, |known| known.lost_its_key = true);
        cluster.ctl(&["del", &key]).map(drop)
    }
}

/// The lease of a host ends while its daemon is suspended, or killed.
pub struct Expired {
    host: usize,
    is_killed: bool,
}

impl Expired {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            is_killed: random.random_bool(0.5),
        }
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_killed {
            "killed"
        } else {
            "suspended"
        };
        write!(
            f,
            "h{}: lease expired while the daemon is {what}",
            self.host
        )
    }
}

impl Fault for Expired {
    fn uses(&self) -> Vec<Part> {
        // A host that cannot reach etcd could not learn of it.
        vec![
            Part::Daemon(self.host),
            Part::Lease(self.host),
            Part::Path(self.host),
            Part::Etcd,
        ]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        if self.is_killed {
            cluster.stop_daemon(self.host, Signal::KILL).map(drop)?
        } else {
            cluster.suspend(self.host, true)?
        }
        cluster.expire(self.host);
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        if self.is_killed {
            cluster.start_daemon(self.host)
        } else {
            cluster.suspend(self.host, false)
        }
    }
}

/// How a host comes back whose subnet another one has leased.
#[derive(Debug, Clone, Copy)]
enum Return {
    /// It was suspended.
    Suspended,
    /// It starts as usual.
    Started,
    /// It starts while etcd has the NOSPACE alarm.
    NoSpace,
    /// It starts while it cannot reach etcd, with a state file of the day before yesterday.
    CutOff,
}

/// The lease of a host expires, and another host leases its subnet. Then the first one comes back.
pub struct Taken {
    owner: usize,
    thief: usize,
    way: Return,
}

impl Taken {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        let (owner, thief) = target.two(random);
        let ways = [
            Return::Suspended,
            Return::Started,
            Return::NoSpace,
            Return::CutOff,
        ];
        Self {
            owner,
            thief,
            way: ways[random.random_range(0..ways.len())],
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "h{}: subnet taken by h{}, then it comes back: {:?}",
            self.owner, self.thief, self.way
        )
    }
}

impl Fault for Taken {
    fn uses(&self) -> Vec<Part> {
        let parts = [self.owner, self.thief].map(|host| {
            [
                Part::Daemon(host),
                Part::Lease(host),
                Part::Path(host),
                Part::Entries(host),
                Part::Address(host),
            ]
        });
        parts.into_iter().flatten().chain([Part::Etcd]).collect()
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let (owner, thief) = (self.owner, self.thief);
        match self.way {
            Return::Suspended => cluster.suspend(owner, true)?,
            Return::Started | Return::NoSpace | Return::CutOff => {
                cluster.stop_daemon(owner, Signal::KILL)?;
            }
        }
        cluster.stop_daemon(thief, Signal::KILL)?;
        let env = cluster.node(owner).read("/run/flannel/subnet.env")?;
        let is_free = cluster.expire(owner) && cluster.expire(thief);
        if !is_free {
            // Nothing is taken if etcd does not answer.
            self.way = Return::Started;
            cluster.start_daemon(thief)?;
            return cluster.start_daemon(owner);
        }
        // A host prefers the subnet of its file if it is free.
        cluster.wipe(thief)?;
        cluster.node(thief).write("/run/flannel/subnet.env", env)?;
        cluster.start_daemon(thief)?;
        super::datastore::soon(|| cluster.with_host(thief, |known| known.is_live()));
        cluster.with_host(thief, |known| known.lost_its_key = false);
        match self.way {
            Return::Suspended => cluster.suspend(owner, false),
            Return::Started => cluster.start_daemon(owner),
            Return::NoSpace => {
                super::datastore::raise_alarm(cluster)?;
                cluster.start_daemon(owner)
            }
            Return::CutOff => {
                super::network::cut_off(cluster, owner)?;
                age_state(cluster, owner)?;
                cluster.start_daemon(owner)
            }
        }
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        match self.way {
            Return::NoSpace => super::datastore::clear_alarm(cluster),
            Return::CutOff => super::network::let_in(cluster, self.owner),
            Return::Suspended | Return::Started => Ok(()),
        }
    }
}

/// Makes a host's state file two days older.
fn age_state(cluster: &Cluster, host: usize) -> Done {
    edit_state(cluster, host, |state| {
        let saved = state["saved"].as_u64().unwrap_or_default();
        state["saved"] = saved.saturating_sub(2 * 24 * 60 * 60).into();
    })
}

fn edit_state(cluster: &Cluster, host: usize, edit: impl FnOnce(&mut serde_json::Value)) -> Done {
    let path = cluster.disk(host, "state.json");
    let failed = |why: String| LabError::failed(&format!("h{host}"), "edit its state file", why);
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let mut state = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    edit(&mut state);
    std::fs::write(&path, state.to_string()).map_err(|error| failed(error.to_string()))
}

/// A host is installed again from an image of another one: same machine id, same state file.
pub struct Cloned {
    original: usize,
    clone: usize,
    is_cut_off: bool,
}

impl Cloned {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        let (original, clone) = target.two(random);
        Self {
            original,
            clone,
            is_cut_off: random.random_bool(0.6),
        }
    }
}

impl fmt::Display for Cloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.is_cut_off {
            ", and cannot reach etcd"
        } else {
            ""
        };
        write!(f, "h{}: cloned from h{}{cut}", self.clone, self.original)
    }
}

impl Fault for Cloned {
    fn uses(&self) -> Vec<Part> {
        let (one, other) = (self.original, self.clone);
        let mut parts = vec![
            Part::Daemon(one),
            Part::Lease(one),
            Part::Daemon(other),
            Part::Lease(other),
        ];
        parts.extend([
            Part::Path(other),
            Part::Entries(other),
            Part::Address(other),
            Part::Etcd,
        ]);
        parts
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let (original, clone) = (self.original, self.clone);
        cluster.stop_daemon(clone, Signal::KILL)?;
        cluster.wipe(clone)?;
        for file in ["state.json", "machine-id"] {
            let (from, to) = (cluster.disk(original, file), cluster.disk(clone, file));
            // Written into the file that is there: it is mounted over the machine's.
            let copied = std::fs::read(&from).and_then(|content| std::fs::write(&to, content));
            copied.map_err(|error| LabError::failed(&format!("h{clone}"), "copy a disk", error))?;
        }
        if self.is_cut_off {
            super::network::cut_off(cluster, clone)?;
        }
        cluster.start_daemon(clone)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        super::network::let_in(cluster, self.clone)?;
        // An operator gives the clone an id of its own.
        let id = format!("{:032x}\n", self.clone);
        std::fs::write(cluster.disk(self.clone, "machine-id"), id)
            .map_err(|error| LabError::failed("a clone", "give it a machine id", error))
    }
}
