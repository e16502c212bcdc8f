//! Finds the owners of an address on a link by ARP, without using or changing this host's neighbor table.
//!
//! The kernel stores the MAC of every ARP answer in an existing entry of its neighbor table. So if there is an entry, its MAC is asked
//! directly, which confirms it. All other hosts are asked to send their answer to a MAC that this host does not have: a socket receives
//! such frames, and the kernel ignores them. A network card that drops frames to other MACs hides those answers, but the owner in the
//! neighbor table is still found.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::packet::{self, BROADCAST};
use super::ping::Timing;
use crate::kernel::Mac;

/// `ETH_P_ARP` in network byte order.
const ARP: i32 = i32::from_ne_bytes([0x08, 0x06, 0, 0]);
/// Longer than any ARP packet with its frame.
const LONGEST: usize = 256;

#[derive(Debug)]
pub struct ArpSocket {
    socket: UdpSocket,
    link: LinkAddr,
    mac: Mac,
    name: String,
}

/// A locally administered MAC that no device has.
const NOT_OURS: Mac = Mac([0x02, 0x66, 0x6c, 0x61, 0x6e, 0x6e]);

impl ArpSocket {
    /// Opens a socket on the interface with this name.
    pub fn open(interface: &str) -> io::Result<Self> {
        let found = getifaddrs()?.filter(|one| one.interface_name == interface);
        let link = found
            .filter_map(|one| one.address?.as_link_addr().copied())
            .next();
        let no = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{interface} is not an Ethernet link"),
            )
        };
        let link = link.ok_or_else(no)?;
        let mac = Mac(link.addr().ok_or_else(no)?);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ARP)))?;
        Ok(Self {
            socket: super::asynchronous(socket)?,
            link,
            mac,
            name: interface.to_owned(),
        })
    }

    /// Returns the MACs that answer for the address. More than one is a conflict.
    pub async fn owners(&self, wanted: Ipv4Addr, timing: Timing) -> BTreeSet<Mac> {
        let mut owners = BTreeSet::new();
        for attempt in 0..timing.attempts.max(1) {
            for question in self.questions(wanted) {
                // A link that is down has no owners.
                let _ = sendto(
                    self.socket.as_raw_fd(),
                    &question,
                    &self.link,
                    MsgFlags::MSG_DONTWAIT,
                );
            }
            let is_last = attempt + 1 >= timing.attempts;
            let end = Instant::now()
                + if is_last && owners.is_empty() {
                    timing.patience
                } else {
                    timing.gap
                };
            while let Ok(mac) = timeout_at(end, self.owner(wanted)).await {
                owners.insert(mac);
            }
        }
        owners
    }

    fn questions(&self, wanted: Ipv4Addr) -> Vec<Vec<u8>> {
        let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
        match known(&table, wanted, &self.name) {
            None => vec![packet::who_has(self.mac, wanted)],
            Some(mac) => vec![
                packet::who_has_for((self.mac, mac), self.mac, wanted),
                packet::who_has_for((self.mac, BROADCAST), NOT_OURS, wanted),
            ],
        }
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

/// Returns the MAC in the kernel's neighbor table: `address type flags MAC mask device`. Flag 2 means that the entry is complete.
fn known(table: &str, wanted: Ipv4Addr, device: &str) -> Option<Mac> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, flags, mac, _, link] = fields.as_slice() else {
            return None;
        };
        let flags = u8::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let is_meant = *link == device && ip.parse() == Ok(wanted) && flags & 2 != 0;
        is_meant.then(|| mac.parse().ok()).flatten()
    };
    table.lines().find_map(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_entries_of_the_link_are_known() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.64.0.2        0x1         0x2         02:00:0a:40:00:02     *        eth0\n\
                     10.64.0.3        0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     10.64.0.4        0x1         0x6         02:00:0a:40:00:04     *        eth1\n";
        let known = |n, device| known(table, Ipv4Addr::new(10, 64, 0, n), device);
        assert_eq!(known(2, "eth0"), Some(Mac([2, 0, 10, 64, 0, 2])));
        assert_eq!(known(4, "eth1"), Some(Mac([2, 0, 10, 64, 0, 4])));
        assert_eq!(
            (known(3, "eth0"), known(4, "eth0"), known(9, "eth0")),
            (None, None, None)
        );
    }
}
