//! The requests of [`Store`], made of etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error as ClientError, GetOptions, GetResponse, KeyValue,
    LeaseGrantOptions, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
};
use tracing::warn;

use super::super::owner::MachineId;
use super::super::{
    LEASE_TTL, Lease, LeaseId, MisplacedConfig, NetworkConfig, Revision, Subnets, key,
};
use super::Error;
use super::dump::Record;
use super::endpoints::Endpoints;
use super::entry::{self, Reader};
use super::error::{is_lease_gone, is_lease_there, is_too_large};
use super::store::{Before, Commit, ListProgress, Owner, Seen, Sight, Store, Write};
use super::stream::{MAX_MESSAGE, Stream, entry_of};

/// For requests about one key or one lease ID.
pub(super) const SMALL: Duration = Duration::from_secs(2);
/// For one page of a list.
pub(super) const PAGE: Duration = Duration::from_secs(10);
/// Leases in a page: about 1 MB. Smaller pages cost the server more, it counts what remains for each.
pub(super) const PAGE_LEN: i64 = 5_000;
/// Leases in a page where someone wrote values of a megabyte, the most that etcd takes: it fits `MAX_MESSAGE`.
const SHORT_PAGE_LEN: i64 = 32;

/// The keys of one etcd cluster.
pub struct EtcdClient {
    pub(super) endpoints: Endpoints,
    /// Reads entries, complains about bad ones.
    pub(super) reader: Arc<Reader>,
    prefix: String,
    /// This user may not read or write owner records.
    is_without_owners: AtomicBool,
}

impl EtcdClient {
    /// The keys below `prefix`.
    pub(super) fn new(endpoints: Endpoints, prefix: String) -> Self {
        Self {
            endpoints,
            reader: Arc::default(),
            prefix,
            is_without_owners: AtomicBool::new(false),
        }
    }

    pub(super) fn subnets_prefix(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    pub(super) fn owners_prefix(&self) -> String {
        format!("{}/owners/", self.prefix)
    }

    /// Root of all keys.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn owners_key(&self, subnets: &Subnets) -> String {
        self.owners_prefix() + &key::format(subnets)
    }

    pub(super) fn config_key(&self) -> String {
        format!("{}/config", self.prefix)
    }

    fn seen(&self, lease: Option<&KeyValue>) -> Seen {
        lease.map_or(Seen::Absent, |kv| {
            entry::lease(&entry_of(kv, self.subnets_prefix().len()))
                .map_or(Seen::Broken(kv.mod_revision()), Seen::Lease)
        })
    }

    /// # Errors
    /// When the user may not read the record either.
    async fn look_with_owner(&self, subnets: &Subnets) -> Result<Sight, Error> {
        let gets = [self.key(subnets), self.owners_key(subnets)].map(|key| TxnOp::get(key, None));
        let txn = Txn::new().and_then(gets);
        let request = async |client: Client| client.kv_client().txn(txn.clone()).await;
        let (response, _) = self.endpoints.call(Operation::LOOK, SMALL, request).await?;
        let answers = response.op_responses();
        let found = |index: usize| match answers.get(index) {
            Some(TxnOpResponse::Get(found)) => found.kvs().first(),
            _ => None,
        };
        let record =
            found(1).and_then(|kv| Some((MachineId::decode(kv.value())?, kv.mod_revision())));
        let owner = record.map_or(Owner::Unrecorded, |(machine, at)| {
            Owner::Recorded(machine, at)
        });
        Ok(Sight {
            seen: self.seen(found(0)),
            owner,
        })
    }

    /// Sends a transaction, once.
    pub(super) async fn commit(&self, what: Operation, txn: Txn) -> Result<Commit, Error> {
        let request = async |client: Client| client.kv_client().txn(txn.clone()).await;
        let done = self.endpoints.call_once(what, SMALL, request).await?;
        Ok(match done {
            Some(response) if response.succeeded() => Commit::Done(origin_of(response.header()).1),
            Some(_) => Commit::Lost,
            None => Commit::Unknown,
        })
    }

    fn is_without_owners(&self) -> bool {
        self.is_without_owners.load(Ordering::Relaxed)
    }

    /// What was denied together with the record is not denied alone. Go flannel's role is enough, until the next start.
    fn do_without_owners(&self) {
        if !self.is_without_owners.swap(true, Ordering::Relaxed) {
            let key = self.owners_prefix();
            // log: self-explanatory
            warn!(
                key,
                "etcd denies this user access to {key}: serving without owner records, so duplicate hosts are not detected and host names are missing; grant the role readwrite there, and restart this daemon"
            );
        }
    }

    /// Reads a key as of a moment; 0 for now.
    pub(super) async fn get(
        &self,
        what: Operation,
        key: &str,
        at: Revision,
    ) -> Result<GetResponse, Error> {
        let options = GetOptions::new().with_revision(at);
        let request =
            async |client: Client| client.kv_client().get(key, Some(options.clone())).await;
        Ok(self.endpoints.call(what, SMALL, request).await?.0)
    }

    /// The prefix, if it holds what belongs to the key below it. Not being allowed to look is no trouble.
    pub(super) async fn misplaced_config(&self) -> Option<MisplacedConfig> {
        for key in [self.prefix.clone(), format!("{}/", self.prefix)]
            .into_iter()
            .filter(|key| !key.is_empty())
        {
            let found = self.get(Operation::MISPLACED, &key, 0).await.ok()?;
            let misplaced = found
                .kvs()
                .first()
                .and_then(|kv| MisplacedConfig::read(&key, kv.value()));
            if misplaced.is_some() {
                return misplaced;
            }
        }
        None
    }

    pub(super) fn key(&self, subnets: &Subnets) -> String {
        self.subnets_prefix() + &key::format(subnets)
    }

    fn transaction(&self, write: &Write<'_>, with_owners: bool) -> Txn {
        let key = self.key(write.subnets);
        let mut compares = vec![compare(&key, write.before)];
        compares.extend(
            write
                .config
                .map(|at| compare(&self.config_key(), Before::At(at))),
        );
        let options = PutOptions::new().with_lease(write.lease_id.map_or(0, LeaseId::get));
        let mut puts = vec![TxnOp::put(key, write.attrs.encode(), Some(options.clone()))];
        puts.extend(write.owner.filter(|_| with_owners).map(|machine| {
            TxnOp::put(
                self.owners_key(write.subnets),
                machine.encode(),
                Some(options),
            )
        }));
        for old in write.replaces {
            let key = self.key(&old.subnets);
            compares.push(compare(&key, Before::At(old.modified)));
            puts.push(TxnOp::delete(key, None));
            puts.extend(with_owners.then(|| TxnOp::delete(self.owners_key(&old.subnets), None)));
        }
        Txn::new().when(compares).and_then(puts)
    }
}

impl Store for EtcdClient {
    type Stream = Stream;
    type Page = GetResponse;

    async fn config(&self) -> Result<(NetworkConfig, Revision), Error> {
        let key = self.config_key();
        let found = self.get(Operation::CONFIG, &key, 0).await?;
        let Some(kv) = found.kvs().first() else {
            return Err(Error::NoConfig {
                key,
                misplaced: self.misplaced_config().await,
            });
        };
        match NetworkConfig::parse(kv.value()) {
            Ok(config) => Ok((config, kv.mod_revision())),
            Err(why) => Err(Error::BadConfig { key, why }),
        }
    }

    async fn page(&self, progress: &mut ListProgress) -> Result<GetResponse, Error> {
        let prefix = self.subnets_prefix();
        let from = progress
            .next()
            .map_or_else(|| prefix.clone().into_bytes(), <[u8]>::to_vec);
        let (_, revision) = progress.origin();
        let options = GetOptions::new()
            .with_range(end_of(&prefix))
            .with_revision(revision);
        let options = options.with_min_mod_revision(progress.since() + 1);
        let request = async |client: Client| {
            let mut kv = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
            match kv
                .get(from.as_slice(), Some(options.clone().with_limit(PAGE_LEN)))
                .await
            {
                Err(error) if is_too_large(&error) => {
                    kv.get(
                        from.as_slice(),
                        Some(options.clone().with_limit(SHORT_PAGE_LEN)),
                    )
                    .await
                }
                done => done,
            }
        };
        let (response, _) = self.endpoints.call(Operation::LIST, PAGE, request).await?;
        let last = response.kvs().last().filter(|_| response.more());
        progress.turn(
            origin_of(response.header()),
            last.map(|kv| [kv.key(), b"\0"].concat()),
        );
        Ok(response)
    }

    fn read(&self, page: &GetResponse) -> Vec<Lease> {
        let names_from = self.subnets_prefix().len();
        let entries = page.kvs().iter().map(|kv| entry_of(kv, names_from));
        let mut leases = Vec::with_capacity(page.kvs().len());
        leases.extend(entries.filter_map(|entry| self.reader.occupant(&entry)));
        leases
    }

    async fn look(&self, subnets: &Subnets) -> Result<Sight, Error> {
        if !self.is_without_owners() {
            match self.look_with_owner(subnets).await {
                Err(Error::Denied(_)) => {}
                done => return done,
            }
        }
        let found = self.get(Operation::LOOK, &self.key(subnets), 0).await?;
        self.do_without_owners();
        Ok(Sight {
            seen: self.seen(found.kvs().first()),
            owner: Owner::Denied,
        })
    }

    async fn owners(&self) -> Result<Vec<(Subnets, MachineId)>, Error> {
        if self.is_without_owners() {
            return Ok(Vec::new());
        }
        let read = |record: Record| {
            Some((
                key::parse(&record.name).ok()?,
                MachineId::decode(&record.value)?,
            ))
        };
        Ok(self
            .owner_records(0)
            .await?
            .into_iter()
            .filter_map(read)
            .collect())
    }

    async fn write(&self, write: &Write<'_>) -> Result<Commit, Error> {
        let touches_owners = write.owner.is_some() || !write.replaces.is_empty();
        let with_owners = touches_owners && !self.is_without_owners();
        let done = self
            .commit(Operation::WRITE, self.transaction(write, with_owners))
            .await;
        if !with_owners || !matches!(done, Err(Error::Denied(_))) {
            return done;
        }
        // Nothing was written: etcd checks the rights of a whole transaction first.
        let done = self
            .commit(Operation::WRITE, self.transaction(write, false))
            .await;
        if let Ok(Commit::Done(_) | Commit::Lost) = done {
            self.do_without_owners();
        }
        done
    }

    async fn create_lease_id(&self, id: LeaseId) -> Result<(), Error> {
        let request = async |client: Client| {
            let options = LeaseGrantOptions::new().with_id(id.get());
            match client
                .lease_client()
                .grant(LEASE_TTL.as_secs().cast_signed(), Some(options))
                .await
            {
                Err(error) if !is_lease_there(&error) => Err(error),
                _ => Ok(()),
            }
        };
        self.endpoints
            .call(Operation::CREATE_LEASE_ID, SMALL, request)
            .await
            .map(drop)
    }

    async fn revoke(&self, lease_id: LeaseId) -> Result<(), Error> {
        let request =
            async |client: Client| match client.lease_client().revoke(lease_id.get()).await {
                Err(error) if !is_lease_gone(&error) => Err(error),
                _ => Ok(()),
            };
        self.endpoints
            .call(Operation::REVOKE, SMALL, request)
            .await
            .map(drop)
    }

    async fn granted_ttl(&self, lease_id: LeaseId) -> Result<Option<Duration>, Error> {
        let time = self.time_left(lease_id).await?;
        Ok(time
            .filter(|time| !time.left.is_zero())
            .map(|time| time.granted))
    }

    async fn keep_alive(&self, lease_id: LeaseId) -> Result<bool, Error> {
        // Opens a stream for one question and one answer: this happens about once an hour.
        let request =
            async |client: Client| match client.lease_client().keep_alive(lease_id.get()).await {
                Ok(_) => Ok(true),
                Err(ClientError::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            };
        let (alive, _) = self
            .endpoints
            .call(Operation::KEEP_ALIVE, SMALL, request)
            .await?;
        // The client has one error for "gone" and for a broken stream.
        Ok(alive || self.granted_ttl(lease_id).await?.is_some())
    }

    async fn watch(&self, from: Revision) -> Result<Stream, Error> {
        Stream::open(
            &self.endpoints,
            self.reader.clone(),
            &self.subnets_prefix(),
            from,
        )
        .await
    }

    async fn leave(&self, stream: Stream) {
        self.endpoints.leave(stream.index).await;
    }
}

/// The first key after all that start with `prefix`, which ends in a slash: the character after the slash is `0`.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn compare(key: &str, before: Before) -> Compare {
    match before {
        Before::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
        Before::At(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
    }
}

pub(super) fn origin_of(header: Option<&ResponseHeader>) -> (u64, Revision) {
    header.map_or((0, 0), |header| (header.cluster_id(), header.revision()))
}

/// What is asked of etcd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    /// For counters.
    pub(super) label: &'static str,
    /// For messages that start with "cannot".
    pub(super) words: &'static str,
}

const fn operation(label: &'static str, words: &'static str) -> Operation {
    Operation { label, words }
}

impl Operation {
    pub(super) const CONFIG: Self = operation("config", "read the network configuration");
    pub(super) const MISPLACED: Self =
        operation("config", "search for a misplaced network configuration");
    pub(super) const LIST: Self = operation("list", "list the leases");
    pub(super) const LOOK: Self = operation("look", "read the lease");
    pub(super) const WRITE: Self = operation("write", "write the lease");
    pub(super) const REMOVE: Self = operation("write", "delete the lease");
    pub(super) const WRITE_CONFIG: Self = operation("write", "write the network configuration");
    pub(super) const CREATE_LEASE_ID: Self = operation("grant", "create an etcd lease");
    pub(super) const REVOKE: Self = operation("revoke", "revoke an unused etcd lease");
    pub(super) const TIME_TO_LIVE: Self = operation("time_to_live", "read the etcd lease");
    pub(super) const KEEP_ALIVE: Self = operation("keep_alive", "renew the etcd lease");
    pub(super) const WATCH: Self = operation("watch", "watch the leases");
}
