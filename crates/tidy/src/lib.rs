//! The rules that this repository keeps and no compiler checks: each test reads the sources and names file, line and rule.
//! It depends on none of them, so that it runs in seconds.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod causes;
mod commands;
mod docs;
mod layers;
mod links;
mod log_lines;
mod source;
mod words;

use std::fs;

use source::{Source, mentions, root};

/// The longest file: beyond it there is usually a second subject.
const LINES: usize = 600;
/// The same for files that hold nothing but tests.
const TEST_LINES: usize = 800;
/// The longest name of a function: `subject_condition_outcome`.
const NAME: usize = 60;

/// What pure files have no use for.
const IMPURE: &[&str] = &[
    "async ",
    "tokio::",
    "rtnetlink::",
    "rand::",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "fs::",
    "env::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixDatagram",
    "SystemTime::now",
    "Instant::now",
    "println!",
];

/// Fails with all complaints at once.
fn assert_tidy(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn sources() -> Vec<Source> {
    let found: Vec<_> = ["src", "crates"]
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[".rs"]))
        .filter(|file| !file.path.starts_with("crates/tidy/"))
        .collect();
    assert!(
        found.len() > 200,
        "the sources are not where they are looked for"
    );
    found
}

/// Everything that people write, sources or not.
fn written() -> Vec<Source> {
    let dirs = [
        "src",
        "crates",
        "tests",
        "benches",
        "fuzz/fuzz_targets",
        "fuzz/src",
        "packaging",
        "scripts",
        "systemd",
        ".ci",
    ];
    let mut found: Vec<_> = dirs
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[""]))
        .filter(|file| !file.path.ends_with(".json"))
        .collect();
    const FILES: [&str; 8] = [
        "Cargo.toml",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deny.toml",
        "clippy.toml",
    ];
    for name in FILES {
        let text = fs::read_to_string(root().join(name));
        found.extend(text.map(|text| Source::new(name, &text)));
    }
    found
}

#[test]
fn modules_use_only_what_is_below_them() {
    assert_tidy(
        sources()
            .iter()
            .filter(|file| !file.path.ends_with("/lib.rs") && file.path != "src/lib.rs")
            .flat_map(layers::upward)
            .collect(),
    );
}

#[test]
fn shells_and_decisions_stay_apart() {
    assert_tidy(sources().iter().flat_map(layers::apart).collect());
}

#[test]
fn each_foreign_crate_stays_in_its_home() {
    assert_tidy(sources().iter().flat_map(layers::homes).collect());
}

#[test]
fn pure_files_do_nothing() {
    assert!(sources().iter().filter(|file| is_pure(file)).count() > 100);
    assert_tidy(sources().iter().flat_map(purity).collect());
}

/// Whether the first line of its docs says that it computes and does nothing else.
fn is_pure(source: &Source) -> bool {
    let header = source.text.lines().next().unwrap_or_default();
    header.to_lowercase().contains("pure")
}

fn purity(source: &Source) -> Vec<String> {
    if is_pure(source) {
        source.without(IMPURE, "not in a file that is pure")
    } else {
        Vec::new()
    }
}

#[test]
fn files_stay_short_enough_to_be_read() {
    assert_tidy(written().iter().filter_map(too_long).collect());
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let is_test = source.path.starts_with("tests/") || source.path.contains("/tests");
    let most = if is_test { TEST_LINES } else { LINES };
    (lines > most).then(|| {
        source.at(
            lines,
            &format!("{lines} lines are more than {most}: split it"),
        )
    })
}

#[test]
fn every_module_says_what_it_is_for() {
    let rust = written()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"));
    assert_tidy(rust.filter_map(|file| undocumented(&file)).collect());
}

fn undocumented(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| source.at(1, "the first line must say what the module owns (//!)"))
}

#[test]
fn nothing_is_left_for_later_and_nothing_is_of_one_machine() {
    assert_tidy(
        written()
            .iter()
            .filter(|file| !["crates/tidy/src/lib.rs", "clippy.toml"].contains(&file.path.as_str()))
            .flat_map(leftovers)
            .collect(),
    );
}

fn leftovers(source: &Source) -> Vec<String> {
    const WORDS: &[(&str, &str)] = &[
        ("TODO", "do it, or write an issue"),
        ("FIXME", "do it, or write an issue"),
        ("XXX", "do it, or write an issue"),
        ("#[ignore", "a test runs or is deleted"),
        ("/work/", "a path of one machine"),
        (
            "/tmp/",
            "a path that others can write to: make a temporary directory",
        ),
        ("/home/", "a path of one machine"),
    ];
    let found = |line: &str| WORDS.iter().find(|(word, _)| line.contains(word));
    source
        .lines()
        .filter_map(|(number, line)| {
            found(line).map(|(word, why)| source.at(number, &format!("{word}: {why}")))
        })
        .collect()
}

#[test]
fn the_documents_name_tests_that_are_there() {
    let tests: Vec<Source> = ["src", "crates", "tests"]
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[".rs"]))
        .collect();
    assert_tidy(
        docs::tables()
            .iter()
            .flat_map(|table| docs::missing(table, &tests))
            .collect(),
    );
}

#[test]
fn every_command_of_the_documents_is_run_or_says_why_not() {
    let tests = Source::below("tests", &[".rs"]);
    let runner = tests
        .iter()
        .find(|file| file.path == "tests/docs/main.rs")
        .unwrap();
    let front = written()
        .into_iter()
        .find(|file| file.path == "README.md")
        .unwrap();
    assert_tidy(commands::complaints(
        &commands::documents(&front),
        runner,
        &tests,
    ));
}

#[test]
fn links_and_paths_of_documents_lead_somewhere() {
    let files = written();
    let mut pages = Source::below("docs", &[".md"]);
    assert!(
        pages.len() > 30,
        "the documents are not where they are looked for"
    );
    assert_tidy(links::unlisted(&pages));
    let contrib = Source::below("contrib", &[".yml", ".json"]);
    let others = files
        .iter()
        .filter(|file| file.path != "crates/tidy/src/links.rs");
    let others: Vec<Source> = others
        .map(|file| Source::new(&file.path, &file.text))
        .chain(contrib)
        .collect();
    assert_tidy(links::dead_paths(&others));
    pages.extend(
        files
            .into_iter()
            .filter(|file| file.path.ends_with(".md") && !file.path.contains('/')),
    );
    assert_tidy(links::dead_links(&pages));
}

#[test]
fn every_cause_of_check_has_its_row() {
    for (below, page) in [
        ("crates/rflannel/src/check/", "check-causes.md"),
        ("crates/node-setup/src/check/", "node-setup.md"),
    ] {
        let page = Source::below("docs/reference", &[&format!("/{page}")]).remove(0);
        assert_tidy(causes::complaints(&sources(), below, &page));
    }
}

#[test]
fn every_line_of_the_log_has_its_entry() {
    assert_tidy(log_lines::complaints(&sources()));
}

#[test]
fn names_of_functions_are_short() {
    let long = |file: &Source| -> Vec<String> {
        let name = |line: &str| {
            let (_, rest) = line.split_once("fn ")?;
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
            (length > NAME).then(|| rest[..length].to_owned())
        };
        let lines = file
            .lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        lines
            .filter_map(|(number, line)| {
                Some(file.at(number, &format!("{} is longer than {NAME}", name(line)?)))
            })
            .collect()
    };
    assert_tidy(
        written()
            .iter()
            .filter(|file| file.path.ends_with(".rs"))
            .flat_map(long)
            .collect(),
    );
}

#[test]
fn mutations_apply_to_the_sources() {
    let mutations = fs::read_to_string(root().join("tests/mutations")).unwrap();
    let (mut file, mut complaints, mut count) = ("", Vec::new(), 0);
    for (number, line) in (1..).zip(mutations.lines()) {
        if let Some(path) = line.strip_prefix("file: ") {
            file = path;
        } else if let Some(from) = line.strip_prefix("from: ") {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            let found = text.matches(from).count();
            count += 1;
            if found != 1 {
                complaints.push(format!(
                    "tests/mutations:{number}: {file} contains this text {found} times instead of once"
                ));
            }
        }
    }
    assert!(count > 50, "{count}");
    assert_tidy(complaints);
}

#[test]
fn banned_words_do_not_come_back() {
    assert_tidy(words::complaints());
}

#[test]
fn every_dependency_is_used() {
    let crates = ["", "crates/lab/", "crates/node-setup/", "crates/rflannel/"];
    let complaints = crates.into_iter().flat_map(|dir| {
        let manifest = fs::read_to_string(root().join(dir).join("Cargo.toml")).unwrap();
        assert!(dependencies(&manifest, "dependencies").len() > 5);
        let below = |names: &[&str]| -> Vec<_> {
            let dirs = names.iter().map(|name| format!("{dir}{name}"));
            dirs.flat_map(|dir| Source::below(&dir, &[".rs"])).collect()
        };
        let shipped = unused(&manifest, "dependencies", &below(&["src"]));
        let all = below(&["src", "tests", "benches"]);
        shipped
            .into_iter()
            .chain(unused(&manifest, "dev-dependencies", &all))
    });
    assert_tidy(complaints.collect());
}

fn unused(manifest: &str, section: &str, files: &[Source]) -> Vec<String> {
    let names = |name: &str| {
        files.iter().any(|file| {
            file.lines()
                .any(|(_, line)| mentions(line, &format!("{name}::")))
        })
    };
    let unused = dependencies(manifest, section)
        .into_iter()
        .filter(|name| !names(&name.replace('-', "_")));
    unused
        .map(|name| format!("Cargo.toml: {name} of [{section}] is not used"))
        .collect()
}

fn dependencies<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != format!("[{section}]"))
        .skip(1);
    let lines = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            Some(
                line.split_once('=')?
                    .0
                    .trim()
                    .trim_end_matches(".workspace"),
            )
        })
        .collect()
}

/// A rule that never fires protects nothing.
#[test]
fn the_rules_bite() {
    let file = |path: &str, text: &str| Source::new(path, text);
    let upward = |path, text| layers::upward(&file(path, text));
    assert_eq!(
        upward("src/desired.rs", "\nuse crate::reconcile::X;").len(),
        1
    );
    assert_eq!(
        upward("src/kernel/plan.rs", "let x = super::super::subnet::f();").len(),
        1
    );
    assert_eq!(upward("src/config.rs", "use super::{app, util};").len(), 2);
    assert_eq!(upward("src/new.rs", "").len(), 1);
    assert_eq!(
        upward(
            "src/desired.rs",
            "use crate::kernel::X;\n#[cfg(test)]\nmod tests { use crate::app; }"
        ),
        [""; 0]
    );
    assert_eq!(
        layers::apart(&file("src/backend/x.rs", "use crate::subnet::etcd::X;")).len(),
        1
    );
    assert_eq!(
        layers::homes(&file("src/desired.rs", "use clap::Arg;")).len(),
        1
    );
    assert_eq!(
        layers::homes(&file(
            "crates/rflannel/src/cli/x.rs",
            "use clap::Arg; // etcd_client::"
        )),
        [""; 0]
    );
    assert_eq!(
        purity(&file(
            "src/desired.rs",
            "//! Is pure.\nlet a = std::fs::read();\n// tokio::"
        ))
        .len(),
        1
    );
    assert_eq!(
        purity(&file("src/app.rs", "//! Runs.\nlet a = std::fs::read();")),
        [""; 0]
    );
    assert!(too_long(&file("src/x.rs", &"\n".repeat(LINES + 1))).is_some());
    assert!(undocumented(&file("src/x.rs", "use x;")).is_some());
    assert_eq!(
        leftovers(&file("src/x.rs", "// TODO\n\n#[ignore]\nopen(\"/tmp/x\")")).len(),
        3
    );
    assert_eq!(
        unused(
            "[dependencies]\na-b = 1\nc.workspace = true",
            "dependencies",
            &[file("src/x.rs", "use a_b::C;")]
        )
        .len(),
        1
    );
}
