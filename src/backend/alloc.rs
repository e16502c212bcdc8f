//! The alloc backend, a lease and its files and nothing in the kernel: pure. Another program carries the packets, such as one
//! that writes a cloud's route table.

use serde_json::value::RawValue;

use super::endpoint::{self, Endpoint};
use super::{Backend, BadConfig, BadPeer, HostContext, Row};
use crate::kernel::{Entry, Owned};
use crate::subnet::{Lease, LeaseAttrs, NetworkConfig};
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
    fn endpoints(&self) -> &PerFamily<Endpoint> {
        &self.endpoints
    }

    /// Go flannel publishes no type.
    fn attrs(&self) -> LeaseAttrs {
        endpoint::attrs(&self.endpoints, "")
    }

    fn owned(&self) -> Owned {
        Owned::default()
    }

    fn peer(&self, _: &Lease, _: Family) -> Result<Vec<Entry>, BadPeer> {
        Ok(Vec::new())
    }

    fn carries_packets(&self) -> bool {
        false
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }
}
