//! Sends packets to another host, on the underlay and in the tunnel, and captures how far they and their replies get.
//!
//! An [`EchoSocket`] sends as the host's own programs do. A [`Tunnel`] sends handmade frames, which bypass this host's routes,
//! neighbors, and FDB entries, so that faults of this host can be told from faults of the other side. A [`CaptureSocket`]
//! sees packets before this host's firewall does. An [`ArpSocket`] asks who has an address on a link. All need root or `CAP_NET_RAW`.

mod arp;
mod capture;
mod echo;
mod filter;
pub mod packet;
pub mod ping;
pub mod pmtu;
mod tunnel;

use std::io;

use rustix::io::Errno;
use socket2::Socket;
use tokio::net::UdpSocket;

pub use arp::ArpSocket;
pub use capture::CaptureSocket;
pub use echo::EchoSocket;
pub use tunnel::{Tunnel, is_refused};

/// Registers a socket of any kind with the event loop; sending and receiving are alike for all of them.
fn asynchronous(socket: Socket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Why this host does not send a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its firewall drops the packet.
    Blocked,
    /// There is no route, or the next hop does not answer.
    NoRoute,
    /// The source address does not exist.
    NoAddress,
    /// The packet is larger than the device's MTU.
    TooLong,
    /// Another error number.
    Other(i32),
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => Refusal::Blocked,
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::INVAL) => {
                Refusal::NoRoute
            }
            Some(Errno::ADDRNOTAVAIL) => Refusal::NoAddress,
            Some(Errno::MSGSIZE) => Refusal::TooLong,
            Some(other) => Refusal::Other(other.raw_os_error()),
            None => Refusal::Other(0),
        }
    }
}
