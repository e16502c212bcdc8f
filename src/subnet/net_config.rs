//! The cluster's network configuration (`<prefix>/config`): parse, default, check: pure.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

use super::go_json::{self, Object};
use super::pool::Range;
use super::{Subnets, cidr};
use crate::util::family::{Family, PerFamily, overlap, value};

/// Backend when the configuration names none, as in Go flannel.
const DEFAULT_BACKEND: &str = "udp";
/// A network must hold four subnets: this many bits. A subnet must have room for hosts: as many.
const SPARE_BITS: u8 = 2;

pub const MEMBERS: &[&str] = &[
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "Network",
    "IPv6Network",
    "SubnetLen",
    "IPv6SubnetLen",
    "SubnetMin",
    "IPv6SubnetMin",
    "SubnetMax",
    "IPv6SubnetMax",
    "Backend",
];
/// Those that hold a network.
pub const NETWORK_MEMBERS: &[&str] = &["Network", "IPv6Network"];

/// How one family's members are called, and what holds for them.
struct Rules {
    family: Family,
    enable: &'static str,
    enabled: bool,
    network: &'static str,
    subnet_len: &'static str,
    subnet_min: &'static str,
    subnet_max: &'static str,
    /// The network at the beginning of a sentence, as Go flannel writes it.
    subject: &'static str,
    /// Subnets are this long where the network is wide enough.
    usual_len: u8,
    /// Whether `null` in place of an address of the range means that there is none.
    null_is_none: bool,
    /// Networks that no host can be reached in.
    useless: &'static [(IpAddr, u8)],
}

/// IPv4. Useless are "this network", loopback, multicast.
const V4: Rules = Rules {
    family: Family::V4,
    enable: "EnableIPv4",
    enabled: true,
    network: "Network",
    subnet_len: "SubnetLen",
    subnet_min: "SubnetMin",
    subnet_max: "SubnetMax",
    subject: "network",
    usual_len: 24,
    null_is_none: false,
    useless: &[
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
        (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    ],
};

/// IPv6. Useless are what stands for IPv4 and for the host itself, link-local, multicast.
const V6: Rules = Rules {
    family: Family::V6,
    enable: "EnableIPv6",
    enabled: false,
    network: "IPv6Network",
    subnet_len: "IPv6SubnetLen",
    subnet_min: "IPv6SubnetMin",
    subnet_max: "IPv6SubnetMax",
    subject: "IPv6Network",
    usual_len: 64,
    null_is_none: true,
    useless: &[
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
        (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    ],
};

/// What is wrong with a network configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl From<go_json::Error> for Error {
    fn from(error: go_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// A configuration that has been checked; every default is filled in.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The overlay network in each family that it has; at least one.
    pub ranges: PerFamily<Range>,
    /// `EnableNFTables`: firewall rules go to nftables instead of iptables.
    pub nftables: bool,
    /// `Backend.Type`, lower-cased.
    pub backend_type: String,
    /// The whole `Backend` object, for the backend to read.
    pub backend: Box<RawValue>,
    /// The configuration as it was written.
    pub source: Box<RawValue>,
}

/// The overlay network and one host's part of it, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    pub network: IpNetwork,
    pub subnet: IpNetwork,
}

impl NetworkConfig {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// What is wrong, in the words Go flannel uses where it has some.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let object = Object::parse(json)?;
        // Go refuses members of wrong types also where the family is off.
        let (v4, v6) = (V4.read(&object)?, V6.read(&object)?);
        let (backend_type, backend) = backend(&object)?;
        let nftables = object.bool("EnableNFTables")?.unwrap_or(false);
        let ranges = PerFamily {
            v4: V4.range(v4)?,
            v6: V6.range(v6)?,
        };
        if ranges.is_empty() {
            let why = "none defined stack: EnableIPv4 and EnableIPv6 are both false";
            return Err(Error(why.into()));
        }
        let source = serde_json::from_slice(json).map_err(|error| Error(error.to_string()))?;
        Ok(Self {
            ranges,
            nftables,
            backend_type,
            backend,
            source,
        })
    }

    /// Whether a host may lease `subnets`: one of each family that the overlay has, and no other.
    pub fn fits(&self, subnets: &Subnets) -> bool {
        Family::ALL.into_iter().all(
            |family| match (self.ranges.get(family), subnets.of(family)) {
                (Some(range), Some(subnet)) => range.fits(subnet),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            },
        )
    }

    /// Network and part of it for each family that the overlay and a host's subnets have, IPv4 first.
    pub fn overlays<'a>(&'a self, own: &'a Subnets) -> impl Iterator<Item = Overlay> + 'a {
        self.ranges.iter().filter_map(|range| {
            Some(Overlay {
                network: range.network,
                subnet: own.of(range.family())?,
            })
        })
    }

    /// The overlay network in words: `10.5.0.0/16`, or `10.5.0.0/16 and fd05::/48`.
    pub fn networks(&self) -> String {
        let networks = self.ranges.iter().map(|range| range.network.to_string());
        networks.collect::<Vec<_>>().join(" and ")
    }
}

/// One family's members as written; what is zero or absent is `None`.
struct Members {
    enabled: bool,
    network: Option<IpNetwork>,
    subnet_len: Option<u64>,
    subnet_min: Option<IpAddr>,
    subnet_max: Option<IpAddr>,
}

impl Rules {
    fn read(&self, object: &Object<'_>) -> Result<Members, Error> {
        let network = object.raw(self.network);
        Ok(Members {
            enabled: object.bool(self.enable)?.unwrap_or(self.enabled),
            network: network.map(|raw| self.cidr(raw)).transpose()?,
            subnet_len: object.uint(self.subnet_len)?.filter(|len| *len != 0),
            subnet_min: self.address(object, self.subnet_min)?,
            subnet_max: self.address(object, self.subnet_max)?,
        })
    }

    fn cidr(&self, raw: &RawValue) -> Result<IpNetwork, Error> {
        let (name, text) = (self.network, unquoted(raw));
        match cidr::any(&text) {
            Some(network) if Family::of(network.ip()) == self.family => Ok(network),
            Some(_) => {
                let family = self.family;
                Err(Error(format!(
                    "{name}: invalid {family} CIDR format: {text}"
                )))
            }
            None => Err(Error(format!("{name}: invalid CIDR address: {text}"))),
        }
    }

    /// An address; the unspecified one is the same as none.
    fn address(&self, object: &Object<'_>, name: &'static str) -> Result<Option<IpAddr>, Error> {
        let raw = object
            .raw(name)
            .filter(|raw| !(self.null_is_none && go_json::is_null(raw)));
        let Some(text) = raw.map(unquoted) else {
            return Ok(None);
        };
        match text.parse::<IpAddr>() {
            Ok(ip) if Family::of(ip) == self.family => {
                Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
            }
            _ => Err(Error(format!("{name}: invalid IP address format: {text}"))),
        }
    }

    /// Defaults filled in, and checked. `None` if the family is off.
    fn range(&self, members: Members) -> Result<Option<Range>, Error> {
        if !members.enabled {
            return Ok(None);
        }
        let network = self.usable(members.network)?;
        let subnet_len = self.subnet_len(network, members.subnet_len)?;
        let (first, last) = default_bounds(network, subnet_len);
        let range = Range {
            network,
            subnet_len,
            subnet_min: members.subnet_min.unwrap_or(first),
            subnet_max: members.subnet_max.unwrap_or(last),
        };
        self.check_bounds(&range).map(|()| Some(range))
    }

    fn usable(&self, network: Option<IpNetwork>) -> Result<IpNetwork, Error> {
        let name = self.network;
        let missing = format!("please define a correct {name} parameter in the flannel config");
        let network = network.ok_or_else(|| Error(missing.clone()))?;
        if network.prefix() == 0 {
            return Err(Error(format!(
                "{missing}: {network} contains every address"
            )));
        }
        let useless = self.useless.iter();
        let mut useless = useless.filter_map(|(ip, len)| cidr::masked(*ip, *len));
        match useless.find(|useless| overlap(network, *useless)) {
            Some(useless) => Err(Error(format!(
                "{name} {network} overlaps {useless}, whose addresses hosts cannot have"
            ))),
            None => Ok(network),
        }
    }

    fn subnet_len(&self, network: IpNetwork, wanted: Option<u64>) -> Result<u8, Error> {
        let shortest = network.prefix() + SPARE_BITS;
        let longest = self.family.bits() - SPARE_BITS;
        let why = match wanted.map(u8::try_from) {
            Some(Ok(len)) if (shortest..=longest).contains(&len) => return Ok(len),
            None if shortest <= longest => return Ok(shortest.max(self.usual_len)),
            Some(Ok(len)) if len <= longest => {
                "network must be able to accommodate at least four subnets".into()
            }
            Some(_) => format!("SubnetLen must be less than /{}", longest + 1),
            None => {
                let (subject, least) = (self.subject, longest - SPARE_BITS);
                format!("{subject} is too small. Minimum useful network prefix is /{least}")
            }
        };
        Err(Error(why))
    }

    fn check_bounds(&self, range: &Range) -> Result<(), Error> {
        let Range {
            network,
            subnet_min: min,
            subnet_max: max,
            ..
        } = *range;
        let named = [(self.subnet_min, min), (self.subnet_max, max)];
        let aligned = |base| value(base).trailing_zeros() >= u32::from(range.host_bits());
        let why = if let Some((name, _)) = named.iter().find(|(_, base)| !network.contains(*base)) {
            format!("{name} is not in the range of the {}", self.network)
        } else if let Some((name, base)) = named.iter().find(|(_, base)| !aligned(*base)) {
            format!("{name} is not on a SubnetLen boundary: {base}")
        } else if min > max {
            let [(low, _), (high, _)] = named;
            format!("{low} {min} is above {high} {max}: no subnet to lease")
        } else {
            return Ok(());
        };
        Err(Error(why))
    }
}

/// Second and last subnet of `network`: Go flannel leaves the first one out.
fn default_bounds(network: IpNetwork, subnet_len: u8) -> (IpAddr, IpAddr) {
    let family = Family::of(network.ip());
    let size = 1_u128 << (family.bits() - subnet_len);
    let at = |base| family.address(base).unwrap_or(network.ip());
    (
        at(value(network.ip()) + size),
        at(value(network.broadcast()) - (size - 1)),
    )
}

/// Type and whole object. Only an absent member means the default: `null` and `{}` mean the empty type, as in Go.
fn backend(object: &Object<'_>) -> Result<(String, Box<RawValue>), Error> {
    let wrong = |error: go_json::Error| {
        Error(format!(
            "error decoding Backend property of config: {error}"
        ))
    };
    let raw = object.raw("Backend").filter(|raw| !go_json::is_null(raw));
    let json = raw.map_or("{}", RawValue::get);
    let name = Object::parse(json.as_bytes())
        .and_then(|backend| backend.string("Type").map(lower))
        .map_err(wrong)?;
    let name = object
        .raw("Backend")
        .map_or_else(|| DEFAULT_BACKEND.into(), |_| name);
    let raw = RawValue::from_string(json.into()).map_err(|error| Error(error.to_string()))?;
    Ok((name, raw))
}

fn lower(text: Option<Cow<'_, str>>) -> String {
    text.unwrap_or_default().to_lowercase()
}

/// The text of a string, or the JSON of anything else: Go's address types look through the quotes only.
fn unquoted(raw: &RawValue) -> String {
    go_json::text(raw).map_or_else(|| raw.get().into(), Cow::into_owned)
}

#[cfg(test)]
mod tests;
