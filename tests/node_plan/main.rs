//! Plans for nodes: golden trees, the document's units, every release's command lines, and what systemd and etcd make of
//! them. Needs root and what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

#[path = "../support/mod.rs"]
mod support;

mod docker;
mod document;
mod fields;
mod golden;
mod hostile;
mod inputs;
mod releases;
mod systemd;
mod units;

use node_setup::settings::Value;
use node_setup::{Error, Host, Model, Plan, Settings, plan};

/// The document's values, which have no default.
const DOCUMENT: [(&str, &str); 2] = [
    ("node-ip", "10.64.3.7"),
    (
        "etcd-endpoints",
        "https://10.64.3.7:2379,https://10.64.3.8:2379,https://10.66.3.86:2379",
    ),
];

/// Settings of the document's node with these on top.
fn settings(more: &[(&str, &str)]) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (name, value) in DOCUMENT.iter().chain(more) {
        let switch = value.parse().map(Value::Switch);
        settings.set(
            name,
            switch.unwrap_or_else(|_| Value::Text((*value).into())),
        )?;
    }
    Ok(settings)
}

fn planned(more: &[(&str, &str)], host: &Host) -> Result<Plan, Error> {
    plan(&Model::new(settings(more)?)?, host)
}

/// A host with today's packages; `dockerd` is where docker's has its program.
fn packaged(dockerd: &str) -> Host {
    let unit = format!(
        "[Unit]\nDescription=Docker Application Container Engine\nAfter=network-online.target containerd.service\n\
         Wants=network-online.target containerd.service\n\n[Service]\nType=notify\n\
         ExecStart={dockerd} -H fd:// --containerd=/run/containerd/containerd.sock\n\
         ExecReload=/bin/kill -s HUP $MAINPID\nStartLimitBurst=3\n\n[Install]\nWantedBy=multi-user.target\n"
    );
    Host {
        docker_unit: Some(unit),
        containerd_unit: true,
        network_manager: true,
        networkd: true,
        ..Host::default()
    }
}

/// The releases that goldens are kept of, and all combinations that there are plans for.
const RELEASES: [&str; 9] = [
    "1.6", "1.10", "1.16", "1.23", "1.24", "1.28", "1.32", "1.35", "1.36",
];

/// Release and runtime of every plan in recommended style.
fn combinations() -> impl Iterator<Item = (&'static str, &'static str)> {
    RELEASES
        .into_iter()
        .flat_map(|release| ["docker", "containerd"].map(|runtime| (release, runtime)))
}
