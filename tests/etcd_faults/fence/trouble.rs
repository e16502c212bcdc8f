//! What goes wrong.

use std::time::Duration;

use lab::{Etcd, Lab, LabError, Signal};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{HOSTS, history};
use crate::{PREFIX, Test, lease_id_of, peers};

/// One fault, of a member or a host. Both are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Killed, and started again.
    MemberDies(usize),
    /// Stopped, connections open.
    MemberHangs(usize),
    /// All others stopped.
    MemberAlone(usize),
    /// No way to etcd, in silence.
    HostIsCut(usize),
    /// Killed, and started again.
    DaemonDies(usize),
    /// Stopped, and its lease expires meanwhile.
    DaemonSleepsLong(usize),
    /// Switched off until its lease has expired.
    HostIsOffLong(usize),
    /// The key is deleted by hand.
    KeyIsDeleted(usize),
    /// The machine is installed again from an image of the next one: its lease has expired, and it believes to have had the
    /// next one's subnet.
    HostForgets(usize),
}

use Trouble::*;

/// What must happen in each run: host 4 gets the subnet of host 1, which sleeps, and wakes up.
pub(super) const THEFT: [Trouble; 2] = [DaemonSleepsLong(1), HostForgets(4)];

/// Two at once, of different kinds; of a host first, for without a majority its lease cannot be ended.
pub(super) fn pair(random: &mut StdRng) -> [Trouble; 2] {
    let first = one(random);
    loop {
        let second = one(random);
        if std::mem::discriminant(&first) != std::mem::discriminant(&second)
            && !first.excludes(second)
        {
            return if first.is_of_member() {
                [second, first]
            } else {
                [first, second]
            };
        }
    }
}

fn one(random: &mut StdRng) -> Trouble {
    let host = random.random_range(1..=HOSTS.into());
    let member = random.random_range(1..=3);
    match random.random_range(0..9) {
        0 => MemberDies(member),
        1 => MemberHangs(member),
        2 => MemberAlone(member),
        3 => HostIsCut(host),
        4 => DaemonDies(host),
        5 | 6 => DaemonSleepsLong(host),
        7 => HostIsOffLong(host),
        8 if random.random_bool(0.3) => KeyIsDeleted(host),
        _ => HostForgets(host),
    }
}

/// Requests of the test itself wait for a dead member no longer than this.
const IMPATIENT: [&str; 2] = ["--dial-timeout=1s", "--command-timeout=1s"];

/// For a start where etcd answers.
const MOMENT: Duration = Duration::from_secs(2);

impl Trouble {
    /// Whether both are done to the same processes.
    fn excludes(self, other: Self) -> bool {
        let daemon = |trouble| match trouble {
            DaemonDies(host) | DaemonSleepsLong(host) | HostIsOffLong(host) | HostForgets(host) => {
                Some(host)
            }
            MemberDies(_) | MemberHangs(_) | MemberAlone(_) | HostIsCut(_) | KeyIsDeleted(_) => {
                None
            }
        };
        let is_same = daemon(self).is_some() && daemon(self) == daemon(other);
        is_same || (self.is_of_member() && other.is_of_member())
    }

    fn is_of_member(self) -> bool {
        matches!(self, MemberDies(_) | MemberHangs(_) | MemberAlone(_))
    }

    pub(super) fn begin(self, lab: &mut Lab) -> Test {
        match self {
            MemberDies(member) => lab.etcd_mut()?.kill(member),
            MemberHangs(member) => lab.etcd()?.signal(member, Signal::STOP),
            MemberAlone(member) => others(lab.etcd()?, member, Signal::STOP),
            HostIsCut(host) => lab.host(host).sh("nft 'add table inet cut; add chain inet cut out { type filter hook output priority 0; }; add rule inet cut out tcp dport 2379 drop'").map(drop),
            DaemonDies(host) => lab.end_flanneld(host, Signal::KILL).map(drop),
            DaemonSleepsLong(host) => {
                lab.flanneld(host)?.process().signal(Signal::STOP)?;
                expire(lab, host);
                Ok(())
            }
            HostIsOffLong(host) => {
                lab.end_flanneld(host, Signal::KILL)?;
                expire(lab, host);
                Ok(())
            }
            KeyIsDeleted(host) => {
                let _ = key_of(lab, host).map(|key| lab.etcd()?.ctl(IMPATIENT.into_iter().chain(["del", &key])));
                Ok(())
            }
            HostForgets(host) => {
                lab.end_flanneld(host, Signal::KILL)?;
                if history::note(lab, host, history::FORGETFUL) {
                    expire(lab, host);
                    reinstall(lab, host)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn end(self, lab: &mut Lab) -> Test {
        match self {
            MemberDies(member) => lab.etcd_mut()?.start_member(member),
            MemberHangs(member) => lab.etcd()?.signal(member, Signal::CONT),
            MemberAlone(member) => others(lab.etcd()?, member, Signal::CONT),
            HostIsCut(host) => lab.host(host).sh("nft delete table inet cut").map(drop),
            DaemonSleepsLong(host) => lab.flanneld(host)?.process().signal(Signal::CONT),
            DaemonDies(host) | HostIsOffLong(host) | HostForgets(host) => {
                // Before anything else gets better, if it can.
                let _ = lab.start_flanneld(host, &[])?.wait_ready(MOMENT);
                Ok(())
            }
            KeyIsDeleted(_) => Ok(()),
        }
    }
}

fn reinstall(lab: &Lab, host: usize) -> Test {
    let next = lab.host(host % usize::from(HOSTS) + 1);
    lab.host(host)
        .sh("rm -f /run/flannel/*; ip link del flannel.1 2>/dev/null || true")?;
    lab.host(host).write(
        "/run/flannel/subnet.env",
        next.read("/run/flannel/subnet.env").unwrap_or_default(),
    )
}

fn others(etcd: &Etcd, member: usize, signal: Signal) -> Test {
    (1..=3)
        .filter(|other| *other != member)
        .try_for_each(|other| etcd.signal(other, signal))
}

/// Ends the etcd lease of a host, if it has one and etcd answers.
fn expire(lab: &Lab, host: usize) {
    let Some(key) = key_of(lab, host) else { return };
    let revoke = |lease_id: String| {
        lab.etcd()?
            .ctl(IMPATIENT.into_iter().chain(["lease", "revoke", &lease_id]))
    };
    let _ = lease_id_of(lab, &key).and_then(revoke);
}

/// The key that announces a host.
fn key_of(lab: &Lab, host: usize) -> Option<String> {
    let ip = lab.host(host).address().to_string();
    let leases: Result<_, LabError> = lab.etcd().and_then(peers::leases);
    let (name, _) = leases
        .ok()?
        .into_iter()
        .find(|(_, lease)| lease["PublicIP"] == ip.as_str())?;
    Some(format!("{PREFIX}/subnets/{name}"))
}
