//! A regular expression that can be compared and shown: pure.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

/// A pattern in the syntax of RE2, as Go has it: it matches anywhere in a text unless it is anchored.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = String;

    /// The error is one line.
    fn from_str(text: &str) -> Result<Self, String> {
        let last_line = |error: regex::Error| {
            let text = error.to_string();
            text.lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned()
        };
        Regex::new(text).map(Self).map_err(last_line)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_anywhere_unless_anchored() {
        let rows = [
            ("eth", "veth0", true),
            ("^eth", "veth0", false),
            (r"^10\.64\.", "10.64.0.1", true),
            (r"10\.64", "1.10.64.2", true),
            ("(?i)ETH[0-9]$", "eth7", true),
            (r"^(en|eth)\w+\z", "ens3", true),
            ("", "anything", true),
        ];
        for (pattern, text, want) in rows {
            assert_eq!(
                pattern.parse::<Pattern>().unwrap().matches(text),
                want,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_one_line() {
        for pattern in ["eth(", "[", "*", "a{2000000000}", "\\"] {
            let error = pattern.parse::<Pattern>().unwrap_err();
            assert!(
                !error.is_empty() && error.lines().count() == 1,
                "{pattern}: {error}"
            );
        }
    }
}
