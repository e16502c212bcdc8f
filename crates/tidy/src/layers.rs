//! Which module may use which.

use crate::source::{Source, mentions};

/// The daemon's modules from top to bottom: a module uses only what is below its own row. Between crates the compiler sees to it.
const LAYERS: &[&[&str]] = &[
    &["bin"],
    &["app", "cli"],
    &["reconcile"],
    &["status"],
    &["files", "firewall", "desired", "host_setup", "state_file"],
    &["backend", "docker_opts"],
    &["subnet_env"],
    &["iface", "probe"],
    &["kernel", "schedule", "subnet"],
    &["config", "resolver", "shutdown", "util"],
];

/// Narrower than the rows: who must not name what, and why.
const APART: &[(&str, &[&str], &str)] = &[
    (
        "src/backend/",
        &["subnet::etcd", "kernel::netlink"],
        "a backend does no I/O",
    ),
    (
        "src/desired",
        &["subnet::etcd", "kernel::netlink"],
        "what is desired is pure",
    ),
    (
        "src/reconcile",
        &["subnet::etcd", "kernel::netlink"],
        "the loop knows only the traits",
    ),
    (
        "src/app.rs",
        &["subnet::etcd", "kernel::netlink"],
        "the daemon knows only the traits",
    ),
    (
        "crates/rflannel/src/admin/",
        &["EtcdManager", "kernel::netlink"],
        "what is to be done is decided without I/O",
    ),
    (
        "crates/rflannel/src/admin/",
        &["crate::cli", "crate::check"],
        "leases and settings are below the commands",
    ),
    (
        "crates/rflannel/src/check/",
        &["crate::cli"],
        "a check knows nothing of command lines",
    ),
];

/// Crates that only these files may name: what begins with one of the paths.
const HOMES: &[(&str, &[&str])] = &[
    ("clap", &["src/cli/", "crates/rflannel/src/cli/"]),
    (
        "http_body_util",
        &["src/status/", "crates/node-setup/src/check/api.rs"],
    ),
    (
        "hyper",
        &["src/status/", "crates/node-setup/src/check/api.rs"],
    ),
    (
        "hyper_util",
        &[
            "src/status/",
            "crates/node-setup/src/check/api.rs",
            "src/subnet/etcd/transport.rs",
        ],
    ),
    ("prometheus_client", &["src/status/"]),
    ("etcd_client", &["src/subnet/etcd/"]),
    ("etherparse", &["src/probe/packet.rs"]),
    ("netlink_packet_core", &["src/kernel/"]),
    ("netlink_packet_route", &["src/kernel/"]),
    (
        "netlink_sys",
        &[
            "src/kernel/socket.rs",
            "src/kernel/monitor.rs",
            "src/firewall/monitor.rs",
            "src/firewall/tables.rs",
        ],
    ),
    ("nix", &["src/status/client.rs", "src/probe/arp.rs"]),
    (
        "ring",
        &["crates/node-setup/src/", "src/subnet/etcd/tls_policy.rs"],
    ),
    ("rtnetlink", &["src/kernel/netlink.rs"]),
    (
        "regex",
        &[
            "crates/rflannel/src/admin/redact.rs",
            "src/config/pattern.rs",
        ],
    ),
    (
        "rustls",
        &["crates/node-setup/src/check/", "src/subnet/etcd/"],
    ),
    (
        "tokio_rustls",
        &[
            "crates/node-setup/src/check/api.rs",
            "src/subnet/etcd/transport.rs",
        ],
    ),
    ("tonic", &["src/subnet/etcd/"]),
    ("tower", &["src/subnet/etcd/transport.rs"]),
    ("socket2", &["src/probe/"]),
    ("tempfile", &["src/util/atomic_file.rs"]),
    ("tracing_subscriber", &["src/util/logging.rs"]),
    (
        "x509_parser",
        &[
            "crates/node-setup/src/check/certs.rs",
            "src/subnet/etcd/tls_policy.rs",
        ],
    ),
];

/// Uses of a module in the same row or above, and modules that have no row.
pub fn upward(source: &Source) -> Vec<String> {
    if source.path.starts_with("crates/") {
        return Vec::new();
    }
    let module = source.module();
    let from = module.first().copied().unwrap_or_default();
    let Some(own) = row(from) else {
        return vec![source.at(1, &format!("{from} has no place in LAYERS"))];
    };
    let uses = source.code().flat_map(|(number, line)| {
        used(line, module.len())
            .into_iter()
            .map(move |to| (number, to))
    });
    let bad = uses.filter(|(_, to)| to != from && row(to).is_some_and(|row| row <= own));
    bad.map(|(number, to)| {
        source.at(
            number,
            &format!("{from} is below {to} or beside it, and must not use it"),
        )
    })
    .collect()
}

/// What must stay apart although the rows allow it.
pub fn apart(source: &Source) -> Vec<String> {
    let rules = APART
        .iter()
        .filter(|(path, ..)| source.path.starts_with(path));
    rules
        .flat_map(|(_, words, why)| source.without(words, why))
        .collect()
}

/// Crates outside their homes.
pub fn homes(source: &Source) -> Vec<String> {
    let away = HOMES
        .iter()
        .filter(|(_, homes)| !homes.iter().any(|home| source.path.starts_with(home)));
    away.flat_map(|(name, homes)| {
        source.without(
            &[&format!("{name}::")],
            &format!("only {} may name this crate", homes.join(", ")),
        )
    })
    .collect()
}

fn row(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The top modules of this crate that a line names, in a file whose module is `depth` names deep.
fn used(line: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let roots = ["crate::", &up];
    let rest = roots
        .iter()
        .filter(|root| mentions(line, root))
        .flat_map(|root| line.split(root).skip(1));
    rest.flat_map(heads).collect()
}

/// The first names of a path or of a braced list of paths.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    match path.strip_prefix('{') {
        Some(list) => list.split(',').map(|item| name(item.trim())).collect(),
        None => vec![name(path)],
    }
}
