//! Every revision that etcd had, and what must be so in all of them.

use std::collections::{BTreeMap, BTreeSet};

use lab::{Lab, LabError};
use serde_json::Value;

use super::HOSTS;
use crate::PREFIX;

/// A host that may take any subnet from now on.
pub(super) const FORGETFUL: &str = "forgetful";
/// A host that has a subnet again.
const SETTLED: &str = "settled";

/// Where the test notes what a host may do, in the same history as the leases.
fn note_key(host: usize) -> String {
    format!("/notes/10.64.0.{host}")
}

/// Notes something about a host; says whether etcd took it.
pub(super) fn note(lab: &Lab, host: usize, text: &str) -> bool {
    let args = [
        "--dial-timeout=1s",
        "--command-timeout=1s",
        "put",
        &note_key(host),
        text,
    ];
    lab.etcd().is_ok_and(|etcd| etcd.ctl(args).is_ok())
}

/// Notes which forgetful hosts have a subnet again.
pub(super) fn settle(lab: &mut Lab) {
    for host in 1..=HOSTS.into() {
        let noted = lab.etcd().and_then(|etcd| etcd.get(&note_key(host)));
        let is_forgetful = noted.is_ok_and(|noted| noted.as_deref() == Some(FORGETFUL));
        if is_forgetful
            && lab
                .flanneld(host)
                .is_ok_and(|flanneld| flanneld.notify().ready())
        {
            note(lab, host, SETTLED);
        }
    }
}

/// Which host has which key, and the notes, as of one revision.
type Revision = (BTreeMap<String, String>, BTreeMap<String, String>);

/// What was broken of: no one writes over another host's key; no one has another subnet than before unless another host
/// had it meanwhile.
pub(super) fn broken_promises(lab: &Lab) -> Result<Vec<String>, LabError> {
    let last = crate::history::revision(lab)?;
    let (mut broken, mut before, mut lives) = (Vec::new(), Revision::default(), BTreeMap::new());
    let mut owners = BTreeSet::new();
    for revision in 2..=last {
        let now = read(lab, revision)?;
        let overwritten = now
            .0
            .iter()
            .filter(|(key, ip)| before.0.get(*key).is_some_and(|old| old != *ip));
        broken.extend(overwritten.map(|(key, ip)| {
            format!("revision {revision}: {ip} wrote over {key}, before: {before:?}")
        }));
        owners.extend(now.0.clone());
        follow(&mut lives, &now, |what| {
            broken.push(format!("revision {revision}: {what}"))
        });
        before = now;
    }
    assert!(
        owners.len() > HOSTS.into(),
        "no subnet changed hands: {owners:?}"
    );
    Ok(broken)
}

/// A host's subnet, and whether another host has had it since.
struct Life {
    key: String,
    was_taken: bool,
}

fn follow(lives: &mut BTreeMap<String, Life>, now: &Revision, mut broken: impl FnMut(String)) {
    let (owners, notes) = now;
    lives.retain(|ip, _| notes.get(ip).is_none_or(|note| note != FORGETFUL));
    for (ip, life) in lives.iter_mut() {
        life.was_taken |= owners.get(&life.key).is_some_and(|owner| owner != ip);
    }
    for (key, ip) in owners {
        let life = lives.get(ip);
        // A write whose answer was lost, and a second one: both are there for a moment.
        let still = life.is_some_and(|life| owners.get(&life.key) == Some(ip));
        if still {
            continue;
        }
        if let Some(life) = life.filter(|life| life.key != *key && !life.was_taken) {
            broken(format!("{ip} moved from {} to {key} for nothing", life.key));
        }
        if notes.get(ip).is_none_or(|note| note != FORGETFUL) {
            lives.insert(
                ip.clone(),
                Life {
                    key: key.clone(),
                    was_taken: false,
                },
            );
        }
    }
}

/// All keys, as of one revision.
fn read(lab: &Lab, revision: u64) -> Result<Revision, LabError> {
    let text = lab
        .etcd()?
        .ctl(["get", "--prefix", "/", &format!("--rev={revision}")])?;
    let lines: Vec<&str> = text.lines().collect();
    let mut read = Revision::default();
    for pair in lines.chunks_exact(2) {
        if let Some(name) = pair[0].strip_prefix(&format!("{PREFIX}/subnets/")) {
            let lease: Value = serde_json::from_str(pair[1]).unwrap_or_default();
            read.0.insert(
                name.to_owned(),
                lease["PublicIP"].as_str().unwrap_or_default().to_owned(),
            );
        } else if let Some(ip) = pair[0].strip_prefix("/notes/") {
            read.1.insert(ip.to_owned(), pair[1].to_owned());
        }
    }
    Ok(read)
}
