//! Against a name server of the test's own, on loopback.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use super::*;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Answers,
    /// Sends two wrong answers first.
    Late,
    /// Says over UDP that the answer is too long.
    Truncates,
    Silent,
}

const KNOWN: &str = "etcd-1.example";
const V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

/// An answer with an alias before the address.
fn reply(query: &[u8], flags: u16) -> Vec<u8> {
    let known = dns::query(0, KNOWN, Kind::A).unwrap();
    let is_known = query[12..query.len() - 4] == known[12..known.len() - 4];
    let is_v4 = query[query.len() - 3] == 1;
    let mut reply = query.to_vec();
    let code = if is_known { 0 } else { 3 };
    reply[2..4].copy_from_slice(&(flags | 0x8180 | code).to_be_bytes());
    if is_known && is_v4 {
        reply[7] = 2;
        reply.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 3, 1, b'x', 0]);
        reply.extend([1, b'x', 0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(V4.octets());
    }
    reply
}

async fn server(kind: Server) -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let query = &buffer[..length];
            let truncated = if kind == Server::Truncates { 0x200 } else { 0 };
            if kind == Server::Late {
                let mut wrong = reply(query, 0);
                wrong[0] ^= 1;
                udp.send_to(&wrong, from).await.unwrap();
                udp.send_to(b"?", from).await.unwrap();
            }
            if kind != Server::Silent {
                udp.send_to(&reply(query, truncated), from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let reply = reply(&query, 0);
            stream
                .write_u16(reply.len().try_into().unwrap())
                .await
                .unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

async fn asked(servers: &[Server], host: &str) -> io::Result<Vec<IpAddr>> {
    let mut conf = ResolvConf::parse("search example\n");
    conf.servers.clear();
    for kind in servers {
        conf.servers.push(server(*kind).await);
    }
    ask_all(&conf, host).await
}

#[tokio::test]
async fn name_is_resolved_whatever_the_servers_do() {
    for servers in [
        &[Server::Answers][..],
        &[Server::Late],
        &[Server::Truncates],
        &[Server::Silent, Server::Answers],
    ] {
        for host in ["etcd-1", "etcd-1.example", "etcd-1.example."] {
            assert_eq!(
                asked(servers, host).await.unwrap(),
                [V4],
                "{servers:?} {host}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_name_and_silence_are_told_apart() {
    let unknown = asked(&[Server::Answers], "nowhere").await.unwrap_err();
    assert!(
        unknown.to_string().contains("has an address for it"),
        "{unknown}"
    );
    let silent = asked(&[Server::Silent], "etcd-1").await.unwrap_err();
    assert!(silent.to_string().contains("no answer"), "{silent}");
}

#[tokio::test]
async fn addresses_and_the_hosts_file_need_no_server() {
    let root = tempfile::tempdir().unwrap();
    let look = async |host: &str| lookup_below(root.path(), host).await.unwrap();
    assert_eq!(look("10.64.0.9").await, [IpAddr::from([10, 64, 0, 9])]);
    assert_eq!(look("localhost").await.len(), 2);
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/hosts"), "10.64.0.1 etcd-1\n").unwrap();
    assert_eq!(look("etcd-1").await, [V4]);
}
