//! Nothing grows: many lease changes and many reconnects, and the daemon is as large as before.

use std::fmt::Write as _;
use std::fs;

use lab::{Lab, LabError};

use crate::{PATIENCE, Test, disconnect, must, options, peers, start};

/// Set, the test does a hundred thousand changes and a thousand reconnects.
const FULL: &str = "RFLANNEL_TEST_GROWTH";
/// Peers that are changed again and again, in one transaction: etcd takes 128.
const PEERS: u32 = 100;
/// Memory that may come on top once caches are warm, in KiB.
const SLACK: u64 = 1024;

/// What the daemon of host 1 occupies.
#[derive(Debug)]
struct Size {
    rss_kib: u64,
    descriptors: usize,
    lease_ids: usize,
}

fn size(lab: &mut Lab) -> Result<Size, LabError> {
    let pid = lab.flanneld(1)?.process().pid().expect("the daemon runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let lease_ids = lab.etcd()?.ctl(["lease", "list"])?.lines().count();
    Ok(Size {
        rss_kib: rss.unwrap_or_default(),
        descriptors,
        lease_ids,
    })
}

/// Changes every peer in one transaction, which is one batch for the daemon.
fn change(lab: &Lab, round: u32) -> Test {
    let variant = u8::try_from(round % 250).unwrap_or_default();
    let mut text = String::from("\n");
    for number in (0..PEERS).map(|n| u8::try_from(110 + n).unwrap_or_default()) {
        let value = peers::value(number, variant).replace('"', "\\\"");
        // Writing to a string does not fail.
        let _ = writeln!(text, "put {} \"{value}\"", peers::key_of(number));
    }
    lab.etcd()?
        .ctl_feed(["txn"], format!("{text}\n\n").as_bytes())
        .map(|_| ())
}

/// Breaks all connections of host 1 to etcd, and waits for new ones.
fn reconnect(lab: &Lab) -> Test {
    let host = lab.host(1);
    let ports = || {
        host.sh("ss -Htn state established dport = :2379 | awk '{print $3}'")
            .unwrap_or_default()
    };
    let old = ports();
    disconnect(host)?;
    must("host 1 is connected again", PATIENCE, || {
        let now = ports();
        !now.is_empty() && now.lines().all(|port| !old.contains(port))
    });
    Ok(())
}

/// Changes arrive before, while and after the way to etcd breaks.
fn rounds(lab: &Lab, range: std::ops::Range<u32>) -> Test {
    range.into_iter().try_for_each(|round| {
        change(lab, round)?;
        reconnect(lab)
    })
}

#[test]
fn changes_and_reconnects_leave_no_trace() -> Test {
    let full = std::env::var_os(FULL).is_some();
    let count = if full { 1_000 } else { 60 };
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    rounds(lab, 0..10)?;
    peers::all_converged(lab, PATIENCE)?;
    let before = size(lab)?;
    rounds(lab, 10..10 + count)?;
    peers::all_converged(lab, PATIENCE)?;
    let after = size(lab)?;
    println!(
        "{} changes, {count} reconnects: {before:?} -> {after:?}",
        count * PEERS
    );
    assert!(
        after.rss_kib <= before.rss_kib + SLACK,
        "memory: {before:?} -> {after:?}"
    );
    assert!(
        after.descriptors <= before.descriptors + 2,
        "descriptors: {before:?} -> {after:?}"
    );
    assert_eq!(after.lease_ids, before.lease_ids, "etcd leases");
    Ok(())
}
