//! A real etcd of one member, for one test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::Client;
use flanneld::config::EtcdConfig;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::until;

/// The prefix that the tests use.
pub const PREFIX: &str = "/kubernetes/network";

/// An etcd process; it dies with this value.
pub struct Etcd {
    /// `host:port` for clients.
    pub address: SocketAddr,
    child: Child,
    command: Vec<String>,
    health: SocketAddr,
    tls: bool,
    dir: TempDir,
}

/// Where a server with TLS has its certificates.
pub struct ServerTls<'a> {
    /// Certificate and key.
    pub pair: (&'a Path, &'a Path),
    /// The CA that clients must have a certificate of.
    pub client_ca: Option<&'a Path>,
}

impl Etcd {
    /// Starts a plain one and waits until it serves.
    pub async fn start() -> Self {
        Self::launch(None).await
    }

    /// Starts one that speaks TLS, on 127.0.0.1: certificates name the address.
    pub async fn start_tls(tls: &ServerTls<'_>) -> Self {
        Self::launch(Some(tls)).await
    }

    async fn launch(tls: Option<&ServerTls<'_>>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rflannel-etcd-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let [mut address, peer, health] = [(); 3].map(|()| free_address());
        if tls.is_some() {
            address = free_port(Ipv4Addr::LOCALHOST);
        }
        let command = arguments(dir.path(), [address, peer, health], tls);
        let child = spawn(&command, dir.path());
        let etcd = Self {
            address,
            child,
            command,
            health,
            tls: tls.is_some(),
            dir,
        };
        etcd.wait().await;
        etcd
    }

    async fn wait(&self) {
        until("etcd serves", async || healthy(self.health).then_some(())).await;
    }

    /// The endpoint, with its scheme.
    pub fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.address
        )
    }

    /// A configuration for this endpoint alone, without TLS files and login.
    pub fn config(&self) -> EtcdConfig {
        config(vec![self.url()])
    }

    /// A client for the test's own reads and writes.
    pub async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    /// Kills the process; its data stay.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and address.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.command, self.dir.path());
        self.wait().await;
    }

    /// Forgets all data; to be used between `kill` and `restart`.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    /// Stops the process without ending it: connections stay open and silent. Waits until it has stopped: under load
    /// its other threads may answer for a while after the signal.
    pub fn freeze(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
    }
}

/// `etcd grpc-proxy`; it dies with this value.
pub struct GrpcProxy {
    /// `host:port` for clients.
    pub address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl GrpcProxy {
    /// Starts one in front of `etcd` and waits until it passes requests on.
    pub async fn start(etcd: &Etcd) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rflannel-proxy-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let address = free_address();
        let arguments = [
            "grpc-proxy".to_owned(),
            "start".to_owned(),
            format!("--endpoints={}", etcd.address),
            format!("--listen-addr={address}"),
            format!("--data-dir={}", dir.path().join("data").display()),
        ];
        let child = spawn(&arguments, dir.path());
        let proxy = Self {
            address,
            child,
            _dir: dir,
        };
        until("the proxy serves", async || {
            let mut client = Client::connect([proxy.url()], None).await.ok()?;
            client.get("x", None).await.ok()
        })
        .await;
        proxy
    }

    /// The endpoint, with its scheme.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration for these endpoints.
pub fn config(endpoints: Vec<String>) -> EtcdConfig {
    EtcdConfig {
        endpoints,
        prefix: PREFIX.into(),
        ca_file: None,
        client_pair: None,
        login: None,
        renew_margin: Duration::from_secs(3600),
    }
}

/// An address that refuses connections while the socket lives: nothing else gets its port.
pub fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A loopback address no one listens on. Each call uses another host part, so that tests do not compete for ports.
pub fn free_address() -> SocketAddr {
    let [a, b, c] = rand::random::<[u8; 3]>();
    free_port(Ipv4Addr::new(127, a, b, c.clamp(1, 254)))
}

fn free_port(host: Ipv4Addr) -> SocketAddr {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

fn arguments(dir: &Path, addresses: [SocketAddr; 3], tls: Option<&ServerTls<'_>>) -> Vec<String> {
    let [client, peer, health] = addresses;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut list = vec![
        format!("--data-dir={}", dir.join("data").display()),
        format!("--listen-client-urls={scheme}://{client}"),
        format!("--advertise-client-urls={scheme}://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        format!("--listen-metrics-urls=http://{health}"),
        "--heartbeat-interval=20".into(),
        "--election-timeout=200".into(),
        "--bcrypt-cost=4".into(),
    ];
    if let Some(tls) = tls {
        list.push(format!("--cert-file={}", tls.pair.0.display()));
        list.push(format!("--key-file={}", tls.pair.1.display()));
        if let Some(ca) = tls.client_ca {
            list.push("--client-cert-auth".into());
            list.push(format!("--trusted-ca-file={}", ca.display()));
        }
    }
    list
}

fn spawn(arguments: &[String], dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new("etcd")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("etcd starts (Debian package etcd-server)")
}

fn healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}
