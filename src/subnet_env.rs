//! `subnet.env`, the file that tells docker and CNI plugins about this host's subnet: render and read back, pure.

use std::fmt::{self, Display};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::subnet::{Overlay, Subnets, cidr};
use crate::util::env_file::{self, Variables};
use crate::util::family::{Family, value};

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/flannel/subnet.env";
/// Name of the variable with this host's IPv4 subnet.
pub const SUBNET: &str = "FLANNEL_SUBNET";

/// Names of the variables with the overlay network and with this host's part of it.
fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("FLANNEL_NETWORK", SUBNET),
        Family::V6 => ("FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"),
    }
}

/// The first address of a subnet, which the file names for the bridge of the host that has it.
pub fn gateway(subnet: IpNetwork) -> IpAddr {
    let first = value(subnet.ip()).saturating_add(1);
    Family::of(subnet.ip())
        .address(first)
        .unwrap_or(subnet.ip())
}

/// The content of the file. `Display` writes it byte for byte as Go flannel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The families that the overlay has, IPv4 first.
    pub overlays: Vec<Overlay>,
    /// Largest packet that fits the overlay, in bytes.
    pub mtu: u32,
    /// Whether flannel masquerades; docker then must not.
    pub ip_masq: bool,
}

impl Display for SubnetEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Overlay { network, subnet } in &self.overlays {
            let (networks, subnets) = names(Family::of(subnet.ip()));
            let (bridge, len) = (gateway(*subnet), subnet.prefix());
            writeln!(f, "{networks}={network}\n{subnets}={bridge}/{len}")?;
        }
        writeln!(
            f,
            "FLANNEL_MTU={}\nFLANNEL_IPMASQ={}",
            self.mtu, self.ip_masq
        )
    }
}

/// What an earlier life of the daemon left in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousSubnets {
    /// The subnets it had, canonical.
    pub subnets: Subnets,
    /// What could not be used, each a line for the log.
    pub warnings: Vec<String>,
}

/// Reads the subnets of an earlier life: one of each of these families. A variable may be a list separated by commas with
/// one usable item.
pub fn remembered(text: &str, families: impl IntoIterator<Item = Family>) -> PreviousSubnets {
    let (variables, unclear) = env_file::parse(text);
    let mut warnings: Vec<String> = unclear.iter().map(ToString::to_string).collect();
    let subnets = families
        .into_iter()
        .filter_map(|family| only_item(&variables, family, &mut warnings))
        .collect();
    PreviousSubnets { subnets, warnings }
}

/// The networks that an earlier life of the daemon was in.
pub fn remembered_networks(text: &str) -> Vec<IpNetwork> {
    let (variables, _) = env_file::parse(text);
    let lists = Family::ALL.map(|family| variables.get(names(family).0).cloned());
    let items = lists.iter().flatten().flat_map(|list| list.split(','));
    items.filter_map(|item| item.trim().parse().ok()).collect()
}

fn only_item(
    variables: &Variables,
    family: Family,
    warnings: &mut Vec<String>,
) -> Option<IpNetwork> {
    let (name, mut found) = (names(family).1, Vec::new());
    for item in variables
        .get(name)
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        match cidr::any(item.trim()).filter(|subnet| Family::of(subnet.ip()) == family) {
            Some(subnet) => found.push(subnet),
            None => warnings.push(format!(
                "{name}: {item:?} is not an {family} subnet in CIDR notation; ignoring it"
            )),
        }
    }
    match found[..] {
        [subnet] => return Some(subnet),
        [] => warnings.push(format!("no subnet found for key: {name}")),
        _ => warnings.push(format!(
            "{name} contains {} subnets instead of one; ignoring it",
            found.len()
        )),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn overlay(network: &str, subnet: &str) -> Overlay {
        Overlay {
            network: network.parse().unwrap(),
            subnet: subnet.parse().unwrap(),
        }
    }

    #[test]
    fn go_bytes() {
        let (v4, v6) = (
            overlay("10.5.0.0/16", "10.5.33.0/24"),
            overlay("fd05::/48", "fd05:0:0:1c::/64"),
        );
        let four = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.33.1/24\n";
        let six = "FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=fd05:0:0:1c::1/64\n";
        for (overlays, want) in [
            (vec![v4], four.to_owned()),
            (vec![v6], six.to_owned()),
            (vec![v4, v6], format!("{four}{six}")),
        ] {
            let env = SubnetEnv {
                overlays,
                mtu: 1450,
                ip_masq: true,
            };
            assert_eq!(
                env.to_string(),
                format!("{want}FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
            );
        }
        let env = SubnetEnv {
            overlays: vec![v4],
            mtu: 1430,
            ip_masq: false,
        };
        assert!(
            env.to_string()
                .ends_with("FLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n")
        );
    }

    #[test]
    fn remembered_subnets() {
        for (line, subnet, warnings) in [
            ("FLANNEL_SUBNET=10.5.33.1/24", Some("10.5.33.0/24"), 0),
            (
                "# old\nexport FLANNEL_SUBNET=\"10.5.33.1/24\" # mine",
                Some("10.5.33.0/24"),
                0,
            ),
            (
                "FLANNEL_SUBNET='nonsense, 10.5.33.1/24'",
                Some("10.5.33.0/24"),
                1,
            ),
            (
                "FLANNEL_SUBNET=nonsense,10.5.33.1/24",
                Some("10.5.33.0/24"),
                1,
            ),
            ("FLANNEL_SUBNET=10.5.33.1/24,10.5.34.1/24", None, 1),
            ("FLANNEL_SUBNET=10.5.33.1", None, 2),
            ("FLANNEL_SUBNET=$(cat /etc/passwd)", None, 3),
            ("FLANNEL_MTU=1450", None, 1),
            ("", None, 1),
        ] {
            let got = remembered(line, [Family::V4]);
            let want = subnet
                .map(|text| text.parse().unwrap())
                .into_iter()
                .collect();
            assert_eq!(
                (got.subnets, got.warnings.len()),
                (want, warnings),
                "{line}: {:?}",
                got.warnings
            );
        }
    }

    #[test]
    fn remembered_ipv6_subnets() {
        for (text, families, subnets, warnings) in [
            (
                "FLANNEL_IPV6_SUBNET=fd05:0:0:1c::1/64",
                &Family::ALL[..],
                "fd05:0:0:1c::/64",
                1,
            ),
            (
                "FLANNEL_IPV6_SUBNET=fd05:0:0:1c::1/64",
                &[Family::V6],
                "fd05:0:0:1c::/64",
                0,
            ),
            (
                "FLANNEL_SUBNET=10.5.33.1/24\nFLANNEL_IPV6_SUBNET=fd05:0:0:1c::1/64",
                &Family::ALL,
                "10.5.33.0/24 fd05:0:0:1c::/64",
                0,
            ),
            (
                "FLANNEL_SUBNET=10.5.33.1/24\nFLANNEL_IPV6_SUBNET=fd05::1/64",
                &[Family::V4],
                "10.5.33.0/24",
                0,
            ),
            ("FLANNEL_IPV6_SUBNET=10.5.33.1/24", &[Family::V6], "none", 2),
            (
                "FLANNEL_IPV6_SUBNET=fd05::1/64,fd06::1/64",
                &[Family::V6],
                "none",
                1,
            ),
        ] {
            let got = remembered(text, families.iter().copied());
            assert_eq!(
                (got.subnets.to_string().as_str(), got.warnings.len()),
                (subnets, warnings),
                "{text}"
            );
        }
    }

    #[test]
    fn networks_of_before() {
        let text =
            "FLANNEL_NETWORK=10.5.0.0/16,nonsense,10.6.0.0/16\nFLANNEL_IPV6_NETWORK='fd05::/48'\n";
        let found: Vec<String> = remembered_networks(text)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["10.5.0.0/16", "10.6.0.0/16", "fd05::/48"]);
        assert_eq!(remembered_networks("FLANNEL_MTU=1450"), []);
    }

    proptest! {
        #[test]
        fn round_trip(
            v4 in any::<u32>(), len in 1..=30u8, v6 in any::<u128>(), len6 in 1..=126u8,
            which in 0..3_u8, mtu in any::<u32>(), ip_masq in any::<bool>(),
        ) {
            let nets = [cidr::masked(Ipv4Addr::from(v4).into(), len), cidr::masked(Ipv6Addr::from(v6).into(), len6)];
            let nets = nets.into_iter().flatten().enumerate().filter(|(n, _)| usize::from(which) != *n);
            let nets: Vec<IpNetwork> = nets.map(|(_, net)| net).collect();
            let overlays = nets.iter().map(|net| Overlay { network: *net, subnet: *net }).collect();
            let env = SubnetEnv { overlays, mtu, ip_masq };
            let families = nets.iter().map(|net| Family::of(net.ip()));
            let want = PreviousSubnets { subnets: nets.iter().copied().collect(), warnings: Vec::new() };
            prop_assert_eq!(remembered(&env.to_string(), families), want);
        }

        #[test]
        fn total(text in "(FLANNEL_(IPV6_)?SUBNET=)?.*") {
            let _ = remembered(&text, Family::ALL);
        }
    }
}
