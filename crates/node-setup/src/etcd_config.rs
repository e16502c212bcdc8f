//! Returns the key of the network configuration in etcd, and a command that writes it once. Pure.

use super::{Model, argv};

/// Returns the key. The daemon does not read a value at the prefix itself.
pub fn key(model: &Model) -> String {
    format!("{}/config", model.etcd.prefix)
}

/// Returns a shell command that writes the key if it does not exist, and prints its value in any case.
pub fn command(model: &Model) -> String {
    let (key, value) = (key(model), &model.network_config);
    let mut words = vec![
        "etcdctl".to_owned(),
        format!("--endpoints={}", model.etcd.endpoints.join(",")),
    ];
    let names = ["--cacert", "--cert", "--key"];
    let files = model
        .etcd
        .tls
        .iter()
        .flat_map(|files| names.iter().zip(files));
    words.extend(files.map(|(name, file)| format!("{name}={}", file.display())));
    // Without a password, so that etcdctl asks for it.
    if let Some((user, _)) = &model.etcd.login {
        words.push(format!("--user={user}"));
    }
    words.push("txn".to_owned());
    let words: Vec<String> = words.iter().map(|word| shell(word)).collect();
    let line = words.join(" \\\n  ");
    format!(
        "ETCDCTL_API=3 {line} <<'END'\ncreate({}) = \"0\"\n\nput {} {}\n\nget {}\n\nEND\n",
        go(&key),
        go(&key),
        go(value),
        go(&key)
    )
}

/// Quotes a word for a shell.
fn shell(word: &str) -> String {
    if argv::is_bare(word) {
        return word.to_owned();
    }
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), |word| word.into_owned())
}

/// Quotes a word for etcdctl's transaction language, as a Go string.
fn go(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
