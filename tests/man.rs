//! The manual pages and completions, as their readers take them. Needs what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

#[path = "support/tool.rs"]
mod tool;

use crate::tool::rflannel;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use expect_test::expect_file;
use flanneld::cli::flag_table;
use rflannel::cli::man;
use tempfile::TempDir;

/// Runs a program that must succeed; what it says.
fn must(program: &str, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        status.success(),
        "{program} {args:?}: {}{}",
        text(&stdout),
        text(&stderr)
    );
    text(&stdout)
}

/// All pages.
fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    must(
        rflannel(),
        &[
            "man",
            "--output",
            dir.path().to_str().unwrap(),
            "--date",
            "2026-11-26",
        ],
    );
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = ["man1", "man8"]
        .iter()
        .flat_map(|section| fs::read_dir(dir.join(section)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// A page as on a terminal, in one line.
fn shown(dir: &Path, page: &str) -> String {
    let text = must("mandoc", &["-T", "ascii", dir.join(page).to_str().unwrap()]);
    // What is bold is struck twice.
    let chars: Vec<char> = text.chars().collect();
    let struck = |i: usize| chars.get(i + 1) == Some(&'\u{8}') || chars[i] == '\u{8}';
    let plain: String = (0..chars.len())
        .filter(|i| !struck(*i))
        .map(|i| chars[i])
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn formatters_have_nothing_to_say_about_the_pages() {
    let dir = written();
    let pages = files(dir.path());
    assert!(pages.len() > 10, "{pages:?}");
    // One only leads to another: that it does is looked at below.
    let is_text = |page: &&PathBuf| !fs::read_to_string(page).unwrap().starts_with(".so ");
    for page in pages.iter().filter(is_text) {
        let page = page.to_str().unwrap();
        assert_eq!(
            must("mandoc", &["-T", "lint", "-W", "warning", page]),
            "",
            "{page}"
        );
        let groff = format!(
            "cd {} && man --warnings -E UTF-8 -l -Tutf8 -Z {page}",
            dir.path().display()
        );
        assert_eq!(
            must("sh", &["-c", &format!("({groff}) 2>&1 >/dev/null")]),
            "",
            "{page}"
        );
    }
}

#[test]
fn every_flag_of_the_daemon_is_in_its_page_with_one_dash() {
    let dir = written();
    let page = shown(dir.path(), "man8/flanneld.8");
    let help = flag_table::help();
    for flag in flag_table::flags() {
        let listed = help.contains(&format!("\n  -{}", flag.name));
        assert_eq!(
            page.contains(&format!(" -{}", flag.name)) && !flag.help.is_empty(),
            listed,
            "-{}",
            flag.name
        );
        assert!(page.contains(flag.help), "-{}: {}", flag.name, flag.help);
    }
    assert!(!page.contains(" --"), "{page}");
    for word in [
        "FLANNELD_ETCD_ENDPOINTS",
        "-etcd-prefix=text [default: /coreos.com/network]",
        "EXIT STATUS",
        "-ip-masq[=bool]",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
}

/// The names of the subcommands that `rflannel NAME… --help` lists.
fn subcommands(path: &[&str]) -> Vec<String> {
    let help = must(rflannel(), &[path, &["--help"]].concat());
    let list = help
        .split_once("\nCommands:\n")
        .map_or("", |(_, list)| list.split("\n\n").next().unwrap());
    let names = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_a_page_that_its_parent_leads_to() {
    let dir = written();
    let mut wanted = vec!["rflannel".to_owned(), "mk-docker-opts.sh".to_owned()];
    for name in subcommands(&[]) {
        let page = format!("rflannel-{name}");
        assert!(
            shown(dir.path(), "man1/rflannel.1").contains(&format!("{page}(1)")),
            "{page}"
        );
        let below = if name == "mk-docker-opts" {
            Vec::new()
        } else {
            subcommands(&[&name])
        };
        wanted.extend(below.iter().map(|below| format!("{page}-{below}")));
        wanted.push(page);
    }
    wanted.sort();
    let mut have: Vec<_> = files(&dir.path().join(""))
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    have.retain(|name| name != "flanneld");
    have.sort();
    assert!(wanted.len() > 12, "{wanted:?}");
    assert_eq!(have, wanted);
}

#[test]
fn documents_have_a_page_for_each_command() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/commands");
    let pages = man::markdown_pages(rflannel::cli::rflannel::command());
    for (name, text) in &pages {
        expect_file![dir.join(name)].assert_eq(text);
    }
    let entries = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = entries.collect();
    let wanted: BTreeSet<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, wanted);
}

#[test]
fn pages_say_what_help_says() {
    let dir = written();
    for (page, words) in [
        (
            "man1/rflannel-status.1",
            &[
                "EXIT STATUS",
                "64 wrong usage",
                "EXAMPLES",
                "rflannel status --peers",
                "--watch[=<SECONDS>]",
                "rflannel(1)",
            ][..],
        ),
        (
            "man1/rflannel-mk-docker-opts.1",
            &[
                "-k name of the variable with all options",
                "Unlike the shell script:",
            ],
        ),
        (
            "man1/rflannel-lab-up.1",
            &["--dual-stack", "rflannel-lab(1)"],
        ),
    ] {
        let text = shown(dir.path(), page);
        words
            .iter()
            .for_each(|word| assert!(text.contains(word), "{page}: {word}: {text}"));
    }
    let script = must(
        "man",
        &["-M", dir.path().to_str().unwrap(), "1", "mk-docker-opts.sh"],
    );
    assert!(script.contains("rflannel-mk-docker-opts"), "{script}");
}

#[test]
fn pages_that_cannot_be_written_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("man1");
    fs::write(&file, "").unwrap();
    let output = Command::new(rflannel())
        .args(["man", "--output"])
        .arg(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.starts_with("rflannel: cannot write ") && stderr.contains("man1"),
        "{stderr}"
    );
}
