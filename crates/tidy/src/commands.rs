//! The commands that documents show: each is run by `tests/docs`, or by another test that is there, or says why not.

#[path = "../../../tests/docs/markdown.rs"]
mod markdown;

use crate::source::Source;
use markdown::{How, Step};

/// So few that each can be looked at.
const MOST_NOT_RUN: usize = 12;
/// A reason of fewer letters is none.
const REASON: usize = 20;

/// The front page and everything in `docs/`.
pub fn documents(front: &Source) -> Vec<Source> {
    let mut all = Source::below("docs", &[".md"]);
    all.push(Source::new(&front.path, &front.text));
    all
}

/// What is wrong with the steps of these documents; `runner` is the test that runs them.
pub fn complaints(documents: &[Source], runner: &Source, tests: &[Source]) -> Vec<String> {
    let mut found: Vec<String> = documents
        .iter()
        .flat_map(|page| page_complaints(page, runner, tests))
        .collect();
    let skipped = |page: &Source| {
        steps(page)
            .iter()
            .filter(|step| matches!(step.how, How::NotRun(_)))
            .count()
    };
    let count: usize = documents.iter().map(skipped).sum();
    if count > MOST_NOT_RUN {
        found.push(format!(
            "{count} commands in documents are not run, {MOST_NOT_RUN} at most: run some"
        ));
    }
    found
}

fn steps(page: &Source) -> Vec<Step> {
    markdown::steps(&page.text).unwrap_or_default()
}

fn page_complaints(page: &Source, runner: &Source, tests: &[Source]) -> Vec<String> {
    let steps = match markdown::steps(&page.text) {
        Ok(steps) => steps,
        Err(why) => return vec![page.at(1, &why)],
    };
    let runs = runner.text.contains(&format!("\"{}\"", page.path));
    let mut found: Vec<String> = steps
        .iter()
        .filter_map(|step| Some(page.at(step.line, &complaint(step, runs, tests)?)))
        .collect();
    let is_run = steps.iter().any(|step| matches!(step.how, How::Run(_)));
    let scene = markdown::scene(&page.text);
    if is_run && !scene.is_empty() && !scene.contains(&"alone") && !names_a_host(&page.text) {
        found.push(page.at(
            1,
            "say where readers see it on which host the commands run, such as \"On host `a`\"",
        ));
    }
    found
}

/// Whether readers of a page with several hosts are told where its commands run.
fn names_a_host(text: &str) -> bool {
    ["n host `a`", "n each host"]
        .iter()
        .any(|words| text.contains(words))
}

fn complaint(step: &Step, runs: bool, tests: &[Source]) -> Option<String> {
    let there = |file: &String, function: &String| {
        tests
            .iter()
            .any(|source| source.path == *file && source.text.contains(&format!("fn {function}(")))
    };
    match &step.how {
        How::Run(_) if !runs => {
            Some("no test runs this: list the page in tests/docs/main.rs, or say why not".into())
        }
        How::NotRun(why) if why.len() < REASON => Some(format!("{why:?} is no reason")),
        How::By(file, function) if !there(file, function) => {
            Some(format!("{file} has no {function}"))
        }
        How::Run(_) | How::NotRun(_) | How::By(..) => None,
    }
}

/// A rule that never fires protects nothing.
#[test]
fn the_rule_bites() {
    let runner = Source::new("tests/docs/main.rs", "readme: \"a.md\"");
    let tests = [Source::new("tests/x.rs", "fn one() {}")];
    let bad = |path: &str, note: &str| {
        let page = Source::new(path, &format!("{note}\n```sh\nx\n```\n"));
        complaints(&[page], &runner, &tests).len()
    };
    assert_eq!(bad("a.md", ""), 0);
    assert_eq!(bad("b.md", ""), 1);
    assert_eq!(
        bad(
            "b.md",
            "<!-- not run: needs a machine that does nothing else -->"
        ),
        0
    );
    assert_eq!(bad("b.md", "<!-- not run: slow -->"), 1);
    assert_eq!(bad("b.md", "<!-- run by tests/x.rs: one -->"), 0);
    assert_eq!(bad("b.md", "<!-- run by tests/x.rs: two -->"), 1);
    assert_eq!(bad("a.md", "<!-- sometimes -->"), 1);
    assert_eq!(bad("a.md", "<!-- scene: etcd -->"), 1);
    assert_eq!(bad("a.md", "<!-- scene: etcd -->\nOn host `a`:\n"), 0);
}
