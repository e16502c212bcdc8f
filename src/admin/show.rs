//! Leases, and what is done to them, as people and programs read it: pure.

use serde::Serialize;

use super::change::{Change, Hold, Plan, Put};
use super::{Expiry, InventoryEntry, Roll};
use crate::columns::{align, count};
use crate::status::text::time;
use crate::subnet::etcd::dump::Removal;
use crate::subnet::etcd::store::Before;
use crate::subnet::{Lease, Revision};

/// A lease, for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    key: String,
    /// Empty if the key is not one of a lease.
    subnets: Vec<String>,
    public_ips: Vec<String>,
    macs: Vec<String>,
    backend: &'a str,
    owner: Option<&'a str>,
    reserved: bool,
    /// Seconds until it expires; absent for a reservation.
    expires: Option<u64>,
    /// Seconds since it was renewed.
    renewed: Option<u64>,
    created: Revision,
    modified: Revision,
    problems: &'a [String],
    value: &'a str,
}

fn row<'a>(roll: &Roll, entry: &'a InventoryEntry) -> Row<'a> {
    let lease = entry.lease.as_ref();
    Row {
        key: format!("{}/subnets/{}", roll.prefix, entry.name),
        subnets: entry.subnets().iter().map(|subnet| subnet.to_string()).collect(),
        public_ips: entry.public(),
        macs: entry.macs(),
        backend: lease.map_or("", |lease| &*lease.attrs.backend_type),
        owner: entry.host(),
        reserved: entry.expiry == Expiry::Never,
        expires: match entry.expiry {
            Expiry::In(times) => Some(times.left.as_secs()),
            Expiry::Never | Expiry::Over => None,
        },
        renewed: entry.expiry.age().map(|age| age.as_secs()),
        created: lease.map_or(0, |lease| lease.created),
        modified: lease.map_or(0, |lease| lease.modified),
        problems: &entry.problems,
        value: &entry.value,
    }
}

/// All leases as one JSON document on one line.
pub fn json(roll: &Roll) -> String {
    let leases: Vec<Row<'_>> = roll.entries.iter().map(|entry| row(roll, entry)).collect();
    let network = roll.network.as_ref().map(|(network, _)| network.source.clone()).ok();
    serde_json::json!({
        "format": 1,
        "prefix": roll.prefix,
        "revision": roll.revision,
        "network": network,
        "trouble": roll.network.as_ref().err(),
        "leases": leases,
        "strays": roll.strays,
    })
    .to_string()
        + "\n"
}

/// One lease as one JSON document on one line.
pub fn json_of(roll: &Roll, entry: &InventoryEntry) -> String {
    serde_json::to_string(&row(roll, entry)).unwrap_or_default() + "\n"
}

/// All leases as a table, and a line about them.
pub fn table(roll: &Roll) -> String {
    let heading =
        ["subnet", "public address", "MAC", "expires", "owner", "problems"].map(str::to_owned).to_vec();
    let rows = roll.entries.iter().map(|entry| {
        let problems = if entry.problems.is_empty() { "-".to_owned() } else { entry.problems.join("; ") };
        vec![
            entry.title(),
            dash(entry.public()),
            dash(entry.macs()),
            expires(entry.expiry),
            entry.host().unwrap_or("-").to_owned(),
            problems,
        ]
    });
    let lines = align(std::iter::once(heading).chain(rows));
    lines.iter().map(|line| clean(line) + "\n").collect::<String>() + &summary(roll)
}

fn dash(list: Vec<String>) -> String {
    if list.is_empty() { "-".to_owned() } else { list.join(" ") }
}

fn summary(roll: &Roll) -> String {
    let of = |is: fn(&InventoryEntry) -> bool| roll.entries.iter().filter(|entry| is(entry)).count();
    let room = match &roll.network {
        Ok((network, _)) => {
            let rooms =
                network.ranges.iter().map(|range| format!("{} in {}", range.subnet_count(), range.network));
            format!("of {}", rooms.collect::<Vec<_>>().join(" and "))
        }
        Err(why) => format!("({why})"),
    };
    let mut line = format!(
        "{} {room}; {} reserved, {} with problems\n",
        count(roll.entries.len(), "lease", "leases"),
        of(|entry| entry.expiry == Expiry::Never),
        of(|entry| !entry.problems.is_empty())
    );
    if !roll.strays.is_empty() {
        line += &format!("owner records without a lease: {}\n", roll.strays.join(", "));
    }
    clean(&line)
}

fn expires(expiry: Expiry) -> String {
    match expiry {
        Expiry::Never => "never".into(),
        Expiry::In(times) => format!("in {}", time(times.left.as_secs_f64())),
        Expiry::Over => "now".into(),
    }
}

/// Everything about one lease.
pub fn details(roll: &Roll, entry: &InventoryEntry) -> String {
    let mut lines = vec![
        ("lease", entry.title()),
        ("key", format!("{}/subnets/{}", roll.prefix, entry.name)),
        ("host", entry.whose()),
        ("MAC", dash(entry.macs())),
        ("expires", lifetime(entry.expiry)),
    ];
    if let Some(lease) = &entry.lease {
        lines.push((
            "written",
            format!("created at revision {}, last written at {}", lease.created, lease.modified),
        ));
    }
    lines.push((
        "owner",
        match &entry.owner {
            Some((machine, at)) => format!("{}, recorded at revision {at}", machine.host()),
            None => "no record: of Go flannel, or its host has not come yet".into(),
        },
    ));
    lines.push(("value", entry.value.clone()));
    lines.extend(entry.problems.iter().map(|problem| ("problem", problem.clone())));
    lines.into_iter().map(|(name, text)| format!("{name:8} {}\n", clean(&text))).collect()
}

fn lifetime(expiry: Expiry) -> String {
    match expiry.age() {
        Some(age) => format!("{}, renewed {} ago", expires(expiry), time(age.as_secs_f64())),
        None if expiry == Expiry::Never => "never: it is a reservation".into(),
        None => expires(expiry),
    }
}

/// What a plan writes and deletes, a line each; in the past tense once it is done.
pub fn steps(roll: &Roll, plan: &Plan, done: bool) -> String {
    let (wrote, deleted) = if done { ("wrote", "deleted") } else { ("would write", "would delete") };
    let mut lines = match &plan.change {
        Change::Put(put) => put_lines(roll, put, wrote, deleted),
        Change::Remove(removal) => remove_lines(roll, removal, deleted),
    };
    if !done {
        lines.extend(conditions(roll, &plan.change));
        lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    }
    lines.into_iter().map(|line| clean(&line) + "\n").collect()
}

fn put_lines(roll: &Roll, put: &Put, wrote: &str, deleted: &str) -> Vec<String> {
    let life = match put.lease_id {
        Hold::Reservation => "does not expire",
        Hold::Old(_) => "on the etcd lease of before",
        Hold::New => "on a new etcd lease of 24 h",
    };
    let mut lines = vec![format!("{wrote} {} = {} ({life})", roll.key(&put.subnets), put.attrs.encode())];
    lines.extend(put.replaces.iter().flat_map(|old| deletions(roll, old, deleted)));
    lines
}

fn remove_lines(roll: &Roll, removal: &Removal, deleted: &str) -> Vec<String> {
    deletions(roll, &removal.lease, deleted)
}

fn deletions(roll: &Roll, lease: &Lease, deleted: &str) -> Vec<String> {
    let recorded =
        roll.entries.iter().any(|entry| entry.subnets() == lease.subnets && entry.recorded.is_some());
    let owner = recorded.then(|| format!("{deleted} {}", roll.owners_key(&lease.subnets)));
    std::iter::once(format!("{deleted} {}", roll.key(&lease.subnets))).chain(owner).collect()
}

/// What the transaction compares.
fn conditions(roll: &Roll, change: &Change) -> Vec<String> {
    let at = |key: String, before: Before| match before {
        Before::Absent => format!("if {key} is not there"),
        Before::At(revision) => format!("if {key} is as at revision {revision}"),
    };
    match change {
        Change::Put(put) => {
            let config =
                put.config.map(|revision| at(format!("{}/config", roll.prefix), Before::At(revision)));
            let replaced =
                put.replaces.iter().map(|old| at(roll.key(&old.subnets), Before::At(old.modified)));
            std::iter::once(at(roll.key(&put.subnets), put.before)).chain(config).chain(replaced).collect()
        }
        Change::Remove(Removal { lease, owner }) => {
            let key = at(roll.key(&lease.subnets), Before::At(lease.modified));
            vec![key, at(roll.owners_key(&lease.subnets), *owner)]
        }
    }
}

/// What etcd holds must not move a terminal's cursor.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::roll::tests::roll;
    use super::super::{change, which};
    use super::*;

    fn value(n: u8) -> String {
        format!(
            r#"{{"PublicIP":"192.0.2.{n}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{n:02x}"}}}}"#
        )
    }

    /// `UPDATE_GOLDEN=1` writes the file instead of comparing it.
    #[track_caller]
    fn assert_golden(name: &str, text: &str) {
        let path = format!("{}/tests/admin/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap(), "run this test with UPDATE_GOLDEN=1");
    }

    fn cluster() -> Roll {
        let [one, two, twin, both] = [1, 2, 2, 4].map(value);
        let mut roll = roll(&[
            ("10.5.1.0-24", &one, Some("h1")),
            ("10.5.20.0-24", &two, Some("h2\x1b[2J")),
            ("10.5.3.0-24", &twin, None),
            ("10.5.4.0-24&fd05:0:0:4::-64", &both, None),
            ("10.5.5.0-24", "{", None),
            ("10.5.6.0-24", r#"{"PublicIP":"192.0.2.6"}"#, None),
            ("what is this", "{}", None),
        ]);
        roll.strays.push("10.5.99.0-24".into());
        roll
    }

    #[test]
    fn a_list_is_a_table() {
        assert_golden("list.txt", &table(&cluster()));
    }

    #[test]
    fn a_lease_is_told_whole() {
        let roll = cluster();
        let shown = ["10.5.1.0/24", "10.5.3.0/24", "10.5.5.0/24", "10.5.6.0/24"]
            .map(|which| details(&roll, which::entry(&roll, which).unwrap()));
        assert_golden("show.txt", &shown.join("\n"));
    }

    #[test]
    fn a_plan_says_every_key() {
        let roll = cluster();
        let entry = |which| which::entry(&roll, which).unwrap();
        let to = which::subnets("10.5.9.0/24").unwrap();
        let plans = [
            change::reserve(entry("10.5.1.0/24")),
            change::release(entry("10.5.1.0/24")),
            change::relocate(&roll, entry("10.5.1.0/24"), to),
            change::reserve_for(&roll, to, Some([192, 0, 2, 9].into()), None),
        ];
        let shown = plans.map(|plan| {
            let plan = plan.unwrap();
            steps(&roll, &plan, false) + &steps(&roll, &plan, true)
        });
        assert_golden("plans.txt", &shown.join("\n"));
    }

    #[test]
    fn json_has_every_lease() {
        let json: serde_json::Value = serde_json::from_str(&json(&cluster())).unwrap();
        let leases = json["leases"].as_array().unwrap();
        assert_eq!(leases.len(), 7);
        assert_eq!(leases[0]["owner"], "h1");
        assert_eq!((&leases[0]["expires"], &leases[0]["reserved"]), (&86_000.into(), &false.into()));
        assert_eq!((json["format"].as_i64(), json["strays"][0].as_str()), (Some(1), Some("10.5.99.0-24")));
    }
}
