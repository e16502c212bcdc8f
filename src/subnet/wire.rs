//! The value of a lease key, byte for byte as Go flannel writes it: pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::value::RawValue;

/// What a host publishes about itself.
#[derive(Debug, Clone, Default)]
pub struct LeaseAttrs {
    /// Underlay IPv4 address that peers send to. `0.0.0.0` when the value has none.
    pub public_ip: Option<Ipv4Addr>,
    /// Underlay IPv6 address that peers send to.
    pub public_ipv6: Option<Ipv6Addr>,
    /// `vxlan`, `host-gw`, … Empty for backends that publish none.
    pub backend_type: String,
    /// What the backend publishes for IPv4, as JSON.
    pub backend_data: Option<Box<RawValue>>,
    /// The same for IPv6.
    pub backend_v6_data: Option<Box<RawValue>>,
}

impl PartialEq for LeaseAttrs {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for LeaseAttrs {}

/// Why a lease value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease value ({0})")]
pub struct BadValue(pub String);

impl LeaseAttrs {
    /// Reads a lease value.
    ///
    /// # Errors
    /// When it is not a JSON object with members of the right types.
    pub fn decode(_value: &[u8]) -> Result<Self, BadValue> {
        Err(BadValue("stub".into()))
    }

    /// Writes the value, in Go's member order.
    pub fn encode(&self) -> String {
        String::new()
    }
}
