//! What every backend needs to know about one family of the network on this host: pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{BadConfig, HostContext};
use crate::kernel::ownership::{BLACKHOLE_METRIC, BLACKHOLE_PROTOCOL};
use crate::kernel::{Entry, LinkRole, OffDeviceRoutes, Owned, Shape};
use crate::subnet::{LeaseAttrs, NetworkConfig, Range, Subnets};
use crate::util::family::{Family, PerFamily, value};

/// `RTPROT_BOOT`, which Go flannel's routes carry.
const PROTOCOL_BOOT: u8 = 3;
/// First of the protocol numbers over which a large network's routes are spread, and how many there are.
const SPREAD: (u8, u32) = (100, 64);
/// Above so many subnets routes are spread: the kernel looks for an equal next hop among all routes that share device
/// and protocol, so that N routes of one protocol cost N². IPv6 routes are found without.
const SPREAD_ABOVE: u32 = 1024;

/// This host's end of the network in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The network that hosts have subnets of.
    pub range: Range,
    /// The address of the underlay interface that packets to peers leave from.
    pub local: IpAddr,
    /// The address that peers send to.
    pub public: IpAddr,
}

/// The endpoint of each family that is on.
///
/// # Errors
/// When the underlay has no address of a family that is on.
pub(super) fn endpoints(
    config: &NetworkConfig,
    host: &HostContext<'_>,
) -> Result<PerFamily<Endpoint>, BadConfig> {
    let endpoint = |range: Option<Range>| range.map(|range| Endpoint::new(range, host)).transpose();
    Ok(PerFamily {
        v4: endpoint(config.ranges.v4)?,
        v6: endpoint(config.ranges.v6)?,
    })
}

/// A lease value with the public addresses, and nothing that a backend adds.
pub(super) fn attrs(endpoints: &PerFamily<Endpoint>, backend_type: &'static str) -> LeaseAttrs {
    let mut attrs = LeaseAttrs {
        backend_type: backend_type.into(),
        ..LeaseAttrs::default()
    };
    for endpoint in endpoints.iter() {
        match endpoint.public {
            IpAddr::V4(ip) => attrs.public_ip = Some(ip),
            IpAddr::V6(ip) => attrs.public_ipv6 = Some(ip),
        }
    }
    attrs
}

/// Entries on devices of the backend's own, and on the underlay what looks like a route to a peer if `direct`.
pub(super) fn owned(endpoints: &PerFamily<Endpoint>, direct: bool, blackhole: bool) -> Owned {
    let shapes: Vec<Shape> = endpoints.iter().map(Endpoint::shape).collect();
    let networks = shapes.iter().map(|shape| shape.network).collect();
    Owned {
        networks,
        off_device: OffDeviceRoutes {
            shapes,
            direct,
            blackhole,
        },
    }
}

/// Drops what goes to unused addresses of the own subnets.
pub(super) fn blackholes(own: &Subnets) -> impl Iterator<Item = Entry> {
    let subnets = Family::ALL.into_iter().filter_map(|family| own.of(family));
    subnets.map(|dst| Entry::Route {
        dst,
        metric: BLACKHOLE_METRIC,
        dev: LinkRole::Blackhole,
        gateway: None,
        onlink: false,
        protocol: BLACKHOLE_PROTOCOL,
    })
}

impl Endpoint {
    fn new(range: Range, host: &HostContext<'_>) -> Result<Self, BadConfig> {
        let family = range.family();
        match (host.underlay.addresses.get(family), host.public.get(family)) {
            (Some(local), Some(public)) => Ok(Self {
                range,
                local,
                public,
            }),
            _ => Err(BadConfig(format!(
                "{} is enabled, but interface {} has no {family} address",
                range.network, host.underlay.name
            ))),
        }
    }

    pub fn family(&self) -> Family {
        self.range.family()
    }

    fn shape(&self) -> Shape {
        let Range {
            network,
            subnet_len,
            ..
        } = self.range;
        Shape {
            network,
            subnet_len,
            metric: self.metric(),
            inside: network.contains(self.local),
        }
    }

    /// What the kernel makes of a route without a metric.
    fn metric(&self) -> u32 {
        match self.family() {
            Family::V4 => 0,
            Family::V6 => 1024,
        }
    }

    /// The route to a peer's subnet by way of a device of the backend's own, on which `gateway` resolves to the peer.
    pub(super) fn route_by_device(&self, subnet: IpNetwork, gateway: IpAddr) -> Entry {
        Entry::Route {
            dst: subnet,
            metric: self.metric(),
            dev: LinkRole::overlay(self.family()),
            gateway: Some(gateway),
            onlink: true,
            protocol: self.route_protocol(subnet),
        }
    }

    /// The route to a peer's subnet by way of the peer itself, which is directly connected.
    pub(super) fn route_by_peer(&self, subnet: IpNetwork, peer: IpAddr) -> Entry {
        Entry::Route {
            dst: subnet,
            metric: self.metric(),
            dev: LinkRole::Underlay,
            gateway: Some(peer),
            onlink: false,
            protocol: self.route_protocol(subnet),
        }
    }

    /// Small networks get what Go flannel writes.
    fn route_protocol(&self, subnet: IpNetwork) -> u8 {
        let Range {
            network,
            subnet_len,
            ..
        } = self.range;
        let subnets = 1_u32
            .checked_shl(u32::from(subnet_len - network.prefix()))
            .unwrap_or(u32::MAX);
        let index = value(subnet.ip()) >> self.range.host_bits();
        if self.family() == Family::V4 && subnets > SPREAD_ABOVE {
            SPREAD.0 + u8::try_from(index % u128::from(SPREAD.1)).unwrap_or_default()
        } else {
            PROTOCOL_BOOT
        }
    }
}
