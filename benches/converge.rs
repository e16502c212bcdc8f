//! Whole processes on a real kernel and a real etcd: how long from exec until every peer is programmed, against
//! `ip -batch` and `bridge -batch` with the same plain entries in the same run.
//!
//! `cargo bench --bench converge [-- PEERS...]`. Needs root and what `scripts/setup` installs.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use rflannel::lab::{Lab, LabError, LabOptions, Signal};
use tokio::time::Instant;

const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(300);
const NETWORK: &str = r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
/// etcd's limit for one transaction.
const TXN: usize = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![250, 1_000, 10_000] } else { sizes };
    say("| peers | ip + bridge -batch, ms | exec to READY, ms | ratio | restart, ms | peak memory, MiB |")?;
    say("| --- | --- | --- | --- | --- | --- |")?;
    for peers in sizes {
        say(&row(peers)?)?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// One size: medians of several runs, each in the order plain tools, fresh start, restart with everything in place.
fn row(peers: u32) -> Result<String, Box<dyn std::error::Error>> {
    let mut lab = Lab::bare(LabOptions::new(env!("CARGO_BIN_EXE_flanneld")).network(NETWORK))?;
    lab.start_etcd()?;
    lab.add_hosts(1)?;
    lab.configure()?;
    load(&lab, peers)?;
    let (mut plain, mut fresh, mut again, mut memory) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        plain.push(plain_tools(&lab, peers)?);
        let (time, peak) = start(&mut lab, peers)?;
        fresh.push(time);
        memory.push(peak);
        again.push(start(&mut lab, peers)?.0);
        lab.host(1).sh("ip link del flannel.1")?;
    }
    let [plain, fresh, again, memory] = [plain, fresh, again, memory].map(median);
    Ok(format!("| {peers} | {plain:.1} | {fresh:.1} | {:.2} | {again:.1} | {memory:.1} |", fresh / plain))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Subnet, MAC and public address of peer `n`.
fn peer(n: u32) -> (String, String, String) {
    let [_, a, b, c] = (n + 1).to_be_bytes();
    (format!("10.{b}.{c}.0"), format!("0a:01:00:{a:02x}:{b:02x}:{c:02x}"), format!("192.168.{b}.{c}"))
}

fn load(lab: &Lab, peers: u32) -> Result<(), LabError> {
    let etcd = lab.etcd()?;
    let all: Vec<u32> = (0..peers).collect();
    for chunk in all.chunks(TXN) {
        let mut script = String::from("\n");
        for n in chunk {
            let (subnet, mac, public) = peer(*n);
            let value = format!(
                r#"{{\"PublicIP\":\"{public}\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\",\"BackendData\":{{\"VNI\":1,\"VtepMAC\":\"{mac}\"}}}}"#
            );
            let _ = writeln!(script, "put /kubernetes/network/subnets/{subnet}-24 \"{value}\"");
        }
        script.push_str("\n\n");
        etcd.ctl_feed(["txn", "--interactive=false"], script.as_bytes())?;
    }
    Ok(())
}

/// What an operator would do by hand: a device, and three entries a peer.
fn plain_tools(lab: &Lab, peers: u32) -> Result<f64, LabError> {
    let host = lab.host(1);
    host.sh("ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dev eth0 nolearning dstport 8472; ip link set flannel.1 up")?;
    let (mut neighbours, mut fdb, mut routes) = (String::new(), String::new(), String::new());
    for (subnet, mac, public) in (0..peers).map(peer) {
        let _ = writeln!(neighbours, "neigh replace {subnet} lladdr {mac} dev flannel.1 nud permanent");
        let _ = writeln!(fdb, "fdb replace {mac} dev flannel.1 dst {public}");
        let _ = writeln!(routes, "route replace {subnet}/24 via {subnet} dev flannel.1 onlink");
    }
    host.write("/run/neigh", neighbours)?;
    host.write("/run/fdb", fdb)?;
    host.write("/run/routes", routes)?;
    let begin = Instant::now();
    host.sh("ip -batch /run/neigh; bridge -batch /run/fdb; ip -batch /run/routes")?;
    let time = milliseconds(begin);
    host.sh("ip link del flannel.1")?;
    Ok(time)
}

/// From exec to READY=1, which comes when every peer is in the kernel (checked), and the peak memory in MiB.
fn start(lab: &mut Lab, peers: u32) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let flanneld = lab.start_flanneld(1, &[])?;
    flanneld.wait_ready(PATIENCE)?;
    let time = milliseconds(begin);
    let pid = flanneld.process().pid().ok_or("flanneld is gone")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak: f64 = peak.trim().trim_end_matches(" kB").trim().parse()?;
    let counts = lab.host(1).sh("ip -o route show dev flannel.1 | wc -l; ip neigh show dev flannel.1 nud permanent | wc -l; bridge fdb show dev flannel.1 | grep -c dst")?;
    let expected = format!("{peers}\n{peers}\n{peers}");
    if counts.trim() != expected {
        return Err(format!("READY, but the kernel has {counts:?}").into());
    }
    lab.end_flanneld(1, Signal::TERM)?;
    Ok((time, peak / 1024.0))
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
