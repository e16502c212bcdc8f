//! Who a host is among the leases: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LeaseAttrs;

/// The public addresses of a host; at least one.
///
/// A host is known by its public IPv4 address, as to Go flannel. Where one of two has none, as in a cluster without IPv4,
/// the IPv6 address tells. (Go flannel takes all hosts without IPv4 for one, so that they share a lease.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicAddrs {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl PublicAddrs {
    /// The host that publishes `attrs`; `None` for a value without an address.
    pub fn of(attrs: &LeaseAttrs) -> Option<Self> {
        Self::new(attrs.public_ip, attrs.public_ipv6)
    }

    /// The host with these public addresses, of which unspecified ones do not count.
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Option<Self> {
        let v4 = v4.filter(|ip| !ip.is_unspecified());
        let v6 = v6.filter(|ip| !ip.is_unspecified());
        (v4.is_some() || v6.is_some()).then_some(Self { v4, v6 })
    }

    /// Whether both are one host.
    pub fn is(&self, other: &Self) -> bool {
        match (self.v4, other.v4) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.v6.is_some() && self.v6 == other.v6,
        }
    }

    /// The address by which it is known first.
    pub fn ip(&self) -> IpAddr {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        v4.or(v6).unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(v4: &str, v6: &str) -> Option<PublicAddrs> {
        PublicAddrs::new(v4.parse().ok(), v6.parse().ok())
    }

    #[test]
    fn ipv4_tells_and_ipv6_where_there_is_none() {
        for (one, other, same) in [
            (("10.0.0.1", ""), ("10.0.0.1", ""), true),
            (("10.0.0.1", "fd00::1"), ("10.0.0.1", "fd00::2"), true),
            (("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::1"), false),
            (("10.0.0.1", "fd00::1"), ("", "fd00::1"), true),
            (("", "fd00::1"), ("", "fd00::1"), true),
            (("", "fd00::1"), ("", "fd00::2"), false),
            (("10.0.0.1", ""), ("", "fd00::1"), false),
            (("0.0.0.0", "fd00::1"), ("0.0.0.0", "fd00::2"), false),
        ] {
            let [one, other] = [one, other].map(|(v4, v6)| host(v4, v6).unwrap());
            assert_eq!(
                (one.is(&other), other.is(&one)),
                (same, same),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn no_address_is_no_host() {
        assert_eq!(host("", ""), None);
        assert_eq!(host("0.0.0.0", "::"), None);
        assert_eq!(
            host("0.0.0.0", "fd00::1").unwrap().ip(),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])
        );
        assert_eq!(
            host("10.0.0.1", "fd00::1").unwrap().ip(),
            IpAddr::from([10, 0, 0, 1])
        );
    }
}
