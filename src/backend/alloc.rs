//! The alloc backend, a lease and its files and nothing in the kernel: pure. Another program carries the packets, such as one
//! that writes a cloud's route table.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

use super::direct_routes::ConnectedSubnets;
use super::endpoint::{self, Endpoint};
use super::{Backend, BadConfig, BadPeer, HostContext, Row};
use crate::kernel::{Entry, LinkRole, LinkSpec, Owned};
use crate::subnet::{Lease, LeaseAttrs, NetworkConfig, Subnets};
use crate::util::family::{Family, PerFamily};

/// Its row in the table of backends.
pub(super) const ROW: Row = Row {
    name: "alloc",
    new: backend,
    members: &["Type"],
    reads_routes: |_: &NetworkConfig| false,
    has_same_options: |_: &RawValue, _: &RawValue| true,
};

struct Alloc {
    endpoints: PerFamily<Endpoint>,
    mtu: u32,
}

fn backend(config: &NetworkConfig, host: &HostContext<'_>) -> Result<Box<dyn Backend>, BadConfig> {
    Ok(Box::new(Alloc {
        endpoints: endpoint::endpoints(config, host)?,
        mtu: host.underlay.mtu,
    }))
}

impl Backend for Alloc {
    fn links(&self) -> Vec<(LinkRole, LinkSpec)> {
        Vec::new()
    }

    fn endpoints(&self) -> &PerFamily<Endpoint> {
        &self.endpoints
    }

    /// Go flannel publishes no type.
    fn attrs(&self) -> LeaseAttrs {
        endpoint::attrs(&self.endpoints, "")
    }

    fn is_of_this_host(&self, _: &LeaseAttrs) -> bool {
        false
    }

    fn owned(&self) -> Owned {
        Owned::default()
    }

    fn local(&self, _: &Subnets) -> Vec<Entry> {
        Vec::new()
    }

    fn peer(&self, _: &Lease, _: Family) -> Result<Vec<Entry>, BadPeer> {
        Ok(Vec::new())
    }

    fn carries_packets(&self) -> bool {
        false
    }

    fn connected_subnets(&self) -> Option<&ConnectedSubnets> {
        None
    }

    fn connected_subnets_mut(&mut self) -> Option<&mut ConnectedSubnets> {
        None
    }

    fn inside(&self, subnet: IpNetwork) -> IpAddr {
        endpoint::gateway(subnet)
    }

    fn overhead(&self, _: Family) -> u32 {
        0
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }
}
