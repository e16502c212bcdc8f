//! Faults of a host's addresses and routes.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Fault, Part, Target};
use crate::cluster::{Cluster, Done, PREFIX, lease_value};

/// The address that keepalived or kube-vip would move between hosts.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 200);
/// The default route of a host, which goes with its address.
const ROUTE: &str = "ip route replace default via 10.64.255.254 metric 100";

fn octet(host: usize) -> u8 {
    u8::try_from(host).expect("hosts are few")
}

/// As at the boot: every second host has its address from DHCP.
fn add(cluster: &Cluster, host: usize, address: Ipv4Addr) -> Done {
    let lifetime = if host.is_multiple_of(2) {
        "valid_lft 7200 preferred_lft 7200"
    } else {
        ""
    };
    cluster.has_address(host, address, true);
    cluster
        .sh(
            host,
            &format!("ip addr add {address}/16 dev eth0 {lifetime}; {ROUTE}"),
        )
        .map(drop)
}

fn remove(cluster: &Cluster, host: usize, address: Ipv4Addr) -> Done {
    cluster.has_address(host, address, false);
    cluster
        .sh(host, &format!("ip addr del {address}/16 dev eth0"))
        .map(drop)
}

/// The host gets another address; then a new host gets the former one.
pub struct Renumbered {
    host: usize,
    /// The new address is there before the old one goes.
    is_smooth: bool,
}

impl Renumbered {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            is_smooth: random.random_bool(0.5),
        }
    }

    fn former(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 0, octet(self.host))
    }

    fn other(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 1, octet(self.host))
    }

    /// The key of the new host with the former address.
    fn heir(&self) -> String {
        format!("{PREFIX}/subnets/172.30.{}.0-24", 220 + self.host)
    }

    fn change(&self, cluster: &Cluster, from: Ipv4Addr, to: Ipv4Addr) -> Done {
        cluster.with_host(self.host, |known| known.home = to);
        if self.is_smooth {
            add(cluster, self.host, to)?;
            // A primary address takes the secondary ones of its network along, unless they are promoted.
            cluster.sh(
                self.host,
                "sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1",
            )?;
            remove(cluster, self.host, from)?;
            return cluster.sh(self.host, ROUTE).map(drop);
        }
        remove(cluster, self.host, from)?;
        std::thread::sleep(Duration::from_millis(300));
        add(cluster, self.host, to)
    }
}

impl fmt::Display for Renumbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_smooth {
            "the new one comes first"
        } else {
            "the old one goes first"
        };
        write!(
            f,
            "h{}: address changed, {how}; its former one is leased by another host",
            self.host
        )
    }
}

impl Fault for Renumbered {
    fn uses(&self) -> Vec<Part> {
        vec![
            Part::Address(self.host),
            Part::Lease(self.host),
            Part::Daemon(self.host),
            Part::Etcd,
        ]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        self.change(cluster, self.former(), self.other())?;
        let (home, key) = (
            self.other(),
            cluster.lease_key(self.host).unwrap_or_default(),
        );
        // Two leases must not announce one address: this one is of the former address only when it is free.
        super::datastore::soon(|| {
            let value = cluster
                .etcd()
                .ok()
                .and_then(|etcd| etcd.get(&key).ok())
                .flatten();
            value.is_some_and(|value| value.contains(&format!("{home}\"")))
        });
        cluster.etcd()?.put(
            &self.heir(),
            lease_value(&self.former().to_string(), 220 + self.host),
        )
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.etcd()?.delete(&self.heir())?;
        self.change(cluster, self.other(), self.former())
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// A virtual address comes to the host, and goes.
pub struct Virtual {
    host: usize,
    /// 32, or that of the network.
    length: u8,
}

impl Virtual {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self {
            host: target.ours(random),
            length: if random.random_bool(0.7) { 32 } else { 16 },
        }
    }
}

impl fmt::Display for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: virtual address, length {}", self.host, self.length)
    }
}

impl Fault for Virtual {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Address(self.host)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        cluster.has_address(self.host, VIRTUAL, true);
        cluster
            .sh(
                self.host,
                &format!("ip addr add {VIRTUAL}/{} dev eth0", self.length),
            )
            .map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.has_address(self.host, VIRTUAL, false);
        cluster
            .sh(
                self.host,
                &format!("ip addr del {VIRTUAL}/{} dev eth0", self.length),
            )
            .map(drop)
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// The address is removed, and comes back when it is over, as when a lease of DHCP is renewed.
pub struct Removed {
    host: usize,
    /// The host has a virtual address meanwhile, which goes to this host at last.
    next: Option<usize>,
}

impl Removed {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        let (host, next) = target.two(random);
        Self {
            host,
            next: random.random_bool(0.5).then_some(next),
        }
    }

    fn move_virtual(&self, cluster: &Cluster, host: usize, add: bool) -> Done {
        let verb = if add { "add" } else { "del" };
        cluster.has_address(host, VIRTUAL, add);
        cluster
            .sh(host, &format!("ip addr {verb} {VIRTUAL}/32 dev eth0"))
            .map(drop)
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host;
        match self.next {
            Some(next) => {
                write!(
                    f,
                    "h{host}: address removed, a virtual one stays, and goes to h{next} later"
                )
            }
            None => write!(f, "h{host}: address removed"),
        }
    }
}

impl Fault for Removed {
    fn uses(&self) -> Vec<Part> {
        // Without an address the host does not reach etcd.
        let mut parts = vec![
            Part::Address(self.host),
            Part::Lease(self.host),
            Part::Path(self.host),
        ];
        parts.extend(self.next.map(Part::Address));
        parts
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        if self.next.is_some() {
            self.move_virtual(cluster, self.host, true)?;
        }
        let home = cluster.with_host(self.host, |known| known.home);
        remove(cluster, self.host, home)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        let home = cluster.with_host(self.host, |known| known.home);
        add(cluster, self.host, home)?;
        let Some(next) = self.next else { return Ok(()) };
        std::thread::sleep(Duration::from_millis(500));
        self.move_virtual(cluster, self.host, false)?;
        self.move_virtual(cluster, next, true)?;
        std::thread::sleep(Duration::from_secs(1));
        self.move_virtual(cluster, next, false)
    }
}

/// A better default route through another interface, as of a VPN.
pub struct DefaultRoute(usize);

impl DefaultRoute {
    pub fn draw(random: &mut StdRng, target: &Target) -> Self {
        Self(target.ours(random))
    }
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}: better default route", self.0)
    }
}

impl Fault for DefaultRoute {
    fn uses(&self) -> Vec<Part> {
        vec![Part::Address(self.0)]
    }

    fn inject(&mut self, cluster: &mut Cluster) -> Done {
        let script = "ip link add vpn0 mtu 1400 type veth peer name vpn1
            ip addr add 192.0.2.7/24 dev vpn0
            ip link set vpn1 up
            ip link set vpn0 up
            ip route add default dev vpn0 metric 50";
        cluster.sh(self.0, script).map(drop)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Done {
        cluster.sh(self.0, "ip link del vpn0").map(drop)
    }

    fn lasts(&self) -> bool {
        true
    }
}
