//! A pod on a host, wired as docker or a CNI plugin would from what flannel wrote into `subnet.env`.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::{LabError, Node};

/// Where `flanneld` leaves its answer.
const SUBNET_ENV: &str = "/run/flannel/subnet.env";

/// A network namespace inside a host, with an address of the host's subnet.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Where to run commands in it.
    pub node: Node,
    /// Its address: the second of the subnet.
    pub address: Ipv4Addr,
    /// The host's subnet.
    pub subnet: Ipv4Network,
}

/// What `subnet.env` says that a pod must know.
#[derive(Debug, PartialEq, Eq)]
struct Wiring {
    /// Address and length of the host's bridge.
    gateway: Ipv4Network,
    mtu: u32,
}

impl Pod {
    /// Makes bridge and pod on a host that has a `subnet.env`. Made again, it follows a changed one.
    pub(super) fn wire(host: &Node) -> Result<Self, LabError> {
        let text = host.read(SUBNET_ENV)?;
        let unusable = || LabError::failed(host.name(), "wire a pod", format!("{SUBNET_ENV} says {text:?}"));
        let wiring = Wiring::parse(&text).ok_or_else(unusable)?;
        let address = second(wiring.gateway);
        host.sh(&wiring.script(address))?;
        let subnet = Ipv4Network::new(wiring.gateway.network(), wiring.gateway.prefix());
        Ok(Self { node: host.pod(), address, subnet: subnet.map_err(|_| unusable())? })
    }
}

impl Wiring {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let gateway = value("FLANNEL_SUBNET")?.parse().ok()?;
        Some(Self { gateway, mtu: value("FLANNEL_MTU")?.parse().ok()? })
    }

    fn script(&self, pod: Ipv4Addr) -> String {
        let Self { gateway, mtu } = self;
        let (bridge, prefix) = (gateway.ip(), gateway.prefix());
        format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward
            ip netns del pod 2>/dev/null || true
            ip link del veth-pod 2>/dev/null || true
            ip link show cni0 >/dev/null 2>&1 || ip link add cni0 type bridge
            ip addr flush dev cni0
            ip netns add pod
            ip -batch - <<END
link set cni0 mtu {mtu} up
addr add {gateway} dev cni0
link add veth-pod mtu {mtu} type veth peer name eth0 mtu {mtu} netns pod
link set veth-pod master cni0 up
END
            ip -n pod -batch - <<END
link set lo up
addr add {pod}/{prefix} dev eth0
link set eth0 up
route add default via {bridge}
END"
        )
    }
}

/// The pod's address: the one after the bridge's.
fn second(gateway: Ipv4Network) -> Ipv4Addr {
    Ipv4Addr::from_bits(gateway.ip().to_bits().wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_flannel_writes() {
        let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.15.1/24\nFLANNEL_MTU=1450\n";
        let wiring = Wiring { gateway: "172.30.15.1/24".parse().unwrap(), mtu: 1450 };
        assert_eq!(second(wiring.gateway), Ipv4Addr::new(172, 30, 15, 2));
        assert_eq!(Wiring::parse(text), Some(wiring));
        assert_eq!(Wiring::parse("FLANNEL_SUBNET=172.30.15.1/24\n"), None);
    }
}
