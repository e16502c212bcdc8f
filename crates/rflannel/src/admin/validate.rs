//! What a host that takes part in nothing makes of a network configuration and of leases, by the daemon's own rules: pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use flanneld::backend::{self, Backend, BadConfig, HostContext};
use flanneld::desired::DesiredState;
use flanneld::iface::{Addresses, Underlay};
use flanneld::kernel::HostState;
use flanneld::subnet::{Lease, LeaseAttrs, LeaseEvent, NetworkConfig, PublicAddrs, Subnets};

/// No host's addresses.
const NOWHERE: Addresses = Addresses {
    v4: Some(Ipv4Addr::UNSPECIFIED),
    v6: Some(Ipv6Addr::UNSPECIFIED),
};

/// The backend that the configuration names, on a host with addresses of both families and room for everything.
///
/// # Errors
/// What a daemon would say of the configuration on any host.
pub fn backend(config: &NetworkConfig) -> Result<Box<dyn Backend>, BadConfig> {
    let Addresses { v4, v6 } = NOWHERE;
    let underlay = Underlay {
        index: 0,
        name: "any interface".into(),
        mtu: 65_535,
        v4,
        v6,
    };
    let facts = HostState::default();
    let site = HostContext {
        underlay: &underlay,
        public: NOWHERE,
        facts: &facts,
        published: None,
        machine: "",
        blackhole: false,
    };
    backend::new(config, &site)
}

/// What is wrong with leases, each with its reasons.
pub fn problems(
    config: &NetworkConfig,
    leases: &[Lease],
) -> Result<BTreeMap<Subnets, Vec<String>>, BadConfig> {
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
    let mut problems: BTreeMap<Subnets, Vec<String>> = BTreeMap::new();
    for (subnets, why) in desired.refusals() {
        problems
            .entry(*subnets)
            .or_default()
            .push(format!("not used: {why}"));
    }
    for (subnets, contest) in desired.contests() {
        let why = format!(
            "contested: {} is newer and has {}",
            contest.winner, contest.entry
        );
        problems.entry(subnets).or_default().push(why);
    }
    for (subnets, why) in namesakes(leases) {
        problems.entry(subnets).or_default().push(why);
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

/// Leases of one public address: of a host that moved, or of two that announce the same.
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
                .map(|whys| whys.join("; "))
                .unwrap_or_default()
        };
        for (subnet, words) in [
            (
                "10.5.1.0/24",
                "contested: 10.5.3.0/24 is newer and has fdb 0a:00:00:00:00:01",
            ),
            ("10.5.2.0/24", "not used: VNI 7, ours is 1"),
            ("10.6.2.0/24", "not used: not a /24 of 10.5.0.0/16"),
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
    fn a_configuration_that_no_daemon_takes_is_none() {
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
