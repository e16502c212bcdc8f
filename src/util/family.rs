//! The two address families as data, so that what holds for both is said once: pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with this numeric value; `None` if it is too large for the family.
    pub fn address(self, value: u128) -> Option<IpAddr> {
        match self {
            Self::V4 => u32::try_from(value)
                .ok()
                .map(|value| Ipv4Addr::from_bits(value).into()),
            Self::V6 => Some(Ipv6Addr::from_bits(value).into()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The numeric value of an address.
pub fn value(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Whether two networks share an address.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

/// Something that each family may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerFamily<T> {
    pub v4: Option<T>,
    pub v6: Option<T>,
}

impl<T> PerFamily<T> {
    /// Asks for each family.
    pub fn each(mut make: impl FnMut(Family) -> Option<T>) -> Self {
        Self {
            v4: make(Family::V4),
            v6: make(Family::V6),
        }
    }

    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    pub fn set(&mut self, family: Family, value: Option<T>) {
        match family {
            Family::V4 => self.v4 = value,
            Family::V6 => self.v6 = value,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// Those that there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.v4.iter().chain(&self.v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "10.5.1.0",
            "::",
            "fd00::1",
            "::ffff:10.5.1.0",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Family::of(ip).address(value(ip)), Some(ip));
        }
        assert_eq!(Family::V4.address(1 << 32), None);
    }

    #[test]
    fn networks_overlap_within_a_family_only() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        for (one, other, expected) in [
            ("10.5.0.0/16", "10.5.7.0/24", true),
            ("10.5.7.0/24", "10.5.0.0/16", true),
            ("10.5.7.0/24", "10.5.8.0/24", false),
            ("fd00::/48", "fd00:0:0:7::/64", true),
            ("::/8", "0.0.0.0/8", false),
        ] {
            assert_eq!(overlap(net(one), net(other)), expected, "{one} {other}");
        }
    }
}
