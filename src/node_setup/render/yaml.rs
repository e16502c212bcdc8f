//! Configuration files of Kubernetes as YAML: pure.

use std::fmt::Write as _;

/// What such a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
    /// A list of one map of texts.
    Maps(Vec<(String, String)>),
    /// In order.
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
            Self::Maps(_) => String::new(),
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

    /// The whole file.
    pub(super) fn to_file(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let Self::Map(entries) = self else { return };
        for (key, value) in entries {
            let _ = write!(out, "{:indent$}{key}:", "", indent = depth * 2);
            match value {
                Self::Map(_) => {
                    out.push('\n');
                    value.write(out, depth + 1);
                }
                Self::List(items) => {
                    out.push('\n');
                    for item in items {
                        let _ =
                            writeln!(out, "{:indent$}- {}", "", scalar(item), indent = depth * 2);
                    }
                }
                Self::Maps(entries) => {
                    for (index, (name, value)) in entries.iter().enumerate() {
                        let lead = if index == 0 { "\n- " } else { "  " };
                        let _ = writeln!(out, "{lead}{name}: {}", scalar(value));
                    }
                }
                Self::Text(text) => {
                    let _ = writeln!(out, " {}", scalar(text));
                }
                Self::Number(_) | Self::Switch(_) => {
                    let _ = writeln!(out, " {}", value.to_flag());
                }
            }
        }
    }
}

/// A text. JSON's strings are YAML's too; plain are only words that can be nothing else.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "null", "y"];
    let first = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '/');
    let plain = first
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    let word =
        WORDS.contains(&text.to_ascii_lowercase().as_str()) || text.eq_ignore_ascii_case("n");
    match plain && !word {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        for (text, want) in [
            ("/etc/x.pem", "/etc/x.pem"),
            ("cluster.local", "cluster.local"),
            ("10.254.0.2", "\"10.254.0.2\""),
            ("yes", "\"yes\""),
            ("a: b", "\"a: b\""),
            ("a\"\\", "\"a\\\"\\\\\""),
            ("", "\"\""),
            ("fd00::1", "\"fd00::1\""),
        ] {
            assert_eq!(scalar(text), want);
        }
    }

    #[test]
    fn maps_are_nested_in_order() {
        let mut yaml = Yaml::Map(Vec::new());
        yaml.set("b.c.d", Yaml::Switch(false));
        yaml.set("b.e", Yaml::Number(2));
        yaml.set("a", Yaml::List(vec!["x".into(), "1".into()]));
        assert_eq!(
            yaml.to_file(),
            "b:\n  c:\n    d: false\n  e: 2\na:\n- x\n- \"1\"\n"
        );
    }
}
