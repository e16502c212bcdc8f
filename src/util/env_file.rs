//! Files of `NAME=value` lines, as a shell or a dotenv library reads them: pure, and nothing is ever executed.
//!
//! Understood are comments, `export`, single and double quotes and backslashes. What only a shell could do (expansion,
//! commands, several statements on a line) is left as it stands and reported.

use std::collections::BTreeMap;
use std::fmt;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// A line that was not understood, or not completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Counted from 1.
    pub line: usize,
    /// What was found and what became of it.
    pub what: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads a file. Of several values for one name the last is kept.
pub fn parse(text: &str) -> (Variables, Vec<Warning>) {
    let (mut variables, mut warnings) = (Variables::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((name, value)) = assignment(text) else {
            warnings.push(Warning {
                line,
                what: "not an assignment NAME=value; the line is ignored",
            });
            continue;
        };
        let (value, trouble) = word(value);
        warnings.extend(trouble.map(|what| Warning { line, what }));
        variables.insert(name.into(), value);
    }
    (variables, warnings)
}

/// Whether `text` can be the name of a shell variable.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let exported = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']));
    let (name, value) = exported.map_or(line, str::trim_start).split_once('=')?;
    is_name(name).then_some((name, value))
}

/// The first shell word of `text`, and what is wrong with the text if anything is.
fn word(text: &str) -> (String, Option<&'static str>) {
    let (mut word, mut trouble, mut quote) = (String::new(), None, None);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            (None, ' ' | '\t' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                return (word, trouble.or(leftover(char, chars.as_str())));
            }
            (None | Some('"'), '\\') => word.push_str(&escape(quote, chars.next())),
            (None | Some('"'), '$' | '`') => {
                trouble = Some(
                    "$ and ` are literal characters here: variables and commands are not expanded",
                );
                word.push(char);
            }
            _ => word.push(char),
        }
    }
    (
        word,
        quote.map(|_| "the closing quote is missing").or(trouble),
    )
}

/// What follows a word on its line, `end` being the character that ended it.
fn leftover(end: char, rest: &str) -> Option<&'static str> {
    let rest = rest.trim_start();
    let harmless = rest.is_empty() || rest.starts_with('#');
    let harmless = harmless && matches!(end, ' ' | '\t' | ';');
    (!harmless)
        .then_some("only the first word of the value is used; quote a value that contains blanks")
}

/// Between double quotes a backslash stays in front of most characters.
fn escape(quote: Option<char>, next: Option<char>) -> String {
    let dropped = quote.is_none() || matches!(next, Some('$' | '`' | '"' | '\\'));
    let backslash = if dropped { "" } else { "\\" };
    format!("{backslash}{}", next.map(String::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(line: &str) -> (Option<String>, bool) {
        let (variables, warnings) = parse(line);
        (variables.get("A").cloned(), warnings.is_empty())
    }

    #[test]
    fn values_as_a_shell_reads_them() {
        for (line, want) in [
            ("A=", ""),
            ("A=10.1.2.1/24", "10.1.2.1/24"),
            ("  export   A=1 # why", "1"),
            ("A=\"a b\\\"c\\d\"", "a b\"c\\d"),
            ("A='a $b'\"c\"d", "a $bcd"),
            ("A=a\\ b", "a b"),
            ("A=a#b;", "a#b"),
            ("A=1\r\n", "1"),
            ("A=1\nA=2", "2"),
        ] {
            assert_eq!(value(line), (Some(want.into()), true), "{line:?}");
        }
    }

    #[test]
    fn shell_constructs_are_reported_and_never_run() {
        for (line, want) in [
            ("A=$(touch x)", Some("$")),
            ("A=\"`id`\"", Some("`id`")),
            ("A=1 B=2", Some("1")),
            ("A=1&", Some("1")),
            ("A='open", Some("open")),
            ("A = 1", None),
            ("rm -rf A=1", None),
            ("1A=1", None),
            ("exportA =1", None),
        ] {
            assert_eq!(value(line), (want.map(String::from), false), "{line:?}");
        }
        assert_eq!(
            parse("\n# x\nA B\n").1[0].to_string(),
            "line 3: not an assignment NAME=value; the line is ignored"
        );
    }

    proptest! {
        #[test]
        fn total_and_quoted_text_survives(junk in ".*", text in "[^'\r\n]*") {
            let _ = parse(&junk);
            prop_assert_eq!(value(&format!("A='{text}'")), (Some(text), true));
        }
    }
}
