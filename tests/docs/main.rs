//! Every command that a document shows, in the order of the document, in real surroundings: three hosts that systemd runs,
//! etcd, the programs. Needs root and what `scripts/setup` installs.
//!
//! `UPDATE_EXPECT=1` writes what was printed into the documents instead of comparing it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod compare;
mod markdown;
mod reference;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use lab::wait_until;
use markdown::{How, Step, Terms};
use scene::Scene;
use support::PATIENCE;

/// One test for each document with commands that are run.
macro_rules! documents {
    ($($name:ident: $path:literal,)*) => {
        $(#[test]
        fn $name() {
            run($path);
        })*
    };
}

documents! {
    change_a_node: "docs/guides/change-a-node.md",
    exit_codes: "docs/reference/exit-codes.md",
    filter_vxlan_sources: "docs/guides/filter-vxlan-sources.md",
    first_cluster: "docs/getting-started/first-cluster.md",
    flags: "docs/reference/flags.md",
    files: "docs/reference/files.md",
    keys: "docs/reference/etcd-keys.md",
    migrate_a_host: "docs/getting-started/migrate-a-host.md",
    monitor_and_alert: "docs/guides/monitor-and-alert.md",
    network_configuration: "docs/reference/network-configuration.md",
    pods_cannot_talk: "docs/guides/two-pods-cannot-talk.md",
    readme: "README.md",
    replace_an_etcd_member: "docs/guides/replace-an-etcd-member.md",
    restore_an_etcd_backup: "docs/guides/restore-an-etcd-backup.md",
    restrict_etcd_access: "docs/guides/restrict-etcd-access.md",
    roll_out: "docs/guides/roll-out-to-500-hosts.md",
    rotate_etcd_certificates: "docs/guides/rotate-etcd-certificates.md",
    security: "docs/concepts/security.md",
    set_up_a_node: "docs/guides/set-up-a-node.md",
    try_it: "docs/getting-started/try-it.md",
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn steps(path: &str) -> Vec<Step> {
    markdown::steps(&read(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Runs a document from its first command to its last, and fails with all that went wrong.
fn run(path: &str) {
    let text = read(path);
    let lab = scene::lab();
    let scene = Scene::set(&lab, &markdown::scene(&text));
    let (mut updates, mut complaints) = (Vec::new(), Vec::new());
    for step in steps(path) {
        let How::Run(terms) = &step.how else { continue };
        let done = perform(&scene, &step, terms);
        let found = done.iter().filter_map(|one| complaint(&step, terms, one));
        complaints.extend(found.map(|why| format!("{path}:{}: {}{why}", step.line, step.script)));
        updates.extend(step.output.map(|shown| (shown.line, printed(&done[0]))));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(root().join(path), updated(&text, &updates)).unwrap();
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// Runs a step, again and again if it may take a while: what it did on each of its hosts.
fn perform(scene: &Scene<'_>, step: &Step, terms: &Terms) -> Vec<Output> {
    let mut done = scene.run(step, terms);
    if terms.soon {
        wait_until(PATIENCE, || {
            let is_right = done.iter().all(|one| complaint(step, terms, one).is_none());
            if !is_right {
                done = scene.run(step, terms);
            }
            is_right
        });
    }
    done
}

fn printed(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What is wrong with what it did.
fn complaint(step: &Step, terms: &Terms, done: &Output) -> Option<String> {
    let printed = printed(done);
    let shown = step
        .output
        .as_ref()
        .filter(|_| std::env::var_os("UPDATE_EXPECT").is_none());
    match shown {
        _ if done.status.code() != Some(terms.status) => Some(format!(
            "ends with {} and not with {}; it printed\n{printed}",
            done.status, terms.status
        )),
        Some(shown) if !compare::alike(&shown.text, &printed) => Some(format!(
            "expected output:\n{}actual output:\n{printed}",
            shown.text
        )),
        _ => None,
    }
}

/// The document with other outputs. Those that agree stay as they are.
fn updated(text: &str, updates: &[(usize, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (fence, printed) in updates.iter().rev() {
        let end = (*fence..lines.len())
            .find(|at| lines[*at].trim() == "```")
            .unwrap();
        if !compare::alike(&lines[*fence..end].join("\n"), printed) {
            lines.splice(
                *fence..end,
                printed
                    .trim_end()
                    .lines()
                    .map(|line| line.trim_end().to_owned()),
            );
        }
    }
    lines.join("\n") + "\n"
}
