//! Captures packets on this host's interfaces, before the firewall sees incoming ones.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::filter;
use super::packet::{self, Seen};

/// `ETH_P_ALL` in network byte order, which includes outgoing packets.
const EVERYTHING: i32 = i32::from_ne_bytes([0x00, 0x03, 0, 0]);
/// Longer than any IP packet.
const LONGEST: usize = 1 << 16;

/// Captures echo packets with one ID, plain and in the tunnel, and ARP answers in the tunnel. IPv4 only.
#[derive(Debug)]
pub struct CaptureSocket {
    socket: UdpSocket,
    port: u16,
}

impl CaptureSocket {
    /// Captures on all interfaces; `port` is the UDP port of the tunnel.
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
            // The error is about an interface that went down.
            let Ok(length) = read else { continue };
            if let Some(seen) = packet::read(buffer.get(..length).unwrap_or_default(), self.port) {
                return seen;
            }
        }
    }
}
