//! Converts help text to manual page text. Pure.

use clap_mangen::roff::{Roff, bold, roman};

/// Appends help text: lines, and indented below them lists of terms or items.
pub(super) fn append(roff: &mut Roff, text: &str) {
    // Empty lines before lists and at the end are skipped, because formatters complain about empty paragraphs.
    let mut parted = false;
    for line in text.lines() {
        match Line::read(line) {
            Line::Empty => parted = true,
            Line::Item(item) => {
                roff.control("IP", ["\\(bu", "2"]).text([roman(item)]);
                parted = true;
            }
            Line::Term(term, meaning) => {
                roff.control("TP", [])
                    .text([bold(term)])
                    .text([roman(meaning)]);
                parted = true;
            }
            Line::Plain(plain) => {
                if std::mem::take(&mut parted) {
                    roff.control("PP", []);
                }
                roff.text([roman(plain)]);
            }
        }
    }
}

/// A line of help text.
pub(super) enum Line<'a> {
    Empty,
    Plain(&'a str),
    Item(&'a str),
    Term(&'a str, &'a str),
}

impl<'a> Line<'a> {
    /// Returns what kind of line this is.
    pub(super) fn read(line: &'a str) -> Self {
        let text = line.trim();
        let indented = line.starts_with(' ');
        match text.split_once("  ") {
            _ if text.is_empty() => Self::Empty,
            Some((term, meaning)) if indented => Self::Term(term, meaning.trim_start()),
            _ => match text.strip_prefix("- ").filter(|_| indented) {
                Some(item) => Self::Item(item),
                None => Self::Plain(text),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_lists_and_lines_are_lines() {
        let mut roff = Roff::new();
        append(
            &mut roff,
            "Ends so:\n\n  0   fine\n  64  wrong\nMore.\n\nAlso:\n  - one thing\n\n",
        );
        let want = "Ends so:\n.TP\n\\fB0\\fR\nfine\n.TP\n\\fB64\\fR\nwrong\n.PP\nMore.\n.PP\nAlso:\n\
                    .IP \\(bu 2\none thing\n";
        assert_eq!(roff.to_roff(), want);
    }
}
