//! What the machine does not give any more: memory, descriptors.

use std::fmt::Write as _;

use lab::{Lab, LabError};

use crate::monitor::Pings;
use crate::outage::outage;
use crate::{
    PATIENCE, PREFIX, SECONDS, Test, connected, disconnect, holds, log, must, options, own_key,
    peers, start,
};

/// Room for four thousand hosts.
const WIDE: &str = r#"{"Network":"172.16.0.0/12","SubnetLen":24,"SubnetMin":"172.16.1.0","SubnetMax":"172.16.9.0","Backend":{"Type":"vxlan"}}"#;
/// Peers that come in one transaction.
const BATCH: u16 = 100;
const BATCHES: u16 = 30;

/// No byte more than it has now.
const NO_MORE_MEMORY: &str = "pid=$(pidof flanneld)
    prlimit --pid $pid --data=$(($(awk '/^VmData/ {print $2}' /proc/$pid/status) * 1024))";

/// A hundred peers more.
fn grow(lab: &Lab, batch: u16) -> Test {
    let mut text = String::from("\n");
    for number in batch * BATCH..(batch + 1) * BATCH {
        let [high, low] = number.to_be_bytes();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            r#"put {PREFIX}/subnets/172.{}.{low}.0-24 "{{\"PublicIP\":\"10.{}.{low}.1\",\"BackendType\":\"vxlan\",\"BackendData\":{{\"VNI\":1,\"VtepMAC\":\"0a:02:00:00:{high:02x}:{low:02x}\"}}}}""#,
            17 + high,
            100 + high,
        );
    }
    lab.etcd()?
        .ctl_feed(["txn"], format!("{text}\n\n").as_bytes())
        .map(|_| ())
}

/// What the daemon said when it ended, and how: `None` while it runs.
fn ended(lab: &mut Lab) -> Result<bool, LabError> {
    Ok(!lab.flanneld(1)?.process().running())
}

#[test]
fn daemon_without_memory_ends_with_message_and_next_continues() -> Test {
    let mut lab = start(options(2).network(WIDE))?;
    let lab = &mut lab;
    let (key, value) = (own_key(lab, 1), lab.etcd()?.get(&own_key(lab, 1))?);
    let pings = Pings::begin(lab, 1, 2)?;
    lab.host(1).sh(NO_MORE_MEMORY)?;
    for batch in 0..BATCHES {
        grow(lab, batch)?;
        if ended(lab)? {
            break;
        }
    }
    let status = lab.flanneld(1)?.process().wait(SECONDS)?;
    let told = log(lab.host(1));
    assert!(!status.success(), "{status}");
    assert!(told.contains("memory allocation of"), "{status}: {told}");
    assert!(holds(lab, &key, &value), "the lease stays");
    connected(lab)?;

    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    peers::all_converged(lab, crate::outage::RECOVERED)?;
    assert!(holds(lab, &key, &value), "the lease is the same");
    let (lost, answered) = pings.end()?;
    assert!(
        lost.is_empty() && answered > 0,
        "lost {lost:?} of {answered}"
    );
    Ok(())
}

#[test]
fn without_descriptors_it_goes_on_and_says_why() -> Test {
    let mut lab = start(options(2))?;
    let soft = |lab: &Lab, limit: &str| {
        lab.hosts().iter().try_for_each(|host| {
            host.node()
                .sh(&format!(
                    "prlimit --pid $(pidof flanneld) --nofile={limit}:"
                ))
                .map(|_| ())
        })
    };
    outage(
        "no descriptor is left",
        &mut lab,
        |lab| {
            soft(lab, "3")?;
            lab.hosts()
                .iter()
                .try_for_each(|host| disconnect(host.node()))
        },
        |lab| {
            must("it says what is missing", SECONDS, || {
                log(lab.host(1)).contains("Too many open files")
            });
            peers::change(lab)?;
            soft(lab, "1000")
        },
    )
}

#[test]
fn too_few_descriptors_for_a_start_are_an_error() -> Test {
    let mut lab = start(options(1))?;
    for limit in ["--nofile=8", "--nofile=20"] {
        let way = ["prlimit", limit];
        lab.end_flanneld(1, lab::Signal::KILL)?;
        let earlier = log(lab.host(1)).len();
        let status = lab
            .start_flanneld_under(1, &way, &[])?
            .process()
            .wait(SECONDS)?;
        let said = log(lab.host(1)).split_off(earlier);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.lines()
                .last()
                .is_some_and(|line| line.contains("LimitNOFILE")),
            "{said}"
        );
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    }
    Ok(())
}
