//! Sends echo requests from an address of this host to another host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::packet::{self, Mark};
use crate::util::family::Family;

/// Longer than any IP packet.
const LONGEST: usize = 1 << 16;

/// A socket for echo requests with one ID from one address to another.
#[derive(Debug)]
pub struct EchoSocket {
    socket: UdpSocket,
    source: Option<IpAddr>,
    to: IpAddr,
    id: u16,
}

impl EchoSocket {
    /// Opens a socket that sends from `source`, or from the address that the kernel chooses.
    pub fn open(source: Option<IpAddr>, to: IpAddr, id: u16) -> io::Result<Self> {
        let socket = match Family::of(to) {
            Family::V4 => {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
                // With its own IP header, the packet is not fragmented.
                socket.set_header_included_v4(true)?;
                socket
            }
            Family::V6 => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?,
        };
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&SocketAddr::new(to, 0).into())?;
        Ok(Self {
            socket: super::asynchronous(socket)?,
            source,
            to,
            id,
        })
    }

    /// Sends a request whose size includes the IP header.
    pub async fn send(&self, seq: u16, size: u32) -> io::Result<()> {
        let mark = Mark { id: self.id, seq };
        let packet = match (self.source, self.to) {
            (Some(IpAddr::V4(source)), IpAddr::V4(to)) => packet::echo_v4(source, to, mark, size)?,
            // The kernel fills in an unspecified source address.
            (_, IpAddr::V4(to)) => packet::echo_v4(Ipv4Addr::UNSPECIFIED, to, mark, size)?,
            (_, IpAddr::V6(_)) => packet::echo_v6(mark, size)?,
        };
        self.socket.send(&packet).await.map(drop)
    }

    /// Waits for the next reply and returns its sequence number. Cancel safe.
    pub async fn answer(&self) -> u16 {
        let mut buffer = vec![0; LONGEST];
        loop {
            let read = self.socket.recv(&mut buffer).await;
            // The error is about one packet that came back. Others may still be answered.
            let Ok(length) = read else { continue };
            if let Some(mark) = self.read(buffer.get(..length).unwrap_or_default())
                && mark.id == self.id
            {
                return mark.seq;
            }
        }
    }

    /// Returns the smallest size: headers only.
    pub fn smallest(&self) -> u32 {
        match Family::of(self.to) {
            Family::V4 => packet::HEADERS_V4,
            Family::V6 => packet::HEADERS_V6,
        }
    }

    fn read(&self, bytes: &[u8]) -> Option<Mark> {
        match self.to {
            IpAddr::V4(_) => {
                let echo = packet::read_v4(bytes)?;
                (echo.is_reply && echo.source == self.to).then_some(echo.mark)
            }
            IpAddr::V6(_) => packet::read_v6(bytes),
        }
    }
}
