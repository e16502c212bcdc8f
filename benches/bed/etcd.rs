//! The bench as a client of etcd: it writes the peers' leases, and reads them as barely as can be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, LeaseGrantOptions, PutOptions,
    TlsOptions, Txn, TxnOp,
};
use lab::Lab;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{METRICS, Outcome, PREFIX, Peer, milliseconds, within};

/// As many keys as the daemon asks for at once.
const PAGE: i64 = 5_000;
/// Puts of one transaction while a lab is filled.
const FILL: usize = 500;
/// Puts under way at once, where many writers are played.
const WRITERS: usize = 64;

/// A client on host 2 of the lab. Valid on the thread that is in its namespace.
pub struct Etcd(Client);

/// Runs something as a client of the lab's etcd, on host 2.
pub fn with<T: Send>(lab: &Lab, work: impl AsyncFnOnce(Etcd) -> Outcome<T> + Send) -> Outcome<T> {
    let (node, endpoints) = (lab.host(2), lab.etcd()?.endpoints());
    within(node, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let file = |path: &str| node.path(path);
        runtime.block_on(async { work(Etcd::connect(file, &endpoints).await?).await })
    })
}

impl Etcd {
    pub async fn connect(file: impl Fn(&str) -> PathBuf + Send, endpoint: &str) -> Outcome<Self> {
        let read = |name: &str| std::fs::read(file(&format!("/run/pki/{name}.pem")));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca")?))
            .identity(Identity::from_pem(read("client")?, read("client-key")?));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_timeout(Duration::from_secs(60));
        Ok(Self(Client::connect([endpoint], Some(options)).await?))
    }

    /// Writes these leases, as they are, in as few transactions as are usual.
    pub async fn fill(&self, peers: &[Peer], lease_id: i64) -> Outcome<()> {
        for chunk in peers.chunks(FILL) {
            self.put_all(chunk, lease_id).await?;
        }
        Ok(())
    }

    /// One transaction; how long it took in milliseconds.
    pub async fn put_all(&self, peers: &[Peer], lease_id: i64) -> Outcome<f64> {
        let option = PutOptions::new().with_lease(lease_id);
        let put = |peer: &Peer| TxnOp::put(peer.key(), peer.value(), Some(option.clone()));
        let txn = Txn::new().and_then(peers.iter().map(put).collect::<Vec<_>>());
        let begin = Instant::now();
        self.0.kv_client().txn(txn).await?;
        Ok(milliseconds(begin))
    }

    /// As many hosts would: a put each, many under way; how long that took in milliseconds.
    pub async fn put_each(&self, peers: &[Peer]) -> Outcome<f64> {
        let begin = Instant::now();
        let mut under_way = JoinSet::new();
        for peer in peers.iter().copied() {
            if under_way.len() == WRITERS {
                under_way.join_next().await.transpose()?.transpose()?;
            }
            let mut kv = self.0.kv_client();
            under_way.spawn(async move { kv.put(peer.key(), peer.value(), None).await });
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        Ok(milliseconds(begin))
    }

    pub async fn put(&self, peer: Peer) -> Outcome<()> {
        self.0
            .kv_client()
            .put(peer.key(), peer.value(), None)
            .await?;
        Ok(())
    }

    pub async fn delete(&self, peers: &[Peer]) -> Outcome<()> {
        for chunk in peers.chunks(FILL) {
            let deletes: Vec<_> = chunk
                .iter()
                .map(|peer| TxnOp::delete(peer.key(), None))
                .collect();
            self.0.kv_client().txn(Txn::new().and_then(deletes)).await?;
        }
        Ok(())
    }

    pub async fn grant(&self) -> Outcome<i64> {
        Ok(self
            .0
            .lease_client()
            .grant(86_400, Some(LeaseGrantOptions::new()))
            .await?
            .id())
    }

    /// Ends an etcd lease and every key on it; how long that took in milliseconds.
    pub async fn revoke(&self, lease_id: i64) -> Outcome<f64> {
        let begin = Instant::now();
        self.0.lease_client().revoke(lease_id).await?;
        Ok(milliseconds(begin))
    }

    /// Reads the network configuration.
    pub async fn config(&self) -> Outcome<()> {
        let key = format!("{PREFIX}/config");
        self.0.kv_client().get(key, None).await?;
        Ok(())
    }

    /// Reads all leases in pages and does nothing with them; how long that took in milliseconds.
    pub async fn read(&self) -> Outcome<f64> {
        let prefix = format!("{PREFIX}/subnets/");
        let (mut from, end) = (prefix.clone().into_bytes(), format!("{PREFIX}/subnets0"));
        let begin = Instant::now();
        loop {
            let options = GetOptions::new().with_range(end.as_str()).with_limit(PAGE);
            let page = self
                .0
                .kv_client()
                .max_decoding_message_size(64 << 20)
                .get(from, Some(options))
                .await?;
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => from = [last.key(), b"\0"].concat(),
                None => return Ok(milliseconds(begin)),
            }
        }
    }
}

/// How many requests etcd has been sent, by its own count.
pub fn requests(lab: &Lab) -> Outcome<f64> {
    within(lab.etcd()?.node(1), || {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("grpc_server_msg_received_total"));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    })
}
