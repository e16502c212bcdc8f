//! Visitors who mean harm: the daemon does its work, answers the others, and does not grow.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::{Node, Signal, wait_until};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::ask::{PORT, becomes, get};
use super::host::{Host, NETWORK, lease_key, lease_value};
use super::{SOON, Test};

const SOCKET: &str = "/run/flannel/subnet.sock";

/// Runs `work` in the network namespace of `node`.
fn inside<T: Send>(node: &Node, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{}/ns/net", node.pid())).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn http() -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect("127.0.0.1:8471")?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<String> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status(node: &Node, request: &[u8]) -> std::io::Result<String> {
    let stream = UnixStream::connect(node.path(SOCKET))?;
    stream.set_read_timeout(Some(SOON))?;
    exchange(stream, request)
}

/// The daemon answers, and heals.
#[track_caller]
fn assert_well(host: &Host) {
    becomes(host.node(), "/healthz", 200, "flanneld is running");
    let answer = status(host.node(), b"{\"ask\":\"status\"}\n").unwrap();
    assert!(answer.starts_with("{\"format\":1,"), "{answer}");
    host.sh("ip route del 172.30.201.0/24").unwrap();
    let healed = || {
        host.sh("ip route show 172.30.201.0/24")
            .is_ok_and(|route| !route.is_empty())
    };
    assert!(wait_until(SOON, healed), "a route that was deleted is back");
}

/// Memory of the daemon, in KiB, and its open files.
fn size(host: &mut Host) -> (u64, usize) {
    let pid = host.lab.flanneld(1).unwrap().process().pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (
        memory,
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count(),
    )
}

#[test]
fn the_socket_is_for_root_alone_and_goes_with_the_daemon() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    let path = host.node().path(SOCKET);
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, 0));
    let refused = host.node().run([
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "socat",
        "-u",
        &format!("UNIX-CONNECT:{SOCKET}"),
        "-",
    ])?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Permission denied"),
        "{refused:?}"
    );

    // A crash leaves it behind; the next life takes its place.
    host.lab.end_flanneld(1, Signal::KILL)?;
    assert!(path.exists());
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    assert!(
        status(host.node(), b"{\"ask\":\"status\"}\n")
            .unwrap()
            .starts_with("{\"format\":1,")
    );
    host.lab.end_flanneld(1, Signal::TERM)?;
    assert!(!path.exists(), "an orderly end takes it away");

    // A file that is not a socket is not removed.
    host.sh(&format!("echo mine > {SOCKET}"))?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    assert!(
        wait_until(SOON, || host
            .log_contains("cannot create the status socket")),
        "it says so"
    );
    assert_eq!(host.node().read(SOCKET)?, "mine\n");
    host.sh(&format!("rm {SOCKET}"))?;
    assert!(
        wait_until(SOON, || status(host.node(), b"{\"ask\":\"status\"}\n")
            .is_ok()),
        "made once it can be"
    );
    Ok(())
}

#[test]
fn garbage_gets_an_error_and_changes_nothing() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    let long = vec![b'x'; 1 << 20];
    for request in [
        &b"\n"[..],
        b"status\n",
        b"{}\n",
        b"{\"ask\":\"quit\"}\n",
        b"\xff\xfe\n",
        b"{\"ask\":\"status\"",
        &long[..2000],
    ] {
        let stream = UnixStream::connect(host.node().path(SOCKET)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let half = stream.try_clone().unwrap();
        (&half).write_all(request).unwrap();
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer).unwrap_or_default();
        // Anyone who writes more than is read may find the connection reset instead.
        let complete = request == b"{\"ask\":\"status\"";
        assert!(
            answer.starts_with("{\"error\":") || (request.len() > 1024 && answer.is_empty()),
            "{complete} {request:?}: {answer}"
        );
    }
    let _ = status(host.node(), &long);
    for request in [
        &b"\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &long,
    ] {
        let answer = inside(host.node(), || {
            let stream = http()?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            exchange(stream, request)
        });
        assert!(!answer.unwrap_or_default().contains("200 OK"));
    }
    assert_well(&host);
    Ok(())
}

/// A thousand who connect and say nothing, or half of something, at each window: the next one is answered all the same.
#[test]
fn thousand_idle_connections_block_no_client() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    becomes(host.node(), "/readyz", 200, "");
    let (_, files) = size(&mut host);
    let idle: Vec<TcpStream> = inside(host.node(), || {
        let connect = |n: usize| {
            let mut stream = http()?;
            stream.write_all(if n.is_multiple_of(2_usize) {
                b"GET /metrics HTT"
            } else {
                b""
            })?;
            Ok::<_, std::io::Error>(stream)
        };
        (0..1000).filter_map(|n| connect(n).ok()).collect()
    });
    let mut quiet = Vec::new();
    for n in 0..1000_usize {
        let mut stream = UnixStream::connect(host.node().path(SOCKET)).unwrap();
        let _ = stream.write_all(if n.is_multiple_of(2_usize) {
            b"{\"ask\":"
        } else {
            b""
        });
        quiet.push(stream);
    }
    assert!(idle.len() > 900 && quiet.len() == 1000);
    assert_well(&host);
    let (_, now) = size(&mut host);
    assert!(now <= files + 140, "{now} open files, {files} before");
    drop((idle, quiet));
    assert!(
        wait_until(SOON, || size(&mut host).1 <= files + 2),
        "they are gone"
    );
    Ok(())
}

/// Ten thousand scrapes, a few hundred peers among them: no growth.
#[test]
fn ten_thousand_scrapes_leave_no_trace() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    for n in 6..=50 {
        host.lab.etcd()?.put(&lease_key(n), lease_value(n))?;
    }
    let scrape = |host: &Host, times: usize| {
        inside(host.node(), || {
            for n in 0..times {
                let path = ["/metrics", "/readyz", "/healthz", "/metrics"][n % 4];
                let answer = exchange(
                    http().unwrap(),
                    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
                );
                assert!(answer.unwrap().starts_with("HTTP/1.1 200 OK"));
            }
        });
        for _ in 0..times / 10 {
            status(host.node(), b"{\"ask\":\"status\"}\n").unwrap();
        }
    };
    scrape(&host, 2_000);
    let before = size(&mut host);
    scrape(&host, 10_000);
    let after = size(&mut host);
    assert!(
        after.0 <= before.0 + 512,
        "{before:?} KiB and files became {after:?}"
    );
    assert!(
        after.1 <= before.1 + 2,
        "{before:?} KiB and files became {after:?}"
    );
    assert_eq!(get(host.node(), "/healthz").0, 200);
    Ok(())
}
