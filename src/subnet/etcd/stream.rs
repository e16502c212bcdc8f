//! A watch stream: what the server says on it, typed.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, EventType, KeyValue, KvClient, WatchOptions, WatchRequestSender, WatchResponse,
    WatchResponseStream,
};

use tokio::time::timeout;

use super::super::{LeaseId, Revision};
use super::Error;
use super::client::Operation;
use super::endpoints::{Endpoints, Index};
use super::entry::{Entry, Reader};
use super::error::Fault;
use super::store::{Changes, WatchMessage};

/// To open a stream.
const OPEN: Duration = Duration::from_secs(2);
/// For a probe. An election in the cluster takes some of it.
const PROBE: Duration = Duration::from_secs(10);

/// Room for a page of large values, and for as large a change; the crate's own limit is 4 MiB.
pub(super) const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Shows a key of `<prefix>/subnets/`; `names_from` is the length of that.
pub(super) fn entry_of(kv: &KeyValue, names_from: usize) -> Entry<'_> {
    Entry {
        name: kv.key().get(names_from..).unwrap_or_default(),
        value: kv.value(),
        created: kv.create_revision(),
        modified: kv.mod_revision(),
        lease_id: LeaseId::new(kv.lease()),
    }
}

/// An open watch on all leases.
pub struct Stream {
    /// The member that it goes to.
    pub(super) index: Index,
    /// Its end is that of the watch.
    _requests: WatchRequestSender,
    responses: WatchResponseStream,
    kv: KvClient,
    /// `<prefix>/subnets/`: no key, and within what a daemon may read.
    prefix: String,
    reader: Arc<Reader>,
    source: String,
}

impl Stream {
    /// Watches all keys below `prefix`, `<prefix>/subnets/`, from revision `from` on.
    pub(super) async fn open(
        endpoints: &Endpoints,
        reader: Arc<Reader>,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, Error> {
        let request = async |client: Client| {
            let kv = client.kv_client();
            let options = WatchOptions::new().with_prefix().with_start_revision(from);
            let mut client = client.watch_client().max_decoding_message_size(MAX_MESSAGE);
            let options = options.with_fragment().with_progress_notify();
            Ok((client.watch(prefix, Some(options)).await?, kv))
        };
        let ((stream, kv), index) = endpoints.call(Operation::WATCH, OPEN, request).await?;
        let (requests, responses) = stream.split();
        let source = endpoints.address(index).to_string();
        Ok(Self {
            index,
            _requests: requests,
            responses,
            kv,
            prefix: prefix.into(),
            reader,
            source,
        })
    }

    fn read(&self, response: &WatchResponse) -> WatchMessage {
        if response.canceled() && response.compact_revision() != 0 {
            return WatchMessage::Compacted;
        }
        if response.canceled() {
            return WatchMessage::Canceled(response.cancel_reason().to_owned());
        }
        if response.created() {
            let header = response.header();
            let (cluster, revision) =
                header.map_or((0, 0), |header| (header.cluster_id(), header.revision()));
            return WatchMessage::Created { cluster, revision };
        }
        self.changes(response)
    }

    fn changes(&self, response: &WatchResponse) -> WatchMessage {
        let mut changes = Vec::with_capacity(response.events().len());
        let mut revision = 0;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let entry = entry_of(kv, self.prefix.len());
            revision = revision.max(entry.modified);
            changes.extend(match event.event_type() {
                EventType::Put => self.reader.event(&entry),
                EventType::Delete => self.reader.deleted(entry.name),
            });
        }
        if revision == 0 {
            WatchMessage::Alive
        } else {
            WatchMessage::Changed(changes, revision)
        }
    }
}

impl Changes for Stream {
    async fn next(&mut self) -> Result<WatchMessage, String> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(self.read(&response)),
            Ok(None) => Err("the server closed the watch".into()),
            Err(error) => Err(Fault::from_client(&error).text),
        }
    }

    // Not a progress request: `etcd grpc-proxy` does not answer one.
    fn probe(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let (mut kv, key) = (self.kv.clone(), self.prefix.clone());
        async move {
            let fault = match timeout(PROBE, kv.get(key, None)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => Fault::from_client(&error),
                Err(_) => Fault::silent(PROBE),
            };
            // Not to be allowed to read, or with an old login, is an answer too.
            if fault.is_final() || fault.is_about_login() {
                Ok(())
            } else {
                Err(fault.text)
            }
        }
    }

    fn source(&self) -> &str {
        &self.source
    }
}
