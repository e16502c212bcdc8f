//! Formats leases and changes of leases for people and programs. Pure.

use serde::Serialize;

use super::plan::{Change, KeyLease, Plan, Put};
use super::{Expiry, Inventory, InventoryEntry};
use flanneld::status::text::time;
use flanneld::subnet::etcd::dump::Removal;
use flanneld::subnet::etcd::store::Before;
use flanneld::subnet::{Lease, Revision};
use flanneld::util::table::{align, count};

/// A lease in the JSON output.
#[derive(Debug, Serialize)]
struct Row<'a> {
    key: String,
    /// Empty if the key is not a lease key.
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

fn row<'a>(inventory: &Inventory, entry: &'a InventoryEntry) -> Row<'a> {
    let lease = entry.lease.as_ref();
    Row {
        key: format!("{}/subnets/{}", inventory.prefix, entry.name),
        subnets: entry
            .subnets()
            .iter()
            .map(|subnet| subnet.to_string())
            .collect(),
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

/// Formats all leases as one JSON document on one line.
pub fn json(inventory: &Inventory) -> String {
    let leases: Vec<Row<'_>> = inventory
        .entries
        .iter()
        .map(|entry| row(inventory, entry))
        .collect();
    let network = inventory
        .network
        .as_ref()
        .map(|(network, _)| network.source.clone())
        .ok();
    serde_json::json!({
        "format": 1,
        "prefix": inventory.prefix,
        "revision": inventory.revision,
        "network": network,
        "trouble": inventory.network.as_ref().err(),
        "leases": leases,
        "strays": inventory.strays,
    })
    .to_string()
        + "\n"
}

/// Formats one lease as one JSON document on one line.
pub fn json_of(inventory: &Inventory, entry: &InventoryEntry) -> String {
    serde_json::to_string(&row(inventory, entry)).unwrap_or_default() + "\n"
}

pub fn table(inventory: &Inventory) -> String {
    let heading = [
        "subnet",
        "public address",
        "MAC",
        "expires",
        "owner",
        "problems",
    ]
    .map(str::to_owned)
    .to_vec();
    let rows = inventory.entries.iter().map(|entry| {
        let problems = if entry.problems.is_empty() {
            "-".to_owned()
        } else {
            entry.problems.join("; ")
        };
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
    lines
        .iter()
        .map(|line| clean(line) + "\n")
        .collect::<String>()
        + &summary(inventory)
}

fn dash(list: Vec<String>) -> String {
    if list.is_empty() {
        "-".to_owned()
    } else {
        list.join(" ")
    }
}

fn summary(inventory: &Inventory) -> String {
    let of = |is: fn(&InventoryEntry) -> bool| {
        inventory.entries.iter().filter(|entry| is(entry)).count()
    };
    let room = match &inventory.network {
        Ok((network, _)) => {
            let rooms = network
                .ranges
                .iter()
                .map(|range| format!("{} in {}", range.subnet_count(), range.network));
            format!("of {}", rooms.collect::<Vec<_>>().join(" and "))
        }
        Err(why) => format!("({why})"),
    };
    let mut line = format!(
        "{} {room}; {} reserved, {} with problems\n",
        count(inventory.entries.len(), "lease", "leases"),
        of(|entry| entry.expiry == Expiry::Never),
        of(|entry| !entry.problems.is_empty())
    );
    if !inventory.strays.is_empty() {
        line += &format!(
            "owner records without a lease: {}\n",
            inventory.strays.join(", ")
        );
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

pub fn details(inventory: &Inventory, entry: &InventoryEntry) -> String {
    let mut lines = vec![
        ("lease", entry.title()),
        (
            "key",
            format!("{}/subnets/{}", inventory.prefix, entry.name),
        ),
        ("host", entry.whose()),
        ("MAC", dash(entry.macs())),
        ("expires", lifetime(entry.expiry)),
    ];
    if let Some(lease) = &entry.lease {
        lines.push((
            "written",
            format!(
                "created at revision {}, last written at {}",
                lease.created, lease.modified
            ),
        ));
    }
    lines.push((
        "owner",
        match &entry.owner {
            Some((machine, at)) => format!("{}, recorded at revision {at}", machine.host()),
            None => {
                "no record: the lease belongs to Go flannel, or its host has not started yet".into()
            }
        },
    ));
    lines.push(("value", entry.value.clone()));
    lines.extend(
        entry
            .problems
            .iter()
            .map(|problem| ("problem", problem.clone())),
    );
    lines
        .into_iter()
        .map(|(name, text)| format!("{name:8} {}\n", clean(&text)))
        .collect()
}

fn lifetime(expiry: Expiry) -> String {
    match expiry.age() {
        Some(age) => format!(
            "{}, renewed {} ago",
            expires(expiry),
            time(age.as_secs_f64())
        ),
        None if expiry == Expiry::Never => "never: it is a reservation".into(),
        None => expires(expiry),
    }
}

/// Formats what a plan writes and deletes, one line each; in the past tense if it is done.
pub fn steps(inventory: &Inventory, plan: &Plan, done: bool) -> String {
    let (wrote, deleted) = if done {
        ("wrote", "deleted")
    } else {
        ("would write", "would delete")
    };
    let mut lines = match &plan.change {
        Change::Put(put) => put_lines(inventory, put, wrote, deleted),
        Change::Remove(removal) => deletions(inventory, &removal.lease, deleted),
    };
    if !done {
        lines.extend(conditions(inventory, &plan.change));
        lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    }
    lines.into_iter().map(|line| clean(&line) + "\n").collect()
}

fn put_lines(inventory: &Inventory, put: &Put, wrote: &str, deleted: &str) -> Vec<String> {
    let life = match put.lease_id {
        KeyLease::Reservation => "does not expire",
        KeyLease::Old(_) => "on the existing etcd lease",
        KeyLease::New => "on a new etcd lease of 24 h",
    };
    let mut lines = vec![format!(
        "{wrote} {} = {} ({life})",
        inventory.key(&put.subnets),
        put.attrs.encode()
    )];
    lines.extend(
        put.replaces
            .iter()
            .flat_map(|old| deletions(inventory, old, deleted)),
    );
    lines
}

fn deletions(inventory: &Inventory, lease: &Lease, deleted: &str) -> Vec<String> {
    let recorded = inventory
        .entry_of(&lease.subnets)
        .is_some_and(|entry| entry.recorded.is_some());
    let owner = recorded.then(|| format!("{deleted} {}", inventory.owners_key(&lease.subnets)));
    std::iter::once(format!("{deleted} {}", inventory.key(&lease.subnets)))
        .chain(owner)
        .collect()
}

/// Formats what the transaction compares.
fn conditions(inventory: &Inventory, change: &Change) -> Vec<String> {
    let at = |key: String, before: Before| match before {
        Before::Absent => format!("if {key} does not exist"),
        Before::At(revision) => format!("if {key} is still at revision {revision}"),
    };
    match change {
        Change::Put(put) => {
            let config = put
                .config
                .map(|revision| at(format!("{}/config", inventory.prefix), Before::At(revision)));
            let replaced = put
                .replaces
                .iter()
                .map(|old| at(inventory.key(&old.subnets), Before::At(old.modified)));
            std::iter::once(at(inventory.key(&put.subnets), put.before))
                .chain(config)
                .chain(replaced)
                .collect()
        }
        Change::Remove(Removal { lease, owner }) => {
            let key = at(inventory.key(&lease.subnets), Before::At(lease.modified));
            vec![key, at(inventory.owners_key(&lease.subnets), *owner)]
        }
    }
}

/// Replaces control characters, so that text from etcd cannot move the terminal's cursor.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::super::inventory::tests::inventory;
    use super::super::{lookup, plan};
    use super::*;

    fn value(n: u8) -> String {
        format!(
            r#"{{"PublicIP":"192.0.2.{n}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{n:02x}"}}}}"#
        )
    }

    fn assert_golden(name: &str, text: &str) {
        expect_file![format!("../../tests/golden/{name}")].assert_eq(text);
    }

    fn cluster() -> Inventory {
        let [one, two, duplicate, both] = [1, 2, 2, 4].map(value);
        let mut inventory = inventory(&[
            ("10.5.1.0-24", &one, Some("h1")),
            ("10.5.20.0-24", &two, Some("h2\x1b[2J")),
            ("10.5.3.0-24", &duplicate, None),
            ("10.5.4.0-24&fd05:0:0:4::-64", &both, None),
            ("10.5.5.0-24", "{", None),
            ("10.5.6.0-24", r#"{"PublicIP":"192.0.2.6"}"#, None),
            ("what is this", "{}", None),
        ]);
        inventory.strays.push("10.5.99.0-24".into());
        inventory
    }

    #[test]
    fn a_list_is_a_table() {
        assert_golden("list.txt", &table(&cluster()));
    }

    #[test]
    fn lease_details_are_complete() {
        let inventory = cluster();
        let shown = ["10.5.1.0/24", "10.5.3.0/24", "10.5.5.0/24", "10.5.6.0/24"]
            .map(|which| details(&inventory, lookup::entry(&inventory, which).unwrap()));
        assert_golden("show.txt", &shown.join("\n"));
    }

    #[test]
    fn a_plan_says_every_key() {
        let inventory = cluster();
        let entry = |which| lookup::entry(&inventory, which).unwrap();
        let to = lookup::subnets("10.5.9.0/24").unwrap();
        let plans = [
            plan::reserve(entry("10.5.1.0/24")),
            plan::release(entry("10.5.1.0/24")),
            plan::relocate(&inventory, entry("10.5.1.0/24"), to),
            plan::reserve_for(&inventory, to, Some([192, 0, 2, 9].into()), None),
        ];
        let shown = plans.map(|plan| {
            let plan = plan.unwrap();
            steps(&inventory, &plan, false) + &steps(&inventory, &plan, true)
        });
        assert_golden("plans.txt", &shown.join("\n"));
    }

    #[test]
    fn json_has_every_lease() {
        let json: serde_json::Value = serde_json::from_str(&json(&cluster())).unwrap();
        let leases = json["leases"].as_array().unwrap();
        assert_eq!(leases.len(), 7);
        assert_eq!(leases[0]["owner"], "h1");
        assert_eq!(
            (&leases[0]["expires"], &leases[0]["reserved"]),
            (&86_000.into(), &false.into())
        );
        assert_eq!(
            (json["format"].as_i64(), json["strays"][0].as_str()),
            (Some(1), Some("10.5.99.0-24"))
        );
    }
}
