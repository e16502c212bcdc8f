//! The overlay as an operator sees it: with `ip`, `bridge` and the files on each host.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use lab::{Lab, LabError, Node, Process, wait_until};

use super::support::PATIENCE;

/// What peers must know about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vtep {
    pub(super) subnet: Ipv4Network,
    pub(super) mac: String,
    pub(super) ip: Ipv4Addr,
}

impl Vtep {
    /// A host that exists only as a lease: subnet 172.30.`n`.0/24 at 10.64.1.`n`.
    pub(super) fn invented(n: u8) -> Self {
        let subnet = Ipv4Network::new(Ipv4Addr::new(172, 30, n, 0), 24);
        let ip = Ipv4Addr::new(10, 64, 1, n);
        Self {
            subnet: subnet.unwrap_or(Ipv4Network::from(ip)),
            mac: format!("0a:00:00:00:01:{n:02x}"),
            ip,
        }
    }

    /// That of a host whose daemon is ready, from its files and its device.
    pub(super) fn of(node: &Node) -> Result<Self, LabError> {
        let text = node.sh("sed -n s/^FLANNEL_SUBNET=//p /run/flannel/subnet.env")?;
        let gateway: Result<Ipv4Network, _> = text.trim().parse();
        let gateway =
            gateway.map_err(|error| LabError::failed(node.name(), "read subnet.env", error))?;
        let subnet = Ipv4Network::new(gateway.network(), gateway.prefix()).unwrap_or(gateway);
        let mac = node
            .sh("cat /sys/class/net/flannel.1/address")?
            .trim()
            .to_owned();
        Ok(Self {
            subnet,
            mac,
            ip: node.address(),
        })
    }

    /// Its key below `<prefix>/subnets/`.
    pub(super) fn key(&self) -> String {
        format!(
            "/kubernetes/network/subnets/{}",
            self.subnet.to_string().replace('/', "-")
        )
    }

    /// The value of its key, as Go flannel writes it.
    pub(super) fn value(&self) -> String {
        let Self { mac, ip, .. } = self;
        format!(
            r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        )
    }

    /// Commands that make a peer of it, as Go flannel does.
    pub(super) fn by_hand(&self) -> String {
        let Self { subnet, mac, ip } = self;
        let base = subnet.network();
        format!(
            "ip neigh replace {base} lladdr {mac} dev flannel.1 nud permanent
            bridge fdb replace {mac} dev flannel.1 dst {ip}
            ip route replace {subnet} via {base} dev flannel.1 onlink\n"
        )
    }

    /// Whether the kernel of `node` holds all of it.
    pub(super) fn is_programmed(&self, node: &Node) -> bool {
        let have = entries(node);
        self.entries().iter().all(|entry| have.contains(entry))
    }

    fn entries(&self) -> [String; 3] {
        let Self { subnet, mac, ip } = self;
        let base = subnet.network();
        [
            format!("{subnet} via {base} onlink"),
            format!("{base} lladdr {mac} PERMANENT"),
            format!("{mac} dst {ip} self permanent"),
        ]
    }
}

/// Routes, neighbors and forwarding entries of the overlay device, as `ip` and `bridge` print them; sorted.
pub(super) fn entries(node: &Node) -> Vec<String> {
    let shown = node.sh(
        "ip route show dev flannel.1; ip neigh show dev flannel.1; bridge fdb show dev flannel.1 | grep ' dst '",
    );
    let mut lines: Vec<String> = shown
        .unwrap_or_default()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

/// Waits until the kernel of `node` holds these peers and nothing else.
#[track_caller]
pub(super) fn assert_peers(node: &Node, peers: &[Vtep]) {
    let mut want: Vec<String> = peers.iter().flat_map(Vtep::entries).collect();
    want.sort();
    let mut have = Vec::new();
    let right = wait_until(PATIENCE, || {
        have = entries(node);
        have == want
    });
    let surplus: Vec<_> = have.iter().filter(|line| !want.contains(line)).collect();
    let missing: Vec<_> = want.iter().filter(|line| !have.contains(line)).collect();
    let log = node.read("/run/flanneld.log").unwrap_or_default();
    assert!(
        right,
        "{}: surplus {surplus:#?}, missing {missing:#?}\n{log}",
        node.name()
    );
}

/// Waits until each of these hosts (counted from 1) has exactly the others and `more` as peers; all of them.
#[track_caller]
pub(super) fn assert_mesh(
    lab: &Lab,
    hosts: &[usize],
    more: &[Vtep],
) -> Result<Vec<Vtep>, LabError> {
    let all: Result<Vec<Vtep>, LabError> = hosts
        .iter()
        .map(|index| Vtep::of(lab.host(*index)))
        .collect();
    let all = all?;
    for (index, own) in hosts.iter().zip(&all) {
        let others: Vec<Vtep> = all
            .iter()
            .filter(|peer| *peer != own)
            .chain(more)
            .cloned()
            .collect();
        assert_peers(lab.host(*index), &others);
    }
    Ok(all)
}

/// Watches every change of links, addresses, neighbors, routes and forwarding entries of a host.
pub(super) struct Monitor {
    processes: [Process; 2],
    node: Node,
}

impl Monitor {
    /// Begins; returns when it hears.
    pub(super) fn start(node: &Node) -> Result<Self, LabError> {
        let ip = node.spawn(
            "ip-monitor",
            ["ip", "monitor", "link", "address", "neigh", "route"],
        )?;
        let bridge = node.spawn("bridge-monitor", ["bridge", "monitor", "fdb"])?;
        let monitor = Self {
            processes: [ip, bridge],
            node: node.clone(),
        };
        monitor.catch_up("first")?;
        Ok(monitor)
    }

    /// Every change of overlay devices and their entries, and of routes via other hosts, so far.
    pub(super) fn changes(&self) -> Result<Vec<String>, LabError> {
        self.catch_up("last")?;
        let log: String = self.processes.iter().map(Process::log).collect();
        // The kernel gives every device an IPv6 address of its own, in its own time.
        let counts = |line: &&str| {
            (line.contains("flannel") || line.contains(" via ")) && !line.contains("fe80::")
        };
        Ok(log.lines().filter(counts).map(str::to_owned).collect())
    }

    /// Makes a change of its own until both have reported it: they have reported everything before it then.
    fn catch_up(&self, name: &str) -> Result<(), LabError> {
        self.node.sh(&format!("ip link add {name} type bridge"))?;
        let mut made = Ok(String::new());
        let heard = wait_until(PATIENCE, || {
            made = self.node.sh(&format!(
                "ip link set {name} alias tick
                bridge fdb replace 02:00:00:00:00:99 dev {name} self
                bridge fdb del 02:00:00:00:00:99 dev {name} self"
            ));
            made.is_err()
                || self
                    .processes
                    .iter()
                    .all(|process| process.log().contains(name))
        });
        made?;
        assert!(heard, "the monitors are deaf");
        self.node.sh(&format!("ip link del {name}")).map(drop)
    }
}
