//! What is true about this host's links and addresses: values, read by the shell, reasoned about elsewhere.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::entry::Mac;
use crate::util::family::Family;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkFact {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// Present on VXLAN devices.
    pub vxlan: Option<VxlanFact>,
}

/// What tells one VXLAN device from another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VxlanFact {
    /// Network identifier.
    pub vni: u32,
    /// Index of the link that carries the tunnel; 0 for none.
    pub parent: u32,
    /// Source address of the tunnel.
    pub local: Option<IpAddr>,
    /// Multicast group or default destination, which flannel never has.
    pub group: Option<IpAddr>,
    /// UDP destination port.
    pub port: u16,
    /// Learns forwarding entries from traffic.
    pub learning: bool,
    /// Carries the group policy extension.
    pub gbp: bool,
    /// Asks user space for unknown destinations, as flannel before 0.9 had it.
    pub l2miss: bool,
    /// Takes its parameters from routes (collect metadata), which flannel never has.
    pub external: bool,
}

impl VxlanFact {
    /// The family that it tunnels over; IPv4 where it has no address.
    pub fn underlay(&self) -> Family {
        self.local.map_or(Family::V4, Family::of)
    }
}

/// One address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrFact {
    /// Index of the link that has it.
    pub link: u32,
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// Valid on its link only.
    pub link_local: bool,
    /// Being phased out.
    pub deprecated: bool,
    /// An IPv6 address whose uniqueness is still being checked, or was found wanting: nothing is sent from it.
    pub unconfirmed: bool,
    /// Configured for good, not by DHCP or router advertisement.
    pub permanent: bool,
    /// An IPv6 address that the kernel makes for outgoing connections and soon replaces.
    pub temporary: bool,
}

impl AddrFact {
    /// Whether its prefix is the address alone.
    pub fn is_single(&self) -> bool {
        self.prefix_len == Family::of(self.ip).bits()
    }
}

/// What costs an extra look and is read only if it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// IPv4 default routes: a walk over all routes.
    pub default_routes: bool,
    /// IPv6 default routes.
    pub default_routes_v6: bool,
    /// The way to this address.
    pub can_reach: Option<IpAddr>,
    /// All routes.
    pub routes: bool,
}

/// A route of the main table, as far as it tells who is directly connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub net: IpNetwork,
    /// Priority; less is better.
    pub metric: u32,
    /// Index of the link; none where packets are refused.
    pub link: Option<u32>,
    /// Without a gateway of either family, and without an encapsulation.
    pub is_direct: bool,
}

/// Where the kernel would send packets to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reachability {
    /// Index of the link.
    pub link: u32,
    /// The address that they would leave from.
    pub source: Option<IpAddr>,
    /// The router that they would be handed to.
    pub gateway: Option<IpAddr>,
}

/// Everything that the choice of an interface and of a device's attributes depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostState {
    /// All links, in kernel order.
    pub links: Vec<LinkFact>,
    /// All addresses, in kernel order.
    pub addrs: Vec<AddrFact>,
    /// The UDP port of VXLAN devices that name none: 8472 unless the module was told otherwise.
    pub vxlan_port: u16,
    /// Indexes of the links that IPv4 default routes of the main table lead to, best metric first.
    pub default_links: Vec<u32>,
    /// The same for IPv6.
    pub default_links_v6: Vec<u32>,
    /// The way to the address that was asked for, if there is one.
    pub reach: Option<Reachability>,
    /// The routes, if asked for.
    pub routes: Vec<Route>,
}

impl HostState {
    pub fn link(&self, name: &str) -> Option<&LinkFact> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The link that has the address `ip`.
    pub fn owner(&self, ip: IpAddr) -> Option<&LinkFact> {
        let addr = self.addrs.iter().find(|addr| addr.ip == ip)?;
        self.links.iter().find(|link| link.index == addr.link)
    }
}
