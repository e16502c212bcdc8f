//! Packets that find out what comes through to another host, on the underlay and in the tunnel, and a tap that sees how far
//! they and their answers got.
//!
//! A [`EchoSocket`] sends as the host's own programs do. A [`Tunnel`] sends frames that were made by hand: past this host's routes,
//! neighbors and forwarding entries, so that what is wrong there can be told from what is wrong on the other side. A [`CaptureSocket`]
//! sees packets before this host's firewall does. A [`ArpSocket`] asks who has an address on a link. All of it needs root or `CAP_NET_RAW`.

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

/// A socket of any kind for the event loop, which sends and receives alike on all of them.
fn asynchronous(socket: Socket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Why this host does not even send a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its own firewall.
    Blocked,
    /// No route leads there, or no one answers for the next hop.
    NoRoute,
    /// The address to send from is not there.
    NoAddress,
    /// Longer than the device's MTU.
    TooLong,
    /// Anything else, by its number.
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
