//! The host-gw backend, one route through the public address of each peer, without tunnel and device: pure.
//!
//! Packets of pods travel on the underlay as they are, so a peer must be directly connected: a router between two hosts
//! knows nothing of pods.

use serde_json::value::RawValue;

use super::direct_routes::ConnectedSubnets;
use super::endpoint::{self, Endpoint};
use super::{Backend, BadConfig, BadPeer, FormerLink, HostContext, Row};
use crate::kernel::host_state::{AddrFact, HostState, LinkFact};
use crate::kernel::{Entry, Owned};
use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Range, Subnets};
use crate::util::family::{Family, PerFamily};

/// The name that leases carry.
pub(super) const TYPE: &str = "host-gw";

/// Its row in the table of backends.
pub(super) const ROW: Row = Row {
    name: TYPE,
    new: backend,
    members: &["Type"],
    reads_routes: |_: &NetworkConfig| true,
    has_same_options: |_: &RawValue, _: &RawValue| true,
};

/// The backend for one host.
struct HostGw {
    endpoints: PerFamily<Endpoint>,
    connected_subnets: ConnectedSubnets,
    underlay: String,
    mtu: u32,
    blackhole: bool,
}

fn backend(config: &NetworkConfig, host: &HostContext<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    let endpoints = endpoint::endpoints(config, host)?;
    endpoints
        .iter()
        .try_for_each(|endpoint| is_on_underlay(endpoint, host))?;
    let ranges: Vec<Range> = config.ranges.iter().copied().collect();
    Ok(Box::new(HostGw {
        connected_subnets: ConnectedSubnets::of(host.underlay, &host.host_state.routes, &ranges),
        underlay: host.underlay.name.clone(),
        mtu: host.underlay.mtu,
        blackhole: host.blackhole,
        endpoints,
    }))
}

/// Peers use the public address as a next hop, which behind an address translation is another host's.
fn is_on_underlay(endpoint: &Endpoint, host: &HostContext<'_>) -> Result<(), BadConfig> {
    let Endpoint { local, public, .. } = *endpoint;
    let underlay = host.underlay;
    let is_there = |addr: &AddrFact| addr.link == underlay.index && addr.ip == public;
    if public == local || host.host_state.addrs.iter().any(is_there) {
        Ok(())
    } else {
        Err(BadConfig(format!(
            "the public address {public} is not an address of {}: host-gw does not work behind address translation; \
         remove -public-ip, select another interface with -iface, or use backend vxlan",
            underlay.name
        )))
    }
}

impl Backend for HostGw {
    /// VXLAN devices of flannel's with the address of the own subnet: a device of another network's daemon has another.
    fn former_links(&self, host_state: &HostState, own: &Subnets) -> Vec<FormerLink> {
        let has_own_address = |link: &LinkFact| {
            let is_own = |addr: &&AddrFact| {
                addr.link == link.index
                    && own
                        .of(Family::of(addr.ip))
                        .is_some_and(|net| net.ip() == addr.ip)
            };
            host_state
                .addrs
                .iter()
                .filter(is_own)
                .any(AddrFact::is_single)
        };
        let is_former =
            |link: &&LinkFact| super::vxlan::is_named_by_go(link) && has_own_address(link);
        let former = host_state.links.iter().filter(is_former).cloned();
        former
            .map(|link| FormerLink {
                link,
                backend_type: super::vxlan::TYPE,
            })
            .collect()
    }

    fn endpoints(&self) -> &PerFamily<Endpoint> {
        &self.endpoints
    }

    fn attrs(&self) -> LeaseAttrs {
        endpoint::attrs(&self.endpoints, TYPE)
    }

    fn owned(&self) -> Owned {
        endpoint::owned(&self.endpoints, true, self.blackhole)
    }

    fn local(&self, own: &Subnets) -> Vec<Entry> {
        endpoint::blackholes(own)
            .filter(|_| self.blackhole)
            .collect()
    }

    fn peer(&self, peer: &Lease, family: Family) -> Result<Vec<Entry>, BadPeer> {
        let backend_type = &*peer.attrs.backend_type;
        // While a cluster changes from one to the other, host by host, hosts of both kinds reach each other.
        if !super::is_routable(backend_type) {
            return Err(BadPeer(format!(
                "its backend type is {backend_type:?}, this host uses {TYPE}"
            )));
        }
        let ends = (
            self.endpoints.get(family),
            peer.subnets.of(family),
            peer.attrs.public(family),
        );
        let (Some(endpoint), Some(subnet), Some(public)) = ends else {
            return Err(BadPeer(format!("no {family} subnet or public address")));
        };
        if self.connected_subnets.may_have(public) {
            Ok(vec![endpoint.route_by_peer(subnet, public)])
        } else {
            Err(BadPeer(format!(
                "public address {public} is not directly connected to {}, and {TYPE} does not work across routers: \
             put both hosts on one network, or use backend vxlan",
                self.underlay
            )))
        }
    }

    fn connected_subnets(&self) -> Option<&ConnectedSubnets> {
        Some(&self.connected_subnets)
    }

    fn connected_subnets_mut(&mut self) -> Option<&mut ConnectedSubnets> {
        Some(&mut self.connected_subnets)
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }
}

#[cfg(test)]
mod tests;
