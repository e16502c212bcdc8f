//! What two pods get through the overlay: one TCP stream and small UDP packets by iperf3, and requests that wait for their answers, beside a bare veth pair, the underlay, and the same overlay
//! built by hand with `ip`, in turns.
//!
//! `cargo bench --bench datapath`. With `RFLANNEL_BENCH_GO` set to the path of Go's `flanneld`, its overlay as well. Needs root and what `scripts/setup` installs.

#[path = "bed/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses a part of what they share"
)]
mod bed;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path as File;
use std::time::Duration;

use bed::{Outcome, PATIENCE, PREFIX, median, quantile, say};
use lab::{Lab, LabOptions, Node, wait_until};
use serde_json::Value;
use tokio::time::Instant;

/// Each path once a round, so that all see the same machine.
const ROUNDS: usize = 5;
const SECONDS: &str = "2";
const JUMBO: u32 = 9000;
/// What is measured of each path.
const FIGURES: [&str; 3] = [
    "TCP stream, Gbit/s",
    "TCP requests with their answers, of a byte each, in thousands a second",
    "UDP packets of 64 bytes that arrive, in thousands a second",
];
/// The bench plays both ends of a connection for requests.
const ANSWER: &str = "--answer";
const ASK: &str = "--ask";
const PORT: u16 = 5202;
/// Requests are sent for so long.
const ASKING: Duration = Duration::from_secs(1);
const NFTABLES: &str =
    r#"{"Network":"172.30.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(ANSWER), _) => return answer(),
        (Some(ASK), Some(address)) => return ask(&address),
        _ => {}
    }
    let mut lab = Lab::bare(LabOptions::new(env!("CARGO_BIN_EXE_flanneld")).prefix(PREFIX))?;
    lab.start_etcd()?;
    lab.add_hosts(18)?;
    lab.configure()?;
    let paths = paths(&mut lab)?;
    let mut rounds = vec![];
    for _ in 0..ROUNDS {
        let round: Outcome<Vec<_>> = paths.iter().map(Path::figures).collect();
        rounds.push(round?);
    }
    (0..FIGURES.len()).try_for_each(|figure| report(&paths, &rounds, figure))
}

/// A way between two places.
struct Path {
    name: &'static str,
    from: Node,
    to: Node,
    address: String,
}

/// Two hosts for each overlay, which share nothing but the switch.
fn paths(lab: &mut Lab) -> Outcome<Vec<Path>> {
    let mut paths = vec![
        veth(lab.host(1))?,
        underlay(lab),
        by_hand(lab, 3)?,
        by_flanneld(lab, "flanneld", 5, &[])?,
        by_flanneld(
            lab,
            "flanneld, -iptables-forward-rules=false",
            13,
            &["-iptables-forward-rules=false"],
        )?,
        by_flanneld(lab, "flanneld, -ip-masq", 7, &["-ip-masq"])?,
        by_flanneld(lab, "flanneld, -tx-checksum=off", 9, &["-tx-checksum=off"])?,
        jumbo(lab, 11)?,
    ];
    if let Some(go) = std::env::var_os("RFLANNEL_BENCH_GO") {
        paths.push(by_go(lab, File::new(&go), 15)?);
    }
    // Those that run have read the other configuration.
    lab.etcd()?.put(&format!("{PREFIX}/config"), NFTABLES)?;
    paths.push(by_flanneld(lab, "flanneld, EnableNFTables", 17, &[])?);
    Ok(paths)
}

/// Go's daemon, with the same endpoint, prefix, and interface.
fn by_go(lab: &mut Lab, program: &File, first: usize) -> Outcome<Path> {
    for host in [first, first + 1] {
        let node = lab.host(host);
        let mut command = node.command([program]);
        command.args(lab.etcd()?.flanneld_args());
        command.args([&format!("-etcd-prefix={PREFIX}"), "-iface=eth0"]);
        let process = node.start("go", command)?;
        let subnet_file = node.path("/run/flannel/subnet.env");
        if !wait_until(PATIENCE, || subnet_file.exists()) {
            return Err(process.log_tail(20).join("\n").into());
        }
        // It ends with its host.
        std::mem::forget(process);
    }
    between_pods(lab, "Go's flanneld", first)
}

fn veth(host: &Node) -> Outcome<Path> {
    host.sh(
        "ip netns add pod; ip link add pair type veth peer name eth0 netns pod
        ip addr add 192.0.2.1/24 dev pair; ip link set pair up
        ip -n pod addr add 192.0.2.2/24 dev eth0; ip -n pod link set eth0 up",
    )?;
    Ok(Path {
        name: "bare veth pair",
        from: host.clone(),
        to: host.pod(),
        address: "192.0.2.2".into(),
    })
}

fn underlay(lab: &Lab) -> Path {
    let (from, to) = (lab.host(1).clone(), lab.host(2).clone());
    Path {
        name: "underlay: veth, bridge, veth",
        address: to.address().to_string(),
        from,
        to,
    }
}

/// The smallest overlay that works: device, and an entry of each kind for the other host.
fn by_hand(lab: &mut Lab, first: usize) -> Outcome<Path> {
    for (host, n, peer, m) in [(first, 1, first + 1, 2), (first + 1, 2, first, 1)] {
        let (own, other) = (lab.host(host).address(), lab.host(peer).address());
        lab.host(host).sh(&format!(
            "ip link add vxlan0 address 0a:00:00:00:00:0{n} mtu 1450 type vxlan id 1 local {own} dev eth0 nolearning dstport 8472
            ip addr add 172.29.{n}.0/32 dev vxlan0; ip link set vxlan0 up
            ip neigh add 172.29.{m}.0 lladdr 0a:00:00:00:00:0{m} dev vxlan0 nud permanent
            bridge fdb add 0a:00:00:00:00:0{m} dev vxlan0 dst {other}
            ip route add 172.29.{m}.0/24 via 172.29.{m}.0 dev vxlan0 onlink"
        ))?;
        lab.host(host).write(
            "/run/flannel/subnet.env",
            format!("FLANNEL_SUBNET=172.29.{n}.1/24\nFLANNEL_MTU=1450\n"),
        )?;
    }
    between_pods(lab, "by hand with ip", first)
}

fn by_flanneld(lab: &mut Lab, name: &'static str, first: usize, flags: &[&str]) -> Outcome<Path> {
    for host in [first, first + 1] {
        lab.start_flanneld(host, flags)?.wait_ready(PATIENCE)?;
    }
    between_pods(lab, name, first)
}

/// Hosts whose underlay takes larger packets.
fn jumbo(lab: &mut Lab, first: usize) -> Outcome<Path> {
    for host in [first, first + 1] {
        lab.bridge()
            .sh(&format!("ip link set v-h{host} mtu {JUMBO}"))?;
        lab.host(host)
            .sh(&format!("ip link set eth0 mtu {JUMBO}"))?;
    }
    by_flanneld(lab, "flanneld, underlay with MTU 9000", first, &[])
}

fn between_pods(lab: &mut Lab, name: &'static str, first: usize) -> Outcome<Path> {
    let (from, to) = (lab.wire_pod(first)?, lab.wire_pod(first + 1)?);
    let path = Path {
        name,
        from: from.node,
        to: to.node,
        address: to.address.to_string(),
    };
    // Hosts hear of each other after they are ready.
    path.from.sh(&format!(
        "for n in $(seq 100); do ping -qc1 -W1 {0} && exit; done; exit 1",
        path.address
    ))?;
    Ok(path)
}

impl Path {
    fn figures(&self) -> Outcome<[f64; FIGURES.len()]> {
        let stream = self.iperf3(&format!("-O 1 -t {SECONDS}"))?;
        let stream = number(&stream, "/end/sum_received/bits_per_second")?;
        let packets = self.iperf3("-u -b 0 -l 64 -t 1")?;
        let [sent, lost, seconds] = ["packets", "lost_packets", "seconds"]
            .map(|name| number(&packets, &format!("/end/sum/{name}")));
        let packets = (sent? - lost?) / seconds?;
        Ok([stream / 1e9, self.requests()? / 1e3, packets / 1e3])
    }

    /// What both ends counted.
    fn iperf3(&self, options: &str) -> Outcome<Value> {
        self.to
            .sh("iperf3 -s -D -1 -I /run/iperf3.pid; until ss -Hltn sport = 5201 | grep -q .; do :; done")?;
        let json = self
            .from
            .sh(&format!("iperf3 -J {options} -c {}", self.address))?;
        Ok(serde_json::from_str(&json)?)
    }

    /// Requests a second over one connection, each of which waits for its answer.
    fn requests(&self) -> Outcome<f64> {
        let program = std::env::current_exe()?;
        let server = self.to.start(
            "answer",
            self.to.command([program.as_os_str(), ANSWER.as_ref()]),
        )?;
        self.to.sh(&format!(
            "until ss -Hltn sport = {PORT} | grep -q .; do :; done"
        ))?;
        let address: &str = &self.address;
        let asked = self
            .from
            .run([program.as_os_str(), ASK.as_ref(), address.as_ref()])?;
        // It ends with the connection.
        drop(server);
        let count = String::from_utf8_lossy(&asked.stdout);
        let count: f64 = count
            .trim()
            .parse()
            .map_err(|_| format!("no answers: {}", String::from_utf8_lossy(&asked.stderr)))?;
        Ok(count / ASKING.as_secs_f64())
    }
}

fn number(report: &Value, path: &str) -> Outcome<f64> {
    let number = report.pointer(path).and_then(Value::as_f64);
    number.ok_or_else(|| format!("iperf3 does not say {path}: {report}").into())
}

/// Answers each byte of one connection with a byte.
fn answer() -> Outcome<()> {
    let (mut stream, _) = TcpListener::bind(("0.0.0.0", PORT))?.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Counts the answers within [`ASKING`].
fn ask(address: &str) -> Outcome<()> {
    let mut stream = TcpStream::connect((address, PORT))?;
    stream.set_nodelay(true)?;
    let (mut byte, mut count, begin) = ([0], 0_u32, Instant::now());
    while begin.elapsed() < ASKING {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        count += 1;
    }
    Ok(say(&count.to_string())?)
}

/// Ratios round by round, against what the machine could do in that round.
fn report(paths: &[Path], rounds: &[Vec<[f64; FIGURES.len()]>], figure: usize) -> Outcome<()> {
    let name = FIGURES.get(figure).copied().unwrap_or_default();
    say(&format!(
        "\n{name}:\n\n| path | median | from | to | of the bare pair | of the overlay by hand |\n| --- | --- | --- | --- | --- | --- |"
    ))?;
    let of_path = |path: usize| -> Vec<f64> {
        let figures = rounds
            .iter()
            .filter_map(|round| round.get(path)?.get(figure));
        figures.copied().collect()
    };
    let ratio = |own: &[f64], other: Vec<f64>| {
        median(
            own.iter()
                .zip(other)
                .map(|(own, other)| own / other)
                .collect(),
        )
    };
    for (index, path) in paths.iter().enumerate() {
        let own = of_path(index);
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|share| quantile(own.clone(), share));
        let (bare, by_hand) = (ratio(&own, of_path(0)), ratio(&own, of_path(2)));
        say(&format!(
            "| {} | {middle:.1} | {low:.1} | {high:.1} | {bare:.2} | {by_hand:.2} |",
            path.name
        ))?;
    }
    Ok(())
}
