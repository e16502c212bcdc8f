//! What earlier leases and configurations have left on this host: pure. A bridge may keep an address that is inside the overlay
//! network and outside this host's subnet, so that no other host reaches what is behind it; a device of another VNI serves no one.

use crate::iface::Underlay;
use crate::kernel::host_state::{AddrFact, LinkFact};
use crate::kernel::{HostState, LinkRole, LinkSpec};
use crate::subnet::{Range, Subnets};
use crate::util::family::Family;

/// Describes each of them, with the remedy. `links` are the overlay's devices.
pub fn describe(
    host_state: &HostState,
    ranges: &[Range],
    underlay: &Underlay,
    links: &[(LinkRole, LinkSpec)],
    own: &Subnets,
) -> Vec<String> {
    let is_device = |link: &LinkFact| links.iter().any(|(_, spec)| spec.name == link.name);
    let line = |addr: &AddrFact| {
        let link = host_state
            .links
            .iter()
            .find(|link| link.index == addr.link)?;
        let family = Family::of(addr.ip);
        let range = ranges.iter().find(|range| range.family() == family)?;
        let subnet = own.of(family)?;
        let is_inside = range.network.contains(addr.ip) && !subnet.contains(addr.ip);
        // Where hosts are inside the network, too, only what has the size of a subnet is meant for pods.
        let hosts_inside = underlay
            .addresses
            .get(family)
            .is_some_and(|ip| range.network.contains(ip));
        let is_for_pods = !hosts_inside || addr.prefix_len == range.subnet_len;
        let is_others = link.index != underlay.index && !is_device(link) && !addr.link_local;
        (is_inside && is_for_pods && is_others).then(|| {
            let (name, ip, len) = (&link.name, addr.ip, addr.prefix_len);
            format!(
                "{name} has {ip}/{len}, outside this host's subnet {subnet}: other hosts cannot reach its containers; {}",
                remedy(name, &format!("{ip}/{len}"))
            )
        })
    };
    let has_our_mac = |link: &LinkFact| links.iter().any(|(_, spec)| link.mac == Some(spec.mac));
    let is_left = |link: &&LinkFact| {
        link.vxlan.is_some()
            && link.name.starts_with("flannel")
            && !is_device(link)
            && has_our_mac(link)
    };
    let left = host_state.links.iter().filter(is_left).map(|link| {
        let name = &link.name;
        format!("device {name} is left over from another VNI of this host and unused; delete it (ip link del {name})")
    });
    host_state
        .addrs
        .iter()
        .filter_map(line)
        .chain(left)
        .collect()
}

fn remedy(name: &str, address: &str) -> String {
    match name {
        _ if name.starts_with("docker") || name.starts_with("br-") => {
            "restart docker (systemctl restart docker)".into()
        }
        "cni0" | "cbr0" => {
            format!("delete it (ip link del {name}) and start the pods of this host again")
        }
        _ => format!("remove the address (ip addr del {address} dev {name})"),
    }
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;

    use std::collections::BTreeSet;

    use super::*;
    use crate::iface::Addresses;
    use crate::kernel::Mac;
    use crate::kernel::host_state::VxlanFact;

    fn device(name: &str) -> (LinkRole, LinkSpec) {
        let (vni, port) = (1, 8472);
        let local = [10, 0, 0, 1].into();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let spec = LinkSpec {
            name: name.into(),
            vni,
            parent: 1,
            local,
            port,
            learning: false,
            gbp: false,
            mac,
            mtu: 1450,
        };
        (LinkRole::Overlay, spec)
    }

    #[test]
    fn device_of_another_vni_is_named_by_this_hosts_mac() {
        let vxlan = |name: &str, last: u8| LinkFact {
            name: name.into(),
            mac: Some(Mac([2, 0, 0, 0, 0, last])),
            vxlan: Some(VxlanFact::default()),
            ..LinkFact::default()
        };
        let host_state = HostState {
            links: vec![
                vxlan("flannel.1", 1),
                vxlan("flannel.7", 1),
                vxlan("flannel.8", 2),
                vxlan("vxlan0", 1),
            ],
            ..HostState::default()
        };
        let underlay = Underlay {
            index: 9,
            name: "eth0".into(),
            mtu: 1500,
            addresses: Addresses::default(),
        };
        let found = describe(
            &host_state,
            &[],
            &underlay,
            &[device("flannel.1")],
            &Subnets::default(),
        );
        assert_eq!(
            found,
            [
                "device flannel.7 is left over from another VNI of this host and unused; delete it (ip link del flannel.7)"
            ]
        );
    }

    fn range(network: &str, subnet_len: u8) -> Range {
        let network: IpNetwork = network.parse().unwrap();
        Range {
            network,
            subnet_len,
            subnet_min: network.network(),
            subnet_max: network.network(),
        }
    }

    fn found(network: &str, own: &str, eth0: &str, addrs: &[(&str, &str)]) -> Vec<String> {
        let names: BTreeSet<&str> = ["eth0", "flannel.1"]
            .into_iter()
            .chain(addrs.iter().map(|(name, _)| *name))
            .collect();
        let links = (1..).zip(names).map(|(index, name)| LinkFact {
            index,
            name: name.into(),
            ..LinkFact::default()
        });
        let links: Vec<LinkFact> = links.collect();
        let index = |name: &str| {
            links
                .iter()
                .find(|link| link.name == name)
                .map_or(0, |link| link.index)
        };
        let addr = |name: &str, net: &str| {
            let net: IpNetwork = net.parse().unwrap();
            AddrFact {
                link: index(name),
                ip: net.ip(),
                prefix_len: net.prefix(),
                link_local: false,
                deprecated: false,
                unconfirmed: false,
                permanent: true,
                temporary: false,
            }
        };
        let own_subnets: Subnets = own.parse::<IpNetwork>().into_iter().collect();
        let underlay = Underlay {
            index: index("eth0"),
            name: "eth0".into(),
            mtu: 1500,
            addresses: eth0
                .parse::<IpNetwork>()
                .map(|net| net.ip().into())
                .unwrap_or_default(),
        };
        let all = [("eth0", eth0), ("flannel.1", own)]
            .into_iter()
            .chain(addrs.iter().copied());
        let host_state = HostState {
            addrs: all.map(|(name, net)| addr(name, net)).collect(),
            links: links.clone(),
            ..HostState::default()
        };
        describe(
            &host_state,
            &[range(network, 24)],
            &underlay,
            &[device("flannel.1")],
            &own_subnets,
        )
    }

    #[test]
    fn bridges_of_an_earlier_lease_are_named_with_the_remedy() {
        let found = found(
            "172.30.0.0/16",
            "172.30.5.0/24",
            "10.0.0.1/24",
            &[
                ("docker0", "172.30.9.1/24"),
                ("cni0", "172.30.8.1/24"),
                ("cni1", "172.30.5.1/24"),
                ("dummy0", "172.30.7.7/32"),
                ("eth1", "10.1.0.1/24"),
            ],
        );
        assert_eq!(
            found,
            [
                "docker0 has 172.30.9.1/24, outside this host's subnet 172.30.5.0/24: other hosts cannot reach its containers; restart docker (systemctl restart docker)",
                "cni0 has 172.30.8.1/24, outside this host's subnet 172.30.5.0/24: other hosts cannot reach its containers; delete it (ip link del cni0) and start the pods of this host again",
                "dummy0 has 172.30.7.7/32, outside this host's subnet 172.30.5.0/24: other hosts cannot reach its containers; remove the address (ip addr del 172.30.7.7/32 dev dummy0)",
            ]
        );
    }

    #[test]
    fn other_interfaces_of_hosts_inside_the_network_are_not_meant() {
        let found = found(
            "10.0.0.0/8",
            "10.5.5.0/24",
            "10.77.0.1/16",
            &[
                ("eth1", "10.78.0.1/16"),
                ("kube-ipvs0", "10.96.0.1/32"),
                ("docker0", "10.5.9.1/24"),
            ],
        );
        assert!(
            found.len() == 1 && found[0].starts_with("docker0 has 10.5.9.1/24"),
            "{found:?}"
        );
    }
}
