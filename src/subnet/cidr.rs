//! Text of a subnet, `A.B.C.D/LEN`, read strictly: pure.
//!
//! `ipnetwork` also takes a bare address, a dotted mask and a signed length; none of them is a CIDR for Go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// Reads a CIDR of either family. Host bits are masked off.
pub fn any(text: &str) -> Option<IpNetwork> {
    let (ip, len) = split::<IpAddr>(text, '/')?;
    masked(ip, len)
}

/// Reads an IPv4 CIDR. Host bits are masked off: `10.6.7.8/16` is `10.6.0.0/16`.
pub fn v4(text: &str) -> Option<Ipv4Network> {
    let (ip, len) = split::<Ipv4Addr>(text, '/')?;
    masked_v4(ip, len)
}

/// Reads an IPv6 CIDR. Host bits are masked off.
pub fn v6(text: &str) -> Option<Ipv6Network> {
    let (ip, len) = split::<Ipv6Addr>(text, '/')?;
    masked_v6(ip, len)
}

/// The subnet of length `len` that holds `ip`; `None` when `len` is longer than an address.
pub fn masked(ip: IpAddr, len: u8) -> Option<IpNetwork> {
    let whole = IpNetwork::new(ip, len).ok()?;
    IpNetwork::new(whole.network(), len).ok()
}

/// The subnet of length `len` that holds `ip`; `None` when `len` is above 32.
pub fn masked_v4(ip: Ipv4Addr, len: u8) -> Option<Ipv4Network> {
    let whole = Ipv4Network::new(ip, len).ok()?;
    Ipv4Network::new(whole.network(), len).ok()
}

/// The subnet of length `len` that holds `ip`; `None` when `len` is above 128.
pub fn masked_v6(ip: Ipv6Addr, len: u8) -> Option<Ipv6Network> {
    let whole = Ipv6Network::new(ip, len).ok()?;
    Ipv6Network::new(whole.network(), len).ok()
}

/// Address and length around `separator`; the length in digits only.
pub(super) fn split<A: FromStr>(text: &str, separator: char) -> Option<(A, u8)> {
    let (ip, len) = text.split_once(separator)?;
    let digits = len.bytes().all(|byte| byte.is_ascii_digit());
    Some((ip.parse().ok()?, len.parse().ok().filter(|_| digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_cidrs() {
        assert_eq!(
            v4("10.6.7.8/16").map(|net| net.to_string()).as_deref(),
            Some("10.6.0.0/16")
        );
        assert_eq!(
            v6("fd00::1/64").map(|net| net.to_string()).as_deref(),
            Some("fd00::/64")
        );
        let bad = [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/255.0.0.0",
            "010.0.0.0/8",
        ];
        for text in bad.iter().chain(&[
            "10.0.0.0/33",
            "10.0.0.0/8 ",
            " 10.0.0.0/8",
            "fd00::/64",
            "/8",
        ]) {
            assert_eq!(v4(text), None, "{text:?}");
        }
        assert_eq!(v6("fd00::/129"), None);
    }
}
