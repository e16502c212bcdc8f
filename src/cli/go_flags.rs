//! The grammar of Go's `flag` package, in front of clap: pure.
//!
//! One dash or two, `-f=v` or `-f v`; a boolean never takes the next argument, every other flag does, whatever it
//! looks like. Which flags exist and which are boolean is read from the clap [`Command`] itself; an unknown flag
//! is passed on, since clap knows what it might have meant.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, Command};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its name without dashes.
    pub name: String,
    /// Its value; none for a boolean without `=` and for an unknown flag.
    pub value: Option<OsString>,
}

impl Given {
    /// The same in the form that clap takes: `--name=value`.
    pub fn to_arg(&self) -> OsString {
        let mut arg = OsString::from(format!("--{}", self.name));
        if let Some(value) = &self.value {
            arg.push("=");
            arg.push(value);
        }
        arg
    }
}

/// Why a command line does not follow the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// Three dashes, or an `=` where the name should be.
    Malformed(String),
    /// A flag at the end that needs a value.
    NoValue(String),
    /// An argument that belongs to no flag.
    Stray {
        arg: OsString,
        /// The boolean flag before it, if its value was meant.
        meant_for: Option<String>,
    },
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(arg) => write!(f, "bad flag syntax {arg:?}: write -name=value"),
            Self::NoValue(name) => write!(f, "-{name} needs a value: write -{name}=value"),
            Self::Stray {
                arg,
                meant_for: Some(name),
            } => {
                let arg = arg.display();
                write!(
                    f,
                    "unexpected argument {arg:?}: a boolean takes its value after =: -{name}={arg}"
                )
            }
            Self::Stray { arg, .. } if arg.is_empty() => {
                write!(
                    f,
                    "unexpected empty argument: remove it; an unset \"${{VARIABLE}}\" leaves one"
                )
            }
            Self::Stray { arg, .. } => {
                write!(
                    f,
                    "unexpected argument {:?}: remove it, flanneld takes only flags",
                    arg.display()
                )
            }
        }
    }
}

/// Reads a command line (without the program's name) as Go does; stops after the first unknown flag.
///
/// # Errors
/// Whatever Go calls bad syntax, and any positional argument: Go would ignore that and all that follows it.
pub fn read(
    cmd: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<Given>, SyntaxError> {
    let mut args = args.into_iter();
    let mut out: Vec<Given> = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--" {
            return args.next().map_or(Ok(out), |arg| {
                Err(SyntaxError::Stray {
                    arg,
                    meant_for: None,
                })
            });
        }
        let Some(body) = body(&arg) else {
            return Err(stray(cmd, out.last(), arg));
        };
        let (name, value) =
            split(body).ok_or_else(|| SyntaxError::Malformed(arg.display().to_string()))?;
        let Some(flag) = find(cmd, &name) else {
            out.push(Given { name, value: None });
            return Ok(out);
        };
        let value = match value {
            Some(value) => Some(value),
            None if is_bool(flag) => None,
            None => Some(
                args.next()
                    .ok_or_else(|| SyntaxError::NoValue(name.clone()))?,
            ),
        };
        out.push(Given { name, value });
    }
    Ok(out)
}

/// What follows the dashes; none for a positional argument.
fn body(arg: &OsStr) -> Option<&[u8]> {
    let bytes = arg.as_bytes();
    let body = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"))?;
    (!body.is_empty()).then_some(body)
}

/// `name[=value]`; none if there is no name.
fn split(body: &[u8]) -> Option<(String, Option<OsString>)> {
    let mut parts = body.splitn(2, |byte| *byte == b'=');
    let name = parts
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with(b"-"))?;
    let name = if name == b"h" { b"help" } else { name };
    let value = parts.next().map(|value| OsString::from_vec(value.to_vec()));
    Some((String::from_utf8_lossy(name).into_owned(), value))
}

fn find<'a>(cmd: &'a Command, name: &str) -> Option<&'a Arg> {
    cmd.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// In our commands only booleans insist on `=`.
fn is_bool(flag: &Arg) -> bool {
    flag.is_require_equals_set()
}

fn stray(cmd: &Command, before: Option<&Given>, arg: OsString) -> SyntaxError {
    let value = arg.to_str().is_some_and(|text| parse_bool(text).is_ok());
    let meant_for = before
        .filter(|given| {
            value && given.value.is_none() && find(cmd, &given.name).is_some_and(is_bool)
        })
        .map(|given| given.name.clone());
    // What follows a password may be the rest of it.
    let secret = before.is_some_and(|given| given.name.ends_with("password"));
    let arg = if secret { "***".into() } else { arg };
    SyntaxError::Stray { arg, meant_for }
}

/// Go's booleans.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// Go's integers: a sign, then decimal, `0x`, `0b`, `0o` or octal after a plain `0`; `_` between digits.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = number.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let prefixed = prefixes.iter().find_map(|(prefix, base)| {
        lower
            .strip_prefix(prefix)
            .filter(|rest| !rest.is_empty())
            .map(|rest| (rest, *base))
    });
    let (digits, base) = match prefixed {
        Some((rest, base)) => (rest.strip_prefix('_').unwrap_or(rest), base),
        None => (lower.as_str(), 10),
    };
    let well_formed = digits
        .split('_')
        .all(|group| !group.is_empty() && group.chars().all(|c| c.is_digit(base)));
    if !well_formed {
        return Err("must be a whole number".into());
    }
    let digits = digits.replace('_', "");
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|_| "must fit in 64 bits".into())
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;
    use proptest::prelude::*;

    use super::*;

    fn cmd() -> Command {
        let bool_flag = |name| {
            Arg::new(name)
                .long(name)
                .num_args(0..=1)
                .require_equals(true)
        };
        Command::new("t").disable_help_flag(true).args([
            bool_flag("ip-masq"),
            bool_flag("help"),
            Arg::new("iface").long("iface").action(ArgAction::Append),
            Arg::new("v").long("v"),
            Arg::new("etcd-password").long("etcd-password"),
        ])
    }

    fn shown(line: &str) -> String {
        let args = line
            .split_whitespace()
            .map(|word| OsString::from(word.trim_matches('\'')));
        match read(&cmd(), args) {
            Ok(flags) => {
                let args = flags.iter().map(|flag| flag.to_arg().display().to_string());
                args.collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn lines_are_read_as_go_reads_them() {
        let rows = [
            ("", ""),
            ("-iface x", "--iface=x"),
            ("--iface x", "--iface=x"),
            ("-iface=x", "--iface=x"),
            ("--iface=x=y", "--iface=x=y"),
            ("-iface=", "--iface="),
            ("-iface -v", "--iface=-v"),
            ("-iface -- -v 1", "--iface=-- --v=1"),
            ("-iface ''", "--iface="),
            ("-ip-masq -v 2", "--ip-masq --v=2"),
            ("-ip-masq=false", "--ip-masq=false"),
            ("-h", "--help"),
            ("-iface x --", "--iface=x"),
            ("-nope x -v", "--nope"),
            ("-nope=secret", "--nope"),
            ("-IFACE x", "--IFACE"),
        ];
        for (line, want) in rows {
            assert_eq!(shown(line), want, "{line}");
        }
    }

    #[test]
    fn broken_lines_say_what_to_write() {
        let rows = [
            ("---x", "bad flag syntax \"---x\""),
            ("-=x", "bad flag syntax \"-=x\""),
            ("--=x", "bad flag syntax"),
            ("-iface", "-iface needs a value: write -iface=value"),
            (
                "-ip-masq false -v 2",
                "boolean takes its value after =: -ip-masq=false",
            ),
            (
                "-v 2 false",
                "unexpected argument \"false\": remove it, flanneld takes only flags",
            ),
            (
                "-ip-masq eth0",
                "unexpected argument \"eth0\": remove it, flanneld takes only flags",
            ),
            ("-etcd-password my secret", "unexpected argument \"***\""),
            ("-", "unexpected argument \"-\""),
            ("-- x", "unexpected argument \"x\""),
            ("''", "unexpected empty argument"),
        ];
        for (line, want) in rows {
            let shown = shown(line);
            assert!(
                shown.starts_with("! ") && shown.contains(want),
                "{line}: {shown}"
            );
        }
    }

    #[test]
    fn booleans() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Ok(true));
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Ok(false));
        }
        for text in ["", "yes", "no", "tRUE", "2", " true"] {
            assert!(parse_bool(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers() {
        let good = [
            ("0", 0),
            ("60", 60),
            ("-1", -1),
            ("+7", 7),
            ("0x10", 16),
            ("-0X1f", -31),
            ("010", 8),
            ("0b11", 3),
            ("0o17", 15),
            ("1_000", 1000),
            ("0x_f", 15),
            ("0_7", 7),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, want) in good {
            assert_eq!(parse_int(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "-",
            "abc",
            "08",
            "0x",
            "1__0",
            "_1",
            "1_",
            "0_",
            "--1",
            "0x-1",
            "1.5",
            "9223372036854775808",
        ] {
            assert!(parse_int(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_value_is_the_same(value in "[ -~]{0,8}", dashes in "--?") {
            let want = vec![Given { name: "iface".into(), value: Some(value.clone().into()) }];
            let joined = read(&cmd(), [format!("{dashes}iface={value}").into()]);
            let apart = read(&cmd(), [format!("{dashes}iface").into(), value.into()]);
            prop_assert_eq!(joined, Ok(want.clone()));
            prop_assert_eq!(apart, Ok(want));
        }

        #[test]
        fn decimal_and_hexadecimal_agree(number: i32) {
            let number = i64::from(number);
            let sign = if number < 0 { "-" } else { "" };
            prop_assert_eq!(parse_int(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_int(&format!("{sign}0x{:x}", number.abs())), Ok(number));
        }
    }
}
