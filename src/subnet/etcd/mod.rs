//! etcd v3 as the datastore.
//!
//! `endpoints` picks the member to ask, `client` knows the requests, `entry` reads keys and values; on top of them
//! are the three things that a daemon does: `acquire` a lease, `watch` all of them, `keepalive` its own. Every write is a
//! transaction that compares what the writer believes; it is sent once, and where the answer is lost, what is read next
//! decides. Beside each lease is a record of the machine that owns it (`liveness`), where etcd lets this user have one. These talk to a [`Store`] only. Tests
//! against a real etcd: `tests/etcd/`; against a model of one, with faults, in virtual time: `tests/model/`.

mod acquire;
mod client;
pub mod dump;
mod endpoints;
mod entry;
mod error;
mod keepalive;
mod key_state;
mod liveness;
mod outage_log;
mod ownership;
pub mod store;
mod stream;
mod tls;
mod tls_error;
mod tls_policy;
mod tombstones;
mod transport;
mod watch;

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{self, mpsc};
use tracing::{debug, warn};

pub use self::client::EtcdClient;
use self::endpoints::Endpoints;
pub use self::liveness::Answer;
use self::liveness::RelatedLeases;
use self::ownership::{KnownDuplicates, Proof};
use self::store::Store;
use self::tls::Tls;
use super::owner::MachineId;
use super::{
    Claim, Error, HostNames, Lease, LeaseAttrs, LeaseEvent, LeaseId, LeaseStatus, MisplacedConfig,
    NetworkConfig, Revision, Snapshot, SubnetManager, Telemetry,
};
use crate::config::{Endpoint, EtcdConfig};
use crate::util::lock;
use crate::util::logging::causes;
use crate::util::random::Random;

/// The leases of one cluster, in etcd.
pub struct EtcdManager<S = EtcdClient> {
    store: S,
    renew_margin: Duration,
    machine: MachineId,
    /// A host that an administrator has moved goes over to its new subnets.
    gives_way: bool,
    random: Random,
    known_duplicates: KnownDuplicates,
    lease_ids: Mutex<LeaseIds>,
    /// The leases that proved to be this machine's.
    proofs: Mutex<Vec<Proof>>,
    /// What the list from which the last lease was acquired knows of others like it.
    related: Mutex<Option<RelatedLeases>>,
    /// When the network configuration was written that was read last.
    config: Mutex<Option<Revision>>,
    telemetry: Telemetry,
}

/// Etcd leases that were made for writes that did not happen.
#[derive(Default)]
struct LeaseIds {
    /// No key uses them. Perhaps they do not exist: the answer of etcd was lost, or they have expired.
    spare: Vec<LeaseId>,
    /// A key may use them, or still come to: no one knows what became of the write.
    uncertain: Vec<LeaseId>,
}

impl EtcdManager {
    /// Checks endpoints and TLS files; connects at the first request.
    ///
    /// # Errors
    /// [`Error::Refused`]: an endpoint or a TLS file is wrong; waiting does not help.
    pub fn new(config: EtcdConfig) -> Result<Self, Error> {
        let have_tls_files = config.ca_file.is_some() || config.client_pair.is_some();
        let members = read_members(&config.endpoints, have_tls_files)?;
        let tls = load_tls(&config, &members)?;
        let telemetry = Telemetry::default();
        let endpoints = Endpoints::new(members, tls, config.login, telemetry.clone());
        let registry = EtcdClient::new(endpoints, config.prefix);
        Ok(Self {
            telemetry,
            ..Self::with(registry, config.renew_margin, Random::default())
        })
    }

    /// Asks any one of the members first: in a cluster whose hosts all have the same list, none is to carry all watches.
    #[must_use]
    pub fn from_any_member(self) -> Self {
        self.store
            .endpoints
            .begin_with(|members| self.random.below(members));
        self
    }

    /// A key at the prefix that holds a network configuration, where no daemon reads it. None as well if no one may look.
    pub async fn misplaced_config(&self) -> Option<MisplacedConfig> {
        self.store.misplaced_config().await
    }
}

impl<S: Store> EtcdManager<S> {
    /// On any store, with the random choices of `seed`.
    pub fn over(store: S, renew_margin: Duration, seed: u64) -> Self {
        Self::with(store, renew_margin, Random::from_seed(seed))
    }

    /// Which machine this is: for telling it from others that announce its public address. Unknown unless said.
    #[must_use]
    pub fn on(self, machine: MachineId) -> Self {
        Self { machine, ..self }
    }

    /// Whether this host, moved by an administrator, goes over to its new subnets. Otherwise it takes the old ones back.
    #[must_use]
    pub fn giving_way(self, gives_way: bool) -> Self {
        Self { gives_way, ..self }
    }

    fn with(store: S, renew_margin: Duration, random: Random) -> Self {
        Self {
            store,
            renew_margin,
            machine: MachineId::default(),
            gives_way: false,
            random,
            known_duplicates: KnownDuplicates::default(),
            lease_ids: Mutex::default(),
            proofs: Mutex::default(),
            related: Mutex::default(),
            config: Mutex::default(),
            telemetry: Telemetry::default(),
        }
    }

    fn config_read(&self) -> Option<Revision> {
        *lock(&self.config)
    }

    /// # Errors
    /// When the network configuration is not the one that was read last.
    async fn check_config(&self) -> Result<(), Error> {
        let Some(read) = self.config_read() else {
            return Ok(());
        };
        match self.store.config().await?.1 {
            now if now == read => Ok(()),
            _ => Err(Error::Unavailable(
                "the network configuration changed during the choice of a subnet; reading it again"
                    .into(),
            )),
        }
    }

    /// A spare etcd lease, else a new one. However often this fails, one id is asked for.
    async fn take_lease_id(&self) -> Result<LeaseId, Error> {
        let lease_id = {
            let spare = &mut self.lease_ids().spare;
            if spare.is_empty() {
                spare.push(new_id(&self.random));
            }
            spare.last().copied().unwrap_or(LeaseId::MAX)
        };
        self.store.create_lease_id(lease_id).await?;
        self.lease_ids().spare.retain(|spare| *spare != lease_id);
        Ok(lease_id)
    }

    fn lease_ids(&self) -> MutexGuard<'_, LeaseIds> {
        lock(&self.lease_ids)
    }

    /// Revokes all etcd leases but `used`. Where that fails they expire: no one renews them.
    async fn discard_lease_ids(&self, used: Option<LeaseId>) {
        let LeaseIds { spare, uncertain } = std::mem::take(&mut *self.lease_ids());
        for lease_id in spare
            .into_iter()
            .chain(uncertain)
            .filter(|lease_id| Some(*lease_id) != used)
        {
            if let Err(error) = self.store.revoke(lease_id).await {
                debug!(err = %causes(&error), "{error}");
            }
        }
    }
}

/// The id of an etcd lease to make. It is chosen here, so that asking twice does not make two.
fn new_id(random: &Random) -> LeaseId {
    let id = i64::try_from(random.below(i64::MAX.unsigned_abs().into())).ok();
    id.and_then(LeaseId::new).unwrap_or(LeaseId::MAX)
}

/// Reads checked endpoints. One without a scheme gets `https` if there are TLS files.
fn read_members(list: &[String], have_tls_files: bool) -> Result<Vec<Endpoint>, Error> {
    if list.is_empty() {
        return Err(Error::Refused(
            "no etcd endpoint given (see -etcd-endpoints)".into(),
        ));
    }
    let read = |text: &String| match Endpoint::parse(text) {
        Ok(Endpoint { tls, authority }) => Ok(Endpoint {
            tls: tls.or(Some(have_tls_files)),
            authority,
        }),
        Err(why) => Err(Error::Refused(format!("-etcd-endpoints: {why}"))),
    };
    list.iter().map(read).collect()
}

/// Reads the TLS files if an endpoint needs them. A plain endpoint beside TLS files is used as it is, as Go does.
fn load_tls(config: &EtcdConfig, members: &[Endpoint]) -> Result<Option<Tls>, Error> {
    if config.ca_file.is_some() || config.client_pair.is_some() {
        for endpoint in members.iter().filter(|endpoint| !endpoint.is_tls()) {
            warn!(
                %endpoint,
                "connecting to {endpoint} without TLS although TLS files are given; write https:// to use them"
            );
        }
    }
    let Some(endpoint) = members.iter().find(|endpoint| endpoint.is_tls()) else {
        return Ok(None);
    };
    let Some(ca) = config.ca_file.clone() else {
        return Err(Error::Refused(format!(
            "no CA to verify the certificate of {endpoint}: set -etcd-cafile (the CAs of the system are not used)"
        )));
    };
    Tls::load(ca, config.client_pair.clone()).map(Some)
}

impl<S: Store> SubnetManager for EtcdManager<S> {
    fn telemetry(&self) -> Telemetry {
        self.telemetry.clone()
    }

    async fn network_config(&self) -> Result<NetworkConfig, Error> {
        let (config, written) = self.store.config().await?;
        *lock(&self.config) = Some(written);
        Ok(config)
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        store::snapshot(&self.store).await
    }

    async fn host_names(&self) -> Result<HostNames, Error> {
        let owners = self.store.owners().await?;
        Ok(owners
            .iter()
            .map(|(subnets, machine)| (*subnets, machine))
            .collect())
    }

    async fn prove(
        &self,
        config: &NetworkConfig,
        claim: &Claim,
        known: &Snapshot,
    ) -> Result<Vec<Lease>, Error> {
        acquire::prove(self, config, claim, known).await
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        claim: &Claim,
        known: &Snapshot,
    ) -> Result<Lease, Error> {
        acquire::acquire(self, config, claim, known).await
    }

    async fn watch(
        &self,
        known: Option<Snapshot>,
        had_list: bool,
        events: mpsc::Sender<Vec<LeaseEvent>>,
    ) {
        watch::watch(
            &self.store,
            &self.random,
            &self.telemetry,
            (known, had_list),
            events,
        )
        .await;
    }

    async fn hold(
        &self,
        lease: Lease,
        wanted: sync::watch::Receiver<LeaseAttrs>,
        lease_status: &sync::watch::Sender<LeaseStatus>,
    ) -> Infallible {
        keepalive::hold(self, lease, wanted, lease_status).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, have_tls_files: bool) -> Result<String, String> {
        read_members(&[text.to_owned()], have_tls_files)
            .map(|list| list[0].to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn endpoints_get_the_scheme_they_mean() {
        for (text, have_tls_files, url) in [
            ("https://a.example:2379", false, "https://a.example:2379"),
            ("HTTP://127.0.0.1:2379/", true, "http://127.0.0.1:2379"),
            ("10.0.0.1:2379", false, "http://10.0.0.1:2379"),
            ("10.0.0.1:2379", true, "https://10.0.0.1:2379"),
        ] {
            assert_eq!(read(text, have_tls_files).as_deref(), Ok(url), "{text}");
        }
        assert!(read("a", false).unwrap_err().contains("-etcd-endpoints"));
        assert!(read_members(&[], false).is_err());
    }
}
