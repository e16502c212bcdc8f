//! The vxlan backend: in each family a device, and on it a neighbor, an FDB entry and a route for each peer. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

use super::direct_routes::ConnectedSubnets;
use super::endpoint::{self, Endpoint};
use super::{Backend, BadConfig, BadPeer, HostContext, Row};
use crate::kernel::host_state::LinkFact;
use crate::kernel::{Entry, HostState, LinkRole, LinkSpec, Mac, Owned};
use crate::subnet::go_json::{self, Object};
use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Range, Subnets};
use crate::util::family::{Family, PerFamily};
use crate::util::fnv1a;

/// The name under which leases carry this backend's data.
pub(super) const TYPE: &str = "vxlan";

/// Its row in the table of backends.
pub(super) const ROW: Row = Row {
    name: TYPE,
    new: backend,
    members: MEMBERS,
    reads_routes: is_direct,
    has_same_options,
};

/// What one family's half of the overlay is like.
struct FamilyParams {
    /// The device's name before its VNI.
    device: &'static str,
    /// Bytes that VXLAN adds to a packet: outer IP 20 or 40, UDP 8, VXLAN 8, inner Ethernet 14.
    overhead: u32,
    /// Smallest MTU of a link.
    min_mtu: u32,
    /// Where a lease has this half's data.
    data: &'static str,
}

fn family_params(family: Family) -> FamilyParams {
    match family {
        Family::V4 => FamilyParams {
            device: "flannel.",
            overhead: 50,
            min_mtu: 68,
            data: "BackendData",
        },
        Family::V6 => FamilyParams {
            device: "flannel-v6.",
            overhead: 70,
            min_mtu: 1280,
            data: "BackendV6Data",
        },
    }
}

/// Largest network identifier: 24 bits.
const MAX_VNI: u64 = (1 << 24) - 1;
/// Names of the members of `Backend`.
const MEMBERS: &[&str] = &[
    "Type",
    "VNI",
    "Port",
    "MTU",
    "GBP",
    "Learning",
    "DirectRouting",
];

/// `Backend` of the network configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    vni: u32,
    port: Option<u16>,
    gbp: bool,
    learning: bool,
    direct: bool,
    /// Outer MTU; `None`: that of the underlay.
    mtu: Option<u32>,
}

impl Options {
    fn parse(backend: &RawValue) -> Result<Self, BadConfig> {
        let wrong = |error: go_json::Error| {
            BadConfig(format!("error decoding VXLAN backend config: {error}"))
        };
        let object = Object::parse(backend.get().as_bytes()).map_err(wrong)?;
        let number = |name, default, max| ranged(&object, name, default, max);
        let (port, mtu) = (
            number("Port", 0, u64::from(u16::MAX))?,
            number("MTU", 0, 65_535)?,
        );
        Ok(Self {
            vni: number("VNI", 1, MAX_VNI)?,
            port: u16::try_from(port).ok().filter(|port| *port != 0),
            gbp: object.bool("GBP").map_err(wrong)?.unwrap_or(false),
            learning: object.bool("Learning").map_err(wrong)?.unwrap_or(false),
            direct: object
                .bool("DirectRouting")
                .map_err(wrong)?
                .unwrap_or(false),
            mtu: Some(mtu).filter(|mtu| *mtu != 0),
        })
    }
}

fn ranged(
    object: &Object<'_>,
    name: &'static str,
    default: u64,
    max: u64,
) -> Result<u32, BadConfig> {
    let wrong = |error| BadConfig(format!("error decoding VXLAN backend config: {error}"));
    let value = object.int(name).map_err(wrong)?;
    let number = value.map_or(Some(default), |value| u64::try_from(value).ok());
    match number
        .filter(|number| *number <= max)
        .and_then(|number| u32::try_from(number).ok())
    {
        Some(number) => Ok(number),
        None => Err(BadConfig(format!(
            "{name} {} is out of range; Backend {name} must be 0 to {max}",
            value.unwrap_or_default()
        ))),
    }
}

/// What a host publishes for this backend: `{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    /// Absent in leases of flannel before v0.14.
    vni: Option<u64>,
    mac: Mac,
}

impl Published {
    fn decode(attrs: &LeaseAttrs, family: Family) -> Result<Self, BadPeer> {
        if attrs.backend_type != TYPE {
            return Err(BadPeer(format!(
                "its backend type is {:?}, this host uses {TYPE}",
                attrs.backend_type
            )));
        }
        let name = family_params(family).data;
        let data = attrs
            .data(family)
            .ok_or_else(|| BadPeer(format!("no {name}")))?;
        let found = match Self::usual(data.get()) {
            Some(found) => found,
            None => Self::parse(data.get(), name)?,
        };
        if !found.mac.is_unicast() {
            return Err(BadPeer(format!(
                "VtepMAC {} is not a unicast address",
                found.mac
            )));
        }
        Ok(found)
    }

    /// Reads what flannel writes, in its spelling.
    fn usual(json: &str) -> Option<Self> {
        let (vni, rest) = json
            .strip_prefix(r#"{"VNI":"#)?
            .split_once(r#","VtepMAC":""#)?;
        Some(Self {
            vni: Some(vni.parse().ok()?),
            mac: rest.strip_suffix(r#""}"#)?.parse().ok()?,
        })
    }

    /// Reads any spelling.
    fn parse(json: &str, name: &str) -> Result<Self, BadPeer> {
        let wrong = |error: go_json::Error| BadPeer(format!("{name}: {error}"));
        let object = Object::parse(json.as_bytes()).map_err(wrong)?;
        let text = object.string("VtepMAC").map_err(wrong)?.unwrap_or_default();
        let mac = text
            .parse()
            .map_err(|()| BadPeer(format!("VtepMAC {text:?} is not a MAC address")))?;
        Ok(Self {
            vni: object.uint("VNI").map_err(wrong)?,
            mac,
        })
    }

    fn encode(self) -> Option<Box<RawValue>> {
        let vni = self
            .vni
            .map(|vni| format!("\"VNI\":{vni},"))
            .unwrap_or_default();
        RawValue::from_string(format!("{{{vni}\"VtepMAC\":\"{}\"}}", self.mac)).ok()
    }
}

/// The MAC that a lease publishes for one family, if it is one of this backend's.
pub(super) fn mac(attrs: &LeaseAttrs, family: Family) -> Option<Mac> {
    Published::decode(attrs, family).ok().map(|data| data.mac)
}

/// Whether a link is a VXLAN device with the name that flannel gives one of its VNI.
pub(super) fn is_named_by_go(link: &LinkFact) -> bool {
    let is_name = |vni: u32| {
        Family::ALL
            .iter()
            .any(|family| link.name == format!("{}{vni}", family_params(*family).device))
    };
    link.vxlan.as_ref().is_some_and(|vxlan| is_name(vxlan.vni))
}

/// The backend for one host.
struct Vxlan {
    endpoints: PerFamily<Endpoint>,
    parts: PerFamily<Part>,
    /// Who is directly connected, if that matters.
    connected_subnets: Option<ConnectedSubnets>,
    blackhole: bool,
}

/// One family's half of it.
struct Part {
    endpoint: Endpoint,
    link: LinkSpec,
}

/// Makes the backend.
///
/// # Errors
/// When an option is not usable on this host.
fn backend(config: &NetworkConfig, host: &HostContext<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    let options = Options::parse(&config.backend)?;
    let endpoints = endpoint::endpoints(config, host)?;
    let part = |endpoint: Option<Endpoint>| {
        endpoint
            .map(|end| Part::new(end, &options, host))
            .transpose()
    };
    let parts = PerFamily {
        v4: part(endpoints.v4)?,
        v6: part(endpoints.v6)?,
    };
    let ranges: Vec<Range> = config.ranges.iter().copied().collect();
    let connected_subnets = options
        .direct
        .then(|| ConnectedSubnets::of(host.underlay, &host.host_state.routes, &ranges));
    Ok(Box::new(Vxlan {
        endpoints,
        parts,
        connected_subnets,
        blackhole: host.blackhole,
    }))
}

/// Whether two `Backend` objects mean the same.
fn has_same_options(one: &RawValue, other: &RawValue) -> bool {
    match (Options::parse(one), Options::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.get() == other.get(),
    }
}

/// Whether the configuration has `DirectRouting`.
fn is_direct(config: &NetworkConfig) -> bool {
    Options::parse(&config.backend).is_ok_and(|options| options.direct)
}

impl Part {
    fn new(
        endpoint: Endpoint,
        options: &Options,
        host: &HostContext<'_>,
    ) -> Result<Self, BadConfig> {
        let family = endpoint.family();
        let FamilyParams {
            device,
            overhead,
            min_mtu,
            ..
        } = family_params(family);
        let outer = options
            .mtu
            .unwrap_or(host.underlay.mtu)
            .min(host.underlay.mtu);
        let mtu = outer.checked_sub(overhead).filter(|mtu| *mtu >= min_mtu).ok_or_else(|| {
            BadConfig(format!("MTU {outer} is too small: VXLAN takes {overhead} bytes of it, and {family} needs {min_mtu}"))
        })?;
        let mut link = LinkSpec {
            name: format!("{device}{}", options.vni),
            vni: options.vni,
            parent: host.underlay.index,
            local: endpoint.local,
            port: options.port.unwrap_or(host.host_state.vxlan_port),
            learning: options.learning,
            gbp: options.gbp,
            mac: Mac([0; 6]),
            mtu,
        };
        link.mac = stable_mac(&link, endpoint.public, host);
        Ok(Self { endpoint, link })
    }
}

/// The MAC that peers know this host by, if there is one: published in its lease, else that of a device that can be
/// adopted. Otherwise one that this machine always arrives at.
fn stable_mac(link: &LinkSpec, public: IpAddr, host: &HostContext<'_>) -> Mac {
    let published = host
        .published
        .and_then(|attrs| Published::decode(attrs, Family::of(public)).ok());
    published
        .map(|data| data.mac)
        .or_else(|| adoptable(link, host.host_state))
        .unwrap_or_else(|| Mac::local(hash(&format!("{} {public} {}", host.machine, link.vni))))
}

fn adoptable(link: &LinkSpec, host_state: &HostState) -> Option<Mac> {
    let found = host_state.link(&link.name)?;
    let fits = matches!(link.fit(found), crate::kernel::link::Fit::Adopt(_));
    found.mac.filter(|mac| fits && mac.is_unicast())
}

/// A hash with the length of a MAC.
fn hash(text: &str) -> [u8; 6] {
    let [a, b, c, d, e, f, g, h] = fnv1a(text.bytes()).to_be_bytes();
    [a ^ g, b ^ h, c, d, e, f]
}

impl Backend for Vxlan {
    fn links(&self) -> Vec<(LinkRole, LinkSpec)> {
        self.parts
            .iter()
            .map(|part| (LinkRole::overlay(part.endpoint.family()), part.link.clone()))
            .collect()
    }

    fn endpoints(&self) -> &PerFamily<Endpoint> {
        &self.endpoints
    }

    fn attrs(&self) -> LeaseAttrs {
        let data = |link: &LinkSpec| {
            Published {
                vni: Some(u64::from(link.vni)),
                mac: link.mac,
            }
            .encode()
        };
        let data = |family| self.parts.get(family).and_then(|part| data(&part.link));
        LeaseAttrs {
            backend_data: data(Family::V4),
            backend_v6_data: data(Family::V6),
            ..endpoint::attrs(&self.endpoints, TYPE)
        }
    }

    fn owned(&self) -> Owned {
        endpoint::owned(
            &self.endpoints,
            self.connected_subnets.is_some(),
            self.blackhole,
        )
    }

    fn is_of_this_host(&self, attrs: &LeaseAttrs) -> bool {
        self.parts
            .iter()
            .any(|part| mac(attrs, part.endpoint.family()) == Some(part.link.mac))
    }

    fn local(&self, own: &Subnets) -> Vec<Entry> {
        let host = |part: &Part| {
            let family = part.endpoint.family();
            let net = own.of(family)?.ip().into();
            Some(Entry::Addr {
                dev: LinkRole::overlay(family),
                net,
            })
        };
        let blackholes = endpoint::blackholes(own).filter(|_| self.blackhole);
        self.parts
            .iter()
            .filter_map(host)
            .chain(blackholes)
            .collect()
    }

    fn connected_subnets(&self) -> Option<&ConnectedSubnets> {
        self.connected_subnets.as_ref()
    }

    fn connected_subnets_mut(&mut self) -> Option<&mut ConnectedSubnets> {
        self.connected_subnets.as_mut()
    }

    fn peer(&self, peer: &Lease, family: Family) -> Result<Vec<Entry>, BadPeer> {
        let Some(part) = self.parts.get(family) else {
            return Err(BadPeer(format!("{family} is disabled")));
        };
        let is_near = |public| {
            self.connected_subnets
                .as_ref()
                .is_some_and(|near| near.has(public))
        };
        // Where plain routes are asked for, a host without a tunnel can be reached as well.
        if let (super::host_gw::TYPE, Some(subnet), Some(public)) = (
            &*peer.attrs.backend_type,
            peer.subnets.of(family),
            peer.attrs.public(family),
        ) && self
            .connected_subnets
            .as_ref()
            .is_some_and(|near| near.may_have(public))
        {
            return Ok(vec![part.endpoint.route_by_peer(subnet, public)]);
        }
        let link = &part.link;
        let Published { vni, mac } = Published::decode(&peer.attrs, family)?;
        if vni.is_some_and(|vni| vni != u64::from(link.vni)) {
            return Err(BadPeer(format!(
                "its VNI is {}, this host uses {}",
                vni.unwrap_or_default(),
                link.vni
            )));
        }
        let (Some(subnet), Some(public)) = (peer.subnets.of(family), peer.attrs.public(family))
        else {
            return Err(BadPeer(format!("no {family} subnet or public address")));
        };
        if mac == link.mac {
            return Err(BadPeer(format!("VtepMAC {mac} is this host's own")));
        }
        if is_near(public) {
            Ok(vec![part.endpoint.route_by_peer(subnet, public)])
        } else {
            Ok(part.tunnel(subnet, mac, public).into())
        }
    }

    /// That of the device.
    fn inside(&self, subnet: IpNetwork) -> IpAddr {
        subnet.ip()
    }

    fn overhead(&self, family: Family) -> u32 {
        family_params(family).overhead
    }

    /// The smallest of the devices in use: pods have one MTU for both families.
    fn mtu(&self) -> u32 {
        self.parts
            .iter()
            .map(|part| part.link.mtu)
            .min()
            .unwrap_or_default()
    }
}

impl Part {
    /// `subnet` is routed to its own base address, which resolves to the peer's VTEP, which is behind `public`.
    fn tunnel(&self, subnet: IpNetwork, mac: Mac, public: IpAddr) -> [Entry; 3] {
        let (dev, base) = (LinkRole::overlay(self.endpoint.family()), subnet.ip());
        [
            Entry::Neigh { dev, ip: base, mac },
            Entry::Fdb {
                dev,
                mac,
                dst: public,
                port: 0,
                vni: 0,
            },
            self.endpoint.route_by_device(subnet, base),
        ]
    }
}

#[cfg(test)]
mod tests;
