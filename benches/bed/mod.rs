//! What the benches of whole processes share: a lab with etcd and two hosts, leases of peers that are not there, and what is
//! measured beside the daemon.

pub mod bare;
pub mod etcd;
pub mod kernel;
pub mod packed;
pub mod usage;

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use lab::{Lab, LabError, LabOptions, Node, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub const PATIENCE: Duration = Duration::from_secs(300);
/// Apart from the lab's own addresses, with room for ninety thousand peers before what the daemons choose from.
const NETWORK: &str = r#"{"Network":"12.0.0.0/7","SubnetLen":24,"SubnetMin":"13.128.0.0","Backend":{"Type":"vxlan"}}"#;
/// Where the peers' public addresses are.
const PUBLIC: &str = "198.18.0.0/15";
pub const PREFIX: &str = "/kubernetes/network";
/// Where etcd tells its counters, inside its node.
pub const METRICS: &str = "127.0.0.1:2381";

/// What brings packets to the peers: `--backend vxlan` or `--backend host-gw` among the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Vxlan,
    HostGw,
}

impl Backend {
    pub fn chosen() -> Self {
        let mut args = std::env::args().skip_while(|arg| arg != "--backend");
        if args.nth(1).as_deref() == Some("host-gw") {
            Self::HostGw
        } else {
            Self::Vxlan
        }
    }

    /// The device that routes to peers are on.
    pub fn device(self) -> &'static str {
        match self {
            Self::Vxlan => "flannel.1",
            Self::HostGw => "eth0",
        }
    }
}

/// Takes away everything that a daemon or a yardstick has made on a host.
pub fn reset(node: &Node) -> Result<(), LabError> {
    let script = match Backend::chosen() {
        Backend::Vxlan => "ip link del flannel.1",
        Backend::HostGw => "ip route flush root 12.0.0.0/7",
    };
    node.sh(script).map(drop)
}

/// A peer that exists in etcd only.
#[derive(Clone, Copy)]
pub struct Peer(pub u32);

impl Peer {
    pub fn subnet(self) -> Ipv4Addr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(12 + a, b, c, 0)
    }

    pub fn mac(self) -> [u8; 6] {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        [0x0a, 1, 0, a, b, c]
    }

    pub fn mac_text(self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }

    pub fn public(self) -> Ipv4Addr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(198, 18 + a, b, c)
    }

    pub fn key(self) -> String {
        format!("{PREFIX}/subnets/{}-24", self.subnet())
    }

    pub fn value(self) -> String {
        if Backend::chosen() == Backend::HostGw {
            return format!(
                r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"host-gw"}}"#,
                self.public()
            );
        }
        format!(
            r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{}"}}}}"#,
            self.public(),
            self.mac_text()
        )
    }
}

/// A lab with etcd and two hosts: the daemon's, and the yardstick's.
pub fn lab() -> Result<Lab, LabError> {
    let metrics = format!("--listen-metrics-urls=http://{METRICS}");
    let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
        .network(NETWORK)
        .etcd_args([
            "--max-txn-ops=20000",
            "--max-request-bytes=16777216",
            &metrics,
        ]);
    let backend = Backend::chosen();
    let options = if backend == Backend::HostGw {
        options.backend("host-gw")
    } else {
        options
    };
    let mut lab = Lab::bare(options)?;
    lab.start_etcd()?;
    lab.add_hosts(2)?;
    if backend == Backend::HostGw {
        for host in lab.hosts() {
            host.node().sh(&format!("ip route add {PUBLIC} dev eth0"))?;
        }
    }
    lab.configure()?;
    Ok(lab)
}

/// Runs something in a node's network namespace.
pub fn within<T: Send>(node: &Node, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let namespace = File::open(format!("/proc/{}/ns/net", node.pid()))?;
    let inside = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .map_err(|_| "a thread has ended badly")?
}

/// From exec to READY=1, in milliseconds. That the kernel has everything then is checked.
pub fn start(lab: &mut Lab, peers: u32) -> Outcome<f64> {
    let begin = Instant::now();
    let flanneld = lab.start_flanneld(1, &[])?;
    flanneld.wait_ready(PATIENCE)?;
    let time = milliseconds(begin);
    let counts = kernel::counts(lab.host(1))?;
    if counts == [u64::from(peers); 3] {
        Ok(time)
    } else {
        Err(format!("READY, but the kernel has {counts:?}").into())
    }
}

pub fn end(lab: &mut Lab) -> Result<(), LabError> {
    lab.end_flanneld(1, Signal::TERM).map(drop)
}

pub fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

pub fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "a share is in 0..=1"
    )]
    let index = ((values.len().max(1) - 1) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// The numbers among the arguments, or these.
pub fn sizes(otherwise: &[u32]) -> Vec<u32> {
    let given: Vec<u32> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    if given.is_empty() {
        otherwise.to_vec()
    } else {
        given
    }
}
