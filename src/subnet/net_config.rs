//! The cluster's network configuration (`<prefix>/config`): parse, default, check: pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::Ipv4Network;
use serde_json::value::RawValue;

use super::cidr;
use super::go_json::{self, Object};

/// Backend when the configuration names none, as in Go flannel.
const DEFAULT_BACKEND: &str = "udp";
/// Longest subnet that still has room for hosts.
const MAX_SUBNET_LEN: u64 = 30;
/// A network must hold four subnets: this many bits.
const SPARE_BITS: u8 = 2;
/// Networks that no host can be reached in: "this network", loopback, multicast.
const USELESS: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::UNSPECIFIED, 8), (Ipv4Addr::new(127, 0, 0, 0), 8), (Ipv4Addr::new(224, 0, 0, 0), 4)];

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
    /// The whole overlay network, canonical.
    pub network: Ipv4Network,
    /// Prefix length of one host's subnet.
    pub subnet_len: u8,
    /// First subnet that may be leased (its base address).
    pub subnet_min: Ipv4Addr,
    /// Last subnet that may be leased (its base address).
    pub subnet_max: Ipv4Addr,
    /// `Backend.Type`, lower-cased.
    pub backend_type: String,
    /// The whole `Backend` object, for the backend to read.
    pub backend: Box<RawValue>,
    /// The configuration as it was written.
    pub source: Box<RawValue>,
}

impl NetworkConfig {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// What is wrong, in the words Go flannel uses where it has some.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let object = Object::parse(json)?;
        let (ipv4, (backend_type, backend)) = (V4::read(&object)?, backend(&object)?);
        check_ipv6_types(&object)?;
        refuse_what_comes_later(&object)?;
        let network = ipv4.network()?;
        let subnet_len = subnet_len(network, ipv4.subnet_len)?;
        let (first, last) = default_range(network, subnet_len);
        let config = Self {
            network,
            subnet_len,
            subnet_min: ipv4.subnet_min.unwrap_or(first),
            subnet_max: ipv4.subnet_max.unwrap_or(last),
            backend_type,
            backend,
            source: serde_json::from_slice(json).map_err(|error| Error(error.to_string()))?,
        };
        config.check_range().map(|()| config)
    }

    /// How many subnets the configured range holds.
    pub fn subnet_count(&self) -> u64 {
        let span = u64::from(u32::from(self.subnet_max).saturating_sub(u32::from(self.subnet_min)));
        (span >> self.host_bits()) + 1
    }

    /// The subnets of the configured range, in order.
    pub fn subnets(&self) -> impl Iterator<Item = Ipv4Network> {
        (0..self.subnet_count()).filter_map(|index| self.subnet(index))
    }

    /// The subnet at `index` of the configured range, counted from 0.
    pub fn subnet(&self, index: u64) -> Option<Ipv4Network> {
        let base = u64::from(u32::from(self.subnet_min)) + (index << self.host_bits());
        let in_range = index < self.subnet_count();
        cidr::masked_v4(Ipv4Addr::from(u32::try_from(base).ok().filter(|_| in_range)?), self.subnet_len)
    }

    /// Whether `subnet` is one that this host may lease: [`contains`](Self::contains) it, and from `subnet_min` to
    /// `subnet_max`.
    pub fn fits(&self, subnet: Ipv4Network) -> bool {
        self.contains(subnet) && (self.subnet_min..=self.subnet_max).contains(&subnet.ip())
    }

    /// Whether `subnet` is one of this network's: inside it, of the right length, without host bits. The range does
    /// not matter: reservations and leases of other times may lie outside.
    pub fn contains(&self, subnet: Ipv4Network) -> bool {
        subnet.prefix() == self.subnet_len
            && subnet.ip() == subnet.network()
            && self.network.contains(subnet.ip())
    }

    /// Number of address bits inside a subnet.
    pub fn host_bits(&self) -> u8 {
        32 - self.subnet_len
    }

    fn check_range(&self) -> Result<(), Error> {
        let named = [("SubnetMin", self.subnet_min), ("SubnetMax", self.subnet_max)];
        if let Some((name, _)) = named.iter().find(|(_, base)| !self.network.contains(*base)) {
            return Err(Error(format!("{name} is not in the range of the Network")));
        }
        let aligned = |base| u32::from(base).trailing_zeros() >= u32::from(self.host_bits());
        if let Some((name, base)) = named.iter().find(|(_, base)| !aligned(*base)) {
            return Err(Error(format!("{name} is not on a SubnetLen boundary: {base}")));
        }
        if self.subnet_min > self.subnet_max {
            let (min, max) = (self.subnet_min, self.subnet_max);
            return Err(Error(format!("SubnetMin {min} is above SubnetMax {max}: no subnet to lease")));
        }
        Ok(())
    }
}

/// The IPv4 members as written; what is zero or absent is `None`.
struct V4 {
    network: Option<String>,
    subnet_len: Option<u64>,
    subnet_min: Option<Ipv4Addr>,
    subnet_max: Option<Ipv4Addr>,
}

impl V4 {
    fn read(object: &Object<'_>) -> Result<Self, Error> {
        Ok(Self {
            network: object.raw("Network").map(unquoted),
            subnet_len: object.uint("SubnetLen")?.filter(|len| *len != 0),
            subnet_min: address(object, "SubnetMin")?,
            subnet_max: address(object, "SubnetMax")?,
        })
    }

    fn network(&self) -> Result<Ipv4Network, Error> {
        let missing = "please define a correct Network parameter in the flannel config";
        let text = self.network.as_deref().ok_or_else(|| Error(missing.into()))?;
        let network = match (cidr::v4(text), cidr::v6(text)) {
            (Some(network), _) => network,
            (None, Some(_)) => return Err(Error(format!("Network: invalid IPv4 CIDR format: {text}"))),
            (None, None) => return Err(Error(format!("Network: invalid CIDR address: {text}"))),
        };
        if network.prefix() == 0 {
            return Err(Error(format!("{missing}: {network} is every address there is")));
        }
        let useless = USELESS.iter().filter_map(|(ip, len)| cidr::masked_v4(*ip, *len));
        match useless.into_iter().find(|useless| network.overlaps(*useless)) {
            Some(useless) => {
                Err(Error(format!("Network {network} overlaps {useless}, where no host can be")))
            }
            None => Ok(network),
        }
    }
}

fn subnet_len(network: Ipv4Network, wanted: Option<u64>) -> Result<u8, Error> {
    let shortest = network.prefix() + SPARE_BITS;
    match wanted {
        Some(len) if len > MAX_SUBNET_LEN => Err(Error("SubnetLen must be less than /31".into())),
        Some(len) => u8::try_from(len)
            .ok()
            .filter(|len| *len >= shortest)
            .ok_or_else(|| Error("network must be able to accommodate at least four subnets".into())),
        None if u64::from(shortest) > MAX_SUBNET_LEN => {
            Err(Error("network is too small. Minimum useful network prefix is /28".into()))
        }
        None => Ok(shortest.max(24)),
    }
}

/// Second and last subnet of `network`: Go flannel leaves the first one out.
fn default_range(network: Ipv4Network, subnet_len: u8) -> (Ipv4Addr, Ipv4Addr) {
    let size = 1_u32 << (32 - subnet_len);
    let (base, end) = (u32::from(network.ip()), u32::from(network.broadcast()));
    (Ipv4Addr::from(base + size), Ipv4Addr::from(end - (size - 1)))
}

/// Type and whole object. Only an absent member means the default: `null` and `{}` mean the empty type, as in Go.
fn backend(object: &Object<'_>) -> Result<(String, Box<RawValue>), Error> {
    let wrong = |error: go_json::Error| Error(format!("error decoding Backend property of config: {error}"));
    let raw = object.raw("Backend").filter(|raw| !go_json::is_null(raw));
    let json = raw.map_or("{}", RawValue::get);
    let name = Object::parse(json.as_bytes())
        .and_then(|backend| backend.string("Type").map(lower))
        .map_err(wrong)?;
    let name = object.raw("Backend").map_or_else(|| DEFAULT_BACKEND.into(), |_| name);
    let raw = RawValue::from_string(json.into()).map_err(|error| Error(error.to_string()))?;
    Ok((name, raw))
}

fn lower(text: Option<std::borrow::Cow<'_, str>>) -> String {
    text.unwrap_or_default().to_lowercase()
}

/// An address; `0.0.0.0` is the same as none, `null` is an error.
fn address(object: &Object<'_>, name: &'static str) -> Result<Option<Ipv4Addr>, Error> {
    let Some(text) = object.raw(name).map(unquoted) else { return Ok(None) };
    match text.parse::<Ipv4Addr>() {
        Ok(ip) => Ok(Some(ip).filter(|ip| !ip.is_unspecified())),
        Err(_) => Err(Error(format!("{name}: invalid IP address format: {text}"))),
    }
}

/// The text of a string, or the JSON of anything else: Go's address types look through the quotes only.
fn unquoted(raw: &RawValue) -> String {
    go_json::text(raw).map_or_else(|| raw.get().into(), std::borrow::Cow::into_owned)
}

/// Go refuses a configuration whose IPv6 members have the wrong type even while IPv6 is off.
fn check_ipv6_types(object: &Object<'_>) -> Result<(), Error> {
    object.value("IPv6Network", "an IPv6 CIDR", |raw| cidr::v6(&go_json::text(raw)?))?;
    object.uint("IPv6SubnetLen")?;
    for name in ["IPv6SubnetMin", "IPv6SubnetMax"] {
        object.value(name, "an IPv6 address", |raw| go_json::text(raw)?.parse::<Ipv6Addr>().ok())?;
    }
    Ok(())
}

fn refuse_what_comes_later(object: &Object<'_>) -> Result<(), Error> {
    let ipv4 = object.bool("EnableIPv4")?.unwrap_or(true);
    let ipv6 = object.bool("EnableIPv6")?.unwrap_or(false);
    let nftables = object.bool("EnableNFTables")?.unwrap_or(false);
    let refuse = |what: &str| Err(Error(what.into()));
    match (ipv4, ipv6, nftables) {
        (false, false, _) => refuse("none defined stack: EnableIPv4 and EnableIPv6 are both false"),
        (false, true, _) => refuse("EnableIPv4=false is not supported yet"),
        (true, true, _) => refuse("EnableIPv6=true is not supported yet"),
        (true, false, true) => refuse("EnableNFTables=true is not supported yet"),
        (true, false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
