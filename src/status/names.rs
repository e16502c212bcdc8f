//! Host names for reports and log lines. They are read from etcd beside the loop, only when something is to be named, and are
//! kept for a minute.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::desired::PeerEvent;
use crate::subnet::{Error, HostNames};
use crate::util::logging::causes;

/// For how long names are used before they are read again, and an attempt that failed is not repeated.
const FRESH: Duration = Duration::from_secs(60);
/// The same for a line of the log, which is written once and may be about a host that is new.
const NEW: Duration = Duration::from_secs(1);
/// For reading the names of all hosts.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that may wait. One more goes without names.
const REQUESTS: usize = 32;

/// A source of host names. Clones share it. The default one knows none.
#[derive(Debug, Clone)]
pub struct Names {
    requests: mpsc::Sender<Request>,
    known: watch::Receiver<Arc<HostNames>>,
}

/// What names are needed for.
#[derive(Debug)]
enum Request {
    Tell(oneshot::Sender<()>),
    Log(PeerEvent),
}

/// Reads the names that [`Names`] asks for.
#[derive(Debug)]
pub struct NameReader {
    requests: mpsc::Receiver<Request>,
    known: watch::Sender<Arc<HostNames>>,
    asked: Option<Instant>,
}

impl Default for Names {
    fn default() -> Self {
        Self::new().0
    }
}

impl Names {
    /// Returns a source and its reader.
    pub fn new() -> (Self, NameReader) {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (names, known) = watch::channel(Arc::default());
        let reader = NameReader {
            requests: receiver,
            known: names,
            asked: None,
        };
        (Self { requests, known }, reader)
    }

    /// Returns the names as they were last read, and has them read again if that was long ago.
    pub(super) fn known(&self) -> Arc<HostNames> {
        let _ = self.requests.try_send(Request::Tell(oneshot::channel().0));
        self.known.borrow().clone()
    }

    /// Returns the names once they are read, or those of before after `patience`.
    pub(super) async fn read(&self, patience: Duration) -> Arc<HostNames> {
        let (sender, done) = oneshot::channel();
        if self.requests.try_send(Request::Tell(sender)).is_ok() {
            // Without an answer there are the names of before.
            let _ = timeout(patience, done).await;
        }
        self.known.borrow().clone()
    }

    /// Logs that several hosts announce one public address, once their names are read.
    pub fn log(&self, event: &PeerEvent) {
        if self.requests.try_send(Request::Log(event.clone())).is_err() {
            event.log();
        }
    }
}

impl NameReader {
    /// Serves until the future is dropped. `read` asks etcd.
    pub async fn run(mut self, read: impl AsyncFn() -> Result<HostNames, Error>) -> Infallible {
        while let Some(request) = self.requests.recv().await {
            let age = match request {
                Request::Log(_) => NEW,
                Request::Tell(_) => FRESH,
            };
            if self.asked.is_none_or(|at| at.elapsed() > age) {
                self.refresh(&read).await;
                self.asked = Some(Instant::now());
            }
            match request {
                // Anyone who has given up waiting does not need it.
                Request::Tell(done) => drop(done.send(())),
                Request::Log(event) => event.with_hosts(&self.known.borrow()).log(),
            }
        }
        pending().await
    }

    async fn refresh(&self, read: &impl AsyncFn() -> Result<HostNames, Error>) {
        match timeout(PATIENCE, read()).await {
            Ok(Ok(names)) => drop(self.known.send_replace(Arc::new(names))),
            Ok(Err(error)) => {
                debug!(err = %causes(&error), "cannot read the host names: {error}");
            }
            Err(_) => debug!("cannot read the host names: etcd did not answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::subnet::owner::MachineId;

    fn names() -> HostNames {
        let machine = MachineId::new("id", "boot", "h1");
        std::iter::once((
            std::iter::once("10.5.1.0/24".parse().unwrap()).collect(),
            &machine,
        ))
        .collect()
    }

    async fn with<T>(
        read: impl AsyncFn() -> Result<HostNames, Error>,
        story: impl AsyncFnOnce(Names) -> T,
    ) -> T {
        let (names, reader) = Names::new();
        tokio::select! { done = story(names) => done, never = reader.run(read) => match never {} }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_read_at_most_once_a_minute() {
        let reads = Cell::new(0);
        let read = async || {
            reads.set(reads.get() + 1);
            Ok(names())
        };
        with(read, async |source| {
            assert_eq!(
                *source.known(),
                HostNames::default(),
                "a caller that does not wait gets the known names"
            );
            for _ in 0..100 {
                assert_eq!(*source.read(PATIENCE).await, names());
            }
            assert_eq!(
                (source.known().of_text("10.5.1.0/24"), reads.get()),
                (Some("h1"), 1)
            );
            tokio::time::advance(FRESH * 2).await;
            source.read(PATIENCE).await;
        })
        .await;
        assert_eq!(reads.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn etcd_that_does_not_answer_delays_an_answer_once() {
        let start = Instant::now();
        with(
            async || pending().await,
            async |source| {
                for _ in 0..100 {
                    assert_eq!(*source.read(PATIENCE).await, HostNames::default());
                }
            },
        )
        .await;
        assert!(start.elapsed() < PATIENCE * 3, "{:?}", start.elapsed());
    }
}
