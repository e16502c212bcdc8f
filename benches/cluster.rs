//! What a hundred daemons, started at once among the leases of many more hosts, cost one etcd: the lists of the start, a
//! burst that all of them hear of, and an idle minute.
//!
//! `cargo bench --bench cluster [-- PEERS...]`. Needs root and what `scripts/setup` installs.

#[path = "bed/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses a part of what they share"
)]
mod bed;

use std::time::Duration;

use bed::kernel::Ear;
use bed::{Outcome, PATIENCE, Peer, etcd, lab, milliseconds, say, sizes, usage};
use lab::Lab;
use tokio::time::Instant;

/// Hosts that run a daemon.
const DAEMONS: u8 = 100;
const IDLE: Duration = Duration::from_secs(60);
/// Peers that come at once, and their first number.
const BURST: u32 = 1_000;
const COMERS: u32 = 70_000;

fn main() -> Outcome<()> {
    say(
        "| leases | daemons | all READY, s | CPU of etcd for a list, ms | burst of 1,000 at all, ms | CPU of etcd for it, ms | idle: CPU of etcd, ms a minute | requests a minute and daemon |",
    )?;
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    sizes(&[1_000, 10_000])
        .into_iter()
        .try_for_each(|peers| Ok(say(&row(peers)?)?))
}

fn row(peers: u32) -> Outcome<String> {
    let mut lab = lab()?;
    let all: Vec<Peer> = (0..peers).map(Peer).collect();
    etcd::with(&lab, async |etcd| etcd.fill(&all, 0).await)?;
    // The yardstick's host is there already.
    lab.add_hosts(DAEMONS - 2)?;
    let (ready, started) = of_etcd(&mut lab, |lab| {
        lab.start_all()?;
        Ok(lab.wait_all_ready(PATIENCE)?)
    })?;
    let (burst, heard) = of_etcd(&mut lab, burst)?;
    let asked = etcd::requests(&lab)?;
    let (_, idle) = of_etcd(&mut lab, |_| {
        std::thread::sleep(IDLE);
        Ok(())
    })?;
    let asked = etcd::requests(&lab)? - asked;
    let (daemons, minutes) = (f64::from(DAEMONS), IDLE.as_secs_f64() / 60.0);
    Ok(format!(
        "| {peers} | {DAEMONS} | {:.1} | {:.1} | {burst:.0} | {heard:.0} | {:.0} | {:.1} |",
        ready / 1e3,
        started / daemons,
        idle / minutes,
        asked / minutes / daemons
    ))
}

/// How long something took, and what it cost etcd, in milliseconds.
fn of_etcd(lab: &mut Lab, work: impl FnOnce(&mut Lab) -> Outcome<()>) -> Outcome<(f64, f64)> {
    let (begin, before) = (Instant::now(), usage::of_etcd(lab)?);
    work(lab)?;
    Ok((milliseconds(begin), usage::of_etcd(lab)? - before))
}

/// Until the last host has the last route.
fn burst(lab: &mut Lab) -> Outcome<()> {
    let comers: Vec<Peer> = (COMERS..COMERS + BURST).map(Peer).collect();
    let ears = lab
        .hosts()
        .iter()
        .map(|host| Ear::on(host.node()))
        .collect::<Outcome<Vec<_>>>()?;
    etcd::with(lab, async |etcd| etcd.put_all(&comers, 0).await)?;
    ears.iter()
        .try_for_each(|ear| ear.routes(comers.len(), PATIENCE).map(drop))
}
