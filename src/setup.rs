//! How this host takes part in the overlay, worked out anew whenever its interfaces change: pure.

use std::net::Ipv4Addr;

use crate::backend::{self, Backend, BadConfig, Site};
use crate::iface::{self, Underlay};
use crate::kernel::Facts;
use crate::subnet::{LeaseAttrs, NetworkConfig};

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The cluster's network.
    pub network: NetworkConfig,
    /// Interface names or addresses to try; empty: decide by public address or default route.
    pub ifaces: Vec<String>,
    /// The address to publish instead of the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// Text that stays this machine's own over reboots.
    pub machine: String,
}

/// What follows from it on the host as it is now.
pub struct Survey {
    /// The interface that carries the overlay.
    pub underlay: Underlay,
    /// The backend for it.
    pub backend: Box<dyn Backend>,
}

/// Why the host as it is now cannot take part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No interface fits.
    #[error(transparent)]
    Interface(#[from] iface::Error),
    /// The configured backend does not work here.
    #[error("network configuration: {0}")]
    Backend(#[from] BadConfig),
}

impl Setup {
    /// Works it out. `published` yields what the host with that public address publishes already: its MAC is kept.
    ///
    /// # Errors
    /// When no interface fits or the backend cannot work on it. May pass with the next change of interfaces.
    pub fn survey<'a>(
        &self,
        facts: &Facts,
        published: impl FnOnce(Ipv4Addr) -> Option<&'a LeaseAttrs>,
    ) -> Result<Survey, Error> {
        let underlay = iface::choose(facts, &self.ifaces, self.public_ip)?;
        let public_ip = self.public_ip.unwrap_or(underlay.ip);
        let published = published(public_ip);
        let site = Site { underlay: &underlay, public_ip, facts, published, machine: &self.machine };
        let backend = backend::new(&self.network, &site)?;
        Ok(Survey { underlay, backend })
    }

    /// Whether the choice of the interface depends on the default route.
    pub fn needs_default_route(&self) -> bool {
        self.ifaces.is_empty() && self.public_ip.is_none()
    }
}
