//! How packets get to peers: a backend turns leases into kernel entries. Pure: no I/O, no async.

mod alloc;
pub mod direct_routes;
pub mod endpoint;
mod host_gw;
mod vxlan;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

use crate::iface::{Addresses, Underlay};
use crate::kernel::host_state::LinkFact;
use crate::kernel::{Entry, HostState, LinkRole, LinkSpec, Mac, Owned};
use crate::util::family::{Family, PerFamily};
use direct_routes::ConnectedSubnets;
use endpoint::Endpoint;

use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Subnets};
use crate::subnet_env;

/// What a backend needs to know about this host.
#[derive(Debug, Clone)]
pub struct HostContext<'a> {
    /// The interface that carries the overlay.
    pub underlay: &'a Underlay,
    /// The addresses that peers send to.
    pub public: Addresses,
    /// The links and addresses there are.
    pub host_state: &'a HostState,
    /// What this host publishes in the datastore at the moment, if it holds a lease.
    pub published: Option<&'a LeaseAttrs>,
    /// Text that is this machine's own and stays the same over reboots.
    pub machine: &'a str,
    /// The own subnets are blackholes, but for what is there.
    pub blackhole: bool,
}

/// A device that an earlier life of this host has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerLink {
    pub link: LinkFact,
    /// Hosts whose leases have this type need it.
    pub backend_type: &'static str,
}

/// Why a peer cannot be reached as its lease says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPeer(pub String);

/// Why a backend cannot be used with this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(pub String);

/// One way of carrying packets.
pub trait Backend: Send + Sync {
    /// The devices it needs; none if peers are reached by the underlay's.
    fn links(&self) -> Vec<(LinkRole, LinkSpec)> {
        Vec::new()
    }

    /// Devices that an earlier life of this host with another backend has left.
    fn former_links(&self, _: &HostState, _: &Subnets) -> Vec<FormerLink> {
        Vec::new()
    }

    /// This host's end of the network, in each family that is on.
    fn endpoints(&self) -> &PerFamily<Endpoint>;

    /// What this host publishes.
    fn attrs(&self) -> LeaseAttrs;

    /// Whether a lease at this host's public address is known to be this host's by what its backend publishes; not if that
    /// is the same for all hosts.
    fn is_of_this_host(&self, _: &LeaseAttrs) -> bool {
        false
    }

    /// What of the kernel's state belongs to it.
    fn owned(&self) -> Owned;

    /// The entries for the own lease.
    fn local(&self, _: &Subnets) -> Vec<Entry> {
        Vec::new()
    }

    /// The entries for one family of a peer, whose subnet and public address of that family have been checked.
    ///
    /// # Errors
    /// When what the peer publishes for this backend is not usable.
    fn peer(&self, peer: &Lease, family: Family) -> Result<Vec<Entry>, BadPeer>;

    /// Whether it brings packets to peers; otherwise another program does.
    fn carries_packets(&self) -> bool {
        true
    }

    /// Who is directly connected, if that decides how a peer is reached.
    fn connected_subnets(&self) -> Option<&ConnectedSubnets> {
        None
    }

    /// The same, to note whom the kernel refuses a direct route to.
    fn connected_subnets_mut(&mut self) -> Option<&mut ConnectedSubnets> {
        None
    }

    /// The address in a host's subnet at which the host itself answers.
    fn inside(&self, subnet: IpNetwork) -> IpAddr {
        subnet_env::gateway(subnet)
    }

    /// Bytes that it adds to a packet of this family on the underlay.
    fn overhead(&self, _: Family) -> u32 {
        0
    }

    /// Largest packet that fits through, in bytes.
    fn mtu(&self) -> u32;
}

/// Makes a backend from the network configuration and this host.
type Constructor = fn(&NetworkConfig, &HostContext<'_>) -> Result<Box<dyn Backend>, BadConfig>;

/// What is known of a backend before there is a host.
struct Row {
    /// Its `Type`.
    name: &'static str,
    new: Constructor,
    /// Names of the members of `Backend` that it reads.
    members: &'static [&'static str],
    /// Whether it decides by the routing table how a peer is reached.
    reads_routes: fn(&NetworkConfig) -> bool,
    /// Whether two `Backend` objects mean the same.
    has_same_options: fn(&RawValue, &RawValue) -> bool,
}

/// Every backend.
const BACKENDS: &[Row] = &[vxlan::ROW, host_gw::ROW, alloc::ROW];

/// Types that some flannel knows and this one does not, each with what to use instead.
const FOREIGN: &[(&str, &str)] = &[
    (
        "udp",
        "vxlan, which does the same in the kernel (without Backend, the type is udp)",
    ),
    (
        "ipip",
        "host-gw if all hosts share a network, otherwise vxlan",
    ),
    (
        "wireguard",
        "vxlan over an encrypted underlay, or Go flannel",
    ),
    ("ipsec", "vxlan over an encrypted underlay, or Go flannel"),
    (
        "extension",
        "vxlan; or alloc with your own program that follows the leases",
    ),
    ("tencent-vpc", CLOUD),
    ("ali-vpc", CLOUD),
    ("aws-vpc", CLOUD),
    ("gce", CLOUD),
];

const CLOUD: &str =
    "vxlan; or alloc with your own program that writes the route table of the cloud";

/// The types that a configuration may have.
pub fn names() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|row| row.name)
}

fn row(name: &str) -> Option<&'static Row> {
    BACKENDS.iter().find(|row| row.name == name)
}

/// Whether the backend decides by the routing table how peers are reached: directly or otherwise.
pub fn reads_routes(config: &NetworkConfig) -> bool {
    row(&config.backend_type).is_some_and(|row| (row.reads_routes)(config))
}

/// Whether hosts of this configuration and those of another one for which this holds reach each other, where they are
/// directly connected: by plain routes. So a cluster can change from one to the other host by host.
pub fn is_mixable(config: &NetworkConfig) -> bool {
    is_routable(&config.backend_type) && reads_routes(config)
}

/// The step between two configurations that are not mixable, if there is one; it continues a sentence.
pub fn between(one: &NetworkConfig, other: &NetworkConfig) -> &'static str {
    if is_routable(&one.backend_type) && is_routable(&other.backend_type) {
        ". To avoid that, first switch every host to vxlan with DirectRouting"
    } else {
        ""
    }
}

/// Whether hosts of this type take packets of pods from the underlay.
fn is_routable(backend_type: &str) -> bool {
    [vxlan::TYPE, host_gw::TYPE].contains(&backend_type)
}

/// Whether two configurations mean the same, however they are written.
pub fn is_same_network(one: &NetworkConfig, other: &NetworkConfig) -> bool {
    let general =
        |config: &NetworkConfig| (config.ranges, config.nftables, config.backend_type.clone());
    let has_same_options = || match row(&one.backend_type) {
        Some(row) => (row.has_same_options)(&one.backend, &other.backend),
        None => one.backend.get() == other.backend.get(),
    };
    general(one) == general(other) && has_same_options()
}

/// The names of the members of `Backend` that the configured backend reads.
pub fn members(config: &NetworkConfig) -> &'static [&'static str] {
    row(&config.backend_type).map_or(&[], |row| row.members)
}

/// The MAC of a host's overlay device in one family, as its lease publishes it.
pub fn published_mac(attrs: &LeaseAttrs, family: Family) -> Option<Mac> {
    vxlan::mac(attrs, family)
}

/// The backend that the configuration names.
///
/// # Errors
/// When there is none of that name, or its options are not usable.
pub fn new(config: &NetworkConfig, host: &HostContext<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    let name = config.backend_type.as_str();
    match row(name) {
        Some(row) => (row.new)(config, host),
        None => Err(BadConfig(
            match FOREIGN.iter().find(|(known, _)| *known == name) {
                Some((_, instead)) => {
                    format!("backend type {name} is not supported; use {instead}")
                }
                None => {
                    format!(
                        "unknown backend type: {name}; supported: {}",
                        names().collect::<Vec<_>>().join(", ")
                    )
                }
            },
        )),
    }
}
