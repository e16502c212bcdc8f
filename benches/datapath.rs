//! What two pods get through the overlay: TCP by iperf3, one stream, beside a bare veth pair, the underlay, and the same overlay
//! built by hand with `ip`, in turns.
//!
//! `cargo bench --bench datapath`. Needs root and what `scripts/setup` installs.

#[path = "bed/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses a part of what they share"
)]
mod bed;

use bed::{Outcome, PATIENCE, median, quantile, say};
use lab::{Lab, LabOptions, Node};
use serde_json::Value;

/// Each path once a round, so that all see the same machine.
const ROUNDS: usize = 5;
const SECONDS: &str = "2";
const JUMBO: u32 = 9000;

fn main() -> Outcome<()> {
    let mut lab = Lab::bare(LabOptions::new(env!("CARGO_BIN_EXE_flanneld")))?;
    lab.start_etcd()?;
    lab.add_hosts(14)?;
    lab.configure()?;
    let paths = paths(&mut lab)?;
    let mut rates = vec![vec![]; paths.len()];
    for _ in 0..ROUNDS {
        for (path, rates) in paths.iter().zip(&mut rates) {
            rates.push(path.rate()?);
        }
    }
    report(&paths, &rates)
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
    Ok(vec![
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
    ])
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
    /// What the receiver got, in Gbit/s.
    fn rate(&self) -> Outcome<f64> {
        self.to
            .sh("iperf3 -s -D -1 -I /run/iperf3.pid; until ss -Hltn sport = 5201 | grep -q .; do :; done")?;
        let json = self
            .from
            .sh(&format!("iperf3 -J -O 1 -t {SECONDS} -c {}", self.address))?;
        let result: Value = serde_json::from_str(&json)?;
        let rate = result
            .pointer("/end/sum_received/bits_per_second")
            .and_then(Value::as_f64);
        Ok(rate.ok_or_else(|| format!("iperf3 says no rate: {json}"))? / 1e9)
    }
}

/// Ratios round by round, against what the machine could do in that round.
fn report(paths: &[Path], rates: &[Vec<f64>]) -> Outcome<()> {
    say(
        "| path | Gbit/s, median | from | to | of the bare pair | of the overlay by hand |\n| --- | --- | --- | --- | --- | --- |",
    )?;
    let of = |rates: &[f64], other: Option<&Vec<f64>>| {
        median(
            rates
                .iter()
                .zip(other.into_iter().flatten())
                .map(|(rate, other)| rate / other)
                .collect(),
        )
    };
    for (path, own) in paths.iter().zip(rates) {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|share| quantile(own.clone(), share));
        let (bare, by_hand) = (of(own, rates.first()), of(own, rates.get(2)));
        say(&format!(
            "| {} | {middle:.1} | {low:.1} | {high:.1} | {bare:.2} | {by_hand:.2} |",
            path.name
        ))?;
    }
    Ok(())
}
