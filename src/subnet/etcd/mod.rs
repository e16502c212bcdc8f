//! etcd v3 as the datastore.
//!
//! `endpoints` picks the member to ask, `registry` knows the requests, `entry` reads keys and values; on top of them
//! are the three things that a daemon does: `acquire` a lease, `watch` all of them, `hold` its own. Every write is a
//! transaction that compares what the writer believes; it is sent once, and where the answer is lost, what is read next
//! decides. Tests against a real etcd: `tests/etcd/`.

mod acquire;
mod address;
mod endpoints;
mod entry;
mod fault;
mod hold;
mod outage;
mod registry;
mod stream;
mod tls;
mod utc;
mod watch;

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{self, mpsc};
use tracing::{debug, warn};

use self::address::Address;
use self::endpoints::Endpoints;
use self::registry::Registry;
use self::tls::Tls;
use super::{
    Claim, Error, Grant, Lease, LeaseAttrs, LeaseEvent, NetworkConfig, Snapshot, Standing, SubnetManager,
};
use crate::config::EtcdConfig;

/// The leases of one cluster, in etcd.
pub struct EtcdManager {
    registry: Registry,
    renew_margin: Duration,
    /// An etcd lease that was made for a write that then did not happen.
    spare: Mutex<Option<Grant>>,
}

impl EtcdManager {
    /// Checks endpoints and TLS files; connects at the first request.
    ///
    /// # Errors
    /// [`Error::Refused`]: an endpoint or a TLS file is wrong; waiting does not help.
    pub fn new(config: EtcdConfig) -> Result<Self, Error> {
        let have_tls_files = config.ca_file.is_some() || config.client_pair.is_some();
        let addresses = address::parse_all(&config.endpoints, have_tls_files)?;
        let tls = load_tls(&config, &addresses)?;
        let endpoints = Endpoints::new(addresses, tls, config.login);
        Ok(Self {
            registry: Registry::new(endpoints, config.prefix),
            renew_margin: config.renew_margin,
            spare: Mutex::default(),
        })
    }

    /// The spare etcd lease, else a new one.
    async fn take_grant(&self) -> Result<Grant, Error> {
        let spare = self.take_spare();
        match spare {
            Some(grant) => Ok(grant),
            None => self.registry.grant().await,
        }
    }

    fn take_spare(&self) -> Option<Grant> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps an etcd lease that no key uses.
    fn put_back(&self, grant: Grant) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(grant);
    }

    /// Revokes the spare etcd lease: no key hangs on it. If that fails it expires by itself.
    async fn discard_spare(&self) {
        if let Some(grant) = self.take_spare()
            && let Err(error) = self.registry.revoke(grant).await
        {
            debug!("{error}");
        }
    }
}

/// Reads the TLS files if an endpoint needs them. A plain endpoint beside TLS files is used as it is, as Go does.
fn load_tls(config: &EtcdConfig, addresses: &[Address]) -> Result<Option<Tls>, Error> {
    if config.ca_file.is_some() || config.client_pair.is_some() {
        for address in addresses.iter().filter(|address| !address.tls) {
            warn!("TLS files are given, but {address} is used without TLS: write https:// to use them");
        }
    }
    let Some(address) = addresses.iter().find(|address| address.tls) else { return Ok(None) };
    let Some(ca) = config.ca_file.clone() else {
        return Err(Error::Refused(format!(
            "{address} needs a CA to check the server's certificate with, and none is given: set -etcd-cafile (the system's CAs are not used)"
        )));
    };
    Tls::load(ca, config.client_pair.clone()).map(Some)
}

impl SubnetManager for EtcdManager {
    async fn network_config(&self) -> Result<NetworkConfig, Error> {
        self.registry.config().await
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.registry.snapshot().await
    }

    async fn acquire(&self, config: &NetworkConfig, claim: &Claim, known: &Snapshot) -> Result<Lease, Error> {
        acquire::acquire(self, config, claim, known).await
    }

    async fn watch(&self, known: Option<Snapshot>, events: mpsc::Sender<Vec<LeaseEvent>>) {
        watch::watch(&self.registry, known, events).await;
    }

    async fn hold(
        &self,
        lease: Lease,
        wanted: sync::watch::Receiver<LeaseAttrs>,
        standing: &sync::watch::Sender<Standing>,
    ) -> Infallible {
        hold::hold(&self.registry, self.renew_margin, lease, wanted, standing).await
    }
}
