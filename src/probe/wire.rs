//! Who has an address on a link: asked on the wire, whatever this host's neighbour table remembers.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::packet;
use super::ping::Pace;
use crate::kernel::Mac;

/// `ETH_P_ARP`, as the network has it.
const ARP: i32 = i32::from_ne_bytes([0x08, 0x06, 0, 0]);
/// More than any ARP packet in its frame.
const LONGEST: usize = 256;

/// An Ethernet link.
#[derive(Debug)]
pub struct Wire {
    socket: UdpSocket,
    link: LinkAddr,
    mac: Mac,
}

impl Wire {
    /// By the name of its interface.
    ///
    /// # Errors
    /// When there is none of that name, it is no Ethernet, or this process may not.
    pub fn open(interface: &str) -> io::Result<Self> {
        let found = getifaddrs()?.filter(|one| one.interface_name == interface);
        let link = found.filter_map(|one| one.address?.as_link_addr().copied()).next();
        let no = || io::Error::new(io::ErrorKind::NotFound, format!("{interface} is no Ethernet link"));
        let link = link.ok_or_else(no)?;
        let mac = Mac(link.addr().ok_or_else(no)?);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ARP)))?;
        Ok(Self { socket: super::asynchronous(socket)?, link, mac })
    }

    /// Everybody who says that the address is his; more than one is one too many.
    pub async fn owners(&self, wanted: Ipv4Addr, pace: Pace) -> BTreeSet<Mac> {
        let mut owners = BTreeSet::new();
        for attempt in 0..pace.attempts.max(1) {
            // A link that is down has no owners.
            let question = packet::who_has(self.mac, wanted);
            let _ = sendto(self.socket.as_raw_fd(), &question, &self.link, MsgFlags::MSG_DONTWAIT);
            let is_last = attempt + 1 >= pace.attempts;
            let end = Instant::now() + if is_last && owners.is_empty() { pace.patience } else { pace.gap };
            while let Ok(mac) = timeout_at(end, self.owner(wanted)).await {
                owners.insert(mac);
            }
        }
        owners
    }

    async fn owner(&self, wanted: Ipv4Addr) -> Mac {
        let mut buffer = [0; LONGEST];
        loop {
            let read = self.socket.recv(&mut buffer).await;
            let Ok(length) = read else { continue };
            let owner = packet::read_arp(buffer.get(..length).unwrap_or_default());
            if let Some((_, mac)) = owner.filter(|(ip, mac)| *ip == wanted && *mac != self.mac) {
                return mac;
            }
        }
    }
}
