//! Creates a pod on a host, wired as docker or a CNI plugin would from `subnet.env`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{LabError, Node};

/// File that `flanneld` writes.
const SUBNET_ENV: &str = "/run/flannel/subnet.env";
/// Its variables with the host's subnets, IPv4 first.
const SUBNETS: [&str; 2] = ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"];

/// A network namespace inside a host, with an address of each of the host's subnets.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Where commands in the pod run.
    pub node: Node,
    /// Its address: the second of the subnet. IPv4 if the overlay has it.
    pub address: IpAddr,
    pub subnet: IpNetwork,
    /// Its IPv6 address and subnet, if the overlay has both families.
    pub also: Option<(IpAddr, IpNetwork)>,
}

/// What a pod needs from `subnet.env`.
#[derive(Debug, PartialEq, Eq)]
struct Wiring {
    /// Addresses and prefix lengths of the host's bridge.
    gateways: Vec<IpNetwork>,
    mtu: u32,
}

impl Pod {
    /// Returns all its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        std::iter::once(self.address).chain(self.also.map(|(address, _)| address))
    }

    /// Creates the bridge and the pod on a host with a `subnet.env`. Called again, it follows a changed file.
    pub(super) fn wire(host: &Node) -> Result<Self, LabError> {
        let text = host.read(SUBNET_ENV)?;
        let unusable = || {
            LabError::failed(
                host.name(),
                "wire a pod",
                format!("{SUBNET_ENV} contains {text:?}"),
            )
        };
        let wiring = Wiring::parse(&text).ok_or_else(unusable)?;
        host.sh(&wiring.script())?;
        let mut ends = wiring.gateways.iter().filter_map(|net| {
            Some((
                second(*net),
                IpNetwork::new(net.network(), net.prefix()).ok()?,
            ))
        });
        let (address, subnet) = ends.next().ok_or_else(unusable)?;
        let also = ends.next();
        Ok(Self {
            node: host.pod(),
            address,
            subnet,
            also,
        })
    }
}

impl Wiring {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let gateways: Result<Vec<IpNetwork>, _> = SUBNETS
            .iter()
            .filter_map(|name| value(name))
            .map(str::parse)
            .collect();
        let gateways = gateways.ok().filter(|gateways| !gateways.is_empty())?;
        Some(Self {
            gateways,
            mtu: value("FLANNEL_MTU")?.parse().ok()?,
        })
    }

    fn script(&self) -> String {
        let Self { gateways, mtu } = self;
        let each =
            |line: &dyn Fn(&IpNetwork) -> String| gateways.iter().map(line).collect::<String>();
        let forwarding = each(&|net| format!("echo 1 > {}\n", forwarding(net)));
        let bridge = each(&|net| format!("addr add {net} dev cni0 {}\n", no_wait(net)));
        let pod = each(&|net| {
            format!(
                "addr add {}/{} dev eth0 {}\n",
                second(*net),
                net.prefix(),
                no_wait(net)
            )
        });
        let routes = each(&|net| format!("route add default via {}\n", net.ip()));
        format!(
            "{forwarding}
            ip netns del pod 2>/dev/null || true
            ip link del veth-pod 2>/dev/null || true
            ip link show cni0 >/dev/null 2>&1 || ip link add cni0 type bridge
            ip addr flush dev cni0
            ip netns add pod
            ip -batch - <<END
link set cni0 mtu {mtu} up
{bridge}link add veth-pod mtu {mtu} type veth peer name eth0 mtu {mtu} netns pod
link set veth-pod master cni0 up
END
            ip -n pod -batch - <<END
link set lo up
{pod}link set eth0 up
{routes}END"
        )
    }
}

fn forwarding(net: &IpNetwork) -> &'static str {
    match net {
        IpNetwork::V4(_) => "/proc/sys/net/ipv4/ip_forward",
        IpNetwork::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

/// Skips duplicate address detection, because no other host has the addresses.
fn no_wait(net: &IpNetwork) -> &'static str {
    if net.is_ipv6() { "nodad" } else { "" }
}

/// Returns the pod's address, which follows the bridge's.
fn second(gateway: IpNetwork) -> IpAddr {
    match gateway.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_flannel_writes() {
        let four = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.15.1/24\n";
        let six = "FLANNEL_IPV6_NETWORK=fd30::/48\nFLANNEL_IPV6_SUBNET=fd30:0:0:15::1/64\n";
        for (text, gateways, pods) in [
            (
                four.to_owned(),
                &["172.30.15.1/24"][..],
                &["172.30.15.2"][..],
            ),
            (six.to_owned(), &["fd30:0:0:15::1/64"], &["fd30:0:0:15::2"]),
            (
                format!("{four}{six}"),
                &["172.30.15.1/24", "fd30:0:0:15::1/64"],
                &["172.30.15.2", "fd30:0:0:15::2"],
            ),
        ] {
            let wiring = Wiring::parse(&format!("{text}FLANNEL_MTU=1450\n")).unwrap();
            assert_eq!(
                wiring
                    .gateways
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
                gateways
            );
            assert_eq!(
                wiring
                    .gateways
                    .iter()
                    .map(|net| second(*net).to_string())
                    .collect::<Vec<_>>(),
                pods
            );
            assert_eq!(wiring.mtu, 1450);
        }
        assert_eq!(Wiring::parse("FLANNEL_SUBNET=172.30.15.1/24\n"), None);
        assert_eq!(Wiring::parse("FLANNEL_MTU=1450\n"), None);
    }
}
