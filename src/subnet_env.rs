//! `subnet.env`, the file that tells docker and CNI plugins about this host's subnet: render and read back, pure.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::env_file::{self, Variables};
use crate::subnet::cidr;

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/flannel/subnet.env";
/// Name of the variable with this host's IPv4 subnet.
pub const SUBNET: &str = "FLANNEL_SUBNET";

/// The overlay network and this host's part of it, in one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family<N> {
    /// The whole overlay network.
    pub network: N,
    /// This host's subnet, canonical. The file shows its first host address instead, the bridge's.
    pub subnet: N,
}

/// The content of the file. `Display` writes it byte for byte as Go flannel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// IPv4, unless off.
    pub v4: Option<Family<Ipv4Network>>,
    /// IPv6, if on.
    pub v6: Option<Family<Ipv6Network>>,
    /// Largest packet that fits the overlay, in bytes.
    pub mtu: u32,
    /// Whether flannel masquerades; docker then must not.
    pub ip_masq: bool,
}

impl Display for SubnetEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Family { network, subnet }) = self.v4 {
            let bridge = Ipv4Addr::from_bits(subnet.ip().to_bits().saturating_add(1));
            writeln!(f, "FLANNEL_NETWORK={network}\n{SUBNET}={bridge}/{}", subnet.prefix())?;
        }
        if let Some(Family { network, subnet }) = self.v6 {
            let bridge = Ipv6Addr::from_bits(subnet.ip().to_bits().saturating_add(1));
            writeln!(f, "FLANNEL_IPV6_NETWORK={network}\nFLANNEL_IPV6_SUBNET={bridge}/{}", subnet.prefix())?;
        }
        writeln!(f, "FLANNEL_MTU={}\nFLANNEL_IPMASQ={}", self.mtu, self.ip_masq)
    }
}

/// What an earlier life of the daemon left in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The subnet it had, canonical.
    pub subnet: Option<Ipv4Network>,
    /// What could not be used, each a line for the log.
    pub warnings: Vec<String>,
}

/// Reads the subnet of an earlier life: [`SUBNET`], which may be a list separated by commas with one usable item.
pub fn remembered(text: &str) -> Remembered {
    let (variables, unclear) = env_file::parse(text);
    let mut warnings: Vec<String> = unclear.iter().map(ToString::to_string).collect();
    let subnet = only_item(&variables, &mut warnings);
    Remembered { subnet, warnings }
}

fn only_item(variables: &Variables, warnings: &mut Vec<String>) -> Option<Ipv4Network> {
    let mut found = Vec::new();
    for item in variables.get(SUBNET).into_iter().flat_map(|list| list.split(',')) {
        match cidr::v4(item.trim()) {
            Some(subnet) => found.push(subnet),
            None => warnings.push(format!("{SUBNET}: {item:?} is not a subnet like 10.5.33.1/24; ignored")),
        }
    }
    match found[..] {
        [subnet] => return Some(subnet),
        [] => warnings.push(format!("no subnet found for key: {SUBNET}")),
        _ => warnings.push(format!("{SUBNET} holds {} subnets instead of one; ignored", found.len())),
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(network: &str, subnet: &str) -> Option<Family<Ipv4Network>> {
        Some(Family { network: network.parse().unwrap(), subnet: subnet.parse().unwrap() })
    }

    #[test]
    fn go_bytes() {
        let v6 = Some(Family {
            network: "fd05::/48".parse().unwrap(),
            subnet: "fd05:0:0:1c::/64".parse().unwrap(),
        });
        let mut env = SubnetEnv { v4: v4("10.5.0.0/16", "10.5.33.0/24"), v6: None, mtu: 1450, ip_masq: true };
        let want = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.33.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        assert_eq!(env.to_string(), want);
        (env.v4, env.v6, env.ip_masq) = (None, v6, false);
        let want = "FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=fd05:0:0:1c::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
        assert_eq!(env.to_string(), want);
    }

    #[test]
    fn remembered_subnets() {
        for (line, subnet, warnings) in [
            ("FLANNEL_SUBNET=10.5.33.1/24", Some("10.5.33.0/24"), 0),
            ("# old\nexport FLANNEL_SUBNET=\"10.5.33.1/24\" # mine", Some("10.5.33.0/24"), 0),
            ("FLANNEL_SUBNET='nonsense, 10.5.33.1/24'", Some("10.5.33.0/24"), 1),
            ("FLANNEL_SUBNET=nonsense,10.5.33.1/24", Some("10.5.33.0/24"), 1),
            ("FLANNEL_SUBNET=10.5.33.1/24,10.5.34.1/24", None, 1),
            ("FLANNEL_SUBNET=10.5.33.1", None, 2),
            ("FLANNEL_SUBNET=$(cat /etc/passwd)", None, 3),
            ("FLANNEL_MTU=1450", None, 1),
            ("", None, 1),
        ] {
            let got = remembered(line);
            let want = subnet.map(|text| text.parse::<Ipv4Network>().unwrap());
            assert_eq!((got.subnet, got.warnings.len()), (want, warnings), "{line}: {:?}", got.warnings);
        }
    }

    proptest! {
        #[test]
        fn round_trip(ip in any::<u32>(), len in 1..=30u8, mtu in any::<u32>(), ip_masq in any::<bool>()) {
            let subnet = cidr::masked_v4(ip.into(), len).unwrap();
            let env = SubnetEnv { v4: Some(Family { network: subnet, subnet }), v6: None, mtu, ip_masq };
            let want = Remembered { subnet: Some(subnet), warnings: Vec::new() };
            prop_assert_eq!(remembered(&env.to_string()), want);
        }

        #[test]
        fn total(text in "(FLANNEL_SUBNET=)?.*") {
            let _ = remembered(&text);
        }
    }
}
