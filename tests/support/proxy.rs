//! A wire that can be cut: forwards TCP connections to one address.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A forwarder. Dropped, it takes its connections with it.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    target: SocketAddr,
    accepting: JoinSet<()>,
}

impl Proxy {
    /// Forwards to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let mut proxy = Self { address: super::etcd::free_address(), target, accepting: JoinSet::new() };
        proxy.mend().await;
        proxy
    }

    /// Ends all connections and accepts no more.
    pub async fn cut(&mut self) {
        self.accepting.shutdown().await;
    }

    /// Accepts again.
    pub async fn mend(&mut self) {
        let listener =
            super::until("the proxy listens", async || TcpListener::bind(self.address).await.ok()).await;
        let target = self.target;
        self.accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
    }
}
