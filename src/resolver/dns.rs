//! Questions to a name server and its answers (RFC 1035): pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const RECURSION_DESIRED: u16 = 1 << 8;
const RESPONSE: u16 = 1 << 15;
const TRUNCATED: u16 = 1 << 9;
const RESPONSE_CODE: u16 = 0xf;
const NAME_ERROR: u16 = 3;
/// The first two bits of a length that is a pointer.
const POINTER: u8 = 0xc0;
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;

/// The kind of address that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A = 1,
    Aaaa = 28,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    /// Ask again over TCP.
    Truncated,
    /// The server failed, refuses, or sent nonsense.
    Failed,
}

/// Writes a question; `None`: no host can have this name.
pub(super) fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return None;
    }
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|_| (1..=LONGEST_LABEL).contains(&label.len()))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    for word in [kind as u16, CLASS_IN] {
        message.extend(word.to_be_bytes());
    }
    Some(message)
}

/// Reads the answer to `query`; `None`: it is one to another question.
pub(super) fn answer(query: &[u8], reply: &[u8], kind: Kind) -> Option<Answer> {
    let flags = word(reply, 2)?;
    let question = query.get(HEADER..)?;
    let same = word(reply, 0) == word(query, 0)
        && flags & RESPONSE != 0
        && word(reply, 4)? == 1
        && reply
            .get(HEADER..query.len())?
            .eq_ignore_ascii_case(question);
    if !same {
        return None;
    }
    if flags & TRUNCATED != 0 {
        return Some(Answer::Truncated);
    }
    Some(match flags & RESPONSE_CODE {
        0 => records(reply, query.len(), kind).map_or(Answer::Failed, Answer::Addresses),
        NAME_ERROR => Answer::NoSuchName,
        _ => Answer::Failed,
    })
}

/// The addresses among the records from `at` on. Those of aliases count: the server has followed them.
fn records(reply: &[u8], mut at: usize, kind: Kind) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    for _ in 0..word(reply, 6)? {
        at = after_name(reply, at)?;
        let (of_kind, class, length) =
            (word(reply, at)?, word(reply, at + 2)?, word(reply, at + 8)?);
        let data = reply.get(at + 10..at + 10 + usize::from(length))?;
        if of_kind == kind as u16 && class == CLASS_IN {
            found.push(match kind {
                Kind::A => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                Kind::Aaaa => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            });
        }
        at += 10 + usize::from(length);
    }
    Some(found)
}

/// Where the name at `at` ends. Pointers end it, and are not followed.
fn after_name(reply: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            length if length & POINTER == POINTER => return Some(at + 2),
            length if length & POINTER != 0 => return None,
            length => at += 1 + usize::from(length),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_host_can_have_are_not_asked_for() {
        for name in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(127)] {
            assert_eq!(query(1, name, Kind::A), None, "{name}");
        }
        assert!(query(1, "etcd-1.example", Kind::A).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(0_u8.., 0..64), flags in 0_u16..) {
            let query = query(7, "a.example", Kind::A).unwrap();
            let mut reply = query.clone();
            reply[2..4].copy_from_slice(&(flags | RESPONSE).to_be_bytes());
            reply[7] = 2;
            reply.extend(tail);
            proptest::prop_assert!(answer(&query, &reply, Kind::A).is_some());
        }
    }
}
