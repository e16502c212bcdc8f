//! Encodes and decodes command lines of systemd units. Pure.
//!
//! The rules are those of systemd.service(5), as observed with version 252: quotes and C escapes first, then `%`
//! specifiers, and `$` when the program is started. [`decode`] checks every line of [`encode`] before
//! it is used.

/// Maximum length of an argument in bytes. A unit allows a megabyte, but no node needs that.
const LONGEST: usize = 16 * 1024;
/// Characters that need no quotes, besides letters and digits.
const BARE: &str = "@_+=:,./-";
/// Invisible characters, and characters that change where others appear: marks of direction, line ends, byte order marks.
const DECEIVING: [char; 15] = [
    '\u{200b}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}',
    '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}', '\u{feff}',
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// This text, whatever it contains.
    Literal(String),
    /// `$NAME`: as many arguments as there are words in that variable.
    Variable(String),
}

impl Word {
    /// Returns the text, if it does not depend on a variable.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Variable(_) => None,
        }
    }
}

impl<T: Into<String>> From<T> for Word {
    fn from(text: T) -> Self {
        Self::Literal(text.into())
    }
}

/// Rejects text that a unit, a configuration file, or a message cannot contain. Returns what is wrong with the text.
pub fn check_text(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!(
            "has {} bytes; the maximum is {LONGEST}",
            text.len()
        ));
    }
    match text
        .chars()
        .find(|char| char.is_control() || DECEIVING.contains(char))
    {
        Some(char) => Err(format!(
            "contains the character U+{:04X}: remove it",
            u32::from(char)
        )),
        None => Ok(()),
    }
}

/// Formats the value of an `ExecStart=`, one argument a line.
/// Fails if the program is not an absolute path or contains `$` (systemd cannot quote it there), or [`check_text`] rejects a word.
pub fn encode(program: &str, words: &[Word]) -> Result<String, String> {
    if !program.starts_with('/') || program.contains('$') {
        return Err(format!(
            "program {program:?} must be an absolute path without a $"
        ));
    }
    let all: Vec<Word> = std::iter::once(Word::from(program))
        .chain(words.iter().cloned())
        .collect();
    let lines = all.iter().map(encode_word).collect::<Result<Vec<_>, _>>()?;
    let text = lines.join(" \\\n    ");
    if decode(&text) != all {
        return Err(format!("{text:?} cannot be written in a unit"));
    }
    Ok(text)
}

fn encode_word(word: &Word) -> Result<String, String> {
    match word {
        Word::Variable(name) => Ok(format!("${name}")),
        Word::Literal(text) => check_text(text)
            .map(|()| quote(text))
            .map_err(|why| format!("{text:.40?} {why}")),
    }
}

/// Quotes a literal argument, for `ExecStart=` and for each assignment of `Environment=` without `$`.
pub fn quote(text: &str) -> String {
    if is_bare(text) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '%' | '$' => out.extend([char, char]),
            '"' | '\\' => out.extend(['\\', char]),
            _ => out.push(char),
        }
    }
    out + "\""
}

/// Returns whether a word needs no quotes, in units and for a shell.
pub fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || BARE.contains(char))
}

/// Escapes text for `Description=` and paths, where only `%` is special.
pub fn escape_percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Parses the arguments in the value of an `ExecStart=`, program first, without the prefixes `@ - : + !`.
///
/// Parts that depend on the unit (`%n`, `${X}`) are not expanded.
pub fn decode(value: &str) -> Vec<Word> {
    let joined = value.replace("\\\n", " ");
    let line = joined
        .trim_start()
        .trim_start_matches(['@', '-', ':', '+', '!']);
    let mut chars = line.chars().peekable();
    let mut words = Vec::new();
    while let Some(word) = next_word(&mut chars) {
        words.push(expand(&word));
    }
    words
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Returns the next word with quotes and backslashes resolved.
fn next_word(chars: &mut Chars<'_>) -> Option<String> {
    while chars.next_if(|char| char.is_ascii_whitespace()).is_some() {}
    chars.peek()?;
    let (mut word, mut open) = (String::new(), None);
    while let Some(char) = chars.next() {
        match (open, char) {
            (_, '\\') => unescape(chars, &mut word),
            (None, '"' | '\'') => open = Some(char),
            (Some(quote), _) if quote == char => open = None,
            (None, _) if char.is_ascii_whitespace() => return Some(word),
            _ => word.push(char),
        }
    }
    Some(word)
}

/// Resolves an escape after its backslash. Unknown escapes remain as they are.
fn unescape(chars: &mut Chars<'_>, word: &mut String) {
    let Some(char) = chars.next() else {
        return word.push('\\');
    };
    let number = match char {
        'x' => digits(chars, 2, 16),
        'u' => digits(chars, 4, 16),
        'U' => digits(chars, 8, 16),
        '0'..='3' => octal(chars, char),
        _ => None,
    };
    match (number, simple(char)) {
        (Some(char), _) | (None, Some(char)) => word.push(char),
        (None, None) => word.extend(['\\', char]),
    }
}

fn simple(char: char) -> Option<char> {
    let simple = match char {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        's' => ' ',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '"' | '\'' | ';' => char,
        _ => return None,
    };
    Some(simple)
}

fn octal(chars: &mut Chars<'_>, first: char) -> Option<char> {
    let rest: String = chars.clone().take(2).collect();
    let number = u32::from_str_radix(&format!("{first}{rest}"), 8)
        .ok()
        .filter(|_| rest.len() == 2)?;
    chars.nth(1);
    char::from_u32(number)
}

fn digits(chars: &mut Chars<'_>, count: usize, radix: u32) -> Option<char> {
    let text: String = chars.clone().take(count).collect();
    let all = text.len() == count && text.chars().all(|char| char.is_digit(radix));
    let char = u32::from_str_radix(&text, radix)
        .ok()
        .and_then(char::from_u32)
        .filter(|_| all)?;
    chars.nth(count - 1);
    Some(char)
}

/// Resolves `%%`, `$$`, and `$NAME`.
fn expand(word: &str) -> Word {
    let name = word
        .strip_prefix('$')
        .filter(|name| flanneld::util::env_file::is_name(name));
    match name {
        Some(name) => Word::Variable(name.to_owned()),
        None => Word::Literal(word.replace("%%", "%").replace("$$", "$")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arguments_are_written_as_systemd_reads_them() {
        for (text, want) in [
            ("-iface=eth0", "-iface=eth0"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("50%", r#""50%%""#),
            ("$HOME", r#""$$HOME""#),
            ("$(reboot)`id`", r#""$$(reboot)`id`""#),
            (";", r#"";""#),
            ("#x", r##""#x""##),
            (r#"{"k":"v\"}"#, r#""{\"k\":\"v\\\"}""#),
            ("é", "\"é\""),
        ] {
            assert_eq!(quote(text), want);
            assert_eq!(
                decode(&format!("/x {want}")),
                [Word::from("/x"), Word::from(text)],
                "{want}"
            );
        }
    }

    #[test]
    fn what_others_write_is_understood() {
        let words = |line| {
            decode(line)
                .iter()
                .filter_map(Word::literal)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(r"-/bin/x a\x20b 'c d'\se \q \101 \;"),
            ["/bin/x", "a b", "c d e", "\\q", "A", ";"]
        );
        assert_eq!(
            words("/x -p=\"a\\\n b\" %n ${A}"),
            ["/x", "-p=a  b", "%n", "${A}"]
        );
        assert_eq!(
            decode("/x $A $A-b")[1..],
            [Word::Variable("A".into()), Word::from("$A-b")]
        );
        assert_eq!(words(r#"/x "open \"#), ["/x", "open \\"]);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        for bad in [
            "a\nExecStartPre=/bin/evil",
            "\0",
            "\r",
            "\x1b[31m",
            "\x7f",
            "\u{feff}",
            "\u{202e}",
            "\u{2028}",
            "\u{85}",
        ] {
            assert!(check_text(bad).is_err(), "{bad:?}");
            assert!(encode("/bin/x", &[bad.into()]).is_err(), "{bad:?}");
        }
        assert!(
            check_text(&"x".repeat(1 << 20))
                .unwrap_err()
                .contains("1048576 bytes")
        );
        for bad in ["", "dockerd", "-/bin/x", "@/bin/x", "/bin/$x"] {
            assert!(encode(bad, &[]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_survive(words in prop::collection::vec(r#"[ \t;#"'\\$%{}a-zé=-]{0,12}|\PC{0,20}"#, 0..6)) {
            let words: Vec<Word> = words.into_iter().map(Word::from).collect();
            match encode("/usr/bin/a b%c", &words) {
                Ok(text) => {
                    prop_assert_eq!(&decode(&text)[1..], &words[..]);
                    prop_assert!(!text.contains(" \n") && !text.ends_with('\\'));
                }
                Err(_) => prop_assert!(words.iter().any(|word| check_text(word.literal().unwrap()).is_err())),
            }
        }

        #[test]
        fn any_text_is_read(text in ".{0,60}") {
            let _ = decode(&text);
        }
    }
}
