//! Text of a lease key, `A.B.C.D-LEN` or `A.B.C.D-LEN&V6ADDR-LEN`: pure.
//!
//! Go flannel reads keys with patterns that are not anchored and lets junk through. Here a key has one spelling, the
//! one that flannel writes; so two keys never mean one subnet.

use super::{Subnets, cidr};

/// Highest length that Go flannel reads back: it parses IPv4 lengths as five bits, IPv6 lengths as seven.
const MAX_LEN: (u8, u8) = (31, 127);

/// Why the last component of a key is not a lease key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease key ({0})")]
pub struct BadKey(pub &'static str);

/// Reads the last component of a key.
///
/// # Errors
/// When it is not exactly the text that [`format()`] writes for canonical subnets.
pub fn parse(text: &str) -> Result<Subnets, BadKey> {
    let (first, second) = text
        .split_once('&')
        .map_or((text, None), |(v4, v6)| (v4, Some(v6)));
    let (ip, v4) = half(first, cidr::masked_v4, MAX_LEN.0)
        .ok_or(BadKey("no IPv4 subnet like 10.5.34.0-24"))?;
    let v6 = second.map(|text| {
        let found = half(text, cidr::masked_v6, MAX_LEN.1).map(|(_, net)| net);
        found.ok_or(BadKey("no IPv6 subnet after &"))
    });
    // Without host bits, and without zeros before the length: of an address only one spelling is read.
    let is_canonical = || ip == v4.ip() && !first.contains("-0");
    // A length of 0 stands for an absent family.
    let subnets = Subnets {
        v4: Some(v4).filter(|net| net.prefix() > 0),
        v6: v6.transpose()?.filter(|net| net.prefix() > 0),
    };
    match subnets {
        Subnets { v4: None, v6: None } => Err(BadKey("no subnet")),
        // Most keys have IPv4 only, and there are many.
        _ if second.is_none() && is_canonical() => Ok(subnets),
        _ if second.is_some() && format(&subnets) == text => Ok(subnets),
        _ => Err(BadKey("host bits are set, or it is not in canonical form")),
    }
}

/// Writes the last component of the key for `subnets`.
pub fn format(subnets: &Subnets) -> String {
    let v4 = subnets.v4.map_or_else(
        || "0.0.0.0-0".into(),
        |net| format!("{}-{}", net.ip(), net.prefix()),
    );
    match subnets.v6 {
        Some(net) => format!("{v4}&{}-{}", net.ip(), net.prefix()),
        None => v4,
    }
}

fn half<A: std::str::FromStr + Copy, N>(
    text: &str,
    mask: fn(A, u8) -> Option<N>,
    max: u8,
) -> Option<(A, N)> {
    let (ip, len) = cidr::split(text, '-')?;
    let net = if len > max { None } else { mask(ip, len) };
    Some((ip, net?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnets() -> impl Strategy<Value = Subnets> {
        let v4 = (any::<u32>(), 1..=31u8).prop_map(|(ip, len)| cidr::masked_v4(ip.into(), len));
        let v6 = (any::<u128>(), 1..=127u8).prop_map(|(ip, len)| cidr::masked_v6(ip.into(), len));
        let some = (v4, v6, 0..3u8).prop_map(|(v4, v6, which)| Subnets {
            v4: v4.filter(|_| which != 1),
            v6: v6.filter(|_| which != 0),
        });
        some.no_shrink()
    }

    proptest! {
        #[test]
        fn round_trip(subnets in subnets()) {
            prop_assert_eq!(parse(&format(&subnets)), Ok(subnets));
        }

        #[test]
        fn any_accepted_text_is_what_format_writes(text in "[0-9]{1,3}(\\.[0-9]{1,2}){3}-[0-9]{1,2}(&[0-9a-f:]{2,9}-[0-9]{1,3})?") {
            if let Ok(subnets) = parse(&text) {
                prop_assert_eq!(format(&subnets), text);
            }
        }

        #[test]
        fn total(text in ".*") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn go_texts() {
        for text in [
            "10.12.13.0-24",
            "10.12.13.0-24&fd00:12:13::-56",
            "0.0.0.0-0&fd00::-64",
            "10.12.13.2-31",
        ] {
            assert_eq!(
                parse(text).map(|subnets| format(&subnets)).as_deref(),
                Ok(text)
            );
        }
        assert_eq!(parse("0.0.0.0-0&fd00::-64").unwrap().v4, None);
    }

    #[test]
    fn rejected_by_go() {
        let short = [
            "10",
            "10.12.13.0",
            "10.12.13-24",
            "10.12.13.300-24",
            "10.12.13.0-24hi",
            "&2001::-56",
        ];
        let dual = [
            "&:12:13:-56",
            "&20011::-56",
            "&2001-56",
            "&2001::",
            "&2001::-56hi",
            "&FD00::-56",
        ];
        for text in short
            .map(String::from)
            .into_iter()
            .chain(dual.map(|v6| format!("10.12.13.0-24{v6}")))
        {
            assert!(parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rejected_because_flannel_never_writes_them() {
        let v4 = [
            "x10.5.1.0-24",
            "10.5.1.1-24",
            "010.5.1.0-24",
            "10.5.1.0-024",
            "10.5.1.0-+24",
            "10.5.1.0--24",
        ];
        let len = [
            "10.5.1.0-32",
            "10.5.1.0-33",
            "0.0.0.0-0",
            "10.5.1.0/24",
            "10.5.1.0-24 ",
            "",
            "-",
            "&",
            "10.5.1.0-",
        ];
        let v6 = [
            "10.5.1.0-24&",
            "10.5.1.0-24&fd00:0::-64",
            "10.5.1.0-24&fd00::1-64",
            "10.5.1.0-24&fd00::-128",
        ];
        let zero = [
            "10.5.1.0-24&::-0",
            "0.0.0.0-0&::-0",
            "10.5.1.0-24&fd00::-64&fd01::-64",
        ];
        for text in v4.iter().chain(&len).chain(&v6).chain(&zero) {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
