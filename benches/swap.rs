//! One host of a cluster changes between Go's daemon and this one, there and back, while pings run to it and from it: how many
//! answers are missing.
//!
//! After each change the daemon must be ready, must have written `subnet.env` again, and must have kept subnet, MAC, and lease; a peer
//! that joined during the change and one that joined after it must be in the kernel.
//!
//! `RFLANNEL_BENCH_GO=PATH cargo bench --bench swap [-- WORD...]`: PATH is Go's `flanneld`; words choose clusters by name. Needs root and what `scripts/setup` installs.

use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use lab::{Flanneld, Lab, LabOptions, Node, Process, Signal, wait_until};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PREFIX: &str = "/kubernetes/network";
const PATIENCE: Duration = Duration::from_secs(60);
/// For what a daemon does after it said that it is ready.
const SETTLE: Duration = Duration::from_secs(3);
/// Times that the host goes to the other daemon and comes back.
const ROUNDS: usize = 3;
/// The host that changes; the first one has this daemon, the second one Go's.
const CHANGING: usize = 3;

/// What, the network's configuration, flags of every daemon. Subnets below 172.30.100.0 are for peers that a run invents.
const CLUSTERS: &[(&str, &str, &[&str])] = &[
    (
        "IPv4",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","Backend":{"Type":"vxlan"}}"#,
        &[],
    ),
    (
        "IPv4, -ip-masq",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","Backend":{"Type":"vxlan"}}"#,
        &["-ip-masq"],
    ),
    (
        "IPv4, DirectRouting",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","Backend":{"Type":"vxlan","DirectRouting":true}}"#,
        &[],
    ),
    (
        "both families, host-gw",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"host-gw"}}"#,
        &[],
    ),
    (
        "IPv4, host-gw",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","Backend":{"Type":"host-gw"}}"#,
        &[],
    ),
    (
        "both families, -ip-masq",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#,
        &["-ip-masq"],
    ),
    (
        "both families, DirectRouting",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan","DirectRouting":true}}"#,
        &[],
    ),
    (
        "both families, nftables, -ip-masq",
        r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.100.0","EnableIPv6":true,"IPv6Network":"fd30::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#,
        &["-ip-masq"],
    ),
];

fn main() -> Outcome<()> {
    let go = std::env::var_os("RFLANNEL_BENCH_GO")
        .ok_or("RFLANNEL_BENCH_GO has to name Go's flanneld")?;
    say(&format!(
        "| cluster | answers missing, {ROUNDS} times there and back | of |"
    ))?;
    say("| --- | --- | --- |")?;
    let meant: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let is_meant =
        |what: &str| meant.is_empty() || meant.iter().any(|word| what.contains(word.as_str()));
    for (what, network, flags) in CLUSTERS.iter().filter(|(what, ..)| is_meant(what)) {
        let (sent, received) = Cluster::start(&go, network, flags)?.swap()?;
        say(&format!("| {what} | {} | {sent} |", sent - received))?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

struct Cluster<'a> {
    lab: Lab,
    go: &'a OsStr,
    network: &'a str,
    /// Peers that were invented.
    joined: u8,
    /// The host that runs Go's daemon throughout.
    _peer: Flanneld,
}

/// What a change of daemons keeps, and which `subnet.env` there is.
#[derive(Debug)]
struct Kept {
    subnet: String,
    mac: String,
    /// Key and value of the host's own lease.
    leases: String,
    file: String,
}

impl Kept {
    fn of(lab: &Lab) -> Outcome<Self> {
        let host = lab.host(CHANGING);
        let address = host.address();
        let all = lab
            .etcd()?
            .ctl(["get", "--prefix", &format!("{PREFIX}/subnets/")])?;
        let own = format!("\"PublicIP\":\"{address}\"");
        let lines: Vec<&str> = all.lines().collect();
        let leases = lines
            .windows(2)
            .filter(|pair| pair.last().is_some_and(|value| value.contains(&own)));
        Ok(Self {
            subnet: host.sh("grep SUBNET /run/flannel/subnet.env")?,
            mac: host.sh("cat /sys/class/net/flannel.1/address 2>/dev/null || true")?,
            leases: leases.map(|pair| pair.join(" ")).collect(),
            file: host.sh("stat -c '%i %z' /run/flannel/subnet.env")?,
        })
    }
}

impl<'a> Cluster<'a> {
    fn start(go: &'a OsStr, network: &'a str, flags: &[&str]) -> Outcome<Self> {
        let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .prefix(PREFIX)
            .network(network);
        let mut lab = Lab::bare(options.flanneld_args(flags.iter().copied()))?;
        lab.start_etcd()?;
        lab.add_hosts(3)?;
        lab.configure()?;
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        let mut peer = start_go(&lab, go, 2)?;
        peer.wait_ready(PATIENCE)?;
        lab.start_flanneld(CHANGING, &[])?.wait_ready(PATIENCE)?;
        lab.wire_all()?;
        Ok(Self {
            lab,
            go,
            network,
            joined: 0,
            _peer: peer,
        })
    }

    /// Answers sent for and received.
    fn swap(mut self) -> Outcome<(u64, u64)> {
        let pings = self.pings()?;
        for _ in 0..ROUNDS {
            let before = Kept::of(&self.lab)?;
            self.lab.end_flanneld(CHANGING, Signal::TERM)?;
            let mut theirs = start_go(&self.lab, self.go, CHANGING)?;
            let during = self.join()?;
            theirs.wait_ready(PATIENCE)?;
            self.check("Go's daemon", &before, during)?;
            sleep(SETTLE);

            let before = Kept::of(&self.lab)?;
            theirs.end(Signal::TERM, PATIENCE)?;
            self.lab.start_flanneld(CHANGING, &[])?;
            let during = self.join()?;
            self.lab.flanneld(CHANGING)?.wait_ready(PATIENCE)?;
            self.check("this daemon", &before, during)?;
            sleep(SETTLE);
        }
        let counts: Outcome<Vec<(u64, u64)>> = pings.into_iter().map(count).collect();
        Ok(counts?
            .into_iter()
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
    }

    /// Makes a lease of a host that is not there; returns its number.
    fn join(&mut self) -> Outcome<u8> {
        self.joined += 1;
        let n = self.joined;
        let has_v6 = self.network.contains("IPv6Network");
        let is_host_gw = self.network.contains("host-gw");
        let (v6, key) = match has_v6 {
            true if is_host_gw => (
                format!(r#""fd10::1:{n}","BackendType":"host-gw""#),
                format!("172.30.{n}.0-24&fd30:0:0:{n}::-64"),
            ),
            true => (
                format!(
                    r#""fd10::1:{n}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:01:{n:02x}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"0a:00:00:00:06:{n:02x}"}}"#
                ),
                format!("172.30.{n}.0-24&fd30:0:0:{n}::-64"),
            ),
            false if is_host_gw => (
                r#"null,"BackendType":"host-gw""#.to_owned(),
                format!("172.30.{n}.0-24"),
            ),
            false => (
                format!(
                    r#"null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:01:{n:02x}"}}"#
                ),
                format!("172.30.{n}.0-24"),
            ),
        };
        let value = format!(r#"{{"PublicIP":"10.64.1.{n}","PublicIPv6":{v6}}}"#);
        self.lab
            .etcd()?
            .put(&format!("{PREFIX}/subnets/{key}"), value)?;
        Ok(n)
    }

    /// What a change must have kept and done.
    fn check(&mut self, daemon: &str, before: &Kept, during: u8) -> Outcome<()> {
        let now = Kept::of(&self.lab)?;
        if (&now.subnet, &now.mac, &now.leases) != (&before.subnet, &before.mac, &before.leases) {
            return Err(format!(
                "{daemon} does not keep subnet, MAC, and lease: {before:?}, then {now:?}"
            )
            .into());
        }
        if now.file == before.file {
            return Err(format!("{daemon} does not write subnet.env").into());
        }
        for n in [during, self.join()?] {
            let script = format!("ip route show 172.30.{n}.0/24 | grep -q .");
            if !wait_until(PATIENCE, || self.lab.host(CHANGING).sh(&script).is_ok()) {
                return Err(format!("{daemon} does not program the peer 172.30.{n}.0/24").into());
            }
        }
        Ok(())
    }

    /// To the host that changes from both others and back, in each family.
    fn pings(&self) -> Outcome<Vec<Process>> {
        let missing = self.lab.ping_all(PATIENCE)?.missing().count();
        if missing > 0 {
            return Err(
                format!("{missing} pairs of pods do not reach each other to begin with").into(),
            );
        }
        let pods: Vec<_> = self
            .lab
            .hosts()
            .iter()
            .filter_map(|host| host.pod())
            .collect();
        let [first, second, changing] = pods[..] else {
            return Err("a host has no pod".into());
        };
        let mut pings = Vec::new();
        for other in [first, second] {
            for (from, to) in [(other, changing), (changing, other)] {
                for address in to.addresses() {
                    pings.push(ping(&from.node, address)?);
                }
            }
        }
        Ok(pings)
    }
}

/// Go's daemon knows no state file; apart from that it gets this daemon's flags.
fn start_go(lab: &Lab, go: &OsStr, index: usize) -> Outcome<Flanneld> {
    let mut command = lab.host(index).command([go]);
    command.args(
        lab.flanneld_args()?
            .iter()
            .filter(|flag| !flag.starts_with("-state-file")),
    );
    Ok(Flanneld::start(lab.host(index), command)?)
}

/// Fifty times a second.
fn ping(from: &Node, to: IpAddr) -> Outcome<Process> {
    Ok(from.spawn(
        &format!("ping-{to}"),
        ["ping", "-n", "-i", "0.02", &to.to_string()],
    )?)
}

/// `500 packets transmitted, 500 received, 0% packet loss, time 9980ms`
fn count(mut ping: Process) -> Outcome<(u64, u64)> {
    ping.signal(Signal::INT)?;
    ping.wait(PATIENCE)?;
    let log = ping.log();
    let line = log
        .lines()
        .find_map(|line| line.split_once(" packets transmitted, "));
    let (sent, rest) = line.ok_or_else(|| format!("ping said nothing: {log}"))?;
    let received = rest.split(' ').next().unwrap_or_default();
    Ok((sent.parse()?, received.parse()?))
}
