//! The names that `rflannel check` and `node-setup check` give to what is wrong: each has a row in the reference.

use crate::source::Source;

/// Names that say that nothing is wrong.
const FINE: [&str; 2] = ["reached", "this-host"];
/// What stands before a name in the sources of `check`.
const BEGINNINGS: [&str; 2] = ["=> \"", "Finding::"];

/// Returns a complaint for each name in the sources below a directory that the page does not contain as code.
pub fn complaints(sources: &[Source], below: &str, page: &Source) -> Vec<String> {
    let ours = sources
        .iter()
        .filter(|file| file.path.starts_with(below) && !file.is_test());
    let names = ours.flat_map(|file| names(&file.text).into_iter().map(move |name| (file, name)));
    let missing =
        names.filter(|(_, name)| !FINE.contains(name) && !page.text.contains(&format!("`{name}`")));
    missing
        .map(|(file, name)| format!("{}: {name} has no row in {}", file.path, page.path))
        .collect()
}

/// Names of causes (`Cause::Loss => "packet-loss"`) and of findings (`Finding::error("packet-loss", …`).
fn names(text: &str) -> Vec<&str> {
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let [arm, call] = BEGINNINGS;
    let arms = text
        .lines()
        .filter(|line| line.trim().starts_with("Cause::"));
    let arms = arms.filter_map(|line| line.split_once(arm)?.1.split_once('"'));
    let calls = text.split(call).skip(1).filter_map(|rest| {
        let (_, rest) = rest.split_once('(')?;
        rest.trim_start().strip_prefix('"')?.split_once('"')
    });
    arms.chain(calls)
        .map(|(name, _)| name)
        .filter(|name| is_name(name))
        .collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// A rule that never fires protects nothing.
#[test]
fn the_rule_bites() {
    let text = "match self {\n    Cause::None => \"reached\",\n    Cause::OwnMac => \"local-mac-mismatch\",\n}\n\
                Finding::error(\n    \"host-port\", x)";
    let bad = |page: &str| {
        complaints(
            &[Source::new("crates/rflannel/src/check/x.rs", text)],
            "crates/rflannel/src/check/",
            &Source::new("page", page),
        )
        .len()
    };
    assert_eq!(bad("`local-mac-mismatch` and `host-port`"), 0);
    assert_eq!(bad("local-mac-mismatch"), 2);
}
