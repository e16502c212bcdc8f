//! A wire that can be cut, and that can lose one request or its answer: forwards TCP connections to one address.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A forwarder. Dropped, it takes its connections with it.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    target: SocketAddr,
    accepting: JoinSet<()>,
    wire: Wire,
}

/// What gets lost of one request; its connection is silent from then on.
#[derive(Debug, Clone, Copy)]
pub enum Lost {
    /// The request.
    Request,
    /// The answer.
    Answer,
    /// The answer; and the request arrives this much later.
    AnswerAndTime(Duration),
}

/// What happens to the data on the way.
#[derive(Clone, Default)]
struct Wire {
    loss: Loss,
    held: Arc<AtomicBool>,
}

impl Wire {
    /// Waits while nothing passes.
    async fn pass(&self) {
        while self.held.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What is to be lost next.
#[derive(Clone, Default)]
struct Loss {
    next: Arc<Mutex<Option<(&'static str, Lost)>>>,
    happened: Arc<AtomicBool>,
}

impl Loss {
    fn take(&self, data: &[u8]) -> Option<Lost> {
        let mut next = self.next.lock().unwrap();
        let (mark, _) = (*next)?;
        let found = data.windows(mark.len()).any(|part| part == mark.as_bytes());
        next.take_if(|_| found).map(|(_, lost)| lost)
    }
}

impl Proxy {
    /// Forwards to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let address = super::etcd::free_address();
        let mut proxy = Self {
            address,
            target,
            accepting: JoinSet::new(),
            wire: Wire::default(),
        };
        proxy.mend().await;
        proxy
    }

    /// Loses the next request that contains `mark`.
    pub fn lose(&self, mark: &'static str, lost: Lost) {
        *self.wire.loss.next.lock().unwrap() = Some((mark, lost));
    }

    /// Whether the request that is to be lost has come.
    pub fn is_losing(&self) -> bool {
        self.wire.loss.next.lock().unwrap().is_none()
    }

    /// Whether the loss has happened, and what comes late has come.
    pub fn has_lost(&self) -> bool {
        self.wire.loss.happened.load(Ordering::Relaxed)
    }

    /// Holds all data back, or lets it pass again. Connections stay.
    pub fn hold(&self, held: bool) {
        self.wire.held.store(held, Ordering::Relaxed);
    }

    /// Ends all connections and accepts no more.
    pub async fn cut(&mut self) {
        self.accepting.shutdown().await;
    }

    /// Ends all connections and leads new ones to `target`.
    pub async fn lead_to(&mut self, target: SocketAddr) {
        self.cut().await;
        self.target = target;
        self.mend().await;
    }

    /// Accepts again.
    pub async fn mend(&mut self) {
        let listener = super::until("the proxy listens", async || {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        let (target, wire) = (self.target, self.wire.clone());
        self.accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, target, wire.clone()));
            }
        });
    }
}

async fn forward(client: TcpStream, target: SocketAddr, wire: Wire) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let silent = AtomicBool::new(false);
    let _ = tokio::try_join!(
        requests(from_client, to_server, &wire, &silent),
        answers(from_server, to_client, &wire, &silent)
    );
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    silent: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = read(&mut from, &mut buffer).await?;
        wire.pass().await;
        let lost = wire.loss.take(&buffer[..length]);
        silent.fetch_or(lost.is_some(), Ordering::Relaxed);
        if let Some(Lost::AnswerAndTime(delay)) = lost {
            tokio::time::sleep(delay).await;
        }
        if !matches!(lost, Some(Lost::Request)) {
            to.write_all(&buffer[..length]).await?;
        }
        wire.loss
            .happened
            .fetch_or(lost.is_some(), Ordering::Relaxed);
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    silent: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = read(&mut from, &mut buffer).await?;
        wire.pass().await;
        if !silent.load(Ordering::Relaxed) {
            to.write_all(&buffer[..length]).await?;
        }
    }
}

/// The end of a stream is an error, so that it ends both directions.
async fn read(from: &mut OwnedReadHalf, buffer: &mut [u8]) -> io::Result<usize> {
    match from.read(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => Ok(length),
    }
}
