//! The socket that hears about changes. It never queues: what is not read in time the kernel drops, and says so.

use std::future::poll_fn;
use std::io;

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::KernelError;
use super::decode::{self, Owned};
use super::entry::LinkRole;
use super::notification::Notification;

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE` of `<linux/rtnetlink.h>`.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// Room for the echo of ten thousand writes of our own.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Notifications come one or a few in a datagram.
const DATAGRAM: usize = 64 << 10;
/// Datagrams read before others get their turn.
const TURN: usize = 1024;

/// Notifications of one network namespace.
pub struct Monitor {
    socket: TokioSocket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Listens from now on.
    pub(super) fn open() -> Result<Self, KernelError> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            GROUPS
                .iter()
                .try_for_each(|group| socket.socket_mut().add_membership(*group))?;
            // Without the privilege the smaller buffer still works: an overrun is noticed.
            let _ = set_socket_recv_buffer_size_force(socket.socket_ref(), RECEIVE_BUFFER);
            Ok(socket)
        };
        let socket = open().map_err(|error| KernelError::Socket {
            doing: "listen to the kernel",
            error,
        })?;
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits for notifications and returns what concerns us of those that are there. May be empty. Cancel safe.
    pub(super) async fn next(
        &mut self,
        owned: &Owned,
        dev_of: impl Fn(u32) -> Option<LinkRole> + Copy,
    ) -> Vec<Notification> {
        self.datagram.clear();
        let mut received = poll_fn(|cx| self.socket.poll_recv(cx, &mut self.datagram)).await;
        let mut notices = Vec::new();
        for turn in 1.. {
            match received {
                Ok(()) => {
                    notices.extend(
                        decode::messages(&self.datagram)
                            .filter_map(|message| Notification::read(&message, owned, dev_of)),
                    );
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: the kernel dropped notifications. Anything else is treated alike: look for yourself.
                Err(_) => notices.push(Notification::Overrun),
            }
            if turn == TURN {
                break;
            }
            self.datagram.clear();
            received = self
                .socket
                .socket_ref()
                .recv(&mut self.datagram, 0)
                .map(drop);
        }
        notices
    }
}
