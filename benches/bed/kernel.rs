//! What the daemon's host has in its kernel, and when it gets there.

use std::fmt::Write as _;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lab::{LabError, Node};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

use super::{Backend, Outcome, Peer, milliseconds, within};

/// `RTNLGRP_NEIGH` and `RTNLGRP_IPV4_ROUTE`.
const GROUPS: [u32; 2] = [3, 7];
/// `RTM_NEWROUTE` and `RTM_DELROUTE`.
const ROUTE: [u16; 2] = [24, 25];
/// `NLMSG_DONE` and `NLMSG_ERROR`.
const DONE: u16 = 3;
const ERROR: u16 = 2;

/// Routes, permanent neighbors and forwarding entries on the overlay device. Where there is none, routes count for the others
/// as well.
pub fn counts(node: &Node) -> Outcome<[u64; 3]> {
    if Backend::chosen() == Backend::HostGw {
        let text = node.sh("ip -o route show dev eth0 root 12.0.0.0/7 | wc -l")?;
        return Ok([text.trim().parse()?; 3]);
    }
    let text = node.sh("ip -o route show dev flannel.1 | wc -l; ip neigh show dev flannel.1 nud permanent | wc -l; bridge fdb show dev flannel.1 | grep -c dst || true")?;
    let counts: Vec<u64> = text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    counts
        .try_into()
        .map_err(|_| format!("no counts: {text:?}").into())
}

/// Reads the device's three tables as an auditor has to, and does nothing with them; how long that took in milliseconds.
pub fn dump(node: &Node, device: &str) -> Outcome<f64> {
    let index: u32 = node
        .sh(&format!("cat /sys/class/net/{device}/ifindex"))?
        .trim()
        .parse()?;
    within(node, || {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_netlink_get_strict_chk(true)?;
        let begin = Instant::now();
        let requests = [
            fdb_request(index),
            neighbor_request(index),
            route_request(index),
        ];
        let skipped = if Backend::chosen() == Backend::HostGw {
            2
        } else {
            0
        };
        for request in requests.into_iter().skip(skipped) {
            socket.send(&request, 0)?;
            read_to_end(&socket)?;
        }
        Ok(milliseconds(begin))
    })
}

fn read_to_end(socket: &Socket) -> Outcome<()> {
    let mut datagram = Vec::with_capacity(1 << 20);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        for kind in messages(&datagram).filter_map(|message| message.get(4..6)) {
            match u16::from_ne_bytes([kind[0], kind[1]]) {
                DONE => return Ok(()),
                ERROR => return Err("the kernel refused a dump".into()),
                _ => {}
            }
        }
    }
}

/// `struct ndmsg` of the bridge family, by link.
fn fdb_request(index: u32) -> Vec<u8> {
    request(
        30,
        &[&[7, 0, 0, 0][..], &index.to_ne_bytes(), &[0; 4]].concat(),
    )
}

/// With `NDA_IFINDEX`.
fn neighbor_request(index: u32) -> Vec<u8> {
    request(
        30,
        &[&[2][..], &[0; 11], &[8, 0, 8, 0], &index.to_ne_bytes()].concat(),
    )
}

/// Of the main table, with `RTA_OIF`.
fn route_request(index: u32) -> Vec<u8> {
    request(
        26,
        &[
            &[2, 0, 0, 0, 254][..],
            &[0; 7],
            &[8, 0, 4, 0],
            &index.to_ne_bytes(),
        ]
        .concat(),
    )
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    // `NLM_F_REQUEST | NLM_F_DUMP`.
    let head = [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &0x0301_u16.to_ne_bytes(),
        &[0; 8],
    ]
    .concat();
    [&head, body].concat()
}

/// What an operator would do by hand: a device, and three entries a peer. How long the entries took in milliseconds.
pub fn plain_tools(node: &Node, peers: u32) -> Result<f64, LabError> {
    if Backend::chosen() == Backend::HostGw {
        return plain_routes(node, peers);
    }
    node.sh("ip link add flannel.1 type vxlan id 1 local 10.64.0.1 dev eth0 nolearning dstport 8472; ip link set flannel.1 up")?;
    let (mut neighbors, mut fdb, mut routes) = (String::new(), String::new(), String::new());
    for peer in (0..peers).map(Peer) {
        let (subnet, mac, public) = (peer.subnet(), peer.mac_text(), peer.public());
        let _ = writeln!(
            neighbors,
            "neigh replace {subnet} lladdr {mac} dev flannel.1 nud permanent"
        );
        let _ = writeln!(fdb, "fdb replace {mac} dev flannel.1 dst {public}");
        let _ = writeln!(
            routes,
            "route replace {subnet}/24 via {subnet} dev flannel.1 onlink"
        );
    }
    node.write("/run/neigh", neighbors)?;
    node.write("/run/fdb", fdb)?;
    node.write("/run/routes", routes)?;
    let begin = Instant::now();
    node.sh("ip -batch /run/neigh; bridge -batch /run/fdb; ip -batch /run/routes")?;
    let time = milliseconds(begin);
    node.sh("ip link del flannel.1")?;
    Ok(time)
}

/// The same without a device.
fn plain_routes(node: &Node, peers: u32) -> Result<f64, LabError> {
    let mut routes = String::new();
    for peer in (0..peers).map(Peer) {
        let _ = writeln!(
            routes,
            "route replace {}/24 via {} dev eth0",
            peer.subnet(),
            peer.public()
        );
    }
    node.write("/run/routes", routes)?;
    let begin = Instant::now();
    node.sh("ip -batch /run/routes")?;
    let time = milliseconds(begin);
    super::reset(node)?;
    Ok(time)
}

/// Something that the kernel told about.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub at: Instant,
    /// The destination, where it is a route.
    pub route: Option<Ipv4Addr>,
}

/// Hears of every neighbor, forwarding entry and route that is written on a host, in a thread of its own.
pub struct Ear(Receiver<Told>);

impl Ear {
    pub fn on(node: &Node) -> Outcome<Self> {
        let namespace = File::open(format!("/proc/{}/ns/net", node.pid()))?;
        let ((sender, receiver), (ready, is_ready)) = (channel(), channel());
        std::thread::spawn(move || -> Outcome<()> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = listen()?;
            ready.send(())?;
            let mut datagram = Vec::with_capacity(64 << 10);
            loop {
                datagram.clear();
                // Times out now and then, in order to notice that no one listens any more.
                if socket.recv(&mut datagram, 0).is_err() {
                    sender.send(Told {
                        at: Instant::now(),
                        route: Some(Ipv4Addr::UNSPECIFIED),
                    })?;
                    continue;
                }
                let at = Instant::now();
                messages(&datagram).try_for_each(|message| {
                    sender.send(Told {
                        at,
                        route: destination(message),
                    })
                })?;
            }
        });
        is_ready.recv_timeout(Duration::from_secs(10))?;
        Ok(Self(receiver))
    }

    /// When the last of so many routes, whichever, was written or taken out.
    pub fn routes(&self, count: usize, limit: Duration) -> Outcome<Instant> {
        let end = Instant::now() + limit;
        let mut seen = 0;
        loop {
            let told = self
                .0
                .recv_timeout(end.saturating_duration_since(Instant::now()))?;
            seen += usize::from(told.route.is_some_and(|route| !route.is_unspecified()));
            if seen == count {
                return Ok(told.at);
            }
        }
    }

    /// How much was heard so far and not asked for.
    pub fn count(&self) -> usize {
        self.0
            .try_iter()
            .filter(|told| told.route != Some(Ipv4Addr::UNSPECIFIED))
            .count()
    }
}

fn listen() -> Outcome<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    GROUPS
        .iter()
        .try_for_each(|group| socket.add_membership(*group))?;
    set_socket_recv_buffer_size_force(&socket, 256 << 20)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))?;
    Ok(socket)
}

fn messages(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let message = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        (length >= 16).then_some(message)
    })
}

/// `RTA_DST` of a route.
fn destination(message: &[u8]) -> Option<Ipv4Addr> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let mut rest = message.get(28..).filter(|_| ROUTE.contains(&kind))?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        if kind == 1 {
            return rest
                .get(4..)?
                .first_chunk()
                .map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}
