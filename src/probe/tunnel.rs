//! Frames to another host's VXLAN port that do not pass this host's VXLAN device.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::packet;

/// A way to a host's VXLAN port.
#[derive(Debug)]
pub struct Tunnel {
    socket: UdpSocket,
    vni: u32,
}

impl Tunnel {
    /// From `local` to `host`.
    ///
    /// # Errors
    /// When this host has no such address or no way there.
    pub async fn open(local: IpAddr, host: IpAddr, port: u16, vni: u32) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
        socket.connect(SocketAddr::new(host, port)).await?;
        Ok(Self { socket, vni })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When this host does not let it go, or the other one has said that no one listens.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket
            .send(&packet::vxlan(self.vni, frame))
            .await
            .map(drop)
    }

    /// Waits until the other host says that no one listens there. Cancel safe.
    pub async fn refused(&self) {
        let mut nothing = [0; 1];
        while !self
            .socket
            .recv(&mut nothing)
            .await
            .is_err_and(|error| is_refused(&error))
        {}
    }
}

/// Whether the other host has said that no one listens.
pub fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
