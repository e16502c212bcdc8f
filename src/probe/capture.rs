//! What passes this host's interfaces, seen before its firewall and after.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::filter;
use super::packet::{self, Seen};

/// `ETH_P_ALL`, as the network has it: also what this host sends.
const EVERYTHING: i32 = i32::from_ne_bytes([0x00, 0x03, 0, 0]);
/// More than any IP packet.
const LONGEST: usize = 1 << 16;

/// Sees the echoes of one id, plain and in the tunnel, and who says that an address is his. IPv4 only.
#[derive(Debug)]
pub struct CaptureSocket {
    socket: UdpSocket,
    port: u16,
}

impl CaptureSocket {
    /// On all interfaces; `port` is that of the tunnel.
    ///
    /// # Errors
    /// When this process may not.
    pub fn open(id: u16, port: u16) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::PACKET,
            Type::DGRAM,
            Some(Protocol::from(EVERYTHING)),
        )?;
        socket.attach_filter(&filter::program(id, port))?;
        Ok(Self {
            socket: super::asynchronous(socket)?,
            port,
        })
    }

    /// Waits for the next packet of interest. Cancel safe.
    pub async fn next(&self) -> Seen {
        let mut buffer = vec![0; LONGEST];
        loop {
            let read = self.socket.recv(&mut buffer).await;
            // An error is about an interface that went down.
            let Ok(length) = read else { continue };
            if let Some(seen) = packet::read(buffer.get(..length).unwrap_or_default(), self.port) {
                return seen;
            }
        }
    }
}
