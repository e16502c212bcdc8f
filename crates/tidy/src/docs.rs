//! The tests that the tables in `docs/internals` name, in their last column: each must be there.

use crate::source::{Source, root};

/// Tables of claims with the tests that show them.
pub fn tables() -> Vec<Source> {
    let found: Vec<Source> = Source::below(
        "docs/internals",
        &[
            "compatibility.md",
            "fault-matrix.md",
            "node-setup.md",
            "upstream-reports.md",
        ],
    );
    assert_eq!(
        found.len(),
        4,
        "the documents are not where they are looked for"
    );
    found
}

/// Files and functions that a table names and that are not there. A function after a file is one of that file.
pub fn missing(table: &Source, tests: &[Source]) -> Vec<String> {
    let rows = table.lines().filter(|(_, line)| line.starts_with('|'));
    rows.flat_map(|(number, row)| {
        let gone = unknown(row, tests).into_iter();
        gone.map(move |name| table.at(number, &format!("{name} is not there")))
            .collect::<Vec<_>>()
    })
    .collect()
}

fn unknown(row: &str, tests: &[Source]) -> Vec<String> {
    let cell = row
        .trim_end_matches('|')
        .rsplit('|')
        .next()
        .unwrap_or_default();
    let mut file: Option<&str> = None;
    let mut unknown = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        let there = match name {
            path if path.contains('/') => {
                file = path.ends_with(".rs").then_some(path);
                root().join(path).exists()
            }
            other if !is_snake(other) || file.is_none() && !other.contains('_') => true,
            function => tests
                .iter()
                .any(|source| within(source, file) && defines(source, function)),
        };
        if !there {
            unknown.push(name.to_owned());
        }
    }
    unknown
}

fn is_snake(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c))
}

/// A module's own tests may have a file of theirs below it.
fn within(source: &Source, file: Option<&str>) -> bool {
    let below = |file: &str| {
        source
            .path
            .starts_with(&format!("{}/", file.trim_end_matches(".rs")))
    };
    file.is_none_or(|file| source.path == file || below(file))
}

/// Whether it has a function of this name; one that ends in `…` is the beginning of a name.
fn defines(source: &Source, function: &str) -> bool {
    let (name, end) = function
        .strip_suffix('…')
        .map_or((function, "("), |name| (name, ""));
    source.text.contains(&format!("fn {name}{end}"))
}

/// A rule that never fires protects nothing.
#[test]
fn the_rule_bites() {
    let tests = [Source::new("tests/cli.rs", "fn a_b() {}\nfn c() {}")];
    let bad = |cell: &str| unknown(&format!("| `no_test` | {cell} |"), &tests);
    assert_eq!(
        bad("`stem`: `a_b`, `a_…`, `A_B`; `tests/cli.rs`: `c`; or same"),
        [""; 0]
    );
    assert_eq!(bad("`c_d`"), ["c_d"]);
    assert_eq!(bad("`tests/cli.rs`: `d`"), ["d"]);
    assert_eq!(bad("`tests/docs/main.rs`: `a_b`"), ["a_b"]);
    assert_eq!(bad("`tests/gone.rs`"), ["tests/gone.rs"]);
}
