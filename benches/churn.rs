//! A running daemon on a real kernel and a real etcd while leases change: one at a time, many at once, all of them renewed,
//! half of them gone; and what it costs to do nothing.
//!
//! `cargo bench --bench churn [-- --backend host-gw] [PEERS...]`. Needs root and what `scripts/setup` installs.

#[path = "bed/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses a part of what they share"
)]
mod bed;

use std::error::Error;
use std::time::Duration;

use bed::etcd::Etcd;
use bed::kernel::{self, Ear};
use bed::usage::Usage;
use bed::{
    Outcome, PATIENCE, Peer, end, etcd, lab, median, milliseconds, packed, quantile, say, start,
    usage,
};
use lab::Lab;
use tokio::time::{Instant, sleep};

/// Single changes that are timed.
const CHANGES: u32 = 300;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);
const RUNS: usize = 5;
const BURSTS: [u32; 2] = [1_000, 10_000];
/// First number of the peers that come and go, beyond all that stay.
const COMERS: u32 = 70_000;
/// How long doing nothing is watched.
const IDLE: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    for peers in bed::sizes(&[0, 1_000, 10_000, 60_000]) {
        say(&format!("\n### {peers} peers\n"))?;
        let mut stage = Stage::set(peers)?;
        for step in [
            Stage::singles,
            Stage::bursts,
            Stage::renewals,
            Stage::idle,
            Stage::turnover,
            Stage::expiry,
        ] {
            step(&mut stage).or_else(|why| stage.blame(why))?;
        }
        end(&mut stage.lab)?;
    }
    Ok(())
}

/// A running daemon with its peers.
struct Stage {
    lab: Lab,
    peers: Vec<Peer>,
    /// So many, the last ones, are on an etcd lease that can be ended.
    doomed: usize,
    lease_id: i64,
}

impl Stage {
    fn set(count: u32) -> Outcome<Self> {
        let mut lab = lab()?;
        let peers: Vec<Peer> = (0..count).map(Peer).collect();
        let (stay, doomed) = peers.split_at(peers.len() / 2);
        let lease_id = etcd::with(&lab, async |etcd| {
            let lease_id = etcd.grant().await?;
            etcd.fill(stay, 0).await?;
            etcd.fill(doomed, lease_id).await?;
            Ok(lease_id)
        })?;
        start(&mut lab, count)?;
        packed::device(lab.host(2))?;
        packed::write(lab.host(2), &peers)?;
        std::thread::sleep(Duration::from_secs(8));
        Ok(Self {
            lab,
            doomed: doomed.len(),
            lease_id,
            peers,
        })
    }

    /// An error with what there is to see of it.
    fn blame(&mut self, why: Box<dyn Error + Send + Sync>) -> Outcome<()> {
        let (counts, log) = (
            kernel::counts(self.lab.host(1))?,
            self.lab.flanneld(1)?.process().log_tail(20),
        );
        Err(format!(
            "{why}; routes, neighbors, FDB entries: {counts:?}; the daemon says:\n{}",
            log.join("\n")
        )
        .into())
    }

    fn singles(&mut self) -> Outcome<()> {
        let ear = Ear::on(self.lab.host(1))?;
        let comers: Vec<Peer> = (COMERS..COMERS + CHANGES).map(Peer).collect();
        let times = etcd::with(&self.lab, async move |etcd| {
            let mut times = vec![];
            for peer in &comers {
                times.push(single(&etcd, &ear, *peer).await?);
                sleep(PAUSE).await;
            }
            leave(&etcd, &ear, &comers).await?;
            Ok(times)
        })?;
        let column = |pick: fn(&(f64, f64)) -> f64| times.iter().map(pick).collect::<Vec<f64>>();
        let (puts, both) = (column(|(put, _)| *put), column(|(_, both)| *both));
        let above = column(|(put, both)| both - put);
        say("| one new peer, ms | median | p99 |\n| --- | --- | --- |")?;
        for (name, values) in [
            ("bare put", puts),
            ("put to route", both),
            ("route after the put's answer", above),
        ] {
            say(&format!(
                "| {name} | {:.2} | {:.2} |",
                median(values.clone()),
                quantile(values, 0.99)
            ))?;
        }
        Ok(())
    }

    fn bursts(&mut self) -> Outcome<()> {
        say(
            "\n| burst | packed netlink | write | write to last route | after the write's answer | that / packed |",
        )?;
        say("| --- | --- | --- | --- | --- | --- |")?;
        for count in BURSTS {
            let comers: Vec<Peer> = (COMERS..COMERS + count).map(Peer).collect();
            let yardstick = self.yardstick(&comers)?;
            for (name, many) in [("one transaction", false), ("puts", true)] {
                let runs = (0..RUNS)
                    .map(|_| self.burst(&comers, many))
                    .collect::<Outcome<Vec<_>>>()?;
                let write = median(runs.iter().map(|(write, _)| *write).collect());
                let all = median(runs.iter().map(|(_, all)| *all).collect());
                let after = median(runs.iter().map(|(write, all)| all - write).collect());
                say(&format!(
                    "| {count}, {name} | {yardstick:.1} | {write:.1} | {all:.1} | {after:.1} | {:.2} |",
                    after / yardstick
                ))?;
            }
        }
        Ok(())
    }

    /// These beside as many as the daemon has, by the packed writer.
    fn yardstick(&self, comers: &[Peer]) -> Outcome<f64> {
        let host = self.lab.host(2);
        let once = || {
            packed::device(host)?;
            packed::write(host, &self.peers)?;
            packed::write(host, comers)
        };
        Ok(median((0..RUNS).map(|_| once()).collect::<Outcome<_>>()?))
    }

    fn burst(&self, comers: &[Peer], many: bool) -> Outcome<(f64, f64)> {
        let ear = Ear::on(self.lab.host(1))?;
        etcd::with(&self.lab, async move |etcd| {
            let begin = Instant::now();
            let write = if many {
                etcd.put_each(comers).await?
            } else {
                etcd.put_all(comers, 0).await?
            };
            let all = (ear.routes(comers.len(), PATIENCE)? - begin).as_secs_f64() * 1e3;
            leave(&etcd, &ear, comers).await?;
            Ok((write, all))
        })
    }

    /// Every lease written again as it is.
    fn renewals(&mut self) -> Outcome<()> {
        let ear = Ear::on(self.lab.host(1))?;
        let before = usage::of_flanneld(&mut self.lab)?;
        let (stay, doomed) = self.peers.split_at(self.peers.len() / 2);
        etcd::with(&self.lab, async |etcd| {
            etcd.fill(stay, 0).await?;
            etcd.fill(doomed, self.lease_id).await
        })?;
        std::thread::sleep(Duration::from_secs(2));
        let used = usage::of_flanneld(&mut self.lab)?.cpu - before.cpu;
        say(&format!(
            "\nRenewals of all {} leases: {} netlink writes, {used:.0} ms of CPU, {:.2} µs each.",
            self.peers.len(),
            ear.count(),
            used * 1e3 / self.peers.len().max(1) as f64
        ))?;
        Ok(())
    }

    fn idle(&mut self) -> Outcome<()> {
        let (before, asked) = (
            usage::of_flanneld(&mut self.lab)?,
            etcd::requests(&self.lab)?,
        );
        std::thread::sleep(IDLE);
        let (after, asked) = (
            usage::of_flanneld(&mut self.lab)?,
            etcd::requests(&self.lab)? - asked,
        );
        let minutes = IDLE.as_secs_f64() / 60.0;
        say(&format!(
            "\nIdle: {:.0} wake-ups a minute, {:.1} ms of CPU a minute, {:.0} requests to etcd an hour, {:.1} MiB resident.",
            (after.sleeps - before.sleeps) / minutes,
            (after.cpu - before.cpu) / minutes,
            asked / minutes * 60.0,
            after.resident
        ))?;
        Ok(())
    }

    /// Ten times a thousand peers come and go: nothing may be left of them in memory.
    fn turnover(&mut self) -> Outcome<()> {
        let comers: Vec<Peer> = (COMERS..COMERS + BURSTS[0]).map(Peer).collect();
        self.burst(&comers, false)?;
        let before = usage::of_flanneld(&mut self.lab)?;
        for _ in 0..10 {
            self.burst(&comers, false)?;
        }
        let Usage { resident, .. } = usage::of_flanneld(&mut self.lab)?;
        say(&format!(
            "\nMemory after ten times {} peers that came and went: {resident:.1} MiB, before {:.1} MiB.",
            comers.len(),
            before.resident
        ))?;
        Ok(())
    }

    /// Half of the cluster is gone at once.
    fn expiry(&mut self) -> Outcome<()> {
        let (count, lease_id) = (self.doomed, self.lease_id);
        if count == 0 {
            return Ok(());
        }
        let ear = Ear::on(self.lab.host(1))?;
        let (revoke, all) = etcd::with(&self.lab, async move |etcd| {
            let begin = Instant::now();
            let revoke = etcd.revoke(lease_id).await?;
            Ok((
                revoke,
                (ear.routes(count, PATIENCE)? - begin).as_secs_f64() * 1e3,
            ))
        })?;
        say(&format!(
            "\n{count} leases end at once: {revoke:.0} ms until etcd has answered, {all:.0} ms until the last route is gone."
        ))?;
        Ok(())
    }
}

/// Of one put: until etcd has answered, and until the kernel has the route.
async fn single(etcd: &Etcd, ear: &Ear, peer: Peer) -> Outcome<(f64, f64)> {
    let begin = Instant::now();
    etcd.put(peer).await?;
    let put = milliseconds(begin);
    let route = ear.routes(1, PATIENCE)?;
    Ok((put, (route - begin).as_secs_f64() * 1e3))
}

async fn leave(etcd: &Etcd, ear: &Ear, comers: &[Peer]) -> Outcome<()> {
    etcd.delete(comers).await?;
    ear.routes(comers.len(), PATIENCE)?;
    // Until the daemon has heard the echo of its own writes.
    sleep(Duration::from_millis(300)).await;
    Ok(())
}
