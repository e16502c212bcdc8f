//! Parses and edits unit files. Pure.

use std::fmt;

/// A unit file, line by line. Parsing and writing preserves the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Unit {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// A comment, a blank line, or an invalid line.
    Other(String),
    Section(String),
    /// A key, and its value with continuation lines.
    Entry(String, String),
}

impl Unit {
    /// Parses any text. Lines that are neither section nor setting are kept and ignored.
    pub fn parse(text: &str) -> Self {
        let mut lines = Vec::new();
        let mut rest = text.lines();
        while let Some(first) = rest.next() {
            lines.push(Line::read(first, &mut rest));
        }
        Self { lines }
    }

    /// Returns all values of `key`, in order, with continuation lines joined. An empty value resets the previous ones, as in systemd.
    pub fn values(&self, section: &str, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (_, _, value) in self
            .entries()
            .filter(|(in_section, name, _)| *in_section == section && *name == key)
        {
            if value.is_empty() {
                found.clear()
            } else {
                found.push(value)
            }
        }
        found
    }

    /// Returns section, key, and joined value of every setting, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, String)> {
        let mut section = "";
        self.lines.iter().filter_map(move |line| match line {
            Line::Section(name) => {
                section = name;
                None
            }
            Line::Entry(key, value) => Some((section, key.as_str(), join(value))),
            Line::Other(_) => None,
        })
    }

    /// Puts `values` in place of the first setting with that key, or at the end of the section. Removes previous settings with
    /// the comment lines directly above them.
    pub fn with(self, section: &str, key: &str, values: &[String]) -> Self {
        let place = self.place(section, key);
        let mut out: Vec<Line> = Vec::new();
        let mut current = String::new();
        for (index, line) in self.lines.into_iter().enumerate() {
            if let Line::Section(name) = &line {
                current.clone_from(name);
            }
            let replaced =
                current == section && matches!(&line, Line::Entry(name, _) if name == key);
            if replaced {
                drop_comment(&mut out)
            } else {
                out.push(line)
            }
            if place == Some(index) {
                out.extend(
                    values
                        .iter()
                        .map(|value| Line::Entry(key.into(), value.clone())),
                );
            }
        }
        Self { lines: out }
    }

    /// Replaces the values of a key one by one and keeps the comments above them.
    pub fn set(mut self, section: &str, key: &str, values: &[String]) -> Self {
        let mut current = "";
        let mut values = values.iter();
        for line in &mut self.lines {
            match line {
                Line::Section(name) => current = name,
                Line::Entry(name, old) if current == section && name == key => {
                    if let Some(value) = values.next() {
                        old.clone_from(value);
                    }
                }
                Line::Entry(..) | Line::Other(_) => {}
            }
        }
        self
    }

    /// Returns the comment directly above the first setting with that key, without `#`.
    pub fn comment(&self, section: &str, key: &str) -> String {
        let Some(first) = self.place(section, key) else {
            return String::new();
        };
        let mut lines: Vec<&str> = Vec::new();
        for line in self.lines.iter().take(first).rev() {
            match line {
                Line::Other(text) if text.starts_with('#') => {
                    lines.push(text.trim_start_matches(['#', ' ']))
                }
                Line::Other(_) | Line::Section(_) | Line::Entry(..) => break,
            }
        }
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Adds settings with that key and a comment before the existing ones and their comment.
    pub fn insert(mut self, section: &str, key: &str, comment: &str, values: &[String]) -> Self {
        let Some(first) = self.place(section, key) else {
            return self;
        };
        let comments = self.lines.iter().take(first).rev();
        let above = comments
            .take_while(|line| matches!(line, Line::Other(text) if text.starts_with('#')))
            .count();
        let comment = comment.lines().map(|line| Line::Other(format!("# {line}")));
        let values = values
            .iter()
            .map(|value| Line::Entry(key.into(), value.clone()));
        self.lines
            .splice(first - above..first - above, comment.chain(values));
        self
    }

    /// Adds a value after the existing ones.
    pub fn and(self, section: &str, key: &str, value: &str) -> Self {
        let mut values = self.values(section, key);
        values.push(value.to_owned());
        self.with(section, key, &values)
    }

    /// Returns the line after which a setting belongs: the first one with that key, or the last setting of the section, or its heading.
    fn place(&self, section: &str, key: &str) -> Option<usize> {
        let mut current = "";
        let mut found = None;
        for (index, line) in self.lines.iter().enumerate() {
            match line {
                Line::Section(name) => current = name,
                Line::Entry(name, _) if current == section && name == key => return Some(index),
                Line::Entry(..) | Line::Other(_) => {}
            }
            if current == section && !matches!(line, Line::Other(_)) {
                found = Some(index);
            }
        }
        found
    }

    /// Replaces the comment above the first section.
    pub fn under(mut self, head: &str) -> Self {
        let start = self
            .lines
            .iter()
            .position(|line| matches!(line, Line::Section(_)))
            .unwrap_or(0);
        self.lines.drain(..start);
        let head = head.lines().map(|line| Line::Other(format!("# {line}")));
        self.lines
            .splice(0..0, head.chain([Line::Other(String::new())]));
        self
    }
}

fn drop_comment(lines: &mut Vec<Line>) {
    while matches!(lines.last(), Some(Line::Other(text)) if text.starts_with('#')) {
        lines.pop();
    }
}

fn join(value: &str) -> String {
    value.replace("\\\n", " ").trim().to_owned()
}

impl Line {
    fn read<'a>(first: &str, rest: &mut impl Iterator<Item = &'a str>) -> Self {
        let text = first.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            return Self::Other(first.to_owned());
        }
        if let Some(name) = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            return Self::Section(name.to_owned());
        }
        let mut whole = first.to_owned();
        while whole.ends_with('\\') {
            let Some(next) = rest.next() else { break };
            whole = format!("{whole}\n{next}");
        }
        match whole.split_once('=') {
            Some((key, value)) if !key.contains('\n') => {
                Self::Entry(key.trim().to_owned(), value.to_owned())
            }
            _ => Self::Other(whole),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text) => writeln!(f, "{text}"),
            Self::Section(name) => writeln!(f, "[{name}]"),
            Self::Entry(key, value) => writeln!(f, "{key}={value}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| line.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# head\n\n[Unit]\nAfter=a\n# why\n# so\nAfter=b\n\n[Service]\nExecStart=/x \\\n  -a \\\n  -b\n";

    fn set(section: &str, key: &str, values: &[&str]) -> String {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        Unit::parse(TEXT).with(section, key, &values).to_string()
    }

    #[test]
    fn values_are_joined_and_reset() {
        let unit = Unit::parse(TEXT);
        assert_eq!(unit.values("Unit", "After"), ["a", "b"]);
        assert_eq!(unit.values("Service", "ExecStart"), ["/x    -a    -b"]);
        assert_eq!(unit.values("Install", "After"), [""; 0]);
        assert_eq!(Unit::parse("[S]\nA=1\nA=\nA=2").values("S", "A"), ["2"]);
        assert_eq!(Unit::parse("[S]\nA=1\\").values("S", "A"), ["1\\"]);
    }

    #[test]
    fn a_setting_is_replaced_added_or_dropped() {
        assert!(set("Unit", "After", &["c"]).contains("[Unit]\nAfter=c\n\n[Service]"));
        assert!(
            set("Unit", "Wants", &["c", "d"]).contains("After=b\nWants=c\nWants=d\n\n[Service]")
        );
        assert!(set("Service", "Restart", &["no"]).ends_with("  -b\nRestart=no\n"));
        assert!(set("Unit", "After", &[]).contains("[Unit]\n\n[Service]"));
        assert!(
            Unit::parse(TEXT)
                .under("new")
                .to_string()
                .starts_with("# new\n\n[Unit]\nAfter=a")
        );
    }

    proptest! {
        #[test]
        fn text_is_kept(text in "([a-zA-Z\\[\\]=#; \\\\]{0,12}\n){0,12}") {
            let unit = Unit::parse(&text);
            prop_assert_eq!(Unit::parse(&unit.to_string()), unit);
        }
    }
}
