//! Builds the packets that are sent, and parses the packets that are captured. Pure and total.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, Ethernet2Slice,
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Header, NetSlice,
    PacketBuilder, SlicedPacket, TransportSlice,
};

use crate::kernel::Mac;

/// Size of the IPv4 and ICMP headers, the smallest echo request.
pub const HEADERS_V4: u32 = 28;
/// Size of the IPv6 and ICMPv6 headers.
pub const HEADERS_V6: u32 = 48;
pub const BROADCAST: Mac = Mac([0xff; 6]);
/// Length of the VXLAN header: flags, reserved, VNI, reserved.
const VXLAN_HEADER: usize = 8;
/// The flag that marks the VNI as valid.
const HAS_VNI: u8 = 0x08;
/// The usual hop limit of a host.
const HOPS: u8 = 64;

/// Identifies an echo request and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub id: u16,
    pub seq: u16,
}

/// Builds an IPv4 echo request of `size` bytes that must not be fragmented.
pub fn echo_v4(source: Ipv4Addr, to: Ipv4Addr, mark: Mark, size: u32) -> io::Result<Vec<u8>> {
    let mut packet = Vec::new();
    let step = PacketBuilder::ip(header(source, to, IpNumber::ICMP)?)
        .icmpv4_echo_request(mark.id, mark.seq);
    step.write(&mut packet, &payload(size, HEADERS_V4))
        .map_err(io::Error::other)?;
    Ok(packet)
}

/// Builds the ICMPv6 part of an echo request. The kernel adds the IP header and the checksum.
pub fn echo_v6(mark: Mark, size: u32) -> io::Result<Vec<u8>> {
    let kind = Icmpv6Type::EchoRequest(IcmpEchoHeader {
        id: mark.id,
        seq: mark.seq,
    });
    let mut packet = etherparse::Icmpv6Header::new(kind).to_bytes().to_vec();
    packet.extend(payload(size, HEADERS_V6));
    Ok(packet)
}

/// Builds an IPv4 UDP packet with its checksum.
pub fn udp_v4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), text: &[u8]) -> io::Result<Vec<u8>> {
    let mut packet = Vec::new();
    let step = PacketBuilder::ip(header(from.0, to.0, IpNumber::UDP)?).udp(from.1, to.1);
    step.write(&mut packet, text).map_err(io::Error::other)?;
    Ok(packet)
}

/// Asks by ARP for the owner of an address without a sender address, like a host that is about to use it. The owner answers
/// and needs no route for it.
pub fn who_has(asking: Mac, wanted: Ipv4Addr) -> Vec<u8> {
    who_has_for((asking, BROADCAST), asking, wanted)
}

/// Builds the same request in a frame from one MAC to another, with the answer sent to `answer_to`.
pub fn who_has_for((from, to): (Mac, Mac), answer_to: Mac, wanted: Ipv4Addr) -> Vec<u8> {
    let question = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: answer_to.0,
        sender_ipv4: [0; 4],
        target_mac: [0; 6],
        target_ipv4: wanted.octets(),
    };
    ethernet(
        from,
        to,
        EtherType::ARP,
        &ArpPacket::from(question).to_bytes(),
    )
}

/// Puts an IPv4 packet into a frame.
pub fn frame(from: Mac, to: Mac, packet: &[u8]) -> Vec<u8> {
    ethernet(from, to, EtherType::IPV4, packet)
}

/// Puts a frame into a VXLAN datagram.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[HAS_VNI, 0, 0, 0, a, b, c, 0], frame].concat()
}

fn ethernet(from: Mac, to: Mac, ether_type: EtherType, packet: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: from.0,
        destination: to.0,
        ether_type,
    };
    [&header.to_bytes()[..], packet].concat()
}

fn header(source: Ipv4Addr, to: Ipv4Addr, protocol: IpNumber) -> io::Result<IpHeaders> {
    let header = Ipv4Header::new(0, HOPS, protocol, source.octets(), to.octets());
    Ok(IpHeaders::Ipv4(
        header.map_err(io::Error::other)?,
        etherparse::Ipv4Extensions::default(),
    ))
}

fn payload(size: u32, headers: u32) -> Vec<u8> {
    vec![b'r'; usize::try_from(size.saturating_sub(headers)).unwrap_or_default()]
}

/// An echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    pub source: IpAddr,
    pub to: IpAddr,
    pub mark: Mark,
    pub is_reply: bool,
}

/// A packet of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An echo packet outside of a tunnel.
    Plain(Echo),
    /// An echo packet in a tunnel between two hosts.
    Tunnelled {
        /// Source and destination host.
        hosts: (IpAddr, IpAddr),
        /// Source and destination device.
        macs: (Mac, Mac),
        echo: Echo,
    },
    /// An ARP answer in a tunnel.
    Owner {
        /// The host that sent it.
        host: IpAddr,
        ip: Ipv4Addr,
        /// The MAC of its device.
        mac: Mac,
    },
}

/// Parses an IP packet; `port` is the UDP port of the tunnel. Returns only packets that are complete and valid.
pub fn read(packet: &[u8], port: u16) -> Option<Seen> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == port => {
            tunnelled(addresses(&packet)?, udp.payload())
        }
        _ => echo(&packet).map(Seen::Plain),
    }
}

/// Parses an IP packet from a raw ICMP socket.
pub fn read_v4(packet: &[u8]) -> Option<Echo> {
    echo(&SlicedPacket::from_ip(packet).ok()?)
}

/// Parses a message without its IP header from a raw ICMPv6 socket. Returns the mark of a reply.
pub fn read_v6(message: &[u8]) -> Option<Mark> {
    let message = etherparse::Icmpv6Slice::from_slice(message).ok()?;
    let Icmpv6Type::EchoReply(echo) = message.icmp_type() else {
        return None;
    };
    Some(Mark {
        id: echo.id,
        seq: echo.seq,
    })
}

/// Parses an ARP frame and returns the address and its owner, if it contains them.
pub fn read_arp(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    match SlicedPacket::from_ethernet(frame).ok()?.net? {
        NetSlice::Arp(arp) => owner(&arp.to_packet()),
        NetSlice::Ipv4(_) | NetSlice::Ipv6(_) => None,
    }
}

fn tunnelled(hosts: (IpAddr, IpAddr), datagram: &[u8]) -> Option<Seen> {
    let (header, frame) = datagram.split_at_checked(VXLAN_HEADER)?;
    if header.first()? & HAS_VNI == 0 {
        return None;
    }
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let macs = (Mac(ethernet.source()), Mac(ethernet.destination()));
    let inner = SlicedPacket::from_ethernet(frame).ok()?;
    match &inner.net {
        Some(NetSlice::Arp(arp)) => owner(&arp.to_packet()).map(|(ip, mac)| Seen::Owner {
            host: hosts.0,
            ip,
            mac,
        }),
        _ => echo(&inner).map(|echo| Seen::Tunnelled { hosts, macs, echo }),
    }
}

fn owner(arp: &ArpPacket) -> Option<(Ipv4Addr, Mac)> {
    let arp = arp
        .try_eth_ipv4()
        .ok()
        .filter(|arp| arp.operation == ArpOperation::REPLY)?;
    Some((arp.sender_ipv4_addr(), Mac(arp.sender_mac)))
}

fn addresses(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => Some((
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        )),
        Some(NetSlice::Ipv6(ip)) => Some((
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        )),
        Some(NetSlice::Arp(_)) | None => None,
    }
}

fn echo(packet: &SlicedPacket<'_>) -> Option<Echo> {
    let (source, to) = addresses(packet)?;
    let made = |echo: IcmpEchoHeader, is_reply| Echo {
        source,
        to,
        mark: Mark {
            id: echo.id,
            seq: echo.seq,
        },
        is_reply,
    };
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else {
        return None;
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are no echoes")]
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => Some(made(echo, false)),
        Icmpv4Type::EchoReply(echo) => Some(made(echo, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 5, 1, 0);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 5, 2, 0);
    const MARK: Mark = Mark { id: 0x1234, seq: 7 };

    fn outer(text: &[u8]) -> Vec<u8> {
        udp_v4(
            ([10, 64, 0, 1].into(), 40_000),
            ([10, 64, 0, 2].into(), 8472),
            text,
        )
        .unwrap()
    }

    fn request() -> Echo {
        Echo {
            source: HERE.into(),
            to: THERE.into(),
            mark: MARK,
            is_reply: false,
        }
    }

    #[test]
    fn what_is_sent_is_as_long_as_it_says_and_can_be_read() {
        for size in [28, 29, 1450, 9000] {
            let packet = echo_v4(HERE, THERE, MARK, size).unwrap();
            assert_eq!(packet.len(), usize::try_from(size).unwrap());
            assert_eq!(packet[6] & 0x40, 0x40, "routers must not divide it");
            assert_eq!(read(&packet, 8472), Some(Seen::Plain(request())));
            assert_eq!(read_v4(&packet), Some(request()));
        }
        assert_eq!(echo_v4(HERE, THERE, MARK, 0).unwrap().len(), 28);
        assert_eq!(echo_v6(MARK, 1430).unwrap().len() + 40, 1430);
        assert!(echo_v4(HERE, THERE, MARK, 70_000).is_err());
    }

    #[test]
    fn frames_in_a_tunnel_are_read_with_their_hosts_and_devices() {
        let (from, to) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let inner = frame(from, to, &echo_v4(HERE, THERE, MARK, 60).unwrap());
        let seen = read(&outer(&vxlan(1, &inner)), 8472);
        let hosts = ([10, 64, 0, 1].into(), [10, 64, 0, 2].into());
        assert_eq!(
            seen,
            Some(Seen::Tunnelled {
                hosts,
                macs: (from, to),
                echo: request()
            })
        );
        assert_eq!(read(&outer(&vxlan(1, &inner)), 4789), None, "another port");
        assert_eq!(read(&outer(&[0; 60]), 8472), None, "no VNI");
    }

    #[test]
    fn only_answers_name_an_owner() {
        let mac = Mac([2, 0, 0, 0, 0, 2]);
        assert_eq!(read(&outer(&vxlan(1, &who_has(mac, THERE))), 8472), None);
        let answer = ArpEthIpv4Packet {
            operation: ArpOperation::REPLY,
            sender_mac: mac.0,
            sender_ipv4: THERE.octets(),
            target_mac: [2, 0, 0, 0, 0, 1],
            target_ipv4: [0; 4],
        };
        let answer = ethernet(
            mac,
            BROADCAST,
            EtherType::ARP,
            &ArpPacket::from(answer).to_bytes(),
        );
        let owner = Seen::Owner {
            host: [10, 64, 0, 1].into(),
            ip: THERE,
            mac,
        };
        assert_eq!(read(&outer(&vxlan(1, &answer)), 8472), Some(owner));
        assert_eq!(read_arp(&answer), Some((THERE, mac)));
        assert_eq!(read_arp(&who_has(mac, THERE)), None);
    }

    #[test]
    fn answers_over_ipv6_are_told_from_the_rest() {
        let mut message = echo_v6(MARK, 60).unwrap();
        assert_eq!(read_v6(&message), None, "a request");
        message[0] = 129;
        assert_eq!(read_v6(&message), Some(MARK));
    }

    proptest! {
        #[test]
        fn total(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..100_usize, with in any::<u8>()) {
            let _ = (read(&bytes, 8472), read_v4(&bytes), read_v6(&bytes));
            let mac = Mac([2, 0, 0, 0, 0, 1]);
            let mut packet = outer(&vxlan(1, &frame(mac, mac, &echo_v4(HERE, THERE, MARK, 60).unwrap())));
            packet[at] = with;
            let _ = read(&packet, 8472);
            let _ = read(&packet[..at], 8472);
        }
    }
}
