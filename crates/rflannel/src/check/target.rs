//! Finds the lease for a subnet, a public IP, an overlay address, a pod address, or a host name. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use flanneld::status::offline::{Known, Machines};
use flanneld::subnet::{Lease, cidr};
use flanneld::util::family::Family;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A subnet, as in the lease or in its key.
    Subnet(IpNetwork),
    Address(IpAddr),
    Name(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Subnet(net) => write!(f, "{net}"),
            Target::Address(ip) => write!(f, "{ip}"),
            Target::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let subnet = |separator| {
            let (ip, len) = text.rsplit_once(separator)?;
            let net = IpNetwork::new(ip.parse().ok()?, len.parse().ok()?).ok()?;
            (net.ip() == net.network()).then_some(Self::Subnet(net))
        };
        let address = || text.parse().ok().map(Self::Address);
        let name = || is_name(text).then(|| Self::Name(text.to_owned()));
        address().or_else(|| subnet('/')).or_else(|| subnet('-')).or_else(name).ok_or_else(|| {
            "give a subnet (172.30.5.0/24), a host name, or an address: a public IP, an overlay address, or a pod address"
                .to_owned()
        })
    }
}

/// Accepts letters, digits, dots, and dashes, with at least one letter.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    text.chars().all(is_part)
        && text.contains(|c: char| c.is_ascii_alphabetic())
        && !text.starts_with(['-', '.'])
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<'a> {
    Here,
    /// A peer, in one address family or in all of them, and one of its pods.
    Peer {
        lease: &'a Lease,
        /// The only address family to check.
        family: Option<Family>,
        pod: Option<IpAddr>,
    },
    /// No known host.
    Unknown {
        /// The subnet that the target would belong to.
        subnet: Option<IpNetwork>,
        why: String,
    },
}

pub fn find<'a>(
    target: &Target,
    Known {
        machines,
        network,
        own,
        peers,
        source,
        ..
    }: &'a Known,
) -> Resolved<'a> {
    if is_of(target, own, machines) {
        return Resolved::Here;
    }
    if let Some(lease) = peers.iter().find(|lease| is_of(target, lease, machines)) {
        return of_peer(target, lease);
    }
    let ip = match target {
        Target::Subnet(net) => Some(net.ip()),
        Target::Address(ip) => Some(*ip),
        Target::Name(_) => None,
    };
    let range = ip.and_then(|ip| {
        Some((
            ip,
            network
                .ranges
                .iter()
                .find(|range| range.network.contains(ip))?,
        ))
    });
    let is_subnet = |net: &IpNetwork| !matches!(target, Target::Subnet(meant) if meant != net);
    let subnet = range
        .and_then(|(ip, range)| cidr::masked(ip, range.subnet_len))
        .filter(is_subnet);
    let what = match (target, subnet) {
        (_, Some(subnet)) => format!("no lease of {subnet}"),
        (Target::Subnet(net), None) => format!("no lease of {net}"),
        (Target::Address(ip), None) => format!("no lease that announces {ip}"),
        (Target::Name(name), None) => format!("no lease of a host named {name}"),
    };
    Resolved::Unknown {
        subnet,
        why: format!(
            "{what} in {source} (leases of other hosts: {})",
            peers.len()
        ),
    }
}

fn of_peer<'a>(target: &Target, lease: &'a Lease) -> Resolved<'a> {
    let (family, pod) = match *target {
        Target::Name(_) => (None, None),
        Target::Subnet(net) => (Some(Family::of(net.ip())), None),
        Target::Address(ip) => {
            let is_pod = |net: IpNetwork| net.contains(ip) && net.ip() != ip;
            let family = lease
                .subnets
                .iter()
                .any(|net| net.contains(ip))
                .then_some(Family::of(ip));
            (family, lease.subnets.iter().any(is_pod).then_some(ip))
        }
    };
    Resolved::Peer { lease, family, pod }
}

fn is_of(target: &Target, lease: &Lease, machines: &Machines) -> bool {
    match *target {
        Target::Name(ref name) => machines
            .get(&lease.subnets)
            .is_some_and(|machine| machine.host() == name),
        Target::Subnet(net) => lease.subnets.iter().any(|own| own == net),
        Target::Address(ip) => {
            let is_public = Family::ALL
                .into_iter()
                .any(|family| lease.attrs.public(family) == Some(ip));
            is_public || lease.subnets.iter().any(|net| net.contains(ip))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flanneld::subnet::owner::MachineId;
    use flanneld::subnet::{LeaseAttrs, NetworkConfig};

    fn lease(subnets: &[&str], public: &str) -> Lease {
        Lease {
            subnets: subnets
                .iter()
                .map(|net| net.parse::<IpNetwork>().unwrap())
                .collect(),
            attrs: LeaseAttrs {
                public_ip: public.parse().ok(),
                ..LeaseAttrs::default()
            },
            created: 1,
            modified: 1,
            lease_id: None,
        }
    }

    #[test]
    fn every_form_of_a_target_finds_its_host() {
        let network = NetworkConfig::parse(
            br#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#,
        )
        .unwrap();
        let own = lease(&["172.30.1.0/24", "fd30:0:0:1::/64"], "10.64.0.1");
        let peers = [lease(&["172.30.2.0/24", "fd30:0:0:2::/64"], "10.64.0.2")];
        let named = |lease: &Lease, host| (lease.subnets, MachineId::new(host, "boot", host));
        let machines: Machines = [named(&own, "h1"), named(&peers[0], "h2.example")]
            .into_iter()
            .collect();
        let known = Known {
            machines,
            network,
            own,
            peers: peers.to_vec(),
            lost: None,
            source: "etcd".into(),
        };
        let meant = |text: &str| match find(&text.parse().unwrap(), &known) {
            Resolved::Here => "here".to_owned(),
            Resolved::Peer { family, pod, .. } => format!("peer {family:?} {pod:?}"),
            Resolved::Unknown { subnet, why } => format!("{subnet:?} {why}"),
        };
        for (text, want) in [
            ("172.30.1.0/24", "here"),
            ("172.30.1.77", "here"),
            ("10.64.0.1", "here"),
            ("172.30.2.0/24", "peer Some(V4) None"),
            ("172.30.2.0-24", "peer Some(V4) None"),
            ("172.30.2.0", "peer Some(V4) None"),
            ("172.30.2.9", "peer Some(V4) Some(172.30.2.9)"),
            ("fd30:0:0:2::9", "peer Some(V6) Some(fd30:0:0:2::9)"),
            ("10.64.0.2", "peer None None"),
            ("h2.example", "peer None None"),
            ("h1", "here"),
        ] {
            assert_eq!(meant(text), want, "{text}");
        }
        assert!(
            meant("172.30.3.9")
                .contains("no lease of 172.30.3.0/24 in etcd (leases of other hosts: 1)")
        );
        assert!(meant("10.64.0.3").starts_with("None no lease that announces 10.64.0.3"));
        assert!(meant("h3").starts_with("None no lease of a host named h3 in etcd"));
        assert!(meant("172.30.0.0/16").starts_with("None no lease of 172.30.0.0/16"));
    }

    #[test]
    fn invalid_targets_are_rejected() {
        for text in [
            "",
            "h2/24",
            "172.30.2.1/24",
            "172.30.2.0/33",
            "172.30.2",
            "/",
            "-",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
