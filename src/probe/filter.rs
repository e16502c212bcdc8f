//! Builds the socket filter of a capture, because a busy host has millions of uninteresting packets. Pure.

use socket2::SockFilter;

// Classic BPF, as in <linux/bpf_common.h>.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_AFTER_HEADER: u16 = 0x48;
const LENGTH_OF_HEADER: u16 = 0xb1;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: the destination type of a frame.
const PACKET_TYPE: u32 = 0xffff_f004;
/// `PACKET_OTHERHOST`: a frame for another host, which a switch or a bridge sent here as well.
const OTHER_HOST: u32 = 3;

const ICMP: u32 = 1;
const UDP: u32 = 17;
const ARP: u32 = 0x0806;
const ALL_OF_IT: u32 = 0x0004_0000;

// Offsets from the end of the IP header.
const ECHO_ID: u32 = 4;
const UDP_TO: u32 = 2;
const INNER_TYPE: u32 = 8 + 8 + 12;
const INNER_ECHO_ID: u32 = 8 + 8 + 14 + 20 + 4;

/// Accepts IPv4 packets of this host: echo packets with this ID, plain and in a tunnel with this port, and ARP in the tunnel.
pub(super) fn program(id: u16, port: u16) -> Vec<SockFilter> {
    let (id, port) = (u32::from(id), u32::from(port));
    let when = |value, yes, no| SockFilter::new(IF_EQUAL, yes, no, value);
    let load = |offset| SockFilter::new(LOAD_HALF_AFTER_HEADER, 0, 0, offset);
    vec![
        SockFilter::new(LOAD_BYTE, 0, 0, PACKET_TYPE),
        when(OTHER_HOST, 17, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(AND, 0, 0, 0xf0),
        when(0x40, 0, 14),
        SockFilter::new(LENGTH_OF_HEADER, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        when(ICMP, 0, 2),
        load(ECHO_ID),
        when(id, 8, 9),
        when(UDP, 0, 8),
        load(UDP_TO),
        when(port, 0, 6),
        load(INNER_TYPE),
        when(ARP, 3, 0),
        load(INNER_ECHO_ID),
        when(id, 1, 0),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, ALL_OF_IT),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
