//! One rtnetlink socket: packed writes and consistent dumps.
//!
//! The kernel answers while `send` runs, so the replies are in the receive buffer when it returns and nothing here ever
//! waits. A reply that is not there is a fact to report, not something to wait for.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use super::KernelError;
use super::decode::{self, Message};

/// Bytes of one datagram to the kernel; larger ones gain nothing (measured), smaller ones cost system calls.
const DATAGRAM: usize = 64 << 10;
/// Receive buffer: room for the refusals of a whole datagram. The default holds 256.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Largest datagram the kernel sends in a dump.
const REPLY: usize = 1 << 20;
/// How often a dump that the kernel calls inconsistent is repeated.
const DUMP_ATTEMPTS: u32 = 8;
/// Kinds of messages about the conversation itself: `<linux/netlink.h>`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Of an error, what comes before the attributes of the extended acknowledgement: errno and the header of the request.
const ERROR_LEN: usize = 20;
/// The text attribute of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Position among the messages sent.
    pub(super) position: usize,
    pub(super) errno: Errno,
    /// The kernel's own words, where it has some.
    pub(super) text: Option<String>,
}

pub(super) struct RouteSocket {
    socket: Socket,
    sequence: u32,
    reply: Vec<u8>,
}

impl RouteSocket {
    pub(super) fn open() -> Result<Self, KernelError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Of Linux 4.3, 4.12, and 4.20. Without the first two, refusals are longer and have no text; without the last one,
            // the kernel answers with more than what it was asked, which `is_answer` leaves out.
            let options = [
                Socket::set_cap_ack,
                Socket::set_ext_ack,
                Socket::set_netlink_get_strict_chk,
            ];
            options
                .iter()
                .try_for_each(|set| unless_unknown(set(&mut socket, true)))?;
            socket.set_non_blocking(true)?;
            // Without the privilege the smaller buffer still works: lost replies are noticed.
            let _ =
                rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
            Ok(socket)
        };
        let socket = open().map_err(|error| KernelError::Socket {
            doing: "open a netlink socket",
            error,
        })?;
        Ok(Self {
            socket,
            sequence: 0,
            reply: Vec::with_capacity(REPLY),
        })
    }

    /// Sends the messages in order, as few datagrams as they fit in, and returns what the kernel refused. A refusal does
    /// not stop the others.
    pub(super) fn send(
        &mut self,
        messages: impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>>,
    ) -> Result<Vec<Refusal>, KernelError> {
        let mut messages = messages.peekable();
        let (mut refusals, mut sent) = (Vec::new(), 0);
        let mut datagram = Vec::with_capacity(DATAGRAM + 512);
        while messages.peek().is_some() {
            datagram.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while datagram.len() < DATAGRAM
                && let Some(message) = messages.next()
            {
                let last = datagram.len() + 256 >= DATAGRAM || messages.peek().is_none();
                self.append(&mut datagram, message, if last { NLM_F_ACK } else { 0 });
                count += 1;
                if last {
                    break;
                }
            }
            self.transmit(&datagram)?;
            self.collect(first, count, sent, &mut refusals)?;
            sent += count;
        }
        Ok(refusals)
    }

    fn append(
        &mut self,
        datagram: &mut Vec<u8>,
        mut message: NetlinkMessage<RouteNetlinkMessage>,
        flags: u16,
    ) {
        self.sequence = self.sequence.wrapping_add(1);
        message.header.sequence_number = self.sequence;
        message.header.flags |= NLM_F_REQUEST | flags;
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(datagram.get_mut(start..).unwrap_or_default());
    }

    fn transmit(&self, datagram: &[u8]) -> Result<(), KernelError> {
        loop {
            match self.socket.send(datagram, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(KernelError::Socket {
                        doing: "send to the kernel",
                        error,
                    });
                }
            }
        }
    }

    /// Reads the replies to `count` messages from sequence number `first` on, until the last is acknowledged.
    fn collect(
        &mut self,
        first: u32,
        count: usize,
        offset: usize,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), KernelError> {
        loop {
            let mut done = false;
            self.receive(|message| {
                let position =
                    usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                // Anything else answers an earlier request that was given up.
                if message.kind == NLMSG_ERROR && position < count {
                    done |= position + 1 == count;
                    if let Some((errno, text)) = refusal(message) {
                        refusals.push(Refusal {
                            position: offset + position,
                            errno,
                            text,
                        });
                    }
                }
                Ok(())
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// What `read` makes of the answer to one question; `None`: the kernel refuses to give one.
    pub(super) fn ask<T>(
        &mut self,
        question: &RouteNetlinkMessage,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, KernelError> {
        let mut datagram = Vec::new();
        self.append(&mut datagram, NetlinkMessage::from(question.clone()), 0);
        self.transmit(&datagram)?;
        let (ours, mut answer, mut done) = (self.sequence, None, false);
        while !done {
            self.receive(|message| {
                if message.sequence == ours {
                    done = true;
                    answer = read(message);
                }
                Ok(())
            })?;
        }
        Ok(answer)
    }

    /// What `read` makes of the messages of a dump, in kernel order. Repeated until the kernel calls it consistent.
    pub(super) fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(request, &read)? {
                return Ok(found);
            }
        }
        Err(KernelError::Unsettled)
    }

    /// `None`: something changed while the kernel was answering.
    fn dump_once<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, KernelError> {
        let mut datagram = Vec::new();
        self.append(
            &mut datagram,
            NetlinkMessage::from(request.clone()),
            NLM_F_DUMP,
        );
        self.transmit(&datagram)?;
        let ours = self.sequence;
        let (mut found, mut consistent, mut complete) = (Vec::new(), true, false);
        while !complete {
            self.receive(|message| {
                if message.sequence != ours {
                    return Ok(());
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match (message.kind, code(message)) {
                    (NLMSG_ERROR, errno) => return Err(KernelError::dump(errno)),
                    (NLMSG_DONE, errno) if errno > 0 => return Err(KernelError::dump(errno)),
                    (NLMSG_DONE, _) => complete = true,
                    _ => found.extend(read(message)),
                }
                Ok(())
            })?;
        }
        Ok(consistent.then_some(found))
    }

    /// Hands every message of the next datagram to `each`.
    fn receive(
        &mut self,
        mut each: impl FnMut(&Message<'_>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.reply.clear();
        match self.socket.recv(&mut self.reply, 0) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(KernelError::lost(error)),
        }
        decode::messages(&self.reply).try_for_each(|message| each(&message))
    }
}

/// Takes an option that the kernel does not know for set.
fn unless_unknown(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => Ok(()),
        other => other,
    }
}

/// The errno of a message about the conversation itself; 0 for none.
fn code(message: &Message<'_>) -> i32 {
    let code = message.body().first_chunk().copied();
    code.map_or(0, i32::from_ne_bytes).saturating_neg()
}

/// Errno and text of a refusal; `None` for an acknowledgement.
fn refusal(message: &Message<'_>) -> Option<(Errno, Option<String>)> {
    let errno = Some(code(message)).filter(|errno| *errno != 0)?;
    let attributes = message.body().get(ERROR_LEN..);
    let text = attributes
        .filter(|_| message.flags & NLM_F_ACK_TLVS != 0)
        .and_then(|bytes| decode::attributes(bytes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG))
        .map(|(_, text)| {
            String::from_utf8_lossy(text)
                .trim_end_matches('\0')
                .to_owned()
        });
    Some((Errno::from_raw_os_error(errno), text))
}
