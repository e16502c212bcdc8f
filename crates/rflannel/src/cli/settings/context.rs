//! Reads the clusters in an administrator's file `~/.config/rflannel/config.toml`.
//!
//! ```toml
//! current = "production"
//!
//! [contexts.production]
//! etcd-endpoints = "https://10.64.3.7:2379"
//! etcd-prefix = "/kubernetes/network"
//! etcd-cafile = "/etc/etcd/ca.pem"
//! ```

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Deserialize;

use super::CommandLine;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context that is used if this host has no settings.
    current: Option<String>,
    /// Flags of the daemon without dashes, by context.
    #[serde(default)]
    contexts: BTreeMap<String, BTreeMap<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<String>),
}

/// Returns the path of the file; `None` without a home directory.
pub(super) fn path() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("rflannel/config.toml"))
}

/// Returns the context with this name as flags.
pub(super) fn named(name: &str) -> Result<CommandLine, String> {
    let path = path().ok_or("there is no home directory with a .config/rflannel/config.toml")?;
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text)
        .and_then(|file| flags(&file, name))
        .map_err(|why| format!("{}: {why}", path.display()))
}

/// Returns the name and the flags of the current context, if there is one.
pub(super) fn current() -> Result<Option<(String, CommandLine)>, String> {
    let Some(path) = path() else { return Ok(None) };
    let read = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read,
    };
    let named = |text: String| {
        let file = parse(&text)?;
        file.current
            .as_ref()
            .map(|name| Ok((name.clone(), flags(&file, name)?)))
            .transpose()
    };
    let found = read.map_err(|error| error.to_string()).and_then(named);
    found.map_err(|why| format!("{}: {why}", path.display()))
}

fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

fn flags(file: &File, name: &str) -> Result<CommandLine, String> {
    let Some(settings) = file.contexts.get(name) else {
        let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
        return Err(format!(
            "there is no context {name:?}; known contexts: {}",
            known.join(", ")
        ));
    };
    let args = settings.iter().flat_map(|(flag, value)| {
        let words = match value {
            Value::Bool(value) => vec![value.to_string()],
            Value::Int(value) => vec![value.to_string()],
            Value::Text(value) => vec![value.clone()],
            // The list of etcd endpoints is one value; any other flag is repeated for each.
            Value::List(values) if flag == "etcd-endpoints" => vec![values.join(",")],
            Value::List(values) => values.clone(),
        };
        words
            .into_iter()
            .map(move |word| OsString::from(format!("-{flag}={word}")))
    });
    Ok(CommandLine {
        args: args.collect(),
        variables: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "current = \"lab\"\n[contexts.lab]\netcd-endpoints = [\"http://a:1\", \"http://b:1\"]\n\
                        etcd-prefix = \"/net\"\nip-masq = true\nv = 1\niface = [\"eth0\", \"eth1\"]\n[contexts.other]\n";

    #[test]
    fn a_context_becomes_flags() {
        let file = parse(TEXT).unwrap();
        let CommandLine { args, variables } = flags(&file, "lab").unwrap();
        assert_eq!(
            args,
            [
                "-etcd-endpoints=http://a:1,http://b:1",
                "-etcd-prefix=/net",
                "-iface=eth0",
                "-iface=eth1",
                "-ip-masq=true",
                "-v=1"
            ]
        );
        assert_eq!((variables.len(), file.current.as_deref()), (0, Some("lab")));
    }

    #[test]
    fn an_unknown_context_or_member_is_named() {
        let file = parse(TEXT).unwrap();
        let why = flags(&file, "lba").unwrap_err();
        assert_eq!(
            why,
            "there is no context \"lba\"; known contexts: lab, other"
        );
        assert!(parse("curent = \"lab\"").unwrap_err().contains("curent"));
    }
}
