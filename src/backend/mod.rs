//! How packets get to peers: a backend turns leases into kernel items. Pure: no I/O, no async.

pub mod neighbourhood;
pub mod vxlan;

use crate::family::Family;
use crate::iface::{Addresses, Underlay};
use crate::kernel::elsewhere::{BLACKHOLE_METRIC, BLACKHOLE_PROTOCOL};
use crate::kernel::{Dev, Facts, Item, LinkSpec, Mac, Owned};
use neighbourhood::Neighbourhood;

use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Subnets};

/// What a backend needs to know about this host.
#[derive(Debug, Clone)]
pub struct Site<'a> {
    /// The interface that carries the overlay.
    pub underlay: &'a Underlay,
    /// The addresses that peers send to.
    pub public: Addresses,
    /// The links and addresses there are.
    pub facts: &'a Facts,
    /// What this host publishes in the datastore at the moment, if it holds a lease.
    pub published: Option<&'a LeaseAttrs>,
    /// Text that is this machine's own and stays the same over reboots.
    pub machine: &'a str,
    /// The own subnets are blackholes, but for what is there.
    pub blackhole: bool,
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
    /// The devices it needs.
    fn links(&self) -> Vec<(Dev, LinkSpec)>;

    /// What this host publishes.
    fn attrs(&self) -> LeaseAttrs;

    /// What of the kernel's state belongs to it.
    fn owned(&self) -> Owned;

    /// The items for the own lease.
    fn local(&self, own: &Subnets) -> Vec<Item>;

    /// The items for one family of a peer, whose subnet and public address of that family have been checked.
    ///
    /// # Errors
    /// When what the peer publishes for this backend is not usable.
    fn peer(&self, peer: &Lease, family: Family) -> Result<Vec<Item>, BadPeer>;

    /// Who is directly connected, if that decides how a peer is reached.
    fn neighbourhood(&self) -> Option<&Neighbourhood>;

    /// The same, to note whom the kernel refuses a direct route to.
    fn neighbourhood_mut(&mut self) -> Option<&mut Neighbourhood>;

    /// Largest packet that fits through, in bytes.
    fn mtu(&self) -> u32;
}

/// Makes a backend from the network configuration and this host.
type Constructor = fn(&NetworkConfig, &Site<'_>) -> Result<Box<dyn Backend>, BadConfig>;

/// Every backend, by its `Type`.
const BACKENDS: &[(&str, Constructor)] = &[("vxlan", vxlan::backend)];

/// Other types that flannel knows.
const FOREIGN: &[&str] =
    &["udp", "host-gw", "alloc", "ipip", "wireguard", "ipsec", "extension", "tencent-vpc"];

/// Whether the configuration asks for plain routes to hosts that are directly connected.
pub fn is_direct(config: &NetworkConfig) -> bool {
    config.backend_type == vxlan::TYPE && vxlan::is_direct(config)
}

/// Whether two configurations mean the same, however they are written.
pub fn is_same_network(one: &NetworkConfig, other: &NetworkConfig) -> bool {
    let general = |config: &NetworkConfig| (config.ranges, config.nftables, config.backend_type.clone());
    let has_same_options = || match one.backend_type.as_str() {
        vxlan::TYPE => vxlan::has_same_options(&one.backend, &other.backend),
        _ => one.backend.get() == other.backend.get(),
    };
    general(one) == general(other) && has_same_options()
}

/// The MAC of a host's overlay device in one family, as its lease publishes it.
pub fn published_mac(attrs: &LeaseAttrs, family: Family) -> Option<Mac> {
    vxlan::mac(attrs, family)
}

/// Drops what goes to unused addresses of the own subnets.
fn blackholes(own: &Subnets) -> impl Iterator<Item = Item> {
    let subnets = Family::ALL.into_iter().filter_map(|family| own.of(family));
    subnets.map(|dst| Item::Route {
        dst,
        metric: BLACKHOLE_METRIC,
        dev: Dev::Nowhere,
        gateway: None,
        onlink: false,
        protocol: BLACKHOLE_PROTOCOL,
    })
}

/// The backend that the configuration names.
///
/// # Errors
/// When there is none of that name, or its options are not usable.
pub fn new(config: &NetworkConfig, site: &Site<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    let name = config.backend_type.as_str();
    match BACKENDS.iter().find(|(known, _)| *known == name) {
        Some((_, constructor)) => constructor(config, site),
        None if FOREIGN.contains(&name) => Err(BadConfig(format!(
            "backend type {name} is not supported yet; set \"Backend\": {{\"Type\": \"vxlan\"}} (a configuration without Backend means udp)"
        ))),
        None => Err(BadConfig(format!("unknown backend type: {name}; supported: vxlan"))),
    }
}
