//! Adapts output to the terminal: colors, width, and characters beyond ASCII.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

/// Lines are not wrapped on narrower terminals, where they would become unreadable.
const NARROWEST: usize = 40;
/// Column where continued lines begin, the same as the texts of a status and a check.
const INDENT: usize = 11;

const TICK: Duration = Duration::from_millis(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    pub has_color: bool,
    /// Whether the cursor can be moved.
    has_cursor: bool,
    width: Option<usize>,
    is_utf8: bool,
}

pub fn stdout() -> Terminal {
    let out = io::stdout();
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let width = terminal_size_of(&out).map(|(Width(columns), _)| usize::from(columns));
    let has_cursor = out.is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    Terminal {
        has_color: has_cursor && set("NO_COLOR").is_none(),
        has_cursor,
        width: width.filter(|_| out.is_terminal()),
        is_utf8: is_utf8(locale.as_deref()),
    }
}

/// Returns whether the locale uses UTF-8. Without a locale, the output goes to a file, a journal, or another program, where UTF-8 is usual.
fn is_utf8(locale: Option<&str>) -> bool {
    locale.is_none_or(|locale| {
        let lower = locale.to_ascii_lowercase();
        lower.contains("utf-8") || lower.contains("utf8")
    })
}

/// A progress indicator on one line of a terminal. The line is removed on drop. Without a terminal nothing is shown.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows the first message after a short delay.
    pub fn begin(message: &str) -> Self {
        let is_shown = io::stderr().is_terminal() && stdout().has_cursor;
        let bar = if is_shown {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(spinner(stdout().is_utf8));
        bar.set_message(message.to_owned());
        if is_shown {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    pub fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    pub fn next(&self, message: &str) {
        self.0.set_message(message.to_owned());
    }
}

/// Shows one line, cut at the width of the terminal.
fn spinner(is_utf8: bool) -> ProgressStyle {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    if is_utf8 {
        style
    } else {
        style.tick_chars("|/-\\ ")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Terminal {
    /// Returns whether standard output is a terminal that can be cleared.
    pub fn is_live(&self) -> bool {
        self.has_cursor
    }

    /// Replaces characters that the terminal cannot show.
    pub fn spell(&self, text: &str) -> String {
        if self.is_utf8 {
            text.to_owned()
        } else {
            ascii(text)
        }
    }

    /// Wraps lines at words and replaces characters that the terminal cannot show.
    pub fn fit(&self, text: &str) -> String {
        self.fit_at(text, INDENT)
    }

    /// Does the same as [`Terminal::fit`], with continued lines indented to this column.
    pub fn fit_at(&self, text: &str, indent: usize) -> String {
        let text = self.spell(text);
        match self.width.filter(|width| *width >= NARROWEST) {
            Some(width) => text
                .lines()
                .map(|line| wrapped(line, width, indent) + "\n")
                .collect(),
            None => text,
        }
    }
}

fn ascii(text: &str) -> String {
    let spelled = |c: char| match c {
        '·' => "-".to_owned(),
        '…' => "...".to_owned(),
        '×' => "x".to_owned(),
        c if c.is_ascii() => c.to_string(),
        _ => "?".to_owned(),
    };
    text.chars().map(spelled).collect()
}

fn wrapped(line: &str, width: usize, indent: usize) -> String {
    if visible(line) <= width {
        return line.to_owned();
    }
    let blanks = line.len() - line.trim_start().len();
    let (mut text, mut column) = (" ".repeat(blanks), blanks);
    // Columns of a table have several blanks between them, so each word keeps the blanks before it.
    for (place, word) in words(line.trim_start()).enumerate() {
        if place > 0 && column + visible(word) > width {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
            text.push_str(word.trim_start());
            column += visible(word.trim_start());
            continue;
        }
        text.push_str(word);
        column += visible(word);
    }
    text
}

/// Splits into words, each with the blanks before it.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let word = rest.trim_start_matches(' ');
        let blanks = rest.len() - word.len();
        let end = blanks + word.find(' ').unwrap_or(word.len());
        let (first, more) = rest
            .split_at_checked(end)
            .filter(|(first, _)| !first.is_empty())?;
        rest = more;
        Some(first)
    })
}

/// Returns the number of columns of a text, without colors.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut is_escape = false;
    for c in text.chars() {
        match (is_escape, c) {
            (_, '\u{1b}') => is_escape = true,
            (true, 'm') => is_escape = false,
            (true, _) => {}
            (false, _) => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(width: Option<usize>, is_utf8: bool) -> Terminal {
        Terminal {
            has_color: false,
            has_cursor: false,
            width,
            is_utf8,
        }
    }

    #[test]
    fn long_lines_break_at_words_under_their_text() {
        let line = "etcd       https://10.64.3.7:2379, watching, revision 5123, heard of 3 s ago, broke 2 times\n";
        let want = "etcd       https://10.64.3.7:2379, watching,\n           revision 5123, heard of 3 s ago,\n           broke 2 times\n";
        assert_eq!(terminal(Some(48), true).fit(line), want);
        assert_eq!(
            terminal(None, true).fit(line),
            line,
            "a pipe gets whole lines"
        );
        assert_eq!(
            terminal(Some(20), true).fit(line),
            line,
            "too narrow to help"
        );
        assert!(
            terminal(Some(48), true)
                .fit(line)
                .lines()
                .all(|line| visible(line) <= 48)
        );
    }

    #[test]
    fn colors_take_no_columns() {
        let line = "\u{1b}[31merror\u{1b}[0m      one two three four five six seven eight\n";
        let fitted = terminal(Some(40), true).fit(line);
        assert_eq!(fitted.lines().map(visible).max(), Some(38), "{fitted:?}");
        assert_eq!(visible("\u{1b}[31merror\u{1b}[0m"), 5);
    }

    #[test]
    fn other_locales_get_ascii() {
        assert_eq!(
            terminal(None, false).fit("a · b … 3×c ü\n"),
            "a - b ... 3xc ?\n"
        );
        for (locale, want) in [
            (None, true),
            (Some("C"), false),
            (Some("en_US.UTF-8"), true),
            (Some("C.utf8"), true),
        ] {
            assert_eq!(is_utf8(locale), want, "{locale:?}");
        }
    }
}
