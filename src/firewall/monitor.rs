//! The socket that hears of changes of nftables, which iptables-nft makes as well. iptables-legacy is silent.

use std::future::poll_fn;
use std::io;

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::notification::concerns;

/// `NFNLGRP_NFTABLES` of `<linux/netfilter/nfnetlink.h>`.
const GROUP: u32 = 7;
/// Room for what kube-proxy writes in one go.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel packs the changes of one transaction into datagrams of up to a page, or what fits.
const DATAGRAM: usize = 64 << 10;

/// Notifications of one network namespace.
pub(super) struct Monitor {
    socket: TokioSocket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Listens from now on.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        // Without the privilege the smaller buffer still works: an overrun counts as a change.
        let _ = set_socket_recv_buffer_size_force(socket.socket_ref(), RECEIVE_BUFFER);
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits until something has changed that flannel's rules depend on. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            self.datagram.clear();
            match poll_fn(|cx| self.socket.poll_recv(cx, &mut self.datagram)).await {
                Ok(()) if !concerns(&self.datagram) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: the kernel dropped notifications. Anything else is treated alike: look for yourself.
                Ok(()) | Err(_) => return,
            }
        }
    }
}
