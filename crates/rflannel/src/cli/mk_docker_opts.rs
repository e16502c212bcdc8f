//! Implements `rflannel mk-docker-opts`, which replaces flannel's shell script with that name and has the same options and output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command};

use super::examples;
use flanneld::docker_opts::{self, Options};
use flanneld::util::env_file::{self, Variables};
use flanneld::{subnet_env, util::atomic_file};

pub(super) const NAME: &str = "mk-docker-opts";

/// Output of `-h` and `--help`.
const USAGE: &str = "\
mk-docker-opts [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Turn flannel's subnet file into options for the docker daemon.

  -f  flannel's subnet file [/run/flannel/subnet.env]
  -d  file to write [/run/docker_opts.env]
  -i  write a line for each docker option
  -c  write one line with all options (without -i and -c: both)
  -k  name of the variable with all options [DOCKER_OPTS]
  -m  omit --ip-masq
  -h  print this text on stderr, exit code 1 (--help: on stdout, exit code 0)

Options may be clustered (-imc) and values attached (-f/x); arguments after the first operand are ignored. Environment variables
are used for values that the subnet file does not set. Each variable with DOCKER_OPT_ in its name or value is added.

Unlike the shell script:
  - the subnet file is read, never executed; a value with $ or ` is taken literally, with a warning
  - a file name without a slash is a file in the current directory, not one on PATH
  - the output is written completely or not at all, with mode 0644 unless it exists
  - a missing input, or one that is not a regular file, causes a warning (the exit code stays 0)
  - an unreadable input or an unwritable output causes one error on stderr, exit code 1
  - a -k that is not a valid variable name causes a warning, and its earlier value is ignored
  - a DOCKER_OPT_ value with blanks is written on its own line
  - a gateway route to this host's own subnet is found in the kernel's table, without running `ip`; exit code 1 and
    `Your routing table already contains the subnet` as in the script, after the output is complete
";

/// Returns a clap command for help, manual, and completion only: [`run`] parses the arguments itself.
pub(super) fn command() -> Command {
    let (usage, rest) = USAGE.split_once("\n\n").unwrap_or((USAGE, ""));
    let flag = |name: &'static str| Arg::new(name).short(name.chars().next()).hide(true);
    let files = ["f", "d"].map(|name| flag(name).value_hint(ValueHint::FilePath));
    let others = ["i", "c", "m", "h"].map(|name| flag(name).action(ArgAction::SetTrue));
    Command::new(NAME)
        .about("Turn subnet.env into docker options, as mk-docker-opts.sh does")
        .disable_help_flag(true)
        .override_usage(usage)
        .after_help(rest)
        .args(files)
        .args(others)
        .arg(flag("k"))
}

pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let settings = match parse(args) {
        Ok(settings) => settings,
        Err(Stop::Help) => {
            // An error of writing means that the reader has closed the pipe.
            let text = format!("{USAGE}\n{}", examples::of(NAME));
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Stop::Usage(why)) => {
            say(&format!(
                "{}{USAGE}",
                why.map_or_else(String::new, |why| format!("mk-docker-opts: {why}\n"))
            ));
            return ExitCode::FAILURE;
        }
    };
    match make(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn make(settings: &Settings) -> Result<(), String> {
    let variables = variables(&settings.input)?;
    if !env_file::is_name(&settings.options.key) {
        say(&format!(
            "-k {:?} is not a variable name: readers of the output will refuse it",
            settings.options.key
        ));
    }
    let text =
        docker_opts::render(&settings.options, &variables).map_err(|error| error.to_string())?;
    write(&settings.output, &text)?;
    // Without procfs there are no routes to examine, as when the script finds no `ip`.
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    match docker_opts::routes_elsewhere(&variables, &routes) {
        found if found.is_empty() => Ok(()),
        found => Err(format!(
            "Your routing table already contains the subnet: {}",
            found.join("\n")
        )),
    }
}

/// Reads the environment, overlaid with the subnet file.
fn variables(input: &Path) -> Result<Variables, String> {
    let text = |text: OsString| text.into_string().ok();
    let environment = env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    let mut variables: Variables = environment
        .filter(|(name, _)| env_file::is_name(name))
        .collect();
    if !input.is_file() {
        say(&format!(
            "{} is missing or not a regular file: is flanneld running?",
            input.display()
        ));
        return Ok(variables);
    }
    let bytes =
        fs::read(input).map_err(|error| format!("cannot read {}: {error}", input.display()))?;
    let (found, warnings) = env_file::parse(&String::from_utf8_lossy(&bytes));
    for warning in warnings {
        say(&format!("{}: {warning}", input.display()));
    }
    variables.extend(found);
    Ok(variables)
}

/// Replaces a regular file, also through a link, and keeps its mode. Anything else (a pipe, a device) and a file
/// that cannot be replaced (a mount point) is written in place.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let old = fs::metadata(&target).ok();
    let mode = old
        .as_ref()
        .map_or(0o644, |old| old.permissions().mode() & 0o7777);
    let replaced = match &old {
        Some(old) if !old.is_file() && !old.is_dir() => None,
        _ => Some(atomic_file::replace(&target, text.as_bytes(), mode)),
    };
    match replaced {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) if old.is_none() => Err(error.to_string()),
        _ => fs::write(&target, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display())),
    }
}

fn say(text: &str) {
    // A closed stderr cannot be reported.
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}

#[derive(Debug, PartialEq, Eq)]
struct Settings {
    input: PathBuf,
    output: PathBuf,
    options: Options,
}

/// Why the command does not run.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    Help,
    Usage(Option<String>),
}

/// Parses options as the shell's `getopts f:d:icmk:h?` does.
fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Settings, Stop> {
    let mut settings = Settings {
        input: subnet_env::DEFAULT_PATH.into(),
        output: "/run/docker_opts.env".into(),
        options: Options {
            individual: false,
            combined: false,
            ..Options::default()
        },
    };
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--help" => return Err(Stop::Help),
            b"--" | b"-" => break,
            [b'-', letters @ ..] => settings.cluster(letters, &mut args)?,
            _ => break,
        }
    }
    let options = &mut settings.options;
    if !options.individual && !options.combined {
        (options.individual, options.combined) = (true, true);
    }
    Ok(settings)
}

impl Settings {
    fn cluster(
        &mut self,
        letters: &[u8],
        args: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Stop> {
        let Some((letter, rest)) = letters.split_first() else {
            return Ok(());
        };
        match letter {
            b'i' => self.options.individual = true,
            b'c' => self.options.combined = true,
            b'm' => self.options.ip_masq = false,
            b'f' | b'd' | b'k' => return self.set(*letter, value(*letter, rest, args)?),
            b'h' | b'?' => return Err(Stop::Usage(None)),
            _ => {
                return Err(Stop::Usage(Some(format!(
                    "illegal option -- {}",
                    OsStr::from_bytes(&[*letter]).display()
                ))));
            }
        }
        self.cluster(rest, args)
    }

    fn set(&mut self, letter: u8, value: OsString) -> Result<(), Stop> {
        match letter {
            b'f' => self.input = value.into(),
            b'd' => self.output = value.into(),
            _ => {
                let not_text = |_| Stop::Usage(Some("the value of -k is not UTF-8".into()));
                self.options.key = value.into_string().map_err(not_text)?;
            }
        }
        Ok(())
    }
}

/// Returns the rest of the cluster, or the next argument.
fn value(
    letter: u8,
    rest: &[u8],
    args: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Stop> {
    let missing = || {
        Stop::Usage(Some(format!(
            "option requires an argument -- {}",
            char::from(letter)
        )))
    };
    if rest.is_empty() {
        args.next().ok_or_else(missing)
    } else {
        Ok(OsString::from_vec(rest.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Settings, Stop> {
        parse(
            words
                .split(' ')
                .filter(|word| !word.is_empty())
                .map(OsString::from),
        )
    }

    fn summary(words: &str) -> String {
        let Settings {
            input,
            output,
            options,
        } = parsed(words).unwrap();
        let Options {
            individual,
            combined,
            key,
            ip_masq,
        } = options;
        format!(
            "{} {} {individual} {combined} {key} {ip_masq}",
            input.display(),
            output.display()
        )
    }

    #[test]
    fn options_as_getopts_reads_them() {
        let input = "/run/flannel/subnet.env";
        for (words, want) in [
            (
                "",
                format!("{input} /run/docker_opts.env true true DOCKER_OPTS true"),
            ),
            (
                "-i",
                format!("{input} /run/docker_opts.env true false DOCKER_OPTS true"),
            ),
            (
                "-imc",
                format!("{input} /run/docker_opts.env true true DOCKER_OPTS false"),
            ),
            ("-cf/x -d/y -ck K", "/x /y false true K true".into()),
            (
                "-f -d x -c",
                "-d /run/docker_opts.env true true DOCKER_OPTS true".into(),
            ),
            (
                "-c -- -i",
                format!("{input} /run/docker_opts.env false true DOCKER_OPTS true"),
            ),
            (
                "-c x -i",
                format!("{input} /run/docker_opts.env false true DOCKER_OPTS true"),
            ),
            (
                "-c - -i",
                format!("{input} /run/docker_opts.env false true DOCKER_OPTS true"),
            ),
            (
                "-k A -kB",
                format!("{input} /run/docker_opts.env true true B true"),
            ),
        ] {
            assert_eq!(summary(words), want, "{words}");
        }
    }

    #[test]
    fn what_stops_it() {
        assert_eq!(parsed("-c --help"), Err(Stop::Help));
        for words in ["-h", "-?", "-ich"] {
            assert_eq!(parsed(words), Err(Stop::Usage(None)), "{words}");
        }
        let usage = |why: &str| Err(Stop::Usage(Some(why.into())));
        assert_eq!(parsed("-x"), usage("illegal option -- x"));
        assert_eq!(parsed("--long"), usage("illegal option -- -"));
        assert_eq!(parsed("-if"), usage("option requires an argument -- f"));
        assert_eq!(parsed("-k"), usage("option requires an argument -- k"));
    }
}
