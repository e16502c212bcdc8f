//! Faults of links, kernel entries, and firewall rules.

use std::fmt;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done};

/// A script that is run several times in a row.
struct Burst {
    host: usize,
    times: u32,
    /// Milliseconds between two.
    pause: u32,
}

impl Burst {
    fn draw(random: &mut StdRng, target: &Target) -> Self {
        let times = if random.random_bool(0.5) { 1 } else { random.random_range(3..=9) };
        Self { host: target.ours(random), times, pause: random.random_range(100..=1_000) }
    }

    fn run(&self, cluster: &Cluster, script: &str) -> Done {
        let Self { times, pause, .. } = self;
        let pause = f64::from(*pause) / 1000.0;
        cluster.sh(self.host, &format!("for i in $(seq {times}); do {script}; sleep {pause}; done")).map(drop)
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times, {} ms apart", self.times, self.pause)
    }
}

macro_rules! bursts {
    ($($name:ident, $says:literal, $script:expr, $doc:literal;)*) => {
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
                vec![Part::Entries(self.0.host), Part::Address(self.0.host)]
            }

            fn inject(&mut self, cluster: &mut Cluster) -> Done {
                self.0.run(cluster, $script)
            }
        })*
    };
}

bursts! {
    DeviceFlaps, "flannel.1 flaps", "ip link set flannel.1 down && ip link set flannel.1 up || true",
        "The kernel drops the routes and neighbors of a link that goes down.";
    DeviceDeleted, "flannel.1 deleted", "ip link del flannel.1 || true",
        "The device is deleted, with everything on it.";
    UplinkFlaps, "eth0 flaps",
        "ip link set eth0 down; ip link set eth0 up; ip route replace default via 10.64.255.254 metric 100",
        "The underlay interface goes down and up; what manages the network puts the default route back.";
    Flushed, "entries flushed",
        "ip route flush dev flannel.1; ip neigh flush dev flannel.1 nud permanent; bridge fdb flush dev flannel.1 2>/dev/null || true",
        "All routes and neighbors of the device are removed by another program.";
    FirewallFlushed, "firewall flushed", "nft flush ruleset",
        "All rules of the host are removed by another program.";
}

/// The MTU of the underlay is another one.
pub struct MtuChanged {
    host: usize,
    mtu: u32,
}

impl MtuChanged {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self { host: target.ours(random), mtu: [1400, 1450, 1492][random.random_range(0..3)] }
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
        cluster.sh(self.host, &format!("ip link set eth0 mtu {}", self.mtu)).map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.sh(self.host, "ip link set eth0 mtu 1500").map(drop)
    }

    fn lasts(&self) -> bool {
        true
    }
}
