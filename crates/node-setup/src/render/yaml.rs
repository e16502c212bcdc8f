//! Configuration files of Kubernetes as YAML: pure.

use serde::{Serialize, Serializer};

use crate::Error;

/// What such a file is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Yaml {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
    /// In order.
    #[serde(serialize_with = "map")]
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// As the value of a command-line flag.
    pub(super) fn to_flag(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::List(items) => items.join(","),
            Self::Map(entries) => {
                let pairs = entries
                    .iter()
                    .map(|(key, value)| format!("{key}={}", value.to_flag()));
                pairs.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// Sets what is at the end of a path of names with dots between them; maps on the way are made.
    pub(super) fn set(&mut self, path: &str, value: Self) {
        let Self::Map(entries) = self else { return };
        let (name, rest) = path
            .split_once('.')
            .map_or((path, None), |(name, rest)| (name, Some(rest)));
        let place = entries
            .iter()
            .position(|(key, _)| key == name)
            .unwrap_or_else(|| {
                entries.push((name.to_owned(), Self::Map(Vec::new())));
                entries.len() - 1
            });
        match (entries.get_mut(place), rest) {
            (Some((_, entry)), Some(rest)) => entry.set(rest, value),
            (Some((_, entry)), None) => *entry = value,
            (None, _) => {}
        }
    }
}

fn map<S: Serializer>(entries: &[(String, Yaml)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

/// Formats a configuration file.
pub(super) fn to_file(value: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::Yaml(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn texts_stay_texts() {
        for text in [
            "/etc/x.pem",
            "10.254.0.2",
            "yes",
            "a: b",
            "a\"\\",
            "",
            "fd00::1",
            "12",
        ] {
            let file = Yaml::Map(vec![("key".into(), Yaml::Text(text.into()))]);
            let file = serde_saphyr::to_string(&file).unwrap();
            let read: BTreeMap<String, String> = serde_saphyr::from_str(&file).unwrap();
            assert_eq!(read["key"], text, "{file}");
        }
    }

    #[test]
    fn maps_are_nested_in_order() {
        let mut yaml = Yaml::Map(Vec::new());
        yaml.set("b.c.d", Yaml::Switch(false));
        yaml.set("b.e", Yaml::Number(2));
        yaml.set("a", Yaml::List(vec!["x".into(), "1".into()]));
        assert_eq!(
            serde_saphyr::to_string(&yaml).unwrap(),
            "b:\n  c:\n    d: false\n  e: 2\na:\n- x\n- \"1\"\n"
        );
    }
}
