//! The value of a lease key, byte for byte as Go flannel writes it: pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde_json::value::RawValue;

use super::PublicAddrs;
use super::go_json::{self, Object};
use crate::util::family::Family;

/// Room for a value with one family, in bytes.
const USUAL_LEN: usize = 160;
/// What nearly every host announces.
const USUAL_TYPE: &str = "vxlan";

/// What a host publishes about itself.
///
/// Two values are equal when they mean the same, however their JSON is spaced or escaped.
#[derive(Debug, Clone, Default)]
pub struct LeaseAttrs {
    /// Underlay IPv4 address that peers send to. `None` when the value has none or `0.0.0.0`.
    pub public_ip: Option<Ipv4Addr>,
    /// Underlay IPv6 address that peers send to.
    pub public_ipv6: Option<Ipv6Addr>,
    /// `vxlan`, `host-gw`, … Empty for backends that publish none.
    pub backend_type: Cow<'static, str>,
    /// What the backend publishes for IPv4, as JSON.
    pub backend_data: Option<Box<RawValue>>,
    /// The same for IPv6.
    pub backend_v6_data: Option<Box<RawValue>>,
}

impl PartialEq for LeaseAttrs {
    fn eq(&self, other: &Self) -> bool {
        let known = |ip: &Option<Ipv4Addr>| ip.filter(|ip| !ip.is_unspecified());
        known(&self.public_ip) == known(&other.public_ip)
            && self.public_ipv6 == other.public_ipv6
            && self.backend_type == other.backend_type
            && same(self.backend_data.as_deref(), other.backend_data.as_deref())
            && same(
                self.backend_v6_data.as_deref(),
                other.backend_v6_data.as_deref(),
            )
    }
}

impl Eq for LeaseAttrs {}

/// Why a lease value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease value ({0})")]
pub struct BadValue(pub String);

impl From<go_json::Error> for BadValue {
    fn from(error: go_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl LeaseAttrs {
    /// The underlay address that peers send to, in one family.
    pub fn public(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.public_ip.map(IpAddr::V4),
            Family::V6 => self.public_ipv6.map(IpAddr::V6),
        }
    }

    /// The underlay addresses that peers send to.
    pub fn publics(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (v4, v6) = (self.public_ip, self.public_ipv6);
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6))
    }

    /// The address by which the host is known first, for messages; `0.0.0.0` if it belongs to no host.
    pub fn known_as(&self) -> IpAddr {
        PublicAddrs::of(self).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |host| host.ip())
    }

    /// What the backend publishes for one family.
    pub fn data(&self, family: Family) -> Option<&RawValue> {
        match family {
            Family::V4 => self.backend_data.as_deref(),
            Family::V6 => self.backend_v6_data.as_deref(),
        }
    }

    /// Reads a lease value, of any flannel since v0.5 (older ones know fewer members).
    ///
    /// # Errors
    /// When it is not a JSON object with members of the right types.
    pub fn decode(value: &[u8]) -> Result<Self, BadValue> {
        if let Some(attrs) = usual(value) {
            return Ok(attrs);
        }
        let object = Object::parse(value)?;
        Ok(Self {
            public_ip: v4_address(&object)?,
            public_ipv6: object.value("PublicIPv6", "an IPv6 address", address)?,
            backend_type: object.string("BackendType")?.map(kept).unwrap_or_default(),
            backend_data: data(&object, "BackendData")?,
            backend_v6_data: data(&object, "BackendV6Data")?,
        })
    }

    /// Writes the value, in Go's member order.
    pub fn encode(&self) -> String {
        let public_ip = self.public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut json = String::with_capacity(USUAL_LEN);
        let _ = write!(json, r#"{{"PublicIP":"{public_ip}","PublicIPv6":"#);
        let _ = match self.public_ipv6 {
            Some(ip) => write!(json, "\"{ip}\""),
            None => write!(json, "null"),
        };
        if !self.backend_type.is_empty() {
            let text = serde_json::to_string(&self.backend_type).unwrap_or_default();
            push(&mut json, "BackendType", &text);
        }
        for (name, data) in [
            ("BackendData", &self.backend_data),
            ("BackendV6Data", &self.backend_v6_data),
        ] {
            if let Some(data) = data.as_deref().filter(|data| !go_json::is_null(data)) {
                push(&mut json, name, data.get());
            }
        }
        json.push('}');
        json
    }
}

fn push(json: &mut String, name: &str, value: &str) {
    json.push_str(",\"");
    json.push_str(name);
    json.push_str("\":");
    json.push_str(&normal(value));
}

/// Reads a value as flannel writes nearly all of them: IPv4 only, vxlan, no spaces. A list has thousands, and to find members
/// of any spelling in any order takes four times as long. What follows the name of the data must be one JSON value, so no member
/// is overlooked.
fn usual(value: &[u8]) -> Option<LeaseAttrs> {
    let text = str::from_utf8(value).ok()?;
    let (ip, rest) = text.strip_prefix(r#"{"PublicIP":""#)?.split_once('"')?;
    let rest = rest.strip_prefix(r#","PublicIPv6":null,"BackendType":"vxlan","BackendData":"#)?;
    let data: &RawValue = serde_json::from_str(rest.strip_suffix('}')?).ok()?;
    if matches!(normal(data.get()), Cow::Owned(_)) {
        return None;
    }
    let ip: Ipv4Addr = ip.parse().ok()?;
    Some(LeaseAttrs {
        public_ip: Some(ip).filter(|ip| !ip.is_unspecified()),
        public_ipv6: None,
        backend_type: Cow::Borrowed(USUAL_TYPE),
        backend_data: (!go_json::is_null(data)).then(|| data.to_owned()),
        backend_v6_data: None,
    })
}

/// The text, without a copy for each of the many hosts that announce the same.
fn kept(backend_type: Cow<'_, str>) -> Cow<'static, str> {
    match &*backend_type {
        USUAL_TYPE => Cow::Borrowed(USUAL_TYPE),
        _ => Cow::Owned(backend_type.into_owned()),
    }
}

/// Go has no `null` for an IPv4 address: it refuses such a value.
fn v4_address(object: &Object<'_>) -> Result<Option<Ipv4Addr>, BadValue> {
    const EXPECTED: &str = "an IPv4 address";
    if let Some(null) = object.raw("PublicIP").filter(|raw| go_json::is_null(raw)) {
        return Err(go_json::Error::wrong_type("PublicIP", EXPECTED, null).into());
    }
    let ip = object.value("PublicIP", EXPECTED, address::<Ipv4Addr>)?;
    Ok(ip.filter(|ip| !ip.is_unspecified()))
}

fn address<A: FromStr + Into<IpAddr>>(raw: &RawValue) -> Option<A> {
    go_json::text(raw)?.parse().ok()
}

fn data(object: &Object<'_>, name: &'static str) -> Result<Option<Box<RawValue>>, BadValue> {
    let Some(raw) = object.raw(name).filter(|raw| !go_json::is_null(raw)) else {
        return Ok(None);
    };
    match normal(raw.get()) {
        Cow::Borrowed(_) => Ok(Some(raw.to_owned())),
        Cow::Owned(text) => RawValue::from_string(text)
            .map(Some)
            .map_err(|error| BadValue(format!("{name}: {error}"))),
    }
}

/// Whether two pieces of JSON are the same but for spacing and escapes. Decoded ones are in normal form already, so
/// this usually compares two texts.
fn same(left: Option<&RawValue>, right: Option<&RawValue>) -> bool {
    match (
        left.filter(|raw| !go_json::is_null(raw)),
        right.filter(|raw| !go_json::is_null(raw)),
    ) {
        (Some(left), Some(right)) => {
            left.get() == right.get() || normal(left.get()) == normal(right.get())
        }
        (left, right) => left.is_none() && right.is_none(),
    }
}

/// The form in which Go's encoder embeds raw JSON: no space between tokens, `<`, `>`, `&`, U+2028 and U+2029 escaped
/// (they occur in strings only).
fn normal(json: &str) -> Cow<'_, str> {
    let suspect = |byte: u8| {
        matches!(
            byte,
            b' ' | b'\t' | b'\r' | b'\n' | b'<' | b'>' | b'&' | 0xe2
        )
    };
    // To the end in any case: a loop without another way out looks at several bytes at once.
    if !json
        .bytes()
        .fold(false, |found, byte| found | suspect(byte))
    {
        return Cow::Borrowed(json);
    }
    let (mut out, mut in_string, mut escaped) =
        (String::with_capacity(json.len() + 16), false, false);
    for char in json.chars() {
        match char {
            ' ' | '\t' | '\r' | '\n' if !in_string => {}
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(char)))
            }
            _ => out.push(char),
        }
        in_string ^= char == '"' && !escaped;
        escaped = in_string && char == '\\' && !escaped;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GO_HEAD: &str = r#"{"PublicIP":"10.0.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}}"#;

    fn decode(json: &str) -> LeaseAttrs {
        LeaseAttrs::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn go_values_come_back_byte_for_byte() {
        let both = r#"{"PublicIP":"10.0.0.1","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1},"BackendV6Data":{"VNI":2}}"#;
        let udp = r#"{"PublicIP":"10.99.0.3","PublicIPv6":null}"#;
        for json in [
            GO_HEAD,
            both,
            udp,
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":null}"#,
        ] {
            assert_eq!(decode(json).encode(), json);
        }
        assert_eq!(
            LeaseAttrs::default().encode(),
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":null}"#
        );
    }

    #[test]
    fn spelling_does_not_matter() {
        let v7 = r#"{"PublicIP":"10.0.0.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}}"#;
        let odd = r#" {"x":[1,{}], "publicip" : "10.0.0.1", "BACKENDTYPE":"vxl\u0061n",
            "BackendData": {"VNI": 1,	"VtepMAC":"aa:bb:cc:dd:ee:ff"}, "BackendV6Data":null} "#;
        for json in [v7, odd] {
            assert_eq!(decode(json), decode(GO_HEAD));
            assert_eq!(decode(json).encode(), GO_HEAD);
        }
        assert_ne!(decode(&GO_HEAD.replace("ee:ff", "ee:fe")), decode(GO_HEAD));
        assert_ne!(decode(r#"{"PublicIP":"10.0.0.1"}"#), decode(GO_HEAD));
    }

    #[test]
    fn an_unset_address_is_absent() {
        for json in [r#"{"PublicIP":"0.0.0.0"}"#, "{}"] {
            assert_eq!(decode(json).public_ip, None);
        }
        let zero = LeaseAttrs {
            public_ip: Some(Ipv4Addr::UNSPECIFIED),
            ..LeaseAttrs::default()
        };
        assert_eq!(zero, decode("{}"));
    }

    #[test]
    fn go_escapes_html_inside_raw_data() {
        let json = "{\"BackendData\": {\"a\": \"x <&> \\\" y\\\\\" , \"b\":\"\u{2028}\"}}";
        let want = r#"{"a":"x \u003c\u0026\u003e \" y\\","b":"\u2028"}"#;
        assert_eq!(decode(json).backend_data.unwrap().get(), want);
        let raw = LeaseAttrs {
            backend_type: "a<b".into(),
            ..LeaseAttrs::default()
        };
        assert!(raw.encode().ends_with(r#""BackendType":"a\u003cb"}"#));
    }

    #[test]
    fn wrong_types_are_refused() {
        let members = [
            "\"PublicIP\":1",
            "\"PublicIP\":null",
            "\"PublicIP\":\"10.0.0.300\"",
            "\"BackendType\":1",
        ];
        let v6 = [
            "\"PublicIPv6\":\"10.0.0.1\"",
            "\"PublicIP\":\"fd00::1\"",
            "\"PublicIPv6\":\"\"",
        ];
        for member in members.iter().chain(&v6) {
            assert!(
                LeaseAttrs::decode(format!("{{{member}}}").as_bytes()).is_err(),
                "{member}"
            );
        }
        let broken = r#"{"PublicIP":"10.0.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"x":"\<"}}"#;
        for json in [
            "",
            "null",
            "[]",
            "{\"PublicIP\":\"10.0.0.1\"",
            "\u{0}",
            broken,
        ] {
            assert!(LeaseAttrs::decode(json.as_bytes()).is_err(), "{json:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(v4 in any::<u32>(), v6 in any::<Option<u128>>(), kind in ".*", data in ".*", spaced in any::<bool>()) {
            let value = serde_json::json!({ "VNI": 1, "text": data });
            let text = if spaced { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let attrs = LeaseAttrs {
                public_ip: Some(Ipv4Addr::from(v4)),
                public_ipv6: v6.map(Ipv6Addr::from),
                backend_type: kind.into(),
                backend_data: Some(RawValue::from_string(text.unwrap()).unwrap()),
                backend_v6_data: None,
            };
            let back = decode(&attrs.encode());
            prop_assert_eq!(&back, &attrs);
            prop_assert_eq!(back.encode(), attrs.encode());
            let read: serde_json::Value = serde_json::from_str(back.backend_data.unwrap().get()).unwrap();
            prop_assert_eq!(read, value);
        }

        /// Members beside, before, and after those that are read first change the result as they do anywhere else.
        #[test]
        fn usual_spelling_means_what_any_spelling_means(
            ip in "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]\\.(0|1|01)",
            data in "\\{(\"VNI\": ?1,)?\"x\":\"[a-z<\\\\]{0,2}\"\\}|null|1|\\{|\\}|1 ?",
            more in "(,\"PublicIP\":\"10\\.0\\.0\\.9\")?(,\"backenddata\":(null|7))?[ ]?",
        ) {
            let members = format!(r#""PublicIP":"{ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{data}{more}"#);
            let (read, other) = (format!("{{{members}}}"), format!("{{ {members}}}"));
            let [read, other] = [read, other].map(|json| LeaseAttrs::decode(json.as_bytes()).ok());
            prop_assert_eq!(read.as_ref().map(LeaseAttrs::encode), other.as_ref().map(LeaseAttrs::encode));
            prop_assert_eq!(read, other);
        }

        #[test]
        fn total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = LeaseAttrs::decode(&bytes);
        }
    }
}
