//! The requests that a daemon makes of its datastore, and nothing else of it.
//!
//! [`EtcdClient`](super::client::EtcdClient) makes them of etcd. The model in `tests/model` answers them itself, so that what runs
//! there is the code that runs here.

use std::future::Future;
use std::time::Duration;

use tokio::task::yield_now;

use super::super::owner::MachineId;
use super::super::{
    Error, Lease, LeaseAttrs, LeaseEvent, LeaseId, NetworkConfig, Revision, Snapshot, Subnets,
};

/// A datastore with revisions, leases that expire, and transactions.
///
/// A request that reads, or that may be carried out twice, is repeated by the store as it sees fit; [`Store::write`] is
/// sent once.
pub trait Store: Send + Sync + 'static {
    type Stream: Changes;
    /// A page of a list, as it came.
    type Page: Send + Sync;

    /// Reads the network configuration, and when it was written.
    fn config(&self) -> impl Future<Output = Result<(NetworkConfig, Revision), Error>> + Send;

    /// The next page of a list.
    fn page(
        &self,
        progress: &mut ListProgress,
    ) -> impl Future<Output = Result<Self::Page, Error>> + Send;

    /// Its leases, as [`Snapshot`] has them.
    fn read(&self, page: &Self::Page) -> Vec<Lease>;

    /// Looks at one key and the owner record beside it, at one moment.
    fn look(&self, subnets: &Subnets) -> impl Future<Output = Result<Sight, Error>> + Send;

    /// Reads all owner records. None where this user may not.
    fn owners(&self) -> impl Future<Output = Result<Vec<(Subnets, MachineId)>, Error>> + Send;

    /// Writes a lease if what is there is what was expected.
    fn write(&self, write: &Write<'_>) -> impl Future<Output = Result<Commit, Error>> + Send;

    /// Makes an etcd lease with this id. That it exists already means that an earlier answer was lost.
    fn create_lease_id(&self, id: LeaseId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends an etcd lease, and the keys on it. One that is gone already is fine.
    fn revoke(&self, lease_id: LeaseId) -> impl Future<Output = Result<(), Error>> + Send;

    /// For how long an etcd lease was granted; `None` if it is gone.
    fn granted_ttl(
        &self,
        lease_id: LeaseId,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;

    /// Starts the time of an etcd lease again. `false` if it is gone.
    fn keep_alive(&self, lease_id: LeaseId) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Watches all leases from this revision on.
    fn watch(&self, from: Revision) -> impl Future<Output = Result<Self::Stream, Error>> + Send;

    /// Gives up the member that a watch broke on.
    fn leave(&self, stream: Self::Stream) -> impl Future<Output = ()> + Send;
}

/// What a watch says.
pub trait Changes: Send {
    /// The next thing the server says. May be dropped and called again.
    ///
    /// # Errors
    /// Why the stream ended.
    fn next(&mut self) -> impl Future<Output = Result<WatchMessage, String>> + Send;

    /// Reads from the quorum, through the member that the watch goes to. Changes from before the answer are on their way then.
    ///
    /// # Errors
    /// Why there is no answer.
    fn probe(&self) -> impl Future<Output = Result<(), String>> + Send + 'static;

    /// Where it comes from, for messages.
    fn source(&self) -> &str;
}

/// What the server of a watch said.
#[derive(Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// The watch stands. Where the history of this cluster is.
    Created {
        /// Id of the cluster.
        cluster: u64,
        /// Revision of the member's copy.
        revision: Revision,
    },
    /// Leases changed, the last of them at this revision.
    Changed(Vec<LeaseEvent>, Revision),
    /// The member is there, and nothing changed. Its revision means nothing: some versions answer before events that
    /// they have yet to send.
    Alive,
    /// The history from the asked revision on is gone.
    Compacted,
    /// The server ended the watch, for this reason.
    Canceled(String),
}

/// A list in progress: every page as of the revision of the first.
#[derive(Debug, Default)]
pub struct ListProgress {
    since: Revision,
    next: Option<Vec<u8>>,
    origin: Option<(u64, Revision)>,
    complete: bool,
}

impl ListProgress {
    /// A list of what was written after this revision only.
    pub fn after(since: Revision) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// What is listed was written after this revision; zero: at any time.
    pub fn since(&self) -> Revision {
        self.since
    }

    /// Cluster and revision of the list; zeros before the first page.
    pub fn origin(&self) -> (u64, Revision) {
        self.origin.unwrap_or_default()
    }

    /// Whether the last page has been read.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The key that the next page starts at; `None` for the first page.
    pub fn next(&self) -> Option<&[u8]> {
        self.next.as_deref()
    }

    /// A page from `origin` (cluster and revision) was read; the one after it starts at `next`, if there is one.
    pub fn turn(&mut self, origin: (u64, Revision), next: Option<Vec<u8>>) {
        self.origin.get_or_insert(origin);
        self.complete = next.is_none();
        self.next = next;
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// No such key.
    Absent,
    /// The key as it was written at this revision.
    At(Revision),
}

/// A write of one lease: one transaction.
#[derive(Debug, Clone)]
pub struct Write<'a> {
    pub subnets: &'a Subnets,
    pub attrs: &'a LeaseAttrs,
    /// What keeps it alive; `None` for a reservation.
    pub lease_id: Option<LeaseId>,
    /// What must be there.
    pub before: Before,
    /// The owner record to write beside it; `None` leaves that as it is.
    pub owner: Option<&'a MachineId>,
    /// The network configuration must still be the one of this revision.
    pub config: Option<Revision>,
    /// Leases of the same host to delete, as they were read.
    pub replaces: &'a [Lease],
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Written, at this revision.
    Done(Revision),
    /// What it expected was not there: nothing was written.
    Lost,
    /// No answer, so no one knows, and it may still happen: read again and decide from that. Never sent again as it is.
    Unknown,
}

/// A key, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No such key.
    Absent,
    /// It holds no lease that can be read.
    Broken(Revision),
    /// A lease, perhaps of another host.
    Lease(Lease),
}

/// A key and the owner record beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub seen: Seen,
    pub owner: Owner,
}

/// Which machine a key belongs to, by the record beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This user may not read or write records.
    Denied,
    /// There is no record that can be read.
    Unrecorded,
    /// This machine's, as it wrote at this revision.
    Recorded(MachineId, Revision),
}

/// All lease keys as of one revision, also those whose value cannot be read: they occupy a subnet.
pub(super) async fn snapshot<S: Store>(store: &S) -> Result<Snapshot, Error> {
    list(store, ListProgress::default()).await
}

/// Those of them that were written after this revision.
pub(super) async fn written_after<S: Store>(store: &S, since: Revision) -> Result<Snapshot, Error> {
    list(store, ListProgress::after(since)).await
}

async fn list<S: Store>(store: &S, mut progress: ListProgress) -> Result<Snapshot, Error> {
    let mut leases = Vec::new();
    let mut page = store.page(&mut progress).await?;
    while !progress.is_complete() {
        // A page is read while the server is at the next one: that has to be asked for first.
        let read = async {
            yield_now().await;
            leases.append(&mut store.read(&page));
        };
        let (next, ()) = tokio::join!(store.page(&mut progress), read);
        page = next?;
    }
    leases.append(&mut store.read(&page));
    let (cluster_id, revision) = progress.origin();
    Ok(Snapshot {
        leases,
        revision,
        cluster_id,
    })
}
