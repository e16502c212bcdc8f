//! Who is asked about: a subnet, a public address, an address in the overlay, or a pod's: pure.

use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::family::Family;
use crate::subnet::{Lease, NetworkConfig, cidr};

/// What the user wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A subnet, as the lease or its key has it.
    Subnet(IpNetwork),
    /// Any address.
    Address(IpAddr),
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
        address().or_else(|| subnet('/')).or_else(|| subnet('-')).ok_or_else(|| {
            "give a subnet like 172.30.5.0/24, or an address: a host's public one, one in the overlay, or a pod's"
                .to_owned()
        })
    }
}

/// Who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant<'a> {
    /// This host itself.
    Here,
    /// A peer, in one family or in all that it has; and a pod of it.
    Peer {
        /// Its lease.
        lease: &'a Lease,
        /// That one alone.
        family: Option<Family>,
        /// The pod.
        pod: Option<IpAddr>,
    },
    /// Nobody, as far as is known.
    Nobody {
        /// The subnet that would be theirs.
        subnet: Option<IpNetwork>,
        /// Why.
        why: String,
    },
}

/// Looks for the one who is meant.
pub fn find<'a>(
    target: Target,
    network: &NetworkConfig,
    own: &Lease,
    peers: &'a [Lease],
    source: &str,
) -> Meant<'a> {
    if is_of(target, own) {
        return Meant::Here;
    }
    if let Some(lease) = peers.iter().find(|lease| is_of(target, lease)) {
        return of_peer(target, lease);
    }
    let (text, ip) = match target {
        Target::Subnet(net) => (net.to_string(), net.ip()),
        Target::Address(ip) => (ip.to_string(), ip),
    };
    let range = network.ranges.iter().find(|range| range.network.contains(ip));
    let subnet = range.and_then(|range| cidr::masked(ip, range.subnet_len));
    let what = match (target, subnet) {
        (_, Some(subnet)) => format!("no lease of {subnet}"),
        _ => format!("no lease that announces {text}"),
    };
    Meant::Nobody { subnet, why: format!("{what} in {source} ({} leases of other hosts there)", peers.len()) }
}

fn of_peer(target: Target, lease: &Lease) -> Meant<'_> {
    let (family, pod) = match target {
        Target::Subnet(net) => (Some(Family::of(net.ip())), None),
        Target::Address(ip) => {
            let is_pod = |net: IpNetwork| net.contains(ip) && net.ip() != ip;
            let family = lease.subnets.iter().any(|net| net.contains(ip)).then_some(Family::of(ip));
            (family, lease.subnets.iter().any(is_pod).then_some(ip))
        }
    };
    Meant::Peer { lease, family, pod }
}

fn is_of(target: Target, lease: &Lease) -> bool {
    match target {
        Target::Subnet(net) => lease.subnets.iter().any(|own| own == net),
        Target::Address(ip) => {
            let is_public = Family::ALL.into_iter().any(|family| lease.attrs.public(family) == Some(ip));
            is_public || lease.subnets.iter().any(|net| net.contains(ip))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::LeaseAttrs;

    fn lease(subnets: &[&str], public: &str) -> Lease {
        Lease {
            subnets: subnets.iter().map(|net| net.parse::<IpNetwork>().unwrap()).collect(),
            attrs: LeaseAttrs { public_ip: public.parse().ok(), ..LeaseAttrs::default() },
            created: 1,
            modified: 1,
            grant: None,
        }
    }

    #[test]
    fn everything_that_means_a_host_is_understood() {
        let network = NetworkConfig::parse(
            br#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd30::/48","Backend":{"Type":"vxlan"}}"#,
        )
        .unwrap();
        let own = lease(&["172.30.1.0/24", "fd30:0:0:1::/64"], "10.64.0.1");
        let peers = [lease(&["172.30.2.0/24", "fd30:0:0:2::/64"], "10.64.0.2")];
        let meant = |text: &str| match find(text.parse().unwrap(), &network, &own, &peers, "etcd") {
            Meant::Here => "here".to_owned(),
            Meant::Peer { family, pod, .. } => format!("peer {family:?} {pod:?}"),
            Meant::Nobody { subnet, why } => format!("{subnet:?} {why}"),
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
        ] {
            assert_eq!(meant(text), want, "{text}");
        }
        assert!(meant("172.30.3.9").contains("no lease of 172.30.3.0/24 in etcd (1 leases"));
        assert!(meant("10.64.0.3").starts_with("None no lease that announces 10.64.0.3"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "h2", "172.30.2.1/24", "172.30.2.0/33", "172.30.2", "/", "-"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
