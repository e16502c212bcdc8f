//! Echo requests from one address of this host to one of another.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::packet::{self, Mark};
use crate::util::family::Family;

/// More than any IP packet.
const LONGEST: usize = 1 << 16;

/// A way from here to there, for echo requests of one id.
#[derive(Debug)]
pub struct EchoSocket {
    socket: UdpSocket,
    source: Option<IpAddr>,
    to: IpAddr,
    id: u16,
}

impl EchoSocket {
    /// From `source`, without one from the address that the kernel chooses.
    ///
    /// # Errors
    /// When this host has no such address or no way there, or refuses raw sockets.
    pub fn open(source: Option<IpAddr>, to: IpAddr, id: u16) -> io::Result<Self> {
        let socket = match Family::of(to) {
            Family::V4 => {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
                // With a header of our own there is no division into fragments here.
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

    /// Sends a request as large as said: IP header and all.
    ///
    /// # Errors
    /// When this host does not let it go.
    pub async fn send(&self, seq: u16, size: u32) -> io::Result<()> {
        let mark = Mark { id: self.id, seq };
        let packet = match (self.source, self.to) {
            (Some(IpAddr::V4(source)), IpAddr::V4(to)) => packet::echo_v4(source, to, mark, size)?,
            // The kernel fills in what is unspecified.
            (_, IpAddr::V4(to)) => packet::echo_v4(Ipv4Addr::UNSPECIFIED, to, mark, size)?,
            (_, IpAddr::V6(_)) => packet::echo_v6(mark, size)?,
        };
        self.socket.send(&packet).await.map(drop)
    }

    /// Waits for the next answer; its number. Cancel safe.
    pub async fn answer(&self) -> u16 {
        let mut buffer = vec![0; LONGEST];
        loop {
            let read = self.socket.recv(&mut buffer).await;
            // An error is of one packet that came back: whether others are answered is still to be seen.
            let Ok(length) = read else { continue };
            if let Some(mark) = self.read(buffer.get(..length).unwrap_or_default())
                && mark.id == self.id
            {
                return mark.seq;
            }
        }
    }

    /// Its smallest request: headers alone.
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
