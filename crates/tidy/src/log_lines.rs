//! The lines that the daemon can log: each has an entry in the documents or is marked as self-explanatory in the source, and
//! each entry is a line that there is. The same holds for the fields of the lines.

use std::collections::BTreeSet;

use crate::source::Source;

/// The page with the entries.
const PAGE: &str = "docs/reference/log-messages.md";
/// A comment right before a line that needs no entry.
const MARK: &str = "// log: self-explanatory";
/// Sources of other programs.
const OTHERS: &[&str] = &[
    "crates/",
    "crates/rflannel/src/cli/explain.rs",
    "src/cli/go_flags.rs",
    "src/status/client.rs",
];
/// What stands before a text that is logged.
const BEGINNINGS: &[&str] = &[
    "warn!(",
    "error!(",
    "#[error(",
    "Outage::new(",
    ".log(&format!(",
];
/// What stands before the fields of a line.
const MACROS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!("];
/// The section of the page that lists the fields.
const FIELDS: &str = "## Fields\n";
/// A piece of text that is long enough to be looked for.
const ENOUGH: usize = 12;
/// Texts that are shorter than that, or none of their own.
const SELF_EXPLANATORY: &[(&str, &str)] = &[
    ("{error}", "an error with an entry of its own"),
    ("{0}", "the same"),
    (
        "{warning}",
        "a remark about the command line, with entries of its own",
    ),
    (
        "{obstacle}",
        "a rule before flannel's, with an entry of its own",
    ),
    ("{self}", "a change of a peer, with entries of its own"),
    (
        "{}: {warning}",
        "a line of subnet.env that cannot be read, by name",
    ),
    (
        "{first}; {count} {fate}",
        "listed; each of the two sentences has an entry",
    ),
    ("{failure}; retrying", "listed; too short to be looked for"),
    (
        "cannot lock {}: {error}",
        "listed; too short to be looked for",
    ),
    ("cannot {op}: {}", "listed; too short to be looked for"),
    ("cannot {what}: {}", "listed; too short to be looked for"),
    (
        "cannot {doing}: {error}",
        "listed; too short to be looked for",
    ),
    (
        "{program} failed: {why}",
        "listed; too short to be looked for",
    ),
    ("{program} {why}", "a program that cannot be run, by name"),
    (
        "{member} must be {expected}, not {found}",
        "part of a line about a lease or the configuration",
    ),
    ("not a JSON object: {0}", "the same"),
    ("not a lease key ({0})", "the same"),
    ("not a lease value ({0})", "the same"),
    (
        "{}; this host has {present}",
        "reasons with entries of their own",
    ),
    ("{reason}; retrying", "listed; found by its end"),
    (
        "it cannot be read: {0}",
        "why a state file is not used; at level INFO",
    ),
    (
        "it belongs to machine {machine:?}, prefix {prefix}",
        "the same",
    ),
    (
        "Invalid value of FLANNEL_IPMASQ: {0}",
        "the script's words, of mk-docker-opts",
    ),
];

/// Texts of the daemon's that no entry has, and entries that no text has.
pub fn complaints(sources: &[Source]) -> Vec<String> {
    let page = Source::below("docs", &[PAGE.trim_start_matches("docs/")]).remove(0);
    let entries = &page.text;
    let ours = |file: &&Source| {
        let is_other = OTHERS.iter().any(|path| file.path.starts_with(path));
        !is_other && !file.is_test()
    };
    let sources: Vec<&Source> = sources.iter().filter(ours).collect();
    let unlisted = sources
        .iter()
        .flat_map(|file| unlisted(file, &plain(entries)));
    unlisted
        .chain(stale(&page.path, entries, &sources))
        .chain(unlisted_fields(entries, &sources))
        .collect()
}

/// Fields that the page lacks, and listed ones that no line has.
fn unlisted_fields(page: &str, sources: &[&Source]) -> Vec<String> {
    let section = page.split(FIELDS).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let listed: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let used: BTreeSet<&str> = sources
        .iter()
        .flat_map(|file| fields(shipped(&file.text)))
        .collect();
    used.symmetric_difference(&listed)
        .map(|name| format!("{PAGE}: field {name:?} is in the source or in the list, not in both"))
        .collect()
}

/// The names of the fields of all lines.
fn fields(text: &str) -> Vec<&str> {
    let calls = MACROS.iter().flat_map(|begin| text.match_indices(begin));
    let fields = calls.flat_map(|(at, begin)| {
        arguments(&text[at + begin.len()..])
            .into_iter()
            .take_while(|argument| !argument.starts_with('"'))
    });
    let name = |field: &'_ str| -> Option<usize> { field.find('=') };
    fields
        .map(|field| field[..name(field).unwrap_or(field.len())].trim())
        .map(|field| field.trim_start_matches(['%', '?']))
        .collect()
}

/// The arguments of a call, after its opening parenthesis.
fn arguments(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut begin) = (Vec::new(), 0, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => is_string = !is_string,
            _ if is_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ')' | ']' | '}' => {
                found.push(text[begin..at].trim());
                break;
            }
            ',' if depth == 0 => {
                found.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    found.retain(|argument| !argument.is_empty());
    found
}

fn unlisted(source: &Source, entries: &str) -> Vec<String> {
    let is_known = |text: &String| {
        let explained = SELF_EXPLANATORY.iter().any(|(known, _)| known == text);
        explained || longest(text).is_some_and(|piece| entries.contains(&piece))
    };
    let texts = logged(shipped(&source.text))
        .into_iter()
        .filter(|text| !is_known(text));
    texts
        .map(|text| format!("{}: {text:?} has no entry in {PAGE}", source.path))
        .collect()
}

fn stale(page: &str, entries: &str, sources: &[&Source]) -> Vec<String> {
    let all: String = sources
        .iter()
        .map(|file| plain(shipped(&file.text)))
        .collect();
    let cells = entries
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let quoted = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `"));
    let gone = quoted.filter(|entry| {
        longest(&entry.replace('…', "{}")).is_some_and(|piece| !all.contains(piece.as_str()))
    });
    gone.map(|entry| format!("{page}: {entry:?} is no line of the daemon's"))
        .collect()
}

/// What is before the tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
}

/// The texts that follow the beginnings.
fn logged(text: &str) -> Vec<String> {
    let found = BEGINNINGS
        .iter()
        .flat_map(|begin| text.match_indices(begin));
    let unmarked = found.filter(|(at, _)| !is_marked(&text[..*at]));
    unmarked
        .filter_map(|(at, begin)| {
            arguments(&text[at + begin.len()..])
                .into_iter()
                .find_map(literal)
        })
        .collect()
}

/// Returns whether the last complete line of `before` is the mark.
fn is_marked(before: &str) -> bool {
    let complete = before
        .rsplit_once('\n')
        .map_or("", |(complete, _)| complete);
    complete
        .lines()
        .next_back()
        .is_some_and(|line| line.trim() == MARK)
}

/// The literal at the beginning of `text`; none if there is another thing.
fn literal(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?;
    let end = inner
        .match_indices('"')
        .find(|(at, _)| !inner[..*at].ends_with('\\'))?
        .0;
    Some(plain(&inner[..end]))
}

/// As it is logged and as it is listed: without line breaks of the source, escapes and backticks.
fn plain(text: &str) -> String {
    let joined = text.split("\\\n").map(str::trim_start).collect::<String>();
    joined.replace("\\\"", "\"").replace('`', "")
}

/// The longest piece between what varies, if it is long enough to be looked for.
fn longest(text: &str) -> Option<String> {
    let pieces = text.split('{').flat_map(|part| part.rsplit('}').next());
    let longest = pieces.map(str::trim).max_by_key(|piece| piece.len())?;
    (longest.len() >= ENOUGH).then(|| longest.to_owned())
}

/// A rule that never fires protects nothing.
#[test]
fn the_rule_bites() {
    let text = "warn!(\n    \"the watch of {name} \\\n     is lost for good: {error}\",\n);\nerror!(\"{error}\");\n\
                #[cfg(test)]\nmod tests { warn!(\"in a test only, listed nowhere\") }";
    assert_eq!(
        logged(shipped(text)),
        ["the watch of {name} is lost for good: {error}", "{error}"]
    );
    let with_fields = "warn!(%subnet, err = f(\"a, b\"), x.y, \"lost {subnet}\", z);";
    assert_eq!(logged(with_fields), ["lost {subnet}"]);
    assert_eq!(fields(with_fields), ["subnet", "err", "x.y"]);
    assert_eq!(
        unlisted_fields(
            "## Fields\n\n| `err` | x |\n\n## Z\n| `subnet` |",
            &[&Source::new("src/x.rs", with_fields)]
        )
        .len(),
        2
    );
    let marked = format!("    {MARK}\n    warn!(\"what to do is in the line: {{error}}\");");
    assert_eq!(logged(&marked), [""; 0]);
    let source = Source::new("src/x.rs", text);
    assert_eq!(
        unlisted(&source, "the watch of … is lost for good: …"),
        [""; 0]
    );
    assert_eq!(unlisted(&source, "nothing of the kind").len(), 1);
    let entries =
        "| `the watch of … is lost for good: …` | x |\n| `the watch of … is back for good` | y |";
    assert_eq!(stale("page", entries, &[&source]).len(), 1);
}
