//! Faults of the network between the hosts.

use std::fmt;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done};

/// Which packets of a host are dropped.
#[derive(Debug, Clone, Copy)]
enum Which {
    All,
    Outgoing,
    Incoming,
    Third,
}

/// Packets of a host are dropped at the switch: all or one direction or every third, of etcd alone or of everything.
pub struct Dropped {
    host: usize,
    which: Which,
    of_etcd: bool,
}

impl Dropped {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        let which =
            [Which::All, Which::Outgoing, Which::Incoming, Which::Third][random.random_range(0..4)];
        Self {
            host: target.any(random),
            which,
            of_etcd: random.random_bool(0.4),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.of_etcd {
            "of etcd"
        } else {
            "of everything"
        };
        write!(
            f,
            "h{}: packets dropped: {:?} {scope}",
            self.host, self.which
        )
    }
}

impl Fault for Dropped {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Path(self.host)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.cut(self.host, &rules(self.host, self.which, self.of_etcd))
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.cut(self.host, &[])
    }
}

fn rules(host: usize, which: Which, of_etcd: bool) -> Vec<String> {
    let (to_etcd, from_etcd) = if of_etcd {
        (" oifname \"v-e*\"", " iifname \"v-e*\"")
    } else {
        ("", "")
    };
    let out = format!("iifname \"v-h{host}\"{to_etcd}");
    let into = format!("oifname \"v-h{host}\"{from_etcd}");
    match which {
        Which::All => vec![out, into],
        Which::Outgoing => vec![out],
        Which::Incoming => vec![into],
        Which::Third => [out, into]
            .map(|rule| format!("{rule} numgen random mod 3 == 0"))
            .into(),
    }
}

/// Refuses everything between a host and etcd, on the host: it learns at once that etcd cannot be reached.
pub fn cut_off(cluster: &Cluster, host: usize) -> Done {
    let rules =
        "add table inet cut; add chain inet cut out { type filter hook output priority 0; };
        add rule inet cut out tcp dport 2379 reject with tcp reset";
    cluster.sh(host, &format!("nft '{rules}'")).map(drop)
}

/// Ends [`cut_off`], if it has begun.
pub fn let_in(cluster: &Cluster, host: usize) -> Done {
    cluster
        .sh(host, "nft delete table inet cut 2>/dev/null || true")
        .map(drop)
}

/// The cable is pulled and put back: the interface loses its carrier.
pub struct CablePulled(usize);

impl CablePulled {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.any(random))
    }
}

impl fmt::Display for CablePulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: cable pulled", self.0)
    }
}

impl Fault for CablePulled {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Path(self.0)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster
            .lab
            .bridge()
            .sh(&format!("ip link set v-h{} down", self.0))
            .map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster
            .lab
            .bridge()
            .sh(&format!("ip link set v-h{} up", self.0))
            .map(drop)
    }
}
