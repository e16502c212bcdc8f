//! The yardstick: a program that only writes the peers' entries, by hand-made netlink messages in datagrams of 64 KiB, with
//! routes spread over protocol numbers. Nothing that goes through this kernel interface is faster.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::time::Instant;

use super::{Backend, Outcome, Peer, milliseconds, within};
use lab::Node;

const DATAGRAM: usize = 64 << 10;
/// `RTM_NEWNEIGH` and `RTM_NEWROUTE`.
const NEIGH: u16 = 28;
const ROUTE: u16 = 24;
/// `NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE`, and `NLM_F_ACK`.
const FLAGS: u16 = 0x0501;
const ACK: u16 = 0x04;
const DEVICE: &str = "packed.1";
/// Writes an entry of a peer on the device of this index.
type Entry = fn(&mut Vec<u8>, Peer, u32);

/// Makes a device like the daemon's, without entries.
pub fn device(node: &Node) -> Outcome<()> {
    if Backend::chosen() == Backend::HostGw {
        return Ok(super::reset(node)?);
    }
    node.sh(&format!(
        "ip link del {DEVICE} 2>/dev/null || true; ip link add {DEVICE} type vxlan id 1 local {} dev eth0 nolearning dstport 8472; ip link set {DEVICE} up",
        node.address()
    ))?;
    Ok(())
}

/// Writes the entries of these peers; how long that took in milliseconds.
pub fn write(node: &Node, peers: &[Peer]) -> Outcome<f64> {
    let (device, kinds): (_, &[Entry]) = match Backend::chosen() {
        Backend::Vxlan => (DEVICE, &[neighbor, forwarding, route]),
        Backend::HostGw => ("eth0", &[plain_route]),
    };
    let index: u32 = node
        .sh(&format!("cat /sys/class/net/{device}/ifindex"))?
        .trim()
        .parse()?;
    within(node, || {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        set_socket_recv_buffer_size_force(&socket, 4 << 20)?;
        let begin = Instant::now();
        for entry in kinds {
            pack(&socket, peers, |datagram, peer| {
                entry(datagram, peer, index)
            })?;
        }
        Ok(milliseconds(begin))
    })
}

fn pack(socket: &Socket, peers: &[Peer], entry: impl Fn(&mut Vec<u8>, Peer)) -> Outcome<()> {
    let mut datagram = Vec::with_capacity(DATAGRAM);
    for (count, peer) in peers.iter().enumerate() {
        let start = datagram.len();
        entry(&mut datagram, *peer);
        if datagram.len() + 128 > DATAGRAM || count + 1 == peers.len() {
            let flags = (FLAGS | ACK).to_ne_bytes();
            datagram.splice(start + 6..start + 8, flags);
            send(socket, &datagram)?;
            datagram.clear();
        }
    }
    Ok(())
}

/// The one answer is the acknowledgement of the last message, unless something was refused.
fn send(socket: &Socket, datagram: &[u8]) -> Outcome<()> {
    socket.send(datagram, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    match answer.get(16..20) {
        Some([0, 0, 0, 0]) => Ok(()),
        code => Err(format!("the kernel refused an entry of the yardstick: {code:?}").into()),
    }
}

fn neighbor(datagram: &mut Vec<u8>, peer: Peer, index: u32) {
    // Family, state (permanent), flags, kind.
    let body = [&[2, 0, 0, 0][..], &index.to_ne_bytes(), &[0x80, 0, 0, 0]].concat();
    message(
        datagram,
        NEIGH,
        &body,
        &[(1, &peer.subnet().octets()), (2, &peer.mac())],
    );
}

fn forwarding(datagram: &mut Vec<u8>, peer: Peer, index: u32) {
    let body = [&[7, 0, 0, 0][..], &index.to_ne_bytes(), &[0x80, 0, 2, 0]].concat();
    message(
        datagram,
        NEIGH,
        &body,
        &[(1, &peer.public().octets()), (2, &peer.mac())],
    );
}

fn route(datagram: &mut Vec<u8>, peer: Peer, index: u32) {
    let protocol = 100 + u8::try_from(peer.0 % 64).unwrap_or_default();
    // Family, lengths, TOS, table (main), protocol, scope, type (unicast), flags (onlink).
    let body = [2, 24, 0, 0, 254, protocol, 0, 1, 4, 0, 0, 0];
    let gateway = peer.subnet().octets();
    message(
        datagram,
        ROUTE,
        &body,
        &[(1, &gateway), (5, &gateway), (4, &index.to_ne_bytes())],
    );
}

/// Through the peer itself.
fn plain_route(datagram: &mut Vec<u8>, peer: Peer, index: u32) {
    let protocol = 100 + u8::try_from(peer.0 % 64).unwrap_or_default();
    let body = [2, 24, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0];
    let (subnet, public) = (peer.subnet().octets(), peer.public().octets());
    message(
        datagram,
        ROUTE,
        &body,
        &[(1, &subnet), (5, &public), (4, &index.to_ne_bytes())],
    );
}

fn message(datagram: &mut Vec<u8>, kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) {
    let start = datagram.len();
    datagram.extend([0; 4]);
    datagram.extend(kind.to_ne_bytes());
    datagram.extend(FLAGS.to_ne_bytes());
    datagram.extend([0; 8]);
    datagram.extend(body);
    for (kind, value) in attributes {
        datagram.extend(
            u16::try_from(4 + value.len())
                .unwrap_or_default()
                .to_ne_bytes(),
        );
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(*value);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(datagram.len() - start).unwrap_or_default();
    datagram.splice(start..start + 4, length.to_ne_bytes());
}
