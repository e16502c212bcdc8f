//! Go's reading of JSON objects: keys match whatever their case, the last of several wins: pure.
//!
//! Nothing is coerced: `"24"` and `24.0` are no integers. A `null` changes nothing, so an earlier duplicate stays; only
//! [`Object::raw`] sees it. Unknown members are ignored by not being asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest piece of a wrong value that an error message shows, in characters.
const SHOWN: usize = 40;

/// Why an object, or one of its members, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not one JSON object.
    #[error("not a JSON object: {0}")]
    Syntax(String),
    /// A member has another type than the one asked for.
    #[error("{member} must be {expected}, not {found}")]
    Type {
        member: &'static str,
        expected: &'static str,
        /// The beginning of what it is.
        found: String,
    },
}

impl Error {
    /// Reports that `member` holds `found` where `expected` was asked for.
    pub fn wrong_type(member: &'static str, expected: &'static str, found: &RawValue) -> Self {
        Self::Type {
            member,
            expected,
            found: found.get().chars().take(SHOWN).collect(),
        }
    }
}

/// The members of a JSON object, in order, borrowed from its text.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads an object.
    pub fn parse(json: &'a [u8]) -> Result<Self, Error> {
        let text = str::from_utf8(json).map_err(|error| Error::Syntax(error.to_string()))?;
        serde_json::from_str(text).map_err(|error| Error::Syntax(error.to_string()))
    }

    /// Every member as it stands, duplicates included, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_ref(), *value))
    }

    /// The JSON of a member, `null` included.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.matching(name).last()
    }

    /// A string member.
    pub fn string(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
        self.value(name, "a string", text)
    }

    /// An unsigned integer member.
    pub fn uint(&self, name: &'static str) -> Result<Option<u64>, Error> {
        self.value(name, "an unsigned integer", |raw| raw.get().parse().ok())
    }

    /// An integer member.
    pub fn int(&self, name: &'static str) -> Result<Option<i64>, Error> {
        self.value(name, "an integer", |raw| raw.get().parse().ok())
    }

    /// A boolean member.
    pub fn bool(&self, name: &'static str) -> Result<Option<bool>, Error> {
        self.value(name, "true or false", |raw| raw.get().parse().ok())
    }

    /// A member that `read` understands, once it is there and not `null`. As in Go, every duplicate must be readable.
    pub fn value<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl Fn(&'a RawValue) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.matching(name)
            .filter(|raw| !is_null(raw))
            .map(|raw| read(raw).ok_or_else(|| Error::wrong_type(name, expected, raw)))
            .try_fold(None, |_, value| value.map(Some))
    }

    fn matching(&self, name: &str) -> impl Iterator<Item = &'a RawValue> {
        self.members
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, raw)| *raw)
    }
}

pub fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// The content of a JSON string, borrowed when it holds no escapes. `None` for any other JSON, and for an escape that
/// stands for no character.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        Some(Cow::Borrowed(inner))
    } else {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Members)
            .map(|members| Object { members })
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(6);
        while let Some((Key(key), raw)) = map.next_entry()? {
            members.push((key, raw));
        }
        Ok(members)
    }
}

/// A key that borrows where it can: serde's own `Cow<str>` always copies.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object<'_> {
        Object::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_wins() {
        let json = object(r#"{"VNI":1,"vni":2,"other":"x","Vni":null}"#);
        assert_eq!(json.uint("VNI"), Ok(Some(2)));
        assert!(json.raw("VNI").is_some_and(is_null));
        assert_eq!(json.string("absent"), Ok(None));
        assert_eq!(object(r#"{"\u0056NI":7}"#).uint("VNI"), Ok(Some(7)));
    }

    #[test]
    fn keys_and_plain_strings_are_borrowed() {
        let json = object(r#"{"Type":"vxlan","b":"\u0061\n"}"#);
        assert!(matches!(json.members[0].0, Cow::Borrowed("Type")));
        assert!(matches!(
            json.string("type"),
            Ok(Some(Cow::Borrowed("vxlan")))
        ));
        assert_eq!(json.string("b"), Ok(Some(Cow::Owned("a\n".into()))));
    }

    #[test]
    fn nothing_is_coerced() {
        for wrong in [
            r#""24""#,
            "24.0",
            "-1",
            "1e2",
            "true",
            "{}",
            "[]",
            "18446744073709551616",
        ] {
            let json = format!(r#"{{"n":{wrong}}}"#);
            assert!(object(&json).uint("n").is_err(), "{wrong}");
        }
        for wrong in ["1", r#""true""#, "[]"] {
            let json = format!(r#"{{"n":{wrong}}}"#);
            assert!(object(&json).bool("n").is_err(), "{wrong}");
        }
        assert_eq!(object(r#"{"n": -3 }"#).int("n"), Ok(Some(-3)));
        assert_eq!(object(r#"{"n":false}"#).bool("n"), Ok(Some(false)));
        assert!(object(r#"{"n":1}"#).string("n").is_err());
        assert!(object(r#"{"n":"x","N":1}"#).string("n").is_err());
    }

    #[test]
    fn errors_name_the_member_and_the_type() {
        let error = object(r#"{"subnetlen":"24"}"#)
            .uint("SubnetLen")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "SubnetLen must be an unsigned integer, not \"24\""
        );
    }

    #[test]
    fn only_one_object_is_an_object() {
        for bad in [
            "",
            "null",
            "[]",
            "1",
            "{",
            "{}x",
            r#"{"a":1,}"#,
            "{} // no",
            "{}{}",
        ] {
            assert!(
                matches!(Object::parse(bad.as_bytes()), Err(Error::Syntax(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            Object::parse(b"{\"\xff\":1}"),
            Err(Error::Syntax(_))
        ));
    }
}
