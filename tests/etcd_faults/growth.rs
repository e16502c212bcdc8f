//! Nothing grows: many lease changes and many reconnects, and the daemon is as large as before.

use std::fmt::Write as _;
use std::fs;

use rflannel::lab::{Lab, LabError};

use crate::{PATIENCE, Test, disconnect, must, options, peers, start};

/// Set, the test does a hundred thousand changes and a thousand reconnects.
const FULL: &str = "RFLANNEL_TEST_GROWTH";
/// Changes in one transaction; etcd takes 128.
const BATCH: u32 = 100;
/// Peers that are changed again and again.
const PEERS: u32 = 100;
/// Memory that may come on top once caches are warm, in KiB.
const SLACK: u64 = 1024;

/// What the daemon of host 1 occupies.
#[derive(Debug)]
struct Size {
    rss_kib: u64,
    descriptors: usize,
    grants: usize,
}

fn size(lab: &mut Lab) -> Result<Size, LabError> {
    let pid = lab.flanneld(1)?.process().pid().expect("the daemon runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let grants = lab.etcd()?.ctl(["lease", "list"])?.lines().count();
    Ok(Size { rss_kib: rss.unwrap_or_default(), descriptors, grants })
}

/// Changes every peer, `rounds` times; all in one transaction are one batch for the daemon.
fn change(lab: &Lab, rounds: u32) -> Test {
    for round in 0..rounds {
        let mut text = String::from("\n");
        for number in (0..PEERS).map(|n| u8::try_from(110 + n).unwrap_or_default()) {
            let variant = u8::try_from(round % 250).unwrap_or_default();
            let value = peers::value(number, variant).replace('"', "\\\"");
            // Writing to a string does not fail.
            let _ = writeln!(text, "put {} \"{value}\"", peers::key_of(number));
        }
        lab.etcd()?.ctl_feed(["txn"], format!("{text}\n\n").as_bytes())?;
    }
    Ok(())
}

/// Breaks all connections of host 1 to etcd, `times` times, and waits for a new one each time.
fn reconnect(lab: &Lab, times: u32) -> Test {
    let host = lab.host(1);
    let ports = || host.sh("ss -Htn state established dport = :2379 | awk '{print $3}'").unwrap_or_default();
    for _ in 0..times {
        let old = ports();
        disconnect(host)?;
        must("host 1 is connected again", PATIENCE, || {
            let now = ports();
            !now.is_empty() && now.lines().all(|port| !old.contains(port))
        });
    }
    Ok(())
}

#[test]
fn changes_and_reconnects_leave_no_trace() -> Test {
    let full = std::env::var_os(FULL).is_some();
    let (changes, reconnects) = if full { (100_000, 1_000) } else { (10_000, 25) };
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    change(lab, 10)?;
    reconnect(lab, 3)?;
    peers::all_converged(lab, PATIENCE)?;
    let before = size(lab)?;
    change(lab, changes / BATCH)?;
    reconnect(lab, reconnects)?;
    peers::all_converged(lab, PATIENCE)?;
    let after = size(lab)?;
    println!("{changes} changes, {reconnects} reconnects: {before:?} -> {after:?}");
    assert!(after.rss_kib <= before.rss_kib + SLACK, "memory: {before:?} -> {after:?}");
    assert!(after.descriptors <= before.descriptors + 2, "descriptors: {before:?} -> {after:?}");
    assert_eq!(after.grants, before.grants, "etcd leases");
    Ok(())
}
