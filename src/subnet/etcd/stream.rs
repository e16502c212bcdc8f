//! A watch stream: what the server says on it, typed.

use std::time::Duration;

use etcd_client::{Client, EventType, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};

use super::super::{LeaseEvent, Revision};
use super::Error;
use super::endpoints::Index;
use super::entry::Reader;
use super::fault::Fault;
use super::registry::{MAX_MESSAGE, Registry, entry_of};

/// To open a stream.
const OPEN: Duration = Duration::from_secs(2);

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
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

/// An open watch on all leases.
pub(super) struct Stream {
    /// The member that it goes to.
    pub(super) index: Index,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    names_from: usize,
}

impl Stream {
    /// Watches all leases from revision `from` on.
    pub(super) async fn open(registry: &Registry, from: Revision) -> Result<Self, Error> {
        let prefix = registry.subnets_prefix();
        let request = async |client: Client| {
            let options = WatchOptions::new().with_prefix().with_start_revision(from);
            let mut client = client.watch_client().max_decoding_message_size(MAX_MESSAGE);
            client.watch(prefix.as_str(), Some(options.with_fragment().with_progress_notify())).await
        };
        let (stream, index) = registry.endpoints.call("watch the leases", OPEN, request).await?;
        let (requests, responses) = stream.split();
        Ok(Self { index, requests, responses, names_from: prefix.len() })
    }

    /// The next thing the server says. May be dropped and called again.
    ///
    /// # Errors
    /// Why the stream ended.
    pub(super) async fn next(&mut self, reader: &Reader) -> Result<Heard, String> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(self.read(&response, reader)),
            Ok(None) => Err("the server closed the watch".into()),
            Err(error) => Err(Fault::from_client(&error).text),
        }
    }

    /// Asks for a sign of life; [`Self::next`] hears it. A stream that cannot be asked ends by itself.
    pub(super) async fn probe(&mut self) {
        let _ = self.requests.request_progress().await;
    }

    fn read(&self, response: &WatchResponse, reader: &Reader) -> Heard {
        if response.canceled() && response.compact_revision() != 0 {
            return Heard::Compacted;
        }
        if response.canceled() {
            return Heard::Canceled(response.cancel_reason().to_owned());
        }
        if response.created() {
            let header = response.header();
            let (cluster, revision) =
                header.map_or((0, 0), |header| (header.cluster_id(), header.revision()));
            return Heard::Created { cluster, revision };
        }
        self.changes(response, reader)
    }

    fn changes(&self, response: &WatchResponse, reader: &Reader) -> Heard {
        let mut changes = Vec::with_capacity(response.events().len());
        let mut revision = 0;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let entry = entry_of(kv, self.names_from);
            revision = revision.max(entry.modified);
            changes.extend(match event.event_type() {
                EventType::Put => reader.event(&entry),
                EventType::Delete => reader.deleted(entry.name),
            });
        }
        if revision == 0 { Heard::Alive } else { Heard::Changed(changes, revision) }
    }
}
