//! One rtnetlink socket: packed writes and consistent dumps.
//!
//! The kernel answers while `send` runs, so the replies are in the receive buffer when it returns and nothing here ever
//! waits. A reply that is not there is a fact to report, not something to wait for.

use std::io;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use super::KernelError;
use super::dump_requests::is_answer;

/// Bytes of one datagram to the kernel; larger ones gain nothing (measured), smaller ones cost system calls.
const DATAGRAM: usize = 64 << 10;
/// Receive buffer: room for the refusals of a whole datagram. The default holds 256.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Largest datagram the kernel sends in a dump.
const REPLY: usize = 1 << 20;
/// How often a dump that the kernel calls inconsistent is repeated.
const DUMP_ATTEMPTS: u32 = 8;
/// The text attribute of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Position among the messages sent.
    pub(super) position: usize,
    /// Why.
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
            self.receive(|header, payload| {
                let position = usize::try_from(header.sequence_number.wrapping_sub(first))
                    .unwrap_or(usize::MAX);
                // Anything else answers an earlier request that was given up.
                if let (NetlinkPayload::Error(error), true) = (payload, position < count) {
                    done |= position + 1 == count;
                    if let Some((errno, text)) = refusal(header, &error) {
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

    /// The answer to one question; `None`: the kernel refuses to give one.
    pub(super) fn ask(
        &mut self,
        question: &RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, KernelError> {
        let mut datagram = Vec::new();
        self.append(&mut datagram, NetlinkMessage::from(question.clone()), 0);
        self.transmit(&datagram)?;
        let (ours, mut answer, mut done) = (self.sequence, None, false);
        while !done {
            self.receive(|header, payload| {
                if header.sequence_number == ours {
                    done = true;
                    answer = inner(payload);
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
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
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
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
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
            self.receive(|header, payload| {
                if header.sequence_number != ours {
                    return Ok(());
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) if is_answer(request, &message) => {
                        found.extend(read(message));
                    }
                    NetlinkPayload::Done(end) if end.code < 0 => {
                        return Err(KernelError::dump(-end.code));
                    }
                    NetlinkPayload::Done(_) => complete = true,
                    NetlinkPayload::Error(error) => {
                        return Err(KernelError::dump(-error.raw_code()));
                    }
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
                }
                Ok(())
            })?;
        }
        Ok(consistent.then_some(found))
    }

    /// Hands every message of the next datagram to `each`.
    fn receive(
        &mut self,
        mut each: impl FnMut(
            NetlinkHeader,
            NetlinkPayload<RouteNetlinkMessage>,
        ) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.reply.clear();
        match self.socket.recv(&mut self.reply, 0) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(KernelError::lost(error)),
        }
        messages(&self.reply).try_for_each(|(header, payload)| each(header, payload))
    }
}

/// Takes an option that the kernel does not know for set.
fn unless_unknown(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => Ok(()),
        other => other,
    }
}

/// The messages of a datagram. One that cannot be read is of a kind that no one here asked about.
pub(super) fn messages(
    mut rest: &[u8],
) -> impl Iterator<Item = (NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)> {
    let raw = std::iter::from_fn(move || {
        let (message, _) = rest.split_at(message_length(rest)?);
        rest = rest
            .get(message.len().next_multiple_of(4)..)
            .unwrap_or_default();
        Some(message)
    });
    raw.filter_map(|message| {
        NetlinkMessage::deserialize(message)
            .ok()
            .map(NetlinkMessage::into_parts)
    })
}

/// Length of the message at the start of `bytes`, if a whole one is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    (16..=bytes.len()).contains(&length).then_some(length)
}

/// What a message carries, unless it is one about the conversation itself.
pub(super) fn inner(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<RouteNetlinkMessage> {
    match payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        NetlinkPayload::Error(_) | NetlinkPayload::Done(_) | NetlinkPayload::Noop => None,
        NetlinkPayload::Overrun(_) | _ => None,
    }
}

/// Errno and text of a refusal; `None` for an acknowledgement.
fn refusal(header: NetlinkHeader, error: &ErrorMessage) -> Option<(Errno, Option<String>)> {
    let code = error.code?;
    // After the capped echo of the request's header come the attributes of the extended acknowledgement.
    let attributes = error
        .header
        .get(16..)
        .filter(|_| header.flags & netlink_packet_core::NLM_F_ACK_TLVS != 0);
    let text = attributes.and_then(|bytes| {
        NlasIterator::new(bytes)
            .filter_map(Result::ok)
            .find(|nla| nla.kind() == NLMSGERR_ATTR_MSG)
            .map(|nla| {
                String::from_utf8_lossy(nla.value())
                    .trim_end_matches('\0')
                    .to_owned()
            })
    });
    Some((Errno::from_raw_os_error(-code.get()), text))
}
