//! Addresses of host names.
//!
//! Dynamically linked programs ask glibc, which asks what `/etc/nsswitch.conf` names. Static programs (feature `static`)
//! cannot: glibc would load modules that were built for the host's glibc into a program that has another one. They read
//! `/etc/hosts`, and then ask the name servers of `/etc/resolv.conf`.

mod dns;
mod files;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::dns::{Answer, Kind};
use self::files::ResolvConf;

/// How long one name server has before the next one is asked.
const SERVER_LIMIT: Duration = Duration::from_millis(700);
/// What a name server may send without TCP.
const DATAGRAM: usize = 4096;

/// Looks up the addresses of a host, which is a name or an address itself.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if cfg!(feature = "static") {
        let ips = lookup_below(Path::new("/"), host).await?.into_iter();
        return Ok(ips.map(|ip| SocketAddr::new(ip, port)).collect());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Does without glibc; the files are below `root`.
async fn lookup_below(root: &Path, host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    // Files that are missing are empty, as for glibc.
    let file = |path| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let listed = files::hosts(&file("etc/hosts"), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    ask_all(&ResolvConf::parse(&file("etc/resolv.conf")), host).await
}

async fn ask_all(conf: &ResolvConf, host: &str) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(
        io::ErrorKind::NotFound,
        "neither /etc/hosts nor a name server has an address for it",
    );
    for name in conf.names(host) {
        let (v4, v6) = tokio::join!(ask(conf, &name, Kind::A), ask(conf, &name, Kind::Aaaa));
        let found: Vec<IpAddr> = match (v4, v6) {
            // A search domain that fails is no reason not to ask for the others.
            (Err(error), Err(_)) => {
                last = error;
                continue;
            }
            (v4, v6) => v4.into_iter().chain(v6).flatten().collect(),
        };
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(last)
}

/// The first server that answers decides.
async fn ask(conf: &ResolvConf, name: &str, kind: Kind) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "/etc/resolv.conf names no server");
    for server in &conf.servers {
        match timeout(SERVER_LIMIT, ask_one(*server, name, kind)).await {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) => last = io::Error::other(format!("name server {server}: {error}")),
            Err(_) => {
                let why = format!("name server {server}: no answer");
                last = io::Error::new(io::ErrorKind::TimedOut, why);
            }
        }
    }
    Err(last)
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Vec<IpAddr>> {
    let id = rand::random();
    let query = dns::query(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let any = match server {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match dns::answer(&query, buffer.get(..length).unwrap_or_default(), kind) {
            // Not an answer to this question: someone guesses, or it is late.
            None => {}
            Some(Answer::Truncated) => return ask_over_tcp(server, &query, kind).await,
            Some(answer) => return addresses(answer),
        }
    }
}

async fn ask_over_tcp(server: SocketAddr, query: &[u8], kind: Kind) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_u16(length).await?;
    stream.write_all(query).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    addresses(dns::answer(query, &reply, kind).unwrap_or(Answer::Failed))
}

fn addresses(answer: Answer) -> io::Result<Vec<IpAddr>> {
    match answer {
        Answer::Addresses(addresses) => Ok(addresses),
        Answer::NoSuchName => Ok(Vec::new()),
        Answer::Truncated | Answer::Failed => Err(io::Error::other("it reports a failure")),
    }
}

#[cfg(test)]
mod tests;
