//! Faults of etcd.

use std::fmt;
use std::time::Duration;

use lab::{Signal, wait_until};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done, PREFIX};

/// Bound of waits for the run's own steps.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a step of the run itself; it goes on if it waited in vain.
pub fn soon(mut done: impl FnMut() -> bool) {
    wait_until(PATIENCE, || {
        let is_done = done();
        if !is_done {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_done
    });
}

fn member(random: &mut StdRng) -> usize {
    random.random_range(1..=3)
}

/// A member is killed, and started again when it is over.
pub struct MemberKilled(usize);

impl MemberKilled {
    pub fn draw(random: &mut StdRng, _: &Target) -> Self {
        Self(member(random))
    }
}

impl fmt::Display for MemberKilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}: member killed", self.0)
    }
}

impl Fault for MemberKilled {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.lab.etcd_mut()?.kill(self.0)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.lab.etcd_mut()?.start_member(self.0)?;
        cluster.etcd()?.wait_healthy()
    }
}

/// A member hangs; its connections stay open.
pub struct MemberHangs(usize);

impl MemberHangs {
    pub fn draw(random: &mut StdRng, _: &Target) -> Self {
        Self(member(random))
    }
}

impl fmt::Display for MemberHangs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}: member hangs", self.0)
    }
}

impl Fault for MemberHangs {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.etcd()?.signal(self.0, Signal::STOP)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.etcd()?.signal(self.0, Signal::CONT)?;
        cluster.etcd()?.wait_healthy()
    }
}

/// All members but one are killed.
pub struct MajorityLost(usize);

impl MajorityLost {
    pub fn draw(random: &mut StdRng, _: &Target) -> Self {
        Self(member(random))
    }
}

impl fmt::Display for MajorityLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd: majority lost, only e{} runs", self.0)
    }
}

impl Fault for MajorityLost {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        (1..=3)
            .filter(|other| *other != self.0)
            .try_for_each(|other| cluster.lab.etcd_mut()?.kill(other))
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        (1..=3)
            .filter(|other| *other != self.0)
            .try_for_each(|other| cluster.lab.etcd_mut()?.start_member(other))?;
        cluster.etcd()?.wait_healthy()
    }
}

/// The alarm of a full etcd: reads work, writes are refused.
pub struct NoSpace;

impl NoSpace {
    pub fn draw(_: &mut StdRng, _: &Target) -> Self {
        Self
    }
}

impl fmt::Display for NoSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd: no space")
    }
}

impl Fault for NoSpace {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        raise_alarm(cluster)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        clear_alarm(cluster)
    }
}

/// Raises the NOSPACE alarm, for which etcdctl has no command.
pub fn raise_alarm(cluster: &Cluster) -> Done {
    let node = cluster.etcd()?.node(1);
    let url = format!("http://{}:2379/v3/maintenance/alarm", node.address());
    let body = r#"{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}"#;
    node.sh(&format!("curl -sf -m 10 {url} -d '{body}'"))?;
    soon(|| !can_write(cluster));
    Ok(())
}

pub fn clear_alarm(cluster: &Cluster) -> Done {
    cluster.ctl(&["alarm", "disarm"])?;
    soon(|| can_write(cluster));
    Ok(())
}

fn can_write(cluster: &Cluster) -> bool {
    cluster.ctl(&["put", "/chaos/room", "1"]).is_ok()
}

/// The history is compacted. Together with a host that is cut off, its watch cannot be resumed.
pub struct Compacted;

impl Compacted {
    pub fn draw(_: &mut StdRng, _: &Target) -> Self {
        Self
    }
}

impl fmt::Display for Compacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd: history compacted")
    }
}

impl Fault for Compacted {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.etcd()?.put("/chaos/change", "1")?;
        let text = cluster.ctl(&["get", "/chaos/change", "--write-out=json"])?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        cluster
            .ctl(&["compact", &answer["header"]["revision"].to_string()])
            .map(drop)
    }
}

/// The network configuration is written again, with the same meaning in another form.
pub struct ConfigRewritten {
    form: usize,
    before: Option<String>,
}

impl ConfigRewritten {
    pub fn draw(random: &mut StdRng, _: &Target) -> Self {
        Self {
            form: random.random_range(0..3),
            before: None,
        }
    }
}

impl fmt::Display for ConfigRewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd: configuration rewritten, form {}", self.form)
    }
}

impl Fault for ConfigRewritten {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Etcd]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let key = format!("{PREFIX}/config");
        let before = cluster.etcd()?.get(&key)?.unwrap_or_default();
        let after = match self.form {
            0 => before.replace(',', " ,\n  "),
            1 => before.replace(r#""Type":"vxlan""#, r#""VNI":1,"Type":"vxlan""#),
            _ => before.replacen('{', r#"{"EnableIPv4":true,"#, 1),
        };
        self.before = Some(before);
        cluster.etcd()?.put(&key, after)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        let before = self.before.take().unwrap_or_default();
        cluster.etcd()?.put(&format!("{PREFIX}/config"), before)
    }

    fn lasts(&self) -> bool {
        true
    }
}
