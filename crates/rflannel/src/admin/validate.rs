//! Judges a network configuration and leases by the daemon's own rules, independent of any host. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use flanneld::backend::{self, Backend, BadConfig, HostContext};
use flanneld::desired::DesiredState;
use flanneld::iface::{Addresses, Underlay};
use flanneld::kernel::HostState;
use flanneld::subnet::{Lease, LeaseAttrs, LeaseEvent, NetworkConfig, PublicAddrs, Subnets};

const NOWHERE: Addresses = Addresses {
    v4: Some(Ipv4Addr::UNSPECIFIED),
    v6: Some(Ipv6Addr::UNSPECIFIED),
};

/// Returns the configured backend, for a host with addresses of both families and interfaces with a large MTU.
/// Returns what the daemon would report about the configuration on any host.
pub fn backend(config: &NetworkConfig) -> Result<Box<dyn Backend>, BadConfig> {
    let underlay = Underlay {
        index: 0,
        name: "any interface".into(),
        mtu: 65_535,
        addresses: NOWHERE,
    };
    let host_state = HostState::default();
    let site = HostContext {
        underlay: &underlay,
        public: NOWHERE,
        host_state: &host_state,
        published: None,
        machine: "",
        blackhole: false,
    };
    backend::new(config, &site)
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("rejected: {0}")]
    Rejected(String),
    /// A newer lease has an entry that this lease needs.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("{0}")]
    SharedAddress(String),
}

/// Returns the problems of the leases. Fails if no daemon can use the configuration.
pub fn problems(
    config: &NetworkConfig,
    leases: &[Lease],
) -> Result<BTreeMap<Subnets, Vec<Problem>>, BadConfig> {
    let backend = backend(config)?;
    let mut desired = DesiredState::new(config.clone(), no_lease(), &*backend);
    let readable = leases
        .iter()
        .filter(|lease| lease.attrs != LeaseAttrs::default());
    let puts = readable.cloned().map(LeaseEvent::Put);
    desired.apply(
        std::iter::once(LeaseEvent::ListStart)
            .chain(puts)
            .chain([LeaseEvent::ListEnd])
            .collect(),
        &*backend,
    );
    let mut problems: BTreeMap<Subnets, Vec<Problem>> = BTreeMap::new();
    for (subnets, why) in desired.refusals() {
        problems
            .entry(*subnets)
            .or_default()
            .push(Problem::Rejected(why.to_string()));
    }
    for (subnets, contest) in desired.contests() {
        let why = format!("{} is newer and has {}", contest.winner, contest.entry);
        let entry = problems.entry(subnets).or_default();
        entry.push(Problem::Conflict(why));
    }
    for (subnets, why) in namesakes(leases) {
        let entry = problems.entry(subnets).or_default();
        entry.push(Problem::SharedAddress(why));
    }
    Ok(problems)
}

fn no_lease() -> Lease {
    let (subnets, attrs) = (Subnets::default(), LeaseAttrs::default());
    Lease {
        subnets,
        attrs,
        created: 0,
        modified: 0,
        lease_id: None,
    }
}

/// Finds several leases with the same public address: of a host that moved, or of two hosts.
fn namesakes(leases: &[Lease]) -> Vec<(Subnets, String)> {
    let mut hosts: BTreeMap<_, Vec<&Lease>> = BTreeMap::new();
    for (host, lease) in leases
        .iter()
        .filter_map(|lease| Some((PublicAddrs::of(&lease.attrs)?, lease)))
    {
        hosts.entry(host.ip()).or_default().push(lease);
    }
    let several = hosts.iter().filter(|(_, leases)| leases.len() > 1);
    several
        .flat_map(|(ip, leases)| {
            let all: Vec<String> = leases
                .iter()
                .map(|lease| lease.subnets.to_string())
                .collect();
            let why = format!("{ip} has {} leases: {}", leases.len(), all.join(", "));
            leases.iter().map(move |lease| (lease.subnets, why.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
    }

    fn lease(subnet: &str, value: &str, created: i64) -> Lease {
        let v4: ipnetwork::Ipv4Network = subnet.parse().unwrap();
        let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
        Lease {
            subnets: v4.into(),
            attrs,
            created,
            modified: created,
            lease_id: None,
        }
    }

    fn of(ip: &str, vni: u32, mac: &str) -> String {
        format!(
            r#"{{"PublicIP":"{ip}","BackendType":"vxlan","BackendData":{{"VNI":{vni},"VtepMAC":"{mac}"}}}}"#
        )
    }

    #[test]
    fn leases_are_judged_as_a_daemon_judges_them() {
        let leases = [
            lease("10.5.1.0/24", &of("192.0.2.9", 1, "0a:00:00:00:00:01"), 1),
            lease("10.5.2.0/24", &of("192.0.2.8", 7, "0a:00:00:00:00:02"), 2),
            lease("10.6.2.0/24", &of("192.0.2.7", 1, "0a:00:00:00:00:03"), 3),
            lease("10.5.3.0/24", &of("192.0.2.6", 1, "0a:00:00:00:00:01"), 4),
            lease("10.5.4.0/24", &of("192.0.2.5", 1, "0a:00:00:00:00:05"), 5),
            lease("10.5.5.0/24", &of("192.0.2.5", 1, "0a:00:00:00:00:05"), 6),
            lease("10.5.6.0/24", r#"{"PublicIP":"192.0.2.4"}"#, 7),
        ];
        let found = problems(&config(), &leases).unwrap();
        let of = |subnet: &str| {
            let v4: ipnetwork::Ipv4Network = subnet.parse().unwrap();
            found
                .get(&v4.into())
                .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map(|all| all.join("; "))
                .unwrap_or_default()
        };
        for (subnet, words) in [
            (
                "10.5.1.0/24",
                "conflict: 10.5.3.0/24 is newer and has fdb 0a:00:00:00:00:01",
            ),
            ("10.5.2.0/24", "rejected: its VNI is 7, this host uses 1"),
            (
                "10.6.2.0/24",
                "rejected: its subnet is not a /24 of 10.5.0.0/16",
            ),
            (
                "10.5.4.0/24",
                "192.0.2.5 has 2 leases: 10.5.4.0/24, 10.5.5.0/24",
            ),
        ] {
            assert!(of(subnet).contains(words), "{subnet}: {}", of(subnet));
        }
        assert_eq!(of("10.5.3.0/24"), "");
        assert_eq!(
            of("10.5.6.0/24"),
            "",
            "a reservation for a host that is to come"
        );
    }

    #[test]
    fn unusable_configuration_is_an_error() {
        for backend in [
            r#"{"Type":"udp"}"#,
            r#"{"Type":"vxlan","VNI":16777216}"#,
            r#"{"Type":"vxlan","MTU":100}"#,
        ] {
            let json = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
            let config = NetworkConfig::parse(json.as_bytes()).unwrap();
            assert!(
                problems(&config, &[]).is_err() || backend.contains("MTU"),
                "{backend}"
            );
        }
    }
}
