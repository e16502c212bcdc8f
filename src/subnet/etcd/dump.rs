//! The whole of what a cluster keeps in etcd, as of one moment, and the writes of those who administer it.
//!
//! As with the daemon's own writes, each is one transaction that compares what the writer believes, and is sent once.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp};

use super::super::{Error, Lease, LeaseId, Revision};
use super::client::{Operation, PAGE, PAGE_LEN, SMALL, compare, end_of, origin_of};
use super::liveness::{self, Answer};
use super::store::{Before, Commit, Store, Write};
use super::stream::MAX_MESSAGE;
use super::{EtcdClient, EtcdManager, new_id};

/// A key as it is, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The last component of the key; what is no text is replaced.
    pub name: String,
    pub value: Vec<u8>,
    /// When it was created.
    pub created: Revision,
    /// When it was last written.
    pub modified: Revision,
    /// The etcd lease it hangs on; none for what does not expire.
    pub lease_id: Option<LeaseId>,
}

/// Everything below the prefix, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Root of all keys.
    pub prefix: String,
    /// `<prefix>/config`.
    pub config: Option<Record>,
    /// `<prefix>/subnets/`, in the order of the keys.
    pub leases: Vec<Record>,
    /// `<prefix>/owners/`, in the order of the keys.
    pub owners: Vec<Record>,
    pub revision: Revision,
}

/// How an etcd lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLeft {
    /// Until it ends, unless it is renewed.
    pub left: Duration,
    /// For how long it was granted at its last renewal.
    pub granted: Duration,
}

/// A lease to delete, with the record of its owner: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The lease as it was read.
    pub lease: Lease,
    /// The owner record as it was read.
    pub owner: Before,
}

/// A network configuration to write: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWrite {
    pub value: Vec<u8>,
    /// What must be there.
    pub before: Before,
    /// No lease may have been written after this moment.
    pub leases_as_of: Revision,
}

impl EtcdManager {
    /// Reads everything as of one moment.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn dump(&self) -> Result<Dump, Error> {
        let store = &self.store;
        let (leases, revision) = store.list(&store.subnets_prefix(), 0).await?;
        let owners = store.owner_records(revision).await?;
        let config = store.config_as_of(revision).await?;
        Ok(Dump {
            prefix: store.prefix().to_owned(),
            config,
            leases,
            owners,
            revision,
        })
    }

    /// How an etcd lease stands. `None` if it is gone.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn time_left(&self, lease_id: LeaseId) -> Result<Option<TimeLeft>, Error> {
        self.store.time_left(lease_id).await
    }

    /// Makes an etcd lease of a day, as the daemon's are.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn new_lease_id(&self) -> Result<LeaseId, Error> {
        let lease_id = new_id(&self.random);
        self.store
            .create_lease_id(lease_id)
            .await
            .map(|()| lease_id)
    }

    /// Ends an etcd lease that no key uses.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn revoke(&self, lease_id: LeaseId) -> Result<(), Error> {
        self.store.revoke(lease_id).await
    }

    /// Writes a lease if what is there is what was expected.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn write_lease(&self, write: &Write<'_>) -> Result<Commit, Error> {
        self.store.write(write).await
    }

    /// Deletes a lease and its owner's record if both are as they were read.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn remove_lease(&self, removal: &Removal) -> Result<Commit, Error> {
        let (lease, owner) = (
            self.store.key(&removal.lease.subnets),
            self.store.owners_key(&removal.lease.subnets),
        );
        let compares = vec![
            Compare::mod_revision(lease.as_str(), CompareOp::Equal, removal.lease.modified),
            compare(&owner, removal.owner),
        ];
        let deletes = [lease, owner].map(|key| TxnOp::delete(key, None));
        self.store
            .commit(
                Operation::REMOVE,
                Txn::new().when(compares).and_then(deletes),
            )
            .await
    }

    /// Deletes the record of a lease's owner if it is as it was read.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn remove_owner(&self, lease: &Lease, recorded: Revision) -> Result<Commit, Error> {
        let owner = self.store.owners_key(&lease.subnets);
        let txn = Txn::new()
            .when([compare(&owner, Before::At(recorded))])
            .and_then([TxnOp::delete(owner.as_str(), None)]);
        self.store.commit(Operation::REMOVE, txn).await
    }

    /// Writes the network configuration if it, and all leases, are as they were read.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn write_config(&self, write: &ConfigWrite) -> Result<Commit, Error> {
        let (key, leases) = (self.store.config_key(), self.store.subnets_prefix());
        let older = Compare::mod_revision(leases.as_str(), CompareOp::Less, write.leases_as_of + 1);
        let compares = [
            compare(&key, write.before),
            older.with_range(end_of(&leases)),
        ];
        let puts = [TxnOp::put(key.as_str(), write.value.as_slice(), None)];
        self.store
            .commit(
                Operation::WRITE_CONFIG,
                Txn::new().when(compares).and_then(puts),
            )
            .await
    }

    /// Asks the daemon whose record is beside a lease to answer, as daemons ask each other: the lease is written again as it
    /// is.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn challenge(&self, lease: &Lease, recorded: Revision) -> Result<Answer, Error> {
        liveness::challenge(&self.store, None, lease, recorded).await
    }
}

impl EtcdClient {
    /// Returns the owner records as of a moment; 0 for now. None where this user may not read them: names are missing then, and
    /// nothing else.
    pub(super) async fn owner_records(&self, at: Revision) -> Result<Vec<Record>, Error> {
        match self.list(&self.owners_prefix(), at).await {
            Err(Error::Denied(_)) => Ok(Vec::new()),
            done => Ok(done?.0),
        }
    }

    /// Every key that begins with `prefix`, as of a moment; 0 for now. Which moment that was.
    async fn list(&self, prefix: &str, at: Revision) -> Result<(Vec<Record>, Revision), Error> {
        let (mut records, mut moment, mut from) =
            (Vec::new(), at, Some(prefix.as_bytes().to_vec()));
        while let Some(first) = from.take() {
            let options = GetOptions::new()
                .with_range(end_of(prefix))
                .with_revision(moment)
                .with_limit(PAGE_LEN);
            let found = self.range(first, options).await?;
            if moment == 0 {
                moment = origin_of(found.header()).1;
            }
            from = found
                .kvs()
                .last()
                .filter(|_| found.more())
                .map(|kv| [kv.key(), b"\0"].concat());
            records.extend(found.kvs().iter().map(|kv| record(kv, prefix.len())));
        }
        Ok((records, moment))
    }

    async fn range(&self, from: Vec<u8>, options: GetOptions) -> Result<GetResponse, Error> {
        let request = async |client: Client| {
            client
                .kv_client()
                .max_decoding_message_size(MAX_MESSAGE)
                .get(from.as_slice(), Some(options.clone()))
                .await
        };
        Ok(self.endpoints.call(Operation::LIST, PAGE, request).await?.0)
    }

    async fn config_as_of(&self, at: Revision) -> Result<Option<Record>, Error> {
        let key = self.config_key();
        let found = self.get(Operation::CONFIG, &key, at).await?;
        let record = |kv| record(kv, self.prefix().len() + 1);
        Ok(found.kvs().first().map(record))
    }

    pub(super) async fn time_left(&self, lease_id: LeaseId) -> Result<Option<TimeLeft>, Error> {
        let request = async |client: Client| {
            client
                .lease_client()
                .time_to_live(lease_id.get(), None)
                .await
        };
        let (answer, _) = self
            .endpoints
            .call(Operation::TIME_TO_LIVE, SMALL, request)
            .await?;
        let seconds = |count: i64| u64::try_from(count).ok().map(Duration::from_secs);
        let (left, granted) = (seconds(answer.ttl()), seconds(answer.granted_ttl()));
        Ok(left
            .zip(granted)
            .map(|(left, granted)| TimeLeft { left, granted }))
    }
}

fn record(kv: &KeyValue, names_from: usize) -> Record {
    Record {
        name: String::from_utf8_lossy(kv.key().get(names_from..).unwrap_or_default()).into_owned(),
        value: kv.value().to_vec(),
        created: kv.create_revision(),
        modified: kv.mod_revision(),
        lease_id: LeaseId::new(kv.lease()),
    }
}
