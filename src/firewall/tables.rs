//! The tables that nftables has, listed without a program: most hosts have none that a look must know more about.

use std::collections::BTreeSet;
use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;

use super::notification::{NFTABLES, table};
use crate::kernel::decode::messages;

/// `NFT_MSG_GETTABLE` of `<linux/netfilter/nf_tables.h>`, for all families.
const GET_TABLE: u8 = 1;
/// Numbers of `<linux/netlink.h>`.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// How often a dump that the kernel calls inconsistent is repeated.
const ATTEMPTS: u32 = 8;
const DATAGRAM: usize = 64 << 10;

/// Family and name of each, with the numbers of `<linux/netfilter.h>`.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeSet<(u8, String)>);

impl Tables {
    /// Asks the kernel. A kernel without nftables has none.
    pub(super) fn read() -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            match Self::dump() {
                Err(error) if is_unsupported(&error) => return Ok(Self::default()),
                Ok(None) => {}
                result => return result.map(Option::unwrap_or_default),
            }
        }
        Err(io::Error::other("they change all the time"))
    }

    /// Returns `None` if something changed while the kernel was answering.
    fn dump() -> io::Result<Option<Self>> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers while `send` runs.
        socket.set_non_blocking(true)?;
        socket.send(&request(), 0)?;
        let (mut found, mut is_consistent) = (BTreeSet::new(), true);
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            socket.recv(&mut datagram, 0)?;
            for message in messages(&datagram) {
                is_consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                let code = message.body().first_chunk().copied();
                match (message.kind, code.map_or(0, i32::from_ne_bytes)) {
                    (NLMSG_DONE | NLMSG_ERROR, errno) if errno < 0 => {
                        return Err(Errno::from_raw_os_error(errno.saturating_neg()).into());
                    }
                    (NLMSG_DONE, _) => return Ok(is_consistent.then_some(Self(found))),
                    _ => found.extend(table(message.body())),
                }
            }
        }
    }

    /// Whether there is such a table; `family` as nft writes it.
    pub(super) fn has(&self, family: &str, name: &str) -> bool {
        let family = match family {
            "inet" => 1,
            "ip" => 2,
            "ip6" => 10,
            _ => return false,
        };
        self.0.contains(&(family, name.to_owned()))
    }
}

fn request() -> Vec<u8> {
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend([GET_TABLE, NFTABLES]);
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence, port, and the netfilter header, whose family 0 stands for all.
    request.resize(20, 0);
    request
}

/// Whether the kernel lacks nftables: its protocol or its part of that.
fn is_unsupported(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    [Errno::PROTONOSUPPORT, Errno::INVAL, Errno::OPNOTSUPP]
        .map(Some)
        .contains(&errno)
}
