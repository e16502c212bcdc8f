//! Links between documents, and paths of documents in all other files: each leads somewhere, and each page is in the summary.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::source::{Source, root};

/// The list of pages that mdBook builds.
const SUMMARY: &str = "docs/SUMMARY.md";
/// Endings of the names of files that other files mention by their path in `docs/`.
const ENDINGS: [&str; 2] = [".md", ".svg"];

/// Returns a complaint for each link of these pages that leads to no file, or to no heading of its file.
pub fn dead_links(pages: &[Source]) -> Vec<String> {
    let found = |page: &Source| {
        let prose = without_blocks(&page.text);
        let dead = prose.flat_map(|(number, line)| {
            links(line)
                .into_iter()
                .filter_map(move |link| Some((number, link, problem(page, link, pages)?)))
        });
        dead.map(|(number, link, why)| page.at(number, &format!("{link}: {why}")))
            .collect::<Vec<_>>()
    };
    pages.iter().flat_map(found).collect()
}

/// Returns a complaint for each path in `docs/` that a file mentions and that is not there.
pub fn dead_paths(files: &[Source]) -> Vec<String> {
    let found = |file: &Source| {
        let dead = file.lines().flat_map(|(number, line)| {
            paths(line)
                .into_iter()
                .filter(|path| !root().join(path).exists())
                .map(move |path| (number, path))
        });
        dead.map(|(number, path)| file.at(number, &format!("{path} is not there")))
            .collect::<Vec<_>>()
    };
    files.iter().flat_map(found).collect()
}

/// Returns a complaint for each page of `docs/` that the summary does not list.
pub fn unlisted(pages: &[Source]) -> Vec<String> {
    let Some(summary) = pages.iter().find(|page| page.path == SUMMARY) else {
        return vec![format!("{SUMMARY} is not there")];
    };
    let listed: BTreeSet<&str> = summary.lines().flat_map(|(_, line)| links(line)).collect();
    let names = pages
        .iter()
        .filter_map(|page| page.path.strip_prefix("docs/"));
    let missing = names.filter(|name| *name != "SUMMARY.md" && !listed.contains(name));
    missing
        .map(|name| format!("{SUMMARY}: {name} is not listed"))
        .collect()
}

/// Lines outside of fenced blocks.
fn without_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_inside = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// Targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

fn problem(page: &Source, link: &str, pages: &[Source]) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() {
        page.path.clone()
    } else {
        joined(&page.path, path)
    };
    if !root().join(&target).exists() && !pages.iter().any(|page| page.path == target) {
        return Some(format!("{target} is not there"));
    }
    let anchor = anchor?;
    let Some(target) = pages.iter().find(|page| page.path == target) else {
        return Some("only pages have headings".to_owned());
    };
    (!anchors(&target.text).contains(anchor))
        .then(|| format!("{} has no such heading", target.path))
}

/// The path that `link` on `page` means, from the root of the repository.
fn joined(page: &str, link: &str) -> String {
    let mut path = Path::new(page)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => path = PathBuf::from("/"),
        }
    }
    path.to_string_lossy().into_owned()
}

/// Names of the headings of a page, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = without_blocks(text).filter_map(|(_, line)| line.strip_prefix('#'));
    headings
        .map(|heading| slug(heading.trim_start_matches('#').trim()))
        .collect()
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| {
        if c == ' ' {
            '-'
        } else {
            c.to_ascii_lowercase()
        }
    })
    .collect()
}

/// Paths of documents that a line mentions: `docs/…` with a known ending.
fn paths(line: &str) -> Vec<&str> {
    let starts = line
        .match_indices("docs/")
        .filter(|(at, _)| !line[..*at].ends_with(is_part));
    let words = starts.map(|(at, _)| line[at..].split(|c| !is_part(c)).next().unwrap_or_default());
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| ENDINGS.iter().any(|end| word.ends_with(end)))
        .collect()
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || "/._-".contains(c)
}

/// A rule that never fires protects nothing.
#[test]
fn the_rule_bites() {
    let page = |path: &str, text: &str| Source::new(path, text);
    let other = || {
        page(
            "docs/b/y.md",
            "# Why `x`, and how?\n```sh\n# no heading\n```\n",
        )
    };
    let dead = |text: &str| dead_links(&[page("docs/a/x.md", text), other()]).len();
    assert_eq!(
        dead("[1](../b/y.md) [2](../b/y.md#why-x-and-how) [3](https://x.y) [4](../../Cargo.toml)"),
        0
    );
    assert_eq!(dead("[1](../b/y.md#no-heading)"), 1);
    assert_eq!(dead("[1](y.md) [2](#top)"), 2);
    assert_eq!(dead("```text\n[1](y.md)\n```"), 0);
    let paths = |text: &str| dead_paths(&[page("src/x.rs", text)]).len();
    assert_eq!(
        paths("// docs/SUMMARY.md. See usr/docs/gone.md and https://x/docs/ and `docs/x/`"),
        0
    );
    assert_eq!(paths("docs/gone.md"), 1);
    let summary = page(SUMMARY, "* [y](b/y.md)");
    assert_eq!(unlisted(&[summary, other()]), [""; 0]);
    assert_eq!(unlisted(&[page(SUMMARY, ""), other()]).len(), 1);
}
