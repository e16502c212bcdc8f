//! Does a notification of nftables concern flannel's rules? kube-proxy and docker change theirs all the time: pure.
//!
//! iptables-nft is nftables underneath, with tables named after those of iptables.

use crate::kernel::decode::attributes;

/// `NFNL_SUBSYS_NFTABLES` of `<linux/netfilter/nfnetlink.h>`.
pub(super) const NFTABLES: u8 = 10;
/// `NFT_MSG_NEWCHAIN` to `NFT_MSG_DELCHAIN`: the chain's name is attribute 3.
const CHAINS: std::ops::RangeInclusive<u8> = 3..=5;
/// `NFT_MSG_NEWRULE` to `NFT_MSG_DELRULE`: the chain's name is attribute 2.
const RULES: std::ops::RangeInclusive<u8> = 6..=8;
/// `NFT_MSG_NEWGEN` and `NFT_MSG_GETGEN`: something has changed, which other messages tell.
const GENERATIONS: std::ops::RangeInclusive<u8> = 15..=16;
/// The table's name, in messages about anything in it.
const TABLE: u16 = 1;
/// Bytes of a netlink header, and of the netfilter header behind it.
const HEADERS: (usize, usize) = (16, 4);
/// Whatever is in tables with such names is flannel's.
const OWN: &str = "flannel-";
/// Tables of iptables, and the chains in them that flannel's rules are in or hang in.
const SHARED: [(&str, &[&str]); 2] = [
    ("nat", &["POSTROUTING", "FLANNEL-POSTRTG"]),
    ("filter", &["FORWARD", "FLANNEL-FWD"]),
];

/// Whether any message of the datagram is about something that flannel's rules depend on. What cannot be read does.
pub fn concerns(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some((message, tail)) = cut(rest, u32_at(rest)) else {
            return true;
        };
        if is_relevant(message) {
            return true;
        }
        rest = tail;
    }
    false
}

fn is_relevant(message: &[u8]) -> bool {
    let (Some(kind), Some(subsystem)) = (message.get(4), message.get(5)) else {
        return true;
    };
    if *subsystem != NFTABLES || GENERATIONS.contains(kind) {
        return false;
    }
    let attributes = message.get(HEADERS.0 + HEADERS.1..).unwrap_or_default();
    let name = |number| text(attributes, number);
    let Some(table) = name(TABLE) else {
        return true;
    };
    let chain = match kind {
        kind if CHAINS.contains(kind) => Some(name(3)),
        kind if RULES.contains(kind) => Some(name(2)),
        _ => None,
    };
    let shared = SHARED.iter().find(|(name, _)| *name == table);
    match (shared, chain) {
        (Some((_, chains)), Some(chain)) => chain.is_none_or(|chain| chains.contains(&chain)),
        // Sets and the like: iptables has none that matter here.
        (Some(_), None) => *kind <= *CHAINS.start(),
        (None, _) => table.starts_with(OWN),
    }
}

/// Returns family and name of the table that a message is about, without the netlink header.
pub(super) fn table(message: &[u8]) -> Option<(u8, String)> {
    let name = text(message.get(HEADERS.1..)?, TABLE)?;
    Some((*message.first()?, name.to_owned()))
}

/// The text of an attribute.
fn text(bytes: &[u8], wanted: u16) -> Option<&str> {
    let (_, text) = attributes(bytes).find(|(number, _)| *number == wanted)?;
    Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0'))
}

/// The first `length` bytes, and what comes after them at the next multiple of four.
fn cut(bytes: &[u8], length: Option<usize>) -> Option<(&[u8], &[u8])> {
    let length = length.filter(|length| *length >= 4)?;
    let first = bytes.get(..length)?;
    Some((
        first,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

fn u32_at(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of nftables: kind, and attributes with their numbers.
    fn message(kind: u8, attributes: &[(u16, &str)]) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 0];
        for (number, text) in attributes {
            let length = u16::try_from(text.len() + 5).unwrap();
            body.extend(length.to_ne_bytes());
            body.extend(number.to_ne_bytes());
            body.extend(text.bytes());
            body.resize((body.len() + 1).next_multiple_of(4), 0);
        }
        let mut all = u32::try_from(16 + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        all.extend([kind, NFTABLES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        all.extend(body);
        all
    }

    #[test]
    fn only_flannels_own_and_what_it_hangs_in_matters() {
        for (kind, attributes, matters) in [
            (6, &[(1, "nat"), (2, "POSTROUTING")][..], true),
            (8, &[(1, "nat"), (2, "FLANNEL-POSTRTG")], true),
            (8, &[(1, "nat"), (2, "KUBE-SERVICES")], false),
            (6, &[(1, "filter"), (2, "DOCKER-USER")], false),
            (3, &[(1, "filter"), (3, "FORWARD")], true),
            (3, &[(1, "filter"), (3, "INPUT")], false),
            (2, &[(1, "filter")], true),
            (2, &[(1, "kube-proxy")], false),
            (12, &[(1, "kube-proxy"), (2, "endpoints")], false),
            (12, &[(1, "flannel-sources-1"), (2, "peers4")], true),
            (12, &[(1, "nat"), (2, "x")], false),
            (8, &[(1, "flannel-ipv4"), (2, "postrtg")], true),
            (15, &[(1, "x")], false),
            (6, &[], true),
        ] {
            let datagram = message(kind, attributes);
            assert_eq!(concerns(&datagram), matters, "{kind} {attributes:?}");
            let behind = [
                message(15, &[]),
                message(6, &[(1, "nat"), (2, "KUBE-X")]),
                datagram,
            ]
            .concat();
            assert_eq!(
                concerns(&behind),
                matters,
                "behind others: {kind} {attributes:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = concerns(&bytes);
        }
    }
}
