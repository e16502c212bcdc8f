//! The requests that this daemon makes, typed.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error as ClientError, GetOptions, GetResponse, KeyValue, PutOptions,
    ResponseHeader, Txn, TxnOp,
};

use super::super::{Grant, Lease, LeaseAttrs, NetworkConfig, Revision, Snapshot, Subnets, key};
use super::Error;
use super::endpoints::Endpoints;
use super::entry::{self, Entry, Reader, Unreadable};
use super::fault::is_too_large;

/// For requests about one key or one grant.
const SMALL: Duration = Duration::from_secs(2);
/// For one page of a list.
const PAGE: Duration = Duration::from_secs(10);
/// Leases in a page: about 1 MB. Smaller pages cost the server more, it counts what remains for each.
const PAGE_LEN: i64 = 5_000;
/// Leases in a page where somebody wrote values of a megabyte, the most that etcd takes: it fits `MAX_MESSAGE`.
const SHORT_PAGE_LEN: i64 = 32;
/// Room for a page of large values; the crate's own limit is 4 MiB.
pub(super) const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How long a lease outlives its daemon, in seconds: what Go flannel uses.
const LEASE_TTL: i64 = 86_400;

/// The keys of one cluster.
pub(super) struct Registry {
    /// The members.
    pub(super) endpoints: Endpoints,
    /// Reads entries, complains about bad ones.
    pub(super) reader: Reader,
    prefix: String,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// No such key.
    Absent,
    /// The key as it was written at this revision.
    At(Revision),
}

/// A write of one lease, and the leases of the same host that it replaces.
pub(super) struct Write<'a> {
    /// The key.
    pub(super) subnets: &'a Subnets,
    /// The value.
    pub(super) attrs: &'a LeaseAttrs,
    /// What keeps it alive; `None` for a reservation.
    pub(super) grant: Option<Grant>,
    /// What must be there.
    pub(super) before: Before,
    /// Leases to delete, as they were read.
    pub(super) replaces: &'a [Lease],
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// Written, at this revision.
    Done(Revision),
    /// What it expected was not there: nothing was written.
    Lost,
    /// No answer, so nobody knows: read again and decide from that. Never sent again as it is.
    Unknown,
}

/// The own key, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// No such key.
    Absent,
    /// It holds no lease that can be read.
    Broken(Revision),
    /// A lease, perhaps of another host.
    Lease(Lease),
}

/// One page of leases.
pub(super) struct Page {
    response: GetResponse,
    names_from: usize,
}

impl Page {
    /// The entries, in the order of their keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.response.kvs().iter().map(|kv| entry_of(kv, self.names_from))
    }
}

/// A list in progress: every page as of the revision of the first.
#[derive(Default)]
pub(super) struct Listing {
    next: Option<Vec<u8>>,
    /// Cluster and revision of the first page.
    origin: Option<(u64, Revision)>,
    complete: bool,
}

impl Listing {
    /// Cluster and revision of the list; zeros before the first page.
    pub(super) fn origin(&self) -> (u64, Revision) {
        self.origin.unwrap_or_default()
    }

    /// Whether the last page has been read.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }
}

/// Shows a key of `<prefix>/subnets/`; `names_from` is the length of that.
pub(super) fn entry_of(kv: &KeyValue, names_from: usize) -> Entry<'_> {
    Entry {
        name: kv.key().get(names_from..).unwrap_or_default(),
        value: kv.value(),
        created: kv.create_revision(),
        modified: kv.mod_revision(),
        grant: Grant::new(kv.lease()),
    }
}

impl Registry {
    /// The keys below `prefix`.
    pub(super) fn new(endpoints: Endpoints, prefix: String) -> Self {
        Self { endpoints, reader: Reader::default(), prefix }
    }

    /// `<prefix>/subnets/`.
    pub(super) fn subnets_prefix(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    /// Reads the network configuration.
    pub(super) async fn config(&self) -> Result<NetworkConfig, Error> {
        let key = format!("{}/config", self.prefix);
        let found = self.get("read the network configuration", &key).await?;
        let Some(kv) = found.kvs().first() else { return Err(Error::NoConfig { key }) };
        NetworkConfig::parse(kv.value()).map_err(|why| Error::BadConfig { key, why })
    }

    /// The next page of a list, `None` after the last.
    pub(super) async fn page(&self, listing: &mut Listing) -> Result<Option<Page>, Error> {
        if listing.complete {
            return Ok(None);
        }
        let prefix = self.subnets_prefix();
        let from = listing.next.take().unwrap_or_else(|| prefix.clone().into_bytes());
        let (_, revision) = listing.origin();
        let options = GetOptions::new().with_range(end_of(&prefix)).with_revision(revision);
        let request = async |client: Client| {
            let mut kv = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
            match kv.get(from.as_slice(), Some(options.clone().with_limit(PAGE_LEN))).await {
                Err(error) if is_too_large(&error) => {
                    kv.get(from.as_slice(), Some(options.clone().with_limit(SHORT_PAGE_LEN))).await
                }
                done => done,
            }
        };
        let (response, _) = self.endpoints.call("list the leases", PAGE, request).await?;
        listing.origin.get_or_insert_with(|| origin_of(response.header()));
        listing.next = response.kvs().last().map(|kv| [kv.key(), b"\0"].concat());
        listing.complete = !response.more() || listing.next.is_none();
        Ok(Some(Page { response, names_from: prefix.len() }))
    }

    /// All lease keys as of one revision, also those whose value cannot be read: they occupy a subnet.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut listing = Listing::default();
        let mut leases = Vec::new();
        while let Some(page) = self.page(&mut listing).await? {
            leases.extend(page.entries().filter_map(|entry| self.reader.occupant(&entry)));
        }
        let (history, revision) = listing.origin();
        Ok(Snapshot { leases, revision, history })
    }

    /// Looks at one key.
    pub(super) async fn look(&self, subnets: &Subnets) -> Result<Seen, Error> {
        let found = self.get("read the own lease", &self.key(subnets)).await?;
        let Some(kv) = found.kvs().first() else { return Ok(Seen::Absent) };
        match entry::lease(&entry_of(kv, self.subnets_prefix().len())) {
            Ok(lease) => Ok(Seen::Lease(lease)),
            Err(Unreadable::Key(_) | Unreadable::Value(..)) => Ok(Seen::Broken(kv.mod_revision())),
        }
    }

    /// Writes a lease if what is there is what was expected.
    pub(super) async fn write(&self, write: &Write<'_>) -> Result<Commit, Error> {
        let txn = self.transaction(write);
        let request = async |client: Client| client.kv_client().txn(txn.clone()).await;
        Ok(match self.endpoints.call_once("write the own lease", SMALL, request).await? {
            Some(response) if response.succeeded() => Commit::Done(origin_of(response.header()).1),
            Some(_) => Commit::Lost,
            None => Commit::Unknown,
        })
    }

    /// Makes an etcd lease. If the answer is lost there may be two: the other one expires without keys.
    pub(super) async fn grant(&self) -> Result<Grant, Error> {
        let request = async |client: Client| client.lease_client().grant(LEASE_TTL, None).await;
        let (response, _) = self.endpoints.call("make an etcd lease", SMALL, request).await?;
        Grant::new(response.id())
            .ok_or_else(|| Error::Unavailable(format!("cannot make an etcd lease: {}", response.error())))
    }

    /// Ends an etcd lease.
    pub(super) async fn revoke(&self, grant: Grant) -> Result<(), Error> {
        let request = async |client: Client| client.lease_client().revoke(grant.get()).await;
        self.endpoints.call("revoke an unused etcd lease", SMALL, request).await.map(drop)
    }

    /// For how long an etcd lease was granted; `None` if it is gone.
    pub(super) async fn granted_ttl(&self, grant: Grant) -> Result<Option<Duration>, Error> {
        let request = async |client: Client| client.lease_client().time_to_live(grant.get(), None).await;
        let (response, _) = self.endpoints.call("look at the etcd lease", SMALL, request).await?;
        let alive = response.ttl() > 0;
        Ok(u64::try_from(response.granted_ttl()).ok().filter(|_| alive).map(Duration::from_secs))
    }

    /// Starts the time of an etcd lease anew. `false` if it is gone.
    pub(super) async fn keep_alive(&self, grant: Grant) -> Result<bool, Error> {
        // Opens a stream for one question and one answer: this happens about once an hour.
        let request = async |client: Client| match client.lease_client().keep_alive(grant.get()).await {
            Ok(_) => Ok(true),
            Err(ClientError::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        };
        let (alive, _) = self.endpoints.call("renew the etcd lease", SMALL, request).await?;
        // The client has one error for "gone" and for a broken stream.
        Ok(alive || self.granted_ttl(grant).await?.is_some())
    }

    async fn get(&self, what: &str, key: &str) -> Result<GetResponse, Error> {
        let request = async |client: Client| client.kv_client().get(key, None).await;
        Ok(self.endpoints.call(what, SMALL, request).await?.0)
    }

    fn key(&self, subnets: &Subnets) -> String {
        self.subnets_prefix() + &key::format(subnets)
    }

    fn transaction(&self, write: &Write<'_>) -> Txn {
        let key = self.key(write.subnets);
        let expected = match write.before {
            Before::Absent => Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
            Before::At(revision) => Compare::mod_revision(key.as_str(), CompareOp::Equal, revision),
        };
        let options = PutOptions::new().with_lease(write.grant.map_or(0, Grant::get));
        let (mut compares, mut puts) =
            (vec![expected], vec![TxnOp::put(key, write.attrs.encode(), Some(options))]);
        for old in write.replaces {
            let key = self.key(&old.subnets);
            compares.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, old.modified));
            puts.push(TxnOp::delete(key, None));
        }
        Txn::new().when(compares).and_then(puts)
    }
}

/// The first key after all that start with `prefix`, which ends in a slash: the character after the slash is `0`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn origin_of(header: Option<&ResponseHeader>) -> (u64, Revision) {
    header.map_or((0, 0), |header| (header.cluster_id(), header.revision()))
}
