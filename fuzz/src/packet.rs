//! Any bytes as a packet that a probe may see: an echo, a frame in a tunnel, the owner of an address, or nothing.

use flanneld::probe::packet::{read, read_arp, read_v4, read_v6};

pub fn run(bytes: &[u8]) {
    let _ = read(bytes, 8472);
    let _ = read_arp(bytes);
    let _ = read_v4(bytes);
    let _ = read_v6(bytes);
}
