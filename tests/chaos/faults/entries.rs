//! Faults of links, kernel entries, and firewall rules.

use std::fmt;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::{Fault, PROMPT, Part, Target};
use crate::cluster::{Cluster, Done};

/// Prints how many of the overlay's routes a host has.
const ROUTES: &str = "ip route show dev flannel.1 2>/dev/null | wc -l";
/// Prints how many lines of the firewall are flannel's.
const RULES: &str = "{ nft list ruleset; iptables-save; } 2>/dev/null | grep -ci flannel || true";
/// Peers that may leave meanwhile: what a repair brings back is counted.
const LEAVING: u32 = 5;

/// A disturbance that happens several times in a row.
struct Burst {
    host: usize,
    times: u32,
    /// Between two.
    pause: Duration,
    /// The next one waits until the last one is repaired.
    is_paced: bool,
}

impl Burst {
    fn draw(random: &mut StdRng, target: &Target) -> Self {
        let times = if random.random_bool(0.4) {
            1
        } else {
            random.random_range(3..=9)
        };
        let pause = Duration::from_millis(random.random_range(100..=1_000));
        Self {
            host: target.ours(random),
            times,
            pause,
            is_paced: random.random_bool(0.5),
        }
    }

    fn run(&self, cluster: &Cluster, script: &str, count: &str) -> Done {
        let before = self.count(cluster, count)?;
        for time in 1..=self.times {
            cluster.sh(self.host, script)?;
            let begin = Instant::now();
            while self.is_paced && self.count(cluster, count)? + LEAVING < before {
                if begin.elapsed() > PROMPT {
                    let what = format!(
                        "h{}: not repaired {PROMPT:?} after disturbance {time}",
                        self.host
                    );
                    cluster.world().broken(what);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(250));
            }
            std::thread::sleep(self.pause);
        }
        Ok(())
    }

    fn count(&self, cluster: &Cluster, script: &str) -> Done<u32> {
        Ok(cluster.sh(self.host, script)?.trim().parse().unwrap_or(0))
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = if self.is_paced {
            " after its repair"
        } else {
            ""
        };
        write!(f, "{} times, each {:?}{after}", self.times, self.pause)
    }
}

macro_rules! bursts {
    ($($name:ident, $says:literal, $script:literal, $count:ident, $doc:literal;)*) => {
        $(#[doc = $doc]
        pub struct $name(Burst);

        impl $name {
            pub fn draw(random: &mut StdRng, target: &Target) -> Self {
                Self(Burst::draw(random, target))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "h{}: {}, {}", self.0.host, $says, self.0)
            }
        }

        impl Fault for $name {
            fn uses(&self) -> Vec<Part> {
                let host = self.0.host;
                let daemon = self.0.is_paced.then_some(Part::Daemon(host));
                [Part::Entries(host), Part::Address(host)].into_iter().chain(daemon).collect()
            }

            fn inject(&mut self, cluster: &mut Cluster) -> Done {
                self.0.run(cluster, $script, $count)
            }

            fn repaired_within(&self) -> Duration {
                PROMPT
            }
        })*
    };
}

bursts! {
    DeviceFlaps, "flannel.1 flaps",
        "ip link set flannel.1 down && ip link set flannel.1 up || true", ROUTES,
        "The kernel drops the routes and neighbors of a link that goes down.";
    DeviceDeleted, "flannel.1 deleted",
        "ip link del flannel.1 || true", ROUTES,
        "The device is deleted, with everything on it.";
    UplinkFlaps, "eth0 flaps",
        "ip link set eth0 down; ip link set eth0 up; ip route replace default via 10.64.255.254 metric 100", ROUTES,
        "The underlay interface goes down and up; what manages the network puts the default route back.";
    Flushed, "entries flushed",
        "ip route flush dev flannel.1; ip neigh flush dev flannel.1 nud permanent; bridge fdb flush dev flannel.1 2>/dev/null || true", ROUTES,
        "All routes and neighbors of the device are removed by another program.";
    FirewallFlushed, "firewall flushed",
        "nft flush ruleset", RULES,
        "All rules of the host are removed by another program.";
}

/// The MTU of the underlay is another one.
pub struct MtuChanged {
    host: usize,
    mtu: u32,
}

impl MtuChanged {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            mtu: [1400, 1450, 1492][random.random_range(0..3)],
        }
    }
}

impl fmt::Display for MtuChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: MTU changed to {}", self.host, self.mtu)
    }
}

impl Fault for MtuChanged {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Entries(self.host), Part::Address(self.host)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster
            .sh(self.host, &format!("ip link set eth0 mtu {}", self.mtu))
            .map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.sh(self.host, "ip link set eth0 mtu 1500").map(drop)
    }

    fn repaired_within(&self) -> Duration {
        PROMPT
    }

    fn lasts(&self) -> bool {
        true
    }
}
