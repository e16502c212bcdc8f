//! Sends frames to another host's VXLAN port without this host's VXLAN device.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::packet;

/// A socket to a host's VXLAN port.
#[derive(Debug)]
pub struct Tunnel {
    socket: UdpSocket,
    vni: u32,
}

impl Tunnel {
    /// Opens a socket from `local` to `host`.
    pub async fn open(local: IpAddr, host: IpAddr, port: u16, vni: u32) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
        socket.connect(SocketAddr::new(host, port)).await?;
        Ok(Self { socket, vni })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If this host does not send it, or the other host has reported the port as closed.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket
            .send(&packet::vxlan(self.vni, frame))
            .await
            .map(drop)
    }

    /// Waits until the other host reports the port as closed. Cancel safe.
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

/// Returns whether the other host has reported the port as closed.
pub fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
