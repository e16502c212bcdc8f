//! Every command that a document shows, in the order of the document, in real surroundings: three hosts that systemd runs,
//! etcd, the programs. Needs root and what `scripts/setup` installs.
//!
//! `UPDATE_GOLDEN=1` writes what was printed into the documents instead of comparing it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper fails its test")]

mod compare;
mod markdown;
mod reference;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use markdown::{How, Step, Terms};
use rflannel::lab::wait_until;
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
    configuration: "docs/configuration.md",
    migration: "docs/migration.md",
    node_setup: "docs/node-setup.md",
    quick_start: "docs/quick-start.md",
    readme: "README.md",
    security: "docs/security.md",
    troubleshooting: "docs/troubleshooting.md",
    walk_through: "docs/walk-through.md",
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

/// Runs a document from its first command to its last.
fn run(path: &str) {
    let text = read(path);
    let lab = scene::lab();
    let scene = Scene::set(&lab, &markdown::scene(&text));
    let mut updates = Vec::new();
    for step in steps(path) {
        let How::Run(terms) = &step.how else { continue };
        let printed = perform(&scene, path, &step, terms);
        updates.extend(step.output.map(|shown| (shown.line, printed)));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join(path), updated(&text, &updates)).unwrap();
    }
}

/// Runs a step; what it printed on the first of its hosts.
#[track_caller]
fn perform(scene: &Scene<'_>, path: &str, step: &Step, terms: &Terms) -> String {
    let mut done = scene.run(step, terms);
    if terms.soon {
        wait_until(PATIENCE, || {
            done = scene.run(step, terms);
            done.iter().all(|one| complaint(step, terms, one).is_none())
        });
    }
    for one in &done {
        let complaint = complaint(step, terms, one);
        let text = String::from_utf8_lossy(&one.stdout);
        assert!(complaint.is_none(), "{path}:{}: {}{}\n{text}", step.line, step.script, complaint.unwrap());
    }
    String::from_utf8_lossy(&done[0].stdout).into_owned()
}

/// What is wrong with what it did.
fn complaint(step: &Step, terms: &Terms, done: &Output) -> Option<String> {
    let printed = String::from_utf8_lossy(&done.stdout);
    let shown = step.output.as_ref().filter(|_| std::env::var_os("UPDATE_GOLDEN").is_none());
    match shown {
        _ if done.status.code() != Some(terms.status) => {
            Some(format!("ends with {} and not with {}; it printed", done.status, terms.status))
        }
        Some(shown) if !compare::alike(&shown.text, &printed) => {
            Some(format!("shall print\n{}but printed", shown.text))
        }
        _ => None,
    }
}

/// The document with other outputs. Those that agree stay as they are.
fn updated(text: &str, updates: &[(usize, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (fence, printed) in updates.iter().rev() {
        let end = (*fence..lines.len()).find(|at| lines[*at].trim() == "```").unwrap();
        if !compare::alike(&lines[*fence..end].join("\n"), printed) {
            lines.splice(*fence..end, printed.trim_end().lines().map(|line| line.trim_end().to_owned()));
        }
    }
    lines.join("\n") + "\n"
}
