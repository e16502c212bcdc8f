//! The vxlan backend: one device, and a neighbour, an FDB entry and a route for each peer. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::value::RawValue;

use super::{Backend, BadConfig, BadPeer, Site};
use crate::kernel::{Dev, Facts, Item, LinkSpec, Mac, Owned};
use crate::subnet::go_json::{self, Object};
use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Subnets};

/// The name under which leases carry this backend's data.
const TYPE: &str = "vxlan";
/// Bytes that VXLAN over IPv4 adds to a packet: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
const OVERHEAD: u32 = 50;
/// Smallest MTU of an IPv4 link.
const MIN_MTU: u32 = 68;
/// Largest network identifier: 24 bits.
const MAX_VNI: u64 = (1 << 24) - 1;
/// `RTPROT_BOOT`, which Go flannel's routes carry.
const PROTOCOL_BOOT: u8 = 3;
/// First of the protocol numbers over which a large network's routes are spread, and how many there are.
const SPREAD: (u8, u32) = (100, 64);
/// Above so many subnets routes are spread: the kernel looks for an equal next hop among all routes that share device
/// and protocol, so that N routes of one protocol cost N².
const SPREAD_ABOVE: u32 = 1024;

/// `Backend` of the network configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    vni: u32,
    port: Option<u16>,
    gbp: bool,
    learning: bool,
    /// Outer MTU; `None`: that of the underlay.
    mtu: Option<u32>,
}

impl Options {
    fn parse(backend: &RawValue) -> Result<Self, BadConfig> {
        let wrong =
            |error: go_json::Error| BadConfig(format!("error decoding VXLAN backend config: {error}"));
        let object = Object::parse(backend.get().as_bytes()).map_err(wrong)?;
        let number = |name, default, max| ranged(&object, name, default, max);
        if object.bool("DirectRouting").map_err(wrong)?.unwrap_or(false) {
            return Err(BadConfig("DirectRouting=true is not supported yet; remove it from Backend".into()));
        }
        let (port, mtu) = (number("Port", 0, u64::from(u16::MAX))?, number("MTU", 0, 65_535)?);
        Ok(Self {
            vni: number("VNI", 1, MAX_VNI)?,
            port: u16::try_from(port).ok().filter(|port| *port != 0),
            gbp: object.bool("GBP").map_err(wrong)?.unwrap_or(false),
            learning: object.bool("Learning").map_err(wrong)?.unwrap_or(false),
            mtu: Some(mtu).filter(|mtu| *mtu != 0),
        })
    }
}

fn ranged(object: &Object<'_>, name: &'static str, default: u64, max: u64) -> Result<u32, BadConfig> {
    let wrong = |error| BadConfig(format!("error decoding VXLAN backend config: {error}"));
    let value = object.int(name).map_err(wrong)?;
    let number = value.map_or(Some(default), |value| u64::try_from(value).ok());
    match number.filter(|number| *number <= max).and_then(|number| u32::try_from(number).ok()) {
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
    fn decode(attrs: &LeaseAttrs) -> Result<Self, BadPeer> {
        if attrs.backend_type != TYPE {
            return Err(BadPeer(format!("backend type {:?}, ours is {TYPE}", attrs.backend_type)));
        }
        let data = attrs.backend_data.as_deref().ok_or_else(|| BadPeer("no BackendData".into()))?;
        let wrong = |error: go_json::Error| BadPeer(format!("BackendData: {error}"));
        let object = Object::parse(data.get().as_bytes()).map_err(wrong)?;
        let text = object.string("VtepMAC").map_err(wrong)?.unwrap_or_default();
        let mac =
            text.parse::<Mac>().map_err(|()| BadPeer(format!("VtepMAC {text:?} is not a MAC address")))?;
        if !mac.is_unicast() {
            return Err(BadPeer(format!("VtepMAC {mac} is not a unicast address")));
        }
        Ok(Self { vni: object.uint("VNI").map_err(wrong)?, mac })
    }

    fn encode(self) -> Option<Box<RawValue>> {
        let vni = self.vni.map(|vni| format!("\"VNI\":{vni},")).unwrap_or_default();
        RawValue::from_string(format!("{{{vni}\"VtepMAC\":\"{}\"}}", self.mac)).ok()
    }
}

/// The backend for one host.
struct Vxlan {
    link: LinkSpec,
    network: Ipv4Network,
    subnet_len: u8,
    public_ip: Ipv4Addr,
}

/// Makes the backend.
///
/// # Errors
/// When an option is not usable on this host.
pub(super) fn backend(config: &NetworkConfig, site: &Site<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    let options = Options::parse(&config.backend)?;
    let outer = options.mtu.unwrap_or(site.underlay.mtu).min(site.underlay.mtu);
    let mtu = outer.checked_sub(OVERHEAD).filter(|mtu| *mtu >= MIN_MTU).ok_or_else(|| {
        BadConfig(format!("an outer MTU of {outer} leaves no room: VXLAN takes {OVERHEAD} bytes of it"))
    })?;
    let (Some(local), Some(public_ip)) = (site.underlay.v4, site.public.v4) else {
        return Err(BadConfig("the underlay has no IPv4 address".into()));
    };
    let mut link = LinkSpec {
        name: format!("flannel.{}", options.vni),
        vni: options.vni,
        parent: site.underlay.index,
        local: IpAddr::V4(local),
        port: options.port.unwrap_or(site.facts.vxlan_port),
        learning: options.learning,
        gbp: options.gbp,
        mac: Mac([0; 6]),
        mtu,
    };
    link.mac = stable_mac(&link, public_ip, site);
    Ok(Box::new(Vxlan { link, network: config.network, subnet_len: config.subnet_len, public_ip }))
}

/// The MAC that peers know this host by, if there is one: published in its lease, else that of a device that can be
/// adopted. Otherwise one that this machine always arrives at.
fn stable_mac(link: &LinkSpec, public_ip: Ipv4Addr, site: &Site<'_>) -> Mac {
    let published = site.published.and_then(|attrs| Published::decode(attrs).ok()).map(|data| data.mac);
    published
        .or_else(|| adoptable(link, site.facts))
        .unwrap_or_else(|| Mac::local(hash(&format!("{} {} {}", site.machine, public_ip, link.vni))))
}

fn adoptable(link: &LinkSpec, facts: &Facts) -> Option<Mac> {
    let found = facts.link(&link.name)?;
    let fits = matches!(link.fit(found), crate::kernel::link::Fit::Adopt(_));
    found.mac.filter(|mac| fits && mac.is_unicast())
}

/// FNV-1a, folded: the same on every machine and in every release.
fn hash(text: &str) -> [u8; 6] {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    [a ^ g, b ^ h, c, d, e, f]
}

impl Backend for Vxlan {
    fn links(&self) -> Vec<(Dev, LinkSpec)> {
        vec![(Dev::Overlay, self.link.clone())]
    }

    fn attrs(&self) -> LeaseAttrs {
        let published = Published { vni: Some(u64::from(self.link.vni)), mac: self.link.mac };
        LeaseAttrs {
            public_ip: Some(self.public_ip),
            backend_type: TYPE.into(),
            backend_data: published.encode(),
            ..LeaseAttrs::default()
        }
    }

    fn owned(&self) -> Owned {
        Owned { networks: vec![IpNetwork::V4(self.network)] }
    }

    fn local(&self, own: &Subnets) -> Vec<Item> {
        let host = own.v4.map(|subnet| Item::Addr { dev: Dev::Overlay, net: IpAddr::V4(subnet.ip()).into() });
        host.into_iter().collect()
    }

    fn peer(&self, peer: &Lease) -> Result<Vec<Item>, BadPeer> {
        let Published { vni, mac } = Published::decode(&peer.attrs)?;
        if vni.is_some_and(|vni| vni != u64::from(self.link.vni)) {
            return Err(BadPeer(format!("VNI {}, ours is {}", vni.unwrap_or_default(), self.link.vni)));
        }
        let (Some(subnet), Some(public_ip)) = (peer.subnets.v4, peer.attrs.public_ip) else {
            return Err(BadPeer("no IPv4 subnet or public address".into()));
        };
        if mac == self.link.mac {
            return Err(BadPeer(format!("VtepMAC {mac} is this host's own")));
        }
        Ok(self.tunnel(subnet, mac, public_ip).into())
    }

    fn mtu(&self) -> u32 {
        self.link.mtu
    }
}

impl Vxlan {
    /// `subnet` is routed to its own base address, which resolves to the peer's VTEP, which is behind `public_ip`.
    fn tunnel(&self, subnet: Ipv4Network, mac: Mac, public_ip: Ipv4Addr) -> [Item; 3] {
        let (dev, base) = (Dev::Overlay, IpAddr::V4(subnet.ip()));
        [
            Item::Neigh { dev, ip: base, mac },
            Item::Fdb { dev, mac, dst: IpAddr::V4(public_ip), port: 0, vni: 0 },
            Item::Route {
                dst: IpNetwork::V4(subnet),
                metric: 0,
                dev,
                gateway: Some(base),
                onlink: true,
                protocol: self.route_protocol(subnet),
            },
        ]
    }

    /// Small networks get what Go flannel writes.
    fn route_protocol(&self, subnet: Ipv4Network) -> u8 {
        let subnets =
            1_u32.checked_shl(u32::from(self.subnet_len - self.network.prefix())).unwrap_or(u32::MAX);
        let index = u32::from(subnet.ip()) >> (32 - self.subnet_len);
        match subnets > SPREAD_ABOVE {
            true => SPREAD.0 + u8::try_from(index % SPREAD.1).unwrap_or_default(),
            false => PROTOCOL_BOOT,
        }
    }
}

#[cfg(test)]
mod tests;
