//! Whole processes on a real kernel and a real etcd: how long from exec until every peer is programmed, against what the
//! kernel and etcd take for it at least, and against `ip -batch`, in the same run.
//!
//! `cargo bench --bench converge [-- --backend host-gw] [PEERS...]`. Needs root and what `scripts/setup` installs. With `RFLANNEL_BENCH_GO` set to
//! the path of Go's `flanneld` that one is started as well, up to ten thousand peers.

#[path = "bed/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses a part of what they share"
)]
mod bed;

use std::path::Path;
use std::time::Duration;

use bed::kernel::{self, counts, plain_tools};
use bed::{
    Backend, Outcome, PATIENCE, PREFIX, Peer, bare, end, etcd, lab, median, milliseconds, packed,
    reset, say, start, usage,
};
use lab::{Lab, Signal};
use tokio::time::Instant;

const RUNS: usize = 5;
/// Runs of what takes long: the plain tools and Go's daemon cost N².
const SLOW_RUNS: usize = 3;
const SLOW_PEERS: u32 = 10_000;
/// Until the state file is written and memory is back.
const SETTLE: Duration = Duration::from_secs(8);

fn main() -> Outcome<()> {
    if let Some(played) = bare::play() {
        return played;
    }
    say(
        "| peers | ip + bridge -batch | packed netlink | bare read of etcd | bare start | exec to READY | restart | its dump | Go | Go / ours |",
    )?;
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    let mut memory = vec![];
    for peers in bed::sizes(&[0, 250, 1_000, 10_000, 30_000, 60_000]) {
        let row = Row::measure(peers)?;
        say(&row.times())?;
        memory.push(row);
    }
    say(
        "\n| peers | ours / batch | ours / (packed + read) | restart / (dump + read) | ours / bare start | CPU of a start, ms | resident, MiB | peak, MiB |",
    )?;
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    memory.iter().try_for_each(|row| say(&row.rest()))?;
    Ok(())
}

/// Medians, in milliseconds and MiB. What was not measured is not a number.
struct Row {
    peers: u32,
    plain: f64,
    packed: f64,
    read: f64,
    bare: f64,
    fresh: f64,
    cpu: f64,
    again: f64,
    dump: f64,
    go: f64,
    resident: f64,
    peak: f64,
}

impl Row {
    /// Each run in the order yardsticks, fresh start, restart with everything in place.
    fn measure(peers: u32) -> Outcome<Self> {
        let mut lab = lab()?;
        let all: Vec<Peer> = (0..peers).map(Peer).collect();
        etcd::with(&lab, async |etcd| etcd.fill(&all, 0).await)?;
        let (mut plain, mut packed, mut read, mut fresh) = (vec![], vec![], vec![], vec![]);
        let (mut bare, mut cpu, mut again, mut dump) = (vec![], vec![], vec![], vec![]);
        for run in 0..RUNS {
            if peers <= SLOW_PEERS && (run < SLOW_RUNS || peers < SLOW_PEERS) {
                plain.push(plain_tools(lab.host(1), peers)?);
            }
            packed::device(lab.host(2))?;
            packed.push(packed::write(lab.host(2), &all)?);
            read.push(etcd::with(&lab, async |etcd| etcd.read().await)?);
            bare.push(bare::start(&lab)?);
            fresh.push(start(&mut lab, peers)?);
            cpu.push(usage::of_flanneld(&mut lab)?.cpu);
            end(&mut lab)?;
            dump.push(kernel::dump(lab.host(1), Backend::chosen().device())?);
            again.push(start(&mut lab, peers)?);
            end(&mut lab)?;
            reset(lab.host(1))?;
        }
        let settled = settled(&mut lab, peers)?;
        let go = go(&lab, peers)?;
        let [plain, packed, read, bare, fresh, cpu, again, dump, go] =
            [plain, packed, read, bare, fresh, cpu, again, dump, go].map(median);
        let usage::Usage { resident, peak, .. } = settled;
        Ok(Self {
            peers,
            plain,
            packed,
            read,
            bare,
            fresh,
            cpu,
            again,
            dump,
            go,
            resident,
            peak,
        })
    }

    fn times(&self) -> String {
        let Self {
            peers,
            plain,
            packed,
            read,
            bare,
            fresh,
            again,
            dump,
            go,
            ..
        } = self;
        format!(
            "| {peers} | {plain:.1} | {packed:.1} | {read:.1} | {bare:.1} | {fresh:.1} | {again:.1} | {dump:.1} | {go:.0} | {:.1} |",
            go / fresh
        )
    }

    fn rest(&self) -> String {
        let Self {
            peers,
            plain,
            packed,
            read,
            bare,
            fresh,
            cpu,
            again,
            dump,
            resident,
            peak,
            ..
        } = self;
        format!(
            "| {peers} | {:.2} | {:.2} | {:.2} | {:.2} | {cpu:.0} | {resident:.1} | {peak:.1} |",
            fresh / plain,
            fresh / (packed + read),
            again / (dump + read),
            fresh / bare
        )
    }
}

fn settled(lab: &mut Lab, peers: u32) -> Outcome<usage::Usage> {
    start(lab, peers)?;
    std::thread::sleep(SETTLE);
    let usage = usage::of_flanneld(lab)?;
    end(lab)?;
    reset(lab.host(1))?;
    Ok(usage)
}

/// Go's READY=1 says nothing about peers: the last route counts.
fn go(lab: &Lab, peers: u32) -> Outcome<Vec<f64>> {
    let Some(path) =
        std::env::var_os("RFLANNEL_BENCH_GO").filter(|_| (1..=SLOW_PEERS).contains(&peers))
    else {
        return Ok(vec![]);
    };
    (0..SLOW_RUNS)
        .map(|_| go_once(lab, Path::new(&path), peers))
        .collect()
}

fn go_once(lab: &Lab, path: &Path, peers: u32) -> Outcome<f64> {
    let node = lab.host(1);
    let mut command = node.command([path]);
    command.args(lab.etcd()?.flanneld_args());
    command.args([
        &format!("-etcd-prefix={PREFIX}"),
        "-iface=eth0",
        "-ip-masq=false",
    ]);
    let begin = Instant::now();
    let process = node.start("go", command)?;
    while !matches!(counts(node), Ok([routes, ..]) if routes == u64::from(peers)) {
        if begin.elapsed() > PATIENCE {
            return Err(format!(
                "Go's daemon does not get there:\n{}",
                process.log_tail(20).join("\n")
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(if peers > 1_000 { 50 } else { 5 }));
    }
    let time = milliseconds(begin);
    process.signal(Signal::KILL)?;
    drop(process);
    reset(node)?;
    Ok(time)
}
