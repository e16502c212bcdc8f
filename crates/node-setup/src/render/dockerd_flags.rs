//! Parses the options on dockerd's command line by their keys in `daemon.json`. Pure.
//!
//! dockerd does not start if an option is in both places, even with equal values.

use std::collections::BTreeMap;

use super::flanneld::DOCKER_KEY;
use crate::argv::Word;

/// Flags whose key has another name. `graph` is `data-root` since 17.05. Source: `cmd/dockerd/config.go` of moby's tags.
const KEYS: &[(&str, &[&str])] = &[
    ("D", &["debug"]),
    ("G", &["group"]),
    ("H", &["hosts"]),
    ("add-runtime", &["runtimes"]),
    ("authorization-plugin", &["authorization-plugins"]),
    ("b", &["bridge"]),
    ("cdi-spec-dir", &["cdi-spec-dirs"]),
    ("cluster-store-opt", &["cluster-store-opts"]),
    ("default-address-pool", &["default-address-pools"]),
    ("default-network-opt", &["default-network-opts"]),
    ("default-ulimit", &["default-ulimits"]),
    ("dns-opt", &["dns-opts"]),
    ("exec-opt", &["exec-opts"]),
    ("feature", &["features"]),
    ("g", &["graph", "data-root"]),
    ("graph", &["graph", "data-root"]),
    ("host", &["hosts"]),
    ("insecure-registry", &["insecure-registries"]),
    ("l", &["log-level"]),
    ("label", &["labels"]),
    ("log-opt", &["log-opts"]),
    ("node-generic-resource", &["node-generic-resources"]),
    ("p", &["pidfile"]),
    ("registry-mirror", &["registry-mirrors"]),
    ("s", &["storage-driver"]),
    ("storage-opt", &["storage-opts"]),
];

/// An option on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The option as written, without its value.
    pub(super) flag: String,
    pub(super) value: Option<String>,
    /// The keys for the same option.
    pub(super) keys: Vec<String>,
}

impl Given {
    /// Returns whether the key of `daemon.json` is for the same option.
    pub(super) fn is(&self, key: &str) -> bool {
        self.keys.iter().any(|own| own == key)
    }
}

/// Parses the options of a command line, program first. Variables have the values of the package's unit; the variable in flannel's
/// file has no value yet.
pub(super) fn read(line: &[Word], environment: &BTreeMap<String, String>) -> Vec<Given> {
    let words: Vec<String> = line
        .iter()
        .skip(1)
        .flat_map(|word| expanded(word, environment))
        .collect();
    let mut given = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let Some((flag, attached)) = split(&word) else {
            continue;
        };
        let value = attached.or_else(|| words.next_if(|next| !next.starts_with('-')));
        let name = flag.trim_start_matches('-');
        let other = KEYS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, keys)| *keys);
        let keys = other.map_or_else(
            || vec![name.to_owned()],
            |keys| keys.iter().map(ToString::to_string).collect(),
        );
        given.push(Given { flag, value, keys });
    }
    given
}

/// Returns the words into which systemd expands a word.
fn expanded(word: &Word, environment: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| environment.get(name).filter(|_| name != DOCKER_KEY);
    match word {
        Word::Variable(name) => {
            let text = value(name).map(String::as_str).unwrap_or_default();
            shlex::split(text)
                .unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect())
        }
        Word::Literal(text) => {
            let name = text
                .strip_prefix("${")
                .and_then(|text| text.strip_suffix('}'));
            vec![name.and_then(value).unwrap_or(text).clone()]
        }
    }
}

/// Splits a flag from a value in the same word. A one-letter flag may have a value without `=`.
fn split(word: &str) -> Option<(String, Option<String>)> {
    let name = word.strip_prefix('-').filter(|name| !name.is_empty())?;
    if let Some((flag, value)) = word.split_once('=') {
        return Some((flag.to_owned(), Some(value.to_owned())));
    }
    let letter = KEYS
        .iter()
        .find(|(known, _)| known.len() == 1 && name.starts_with(known));
    let rest = letter
        .and_then(|(known, _)| name.strip_prefix(known))
        .filter(|rest| !rest.is_empty());
    let flag = rest
        .and_then(|rest| word.strip_suffix(rest))
        .unwrap_or(word);
    Some((flag.to_owned(), rest.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argv::decode;

    #[test]
    fn flags_are_found_however_they_are_written() {
        let environment = [(
            "OPTIONS".to_owned(),
            "--selinux-enabled --log-driver 'journald'".to_owned(),
        )]
        .into();
        let read = |line: &str| -> Vec<(String, Option<String>, String)> {
            let given = read(&decode(line), &environment);
            given
                .into_iter()
                .map(|one| (one.flag, one.value, one.keys.join(" ")))
                .collect()
        };
        let row = |flag: &str, value: Option<&str>, keys: &str| {
            (flag.to_owned(), value.map(str::to_owned), keys.to_owned())
        };
        assert_eq!(
            read("/usr/bin/dockerd -H fd:// --mtu=1 -soverlay2 -D --label a=b --unix"),
            [
                row("-H", Some("fd://"), "hosts"),
                row("--mtu", Some("1"), "mtu"),
                row("-s", Some("overlay2"), "storage-driver"),
                row("-D", None, "debug"),
                row("--label", Some("a=b"), "labels"),
                row("--unix", None, "unix"),
            ]
        );
        assert_eq!(
            read("/usr/bin/dockerd $OPTIONS $OTHER"),
            [
                row("--selinux-enabled", None, "selinux-enabled"),
                row("--log-driver", Some("journald"), "log-driver")
            ]
        );
    }
}
