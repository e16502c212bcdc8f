//! How this host takes part in the overlay, computed again whenever its interfaces change: pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::backend::{self, Backend, BadConfig, HostContext, direct_routes};
use crate::config::{Config, IfaceConfig};
use crate::iface::{self, Addresses, Announced, Families, Follow, InUse, Underlay};
use crate::kernel::{HostState, Query};
use crate::subnet::{LeaseAttrs, NetworkConfig, PublicAddrs, Range};
use crate::util::family::Family;

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub network: NetworkConfig,
    /// What was said about the interface and the addresses to publish.
    pub iface: IfaceConfig,
    /// Text that stays this machine's own over reboots.
    pub machine: String,
    pub blackhole: bool,
    /// The backend decides by the routing table how peers are reached.
    reads_routes: bool,
}

/// What follows from it on the host as it is now.
pub struct ResolvedHost {
    pub underlay: Underlay,
    /// The same, with what decides when it is left.
    pub in_use: InUse,
    pub backend: Box<dyn Backend>,
}

/// Why the host as it is now cannot take part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Interface(#[from] iface::Error),
    #[error("network configuration: {0}")]
    Backend(#[from] BadConfig),
}

impl NodeConfig {
    /// Puts together what was said about this host with the cluster's network.
    pub fn new(network: NetworkConfig, config: &Config, machine: &str) -> Self {
        Self {
            reads_routes: backend::reads_routes(&network),
            network,
            iface: config.iface.clone(),
            machine: machine.to_owned(),
            blackhole: config.blackhole,
        }
    }

    /// Works it out. Addresses that this machine's own lease announces, as far as that is known, are preferred, and those that
    /// other hosts announce are left to them if there are others. `published` yields what this host, known by its public addresses, publishes already: its MACs are kept.
    pub fn resolve<'a>(
        &self,
        host_state: &HostState,
        announced: Announced<'_>,
        published: impl FnOnce(PublicAddrs) -> Option<&'a LeaseAttrs>,
    ) -> Result<ResolvedHost, Error> {
        let Announced { own, by_others } = announced;
        let by_others = |ip| by_others(ip).filter(|_| own.get(Family::of(ip)) != Some(ip));
        let choose = |announced| iface::choose(host_state, &self.iface, self.families(), announced);
        // A lease with all of them may be this machine's, from before its address was another one.
        let underlay = choose(Announced {
            own,
            by_others: &by_others,
        })
        .or_else(|_| choose(Announced::by(own)))?;
        let public = self.public().or(underlay.addresses);
        let published = PublicAddrs::new(public.v4, public.v6).and_then(published);
        self.resolve_on(underlay, host_state, published)
    }

    /// Works out what to use in place of `in_use` on the host as it is now; `waited` if addresses that are gone have been
    /// waited for.
    pub fn follow(
        &self,
        host_state: &HostState,
        in_use: &InUse,
        announced: Announced<'_>,
        waited: bool,
    ) -> Result<Follow, Error> {
        let (config, families) = (&self.iface, self.families());
        Ok(
            match in_use.follow(host_state, config, families, announced) {
                Follow::Wait(_) if waited => {
                    Follow::Use(in_use.substituted(host_state, config, families, announced)?)
                }
                follow @ (Follow::Use(_) | Follow::Wait(_)) => follow,
            },
        )
    }

    /// Works out what follows from carrying the overlay on `underlay`.
    pub fn resolve_on(
        &self,
        underlay: Underlay,
        host_state: &HostState,
        published: Option<&LeaseAttrs>,
    ) -> Result<ResolvedHost, Error> {
        let site = HostContext {
            underlay: &underlay,
            public: self.public().or(underlay.addresses),
            host_state,
            published,
            machine: &self.machine,
            blackhole: self.blackhole,
        };
        let backend = backend::new(&self.network, &site)?;
        Ok(ResolvedHost {
            in_use: InUse::new(underlay.clone(), host_state),
            underlay,
            backend,
        })
    }

    /// The host state that the choice depends on.
    pub fn query(&self) -> Query {
        let Families { v4, v6 } = self.families();
        let by_default_route = !self.iface.names_an_interface();
        Query {
            default_routes: by_default_route && v4,
            default_routes_v6: by_default_route && v6,
            can_reach: self.iface.can_reach,
            routes: self.reads_routes,
        }
    }

    /// Whether a route to `net` that comes or goes, by any program, can change who is directly connected to `underlay`.
    pub fn follows_route(&self, net: IpNetwork, underlay: &Underlay) -> bool {
        let ranges = || self.network.ranges.iter().copied().collect::<Vec<Range>>();
        self.reads_routes && !direct_routes::is_of_overlay(net, &ranges(), underlay.addresses)
    }

    /// Whether a route to `net` can change the choice of the interface, while there is one to make.
    pub fn chooses_by_route(&self, net: IpNetwork) -> bool {
        let any_default = net.prefix() == 0 && !self.iface.names_an_interface();
        any_default || self.iface.can_reach.is_some_and(|ip| net.contains(ip))
    }

    /// Whether an address that comes or goes on another interface can change what is in use: only one that a flag names.
    pub fn follows_address(&self, ip: IpAddr) -> bool {
        self.public().contains(ip)
    }

    /// What was said about the addresses to publish.
    pub fn public(&self) -> Addresses {
        Addresses::published_by(&self.iface).of(self.families())
    }

    /// The public address of a lease that no interface has and no flag names: such a lease is another host's.
    pub fn foreign_address(&self, host_state: &HostState, attrs: &LeaseAttrs) -> Option<IpAddr> {
        let ip = PublicAddrs::of(attrs)?.ip();
        let is_named = self.public().get(Family::of(ip)) == Some(ip);
        Some(ip).filter(|ip| !is_named && host_state.owner(*ip).is_none())
    }

    /// What an operator may not expect of the flags.
    pub fn remarks(&self, host_state: &HostState) -> Vec<String> {
        let public = self.public();
        let foreign = public.filter(|ip| host_state.owner(ip).is_none());
        let translated = Family::ALL
            .into_iter()
            .filter_map(|family| foreign.get(family));
        let translated = translated.map(|ip| {
            format!("no interface has the external address {ip}: a router must forward packets for it to this host")
        });
        let unused = (self.iface.public_ipv6 != public.v6).then(|| {
            "-public-ipv6 has no effect: the network configuration does not enable IPv6".to_owned()
        });
        translated.chain(unused).collect()
    }

    fn families(&self) -> Families {
        let ranges = &self.network.ranges;
        Families {
            v4: ranges.v4.is_some(),
            v6: ranges.v6.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::host_state::{AddrFact, LinkFact};
    use crate::subnet::{Lease, Snapshot, key};

    fn host() -> HostState {
        let addr = |ip: &str, prefix_len| AddrFact {
            link: 2,
            ip: ip.parse().unwrap(),
            prefix_len,
            link_local: false,
            deprecated: false,
            unconfirmed: false,
            permanent: true,
            temporary: false,
        };
        let link = LinkFact {
            index: 2,
            name: "eth0".into(),
            mtu: 1500,
            up: true,
            ..LinkFact::default()
        };
        // The kernel lists the newest IPv6 address first.
        let addrs = vec![
            addr("192.0.2.1", 24),
            addr("fd10::1", 64),
            addr("fd10::9", 64),
        ];
        HostState {
            links: vec![link],
            addrs,
            ..HostState::default()
        }
    }

    /// The IPv6 address that a start chooses beside a lease at these addresses.
    fn chosen(v4: &str, v6: &str, own: Addresses) -> Option<std::net::Ipv6Addr> {
        let json = br#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;
        let iface = IfaceConfig {
            names: vec!["eth0".into()],
            ..IfaceConfig::default()
        };
        let network = NetworkConfig::parse(json).unwrap();
        let setup = NodeConfig {
            network,
            iface,
            machine: "me".into(),
            blackhole: false,
            reads_routes: false,
        };
        let attrs = format!(r#"{{"PublicIP":"{v4}","PublicIPv6":"{v6}","BackendType":"vxlan"}}"#);
        let attrs = LeaseAttrs::decode(attrs.as_bytes()).unwrap();
        let subnets = key::parse("10.5.2.0-24&fd05:0:0:2::-64").unwrap();
        let lease = Lease {
            subnets,
            attrs,
            created: 5,
            modified: 5,
            lease_id: None,
        };
        let snapshot = Snapshot {
            leases: vec![lease],
            revision: 5,
            cluster_id: 1,
        };
        let host_state = host();
        let by_others = |ip| snapshot.announcer(ip, |own| host_state.owner(own).is_some());
        setup
            .resolve(
                &host_state,
                Announced {
                    own,
                    by_others: &by_others,
                },
                |_| None,
            )
            .unwrap()
            .underlay
            .addresses
            .v6
    }

    #[test]
    fn start_leaves_an_ipv6_address_to_the_host_that_announces_it() {
        let [first, second] = ["fd10::9", "fd10::1"].map(|ip| ip.parse().ok());
        assert_eq!(
            chosen("192.0.2.2", "fd10::2", Addresses::default()),
            first,
            "no lease announces it"
        );
        assert_eq!(chosen("192.0.2.2", "fd10::9", Addresses::default()), second);
        assert_eq!(
            chosen("192.0.2.1", "fd10::9", Addresses::default()),
            first,
            "this host's own lease"
        );
        let leased = Addresses {
            v4: None,
            v6: first,
        };
        assert_eq!(
            chosen("192.0.2.2", "fd10::9", leased),
            first,
            "as it was leased"
        );
    }
}
