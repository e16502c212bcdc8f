//! Words that have a plain term in the field, counted by area. Each count is a ceiling that may only shrink.

use std::collections::BTreeMap;
use std::fs;

use crate::source::{Source, root};

/// Words, in lower case, that the style guide replaces.
const BANNED: &[&str] = &[
    "anew",
    "behaviour",
    "behaviours",
    "colour",
    "colours",
    "doubt",
    "doubts",
    "elder",
    "kin",
    "neighbour",
    "neighbourhood",
    "neighbours",
    "nobody",
    "quarrel",
    "quarrels",
    "rival",
    "rivals",
    "shall",
    "somebody",
    "twin",
    "twins",
    "whoever",
    "whomever",
    "wish",
    "wished",
    "wishes",
];
/// The same, of two words.
const PAIRS: &[(&str, &str)] = &[
    ("for", "ever"),
    ("of", "ours"),
    ("of", "then"),
    ("put", "right"),
];
/// Names of other crates and of the JSON that the daemon writes.
const FOREIGN: &[&str] = &[
    "neighbour::",
    "NeighbourAddress",
    "NeighbourAttribute",
    "NeighbourFlags",
    "NeighbourMessage",
    "NeighbourState",
    "NewNeighbour",
    "DelNeighbour",
    "GetNeighbour",
    "rename = \"neighbour\"",
];
/// The ceilings, one area a line.
const CEILINGS: &str = "crates/tidy/src/words.txt";
/// This list names the words itself.
const EXEMPT: &str = "crates/tidy/src/words.rs";

/// Counts that are not at their ceilings. `UPDATE_EXPECT=1` lowers the ceilings.
pub fn complaints() -> Vec<String> {
    let path = root().join(CEILINGS);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let parts = text.lines().filter_map(|line| line.split_once(": "));
    let ceilings: BTreeMap<&str, usize> = parts
        .filter_map(|(area, count)| Some((area, count.parse().ok()?)))
        .collect();
    let counts = counts();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let lines = counts
            .iter()
            .map(|(area, count)| format!("{area}: {count}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        return Vec::new();
    }
    let rule =
        |(area, count): (&&str, &usize)| match ceilings.get(area).copied().unwrap_or_default() {
            most if *count > most => Some(format!(
                "{area}: {count} banned words, at most {most}: see BANNED in {EXEMPT}"
            )),
            most if *count < most => Some(format!(
                "{area}: {count} banned words are left: lower the ceiling of {most} in {CEILINGS}"
            )),
            _ => None,
        };
    counts.iter().filter_map(rule).collect()
}

/// Banned words in each area.
fn counts() -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    let mut add = |area, text: &str| *counts.entry(area).or_insert(0) += count(text);
    for file in ["src", "crates"]
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[".rs"]))
        .filter(|file| !file.path.starts_with("crates/tidy/"))
    {
        let (code, strings) = parts(&file.text);
        add("src identifiers and comments", &code);
        add("src strings", &strings);
    }
    let areas: [(&str, &[&str], &str); 6] = [
        ("tests", &["tests"], ".rs"),
        ("benches", &["benches"], ".rs"),
        ("fuzz", &["fuzz/src"], ".rs"),
        ("docs", &["docs"], ".md"),
        ("texts", &["crates/node-setup/src"], ".txt"),
        ("scripts", &["scripts", ".ci"], ""),
    ];
    for (area, dirs, ending) in areas {
        let files = dirs.iter().flat_map(|dir| Source::below(dir, &[ending]));
        files
            .filter(|file| file.path != EXEMPT)
            .for_each(|file| add(area, &file.text));
    }
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "Cargo.toml",
        "clippy.toml",
        "deny.toml",
    ] {
        add(
            "docs",
            &fs::read_to_string(root().join(name)).unwrap_or_default(),
        );
    }
    counts
}

/// Code with its comments, and the contents of its string literals.
fn parts(text: &str) -> (String, String) {
    let (mut code, mut strings) = (String::new(), String::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (is_string, length) = match first {
            '/' if rest.starts_with("//") => (false, rest.find('\n').unwrap_or(rest.len())),
            '"' => (true, quoted(rest)),
            'r' if !code.ends_with(is_name) && raw(rest).is_some() => {
                (true, raw(rest).unwrap_or(1))
            }
            '\'' => (false, character(rest)),
            other => (false, other.len_utf8()),
        };
        let (piece, after) = rest.split_at(length);
        if is_string {
            strings.push_str(piece);
            strings.push('\n');
            code.push(' ');
        } else {
            code.push_str(piece);
        }
        rest = after;
    }
    (code, strings)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the string literal at the beginning of `text`.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// The length of the raw string literal at the beginning of `text`, if there is one.
fn raw(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    text[1 + hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let begin = 2 + hashes;
    Some(
        text[begin..]
            .find(&close)
            .map_or(text.len(), |at| begin + at + close.len()),
    )
}

/// The length of the character literal at the beginning of `text`; of the quote alone if it begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

fn count(text: &str) -> usize {
    let text = FOREIGN
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(name, " "));
    let words = words(&text);
    let pairs = words
        .windows(2)
        .filter(|two| PAIRS.contains(&(two[0].as_str(), two[1].as_str())))
        .count();
    pairs
        + words
            .iter()
            .filter(|word| BANNED.contains(&word.as_str()))
            .count()
}

/// The words of a text in lower case; an identifier is several.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in text.chars() {
        if !c.is_ascii_alphabetic() || was_lower && c.is_ascii_uppercase() {
            words.push(String::new());
        }
        if c.is_ascii_alphabetic() {
            words.last_mut().unwrap().push(c.to_ascii_lowercase());
        }
        was_lower = c.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A rule that never fires protects nothing.
#[test]
fn banned_words_are_found_in_names_and_text() {
    assert_eq!(
        count("fn put_right(theWish: Twin) {} // whoever shall, for ever"),
        6
    );
    assert_eq!(count("NeighbourMessage, a likely story"), 0);
    let (code, strings) =
        parts("let a = \"wish \\\" twin\"; // a \"kin\"\nb('\"', r#\"el\"der\"#, 'x')");
    assert_eq!((count(&code), count(&strings)), (1, 2));
}
