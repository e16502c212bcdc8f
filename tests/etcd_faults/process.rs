//! What may happen to the daemon itself: killed at any moment, no place for its files.

use std::collections::BTreeSet;

use lab::{Lab, LabError, Signal};
use rand::RngExt;

use crate::monitor::{Pings, Silence};
use crate::outage::RECOVERED;
use crate::{PATIENCE, Test, connected, log, must, options, own_key, peers, start};

/// Kills, and lease changes between two of them.
const KILLS: u32 = 15;
const CHANGES: u32 = 14;

/// What must never change while a daemon dies and comes back.
fn identity(lab: &Lab) -> Result<String, LabError> {
    lab.host(1).sh(
        "cat /run/flannel/subnet.env /sys/class/net/flannel.1/address; cat /sys/class/net/flannel.1/ifindex",
    )
}

/// Random leases come, change and go, in one transaction.
fn churn(lab: &Lab) -> Test {
    let mut random = rand::rng();
    let mut requests: Vec<String> = Vec::new();
    let mut numbers: Vec<u8> = (110..240).collect();
    for _ in 0..CHANGES {
        let number = numbers.swap_remove(random.random_range(0..numbers.len()));
        let key = peers::key_of(number);
        let value = peers::value(number, random.random_range(0..4)).replace('"', "\\\"");
        requests.push(if random.random_bool(0.3) {
            format!("del {key}")
        } else {
            format!("put {key} \"{value}\"")
        });
    }
    // etcdctl txn: comparisons, an empty line, requests, an empty line, requests otherwise, an empty line.
    let text = format!("\n{}\n\n\n", requests.join("\n"));
    lab.etcd()?.ctl_feed(["txn"], text.as_bytes()).map(|_| ())
}

/// etcd lists them in any order.
fn etcd_leases(lab: &Lab) -> Result<BTreeSet<String>, LabError> {
    Ok(lab
        .etcd()?
        .ctl(["lease", "list"])?
        .lines()
        .map(str::to_owned)
        .collect())
}

#[test]
fn kills_at_any_moment_leave_what_the_leases_say() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    let (who, key) = (identity(lab)?, own_key(lab, 1));
    let value = lab.etcd()?.get(&key)?;
    let granted = etcd_leases(lab)?;
    let pings = Pings::begin(lab, 1, 2)?;
    for _ in 0..KILLS {
        churn(lab)?;
        if let Err(error) = lab.end_flanneld(1, Signal::KILL) {
            panic!("{error}\n{}", log(lab.host(1)));
        }
        churn(lab)?;
        lab.start_flanneld(1, &[])?;
        // From before it has read its flags to after it is ready.
        std::thread::sleep(std::time::Duration::from_millis(
            rand::rng().random_range(0..200),
        ));
    }
    lab.wait_all_ready(PATIENCE)?;
    peers::all_converged(lab, RECOVERED)?;
    assert_eq!(identity(lab)?, who, "subnet, MAC and device are the same");
    assert_eq!(lab.etcd()?.get(&key)?, value, "the lease is the same");
    assert_eq!(etcd_leases(lab)?, granted, "no start makes an etcd lease");
    let (lost, answered) = pings.end()?;
    assert!(
        lost.is_empty() && answered > 0,
        "lost {lost:?} of {answered}"
    );
    Ok(())
}

/// Starts the daemon of a host without room for its file, and then makes room.
fn starts_once_there_is_room(lab: &mut Lab, host: usize) -> Test {
    lab.start_flanneld(host, &[])?;
    let waits = |lab: &mut Lab| {
        let status = lab
            .flanneld(host)
            .ok()
            .and_then(|flanneld| flanneld.notify().status());
        status.is_some_and(|status| {
            status.starts_with("waiting: cannot write /run/flannel/subnet.env")
        })
    };
    must("it says why it waits", PATIENCE, || waits(lab));
    assert!(
        !lab.flanneld(host)?.notify().ready(),
        "not ready without its file"
    );
    assert!(lab.flanneld(host)?.process().running());
    // Its status socket lies there, which keeps the file system busy.
    lab.host(host).sh("umount --lazy /run/flannel")?;
    lab.flanneld(host)?.wait_ready(PATIENCE)
}

/// Gives `/run/flannel` of a host a file system of its own, without room.
const NO_ROOM: [&str; 2] = [
    "mount -t tmpfs -o size=4k none /run/flannel; echo x > /run/flannel/full",
    "mount -t tmpfs -o ro none /run/flannel",
];

#[test]
fn without_room_for_its_files_a_daemon_waits_and_says_why() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    let who = identity(lab)?;
    let (silence, pings) = (Silence::begin(lab.host(1))?, Pings::begin(lab, 1, 2)?);
    for script in NO_ROOM {
        lab.end_flanneld(1, Signal::KILL)?;
        lab.host(1).sh(script)?;
        starts_once_there_is_room(lab, 1)?;
        assert_eq!(identity(lab)?, who);
    }
    let (lost, answered) = pings.end()?;
    assert!(
        lost.is_empty() && answered > 0,
        "lost {lost:?} of {answered}"
    );
    let broken = silence.broken_by();
    assert!(broken.is_empty(), "the data plane changed: {broken:?}");

    // The first start of two more hosts.
    lab.add_hosts(2)?;
    for (host, script) in [3, 4].into_iter().zip(NO_ROOM) {
        lab.host(host).sh(script)?;
        starts_once_there_is_room(lab, host)?;
    }
    lab.wire_all()?;
    let leases = peers::leases(lab.etcd()?)?;
    assert_eq!(
        leases.len(),
        4,
        "one lease a host, however often it tried: {leases:?}"
    );
    connected(lab)
}
