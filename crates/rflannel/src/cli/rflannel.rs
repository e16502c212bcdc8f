//! Implements `rflannel`, the tool beside the daemon: one subcommand for each purpose, with ordinary double-dash flags.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use flanneld::cli::flag_table;
use flanneld::cli::flanneld::VERSION;

use super::{
    check, completion, config, examples, handover, lab, lease, man, mk_docker_opts, node_setup,
    status, support_bundle,
};

/// A subcommand that parses its own arguments.
struct Tool {
    name: &'static str,
    about: &'static str,
    usage: &'static str,
    run: fn(std::vec::IntoIter<OsString>) -> ExitCode,
}

impl Tool {
    /// Returns a clap command for help and manual only: the first line of its usage, and the rest.
    fn command(&self) -> Command {
        let (usage, rest) = self.usage.split_once("\n\n").unwrap_or((self.usage, ""));
        let command = Command::new(self.name)
            .about(self.about)
            .disable_help_flag(true);
        // For completion only: the subcommand parses its arguments itself.
        let flag = |name: &'static str| Arg::new(name).short(name.chars().next()).hide(true);
        let files = ["f", "d"].map(|name| flag(name).value_hint(ValueHint::FilePath));
        let others = ["i", "c", "m", "h"].map(|name| flag(name).action(ArgAction::SetTrue));
        command
            .override_usage(usage)
            .after_help(rest)
            .args(files)
            .args(others)
            .arg(flag("k"))
    }
}

const TOOLS: &[Tool] = &[Tool {
    name: "mk-docker-opts",
    about: "Turn subnet.env into docker options, as mk-docker-opts.sh does",
    usage: mk_docker_opts::USAGE,
    run: mk_docker_opts::run,
}];

/// A subcommand whose arguments clap parses.
struct Subcommand {
    command: fn() -> Command,
    run: fn(&ArgMatches) -> ExitCode,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        command: status::command,
        run: status::run,
    },
    Subcommand {
        command: check::command,
        run: check::run,
    },
    Subcommand {
        command: lease::command,
        run: lease::run,
    },
    Subcommand {
        command: config::command,
        run: config::run,
    },
    Subcommand {
        command: support_bundle::command,
        run: support_bundle::run,
    },
    Subcommand {
        command: handover::command,
        run: handover::run,
    },
    Subcommand {
        command: lab::command,
        run: lab::run,
    },
    Subcommand {
        command: node_setup::command,
        run: node_setup::run,
    },
    Subcommand {
        command: completions_command,
        run: completions,
    },
    Subcommand {
        command: man::command,
        run: |matches| man::run(matches, command()),
    },
    Subcommand {
        command: || Command::new("version").about("Print the version"),
        run: version,
    },
];

/// Exit codes of all subcommands.
const EXITS: &str = "\
Exit codes of all commands:
  0   done; status and check: fine
  1   not done, and the message says why; status and check: degraded; node-setup check --strict: warnings
  2   status and check: the daemon does not run or does not answer
  3   status and check: the daemon is not ready, or packets do not pass; node-setup check: errors
  4   unknown: no permission, or no answer
  64  wrong usage, or a wrong setting of node-setup
mk-docker-opts exits with 1 for wrong usage, as flannel's script with that name does.
The daemon exits with 1 for an error that does not pass, and with 2 for a wrong flag, as Go flannel does.";

/// Runs the command line, which begins with the program name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = called_as(args.into_iter().collect());
    let name = args
        .get(1)
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match TOOLS.iter().find(|tool| tool.name == name) {
        Some(tool) => (tool.run)(args.into_iter().skip(2).collect::<Vec<_>>().into_iter()),
        None => ordinary(args),
    }
}

/// Translates a link named `mk-docker-opts.sh` or `mk-docker-opts` to the subcommand.
fn called_as(mut args: Vec<OsString>) -> Vec<OsString> {
    let program = args
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .and_then(OsStr::to_str);
    if program == Some("mk-docker-opts") {
        args.insert(1, "mk-docker-opts".into());
    }
    args
}

pub fn command() -> Command {
    let tool = Command::new("rflannel")
        .about("Set up, examine, and administer flanneld")
        .version(VERSION)
        .after_help(EXITS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(TOOLS.iter().map(Tool::command))
        .subcommands(SUBCOMMANDS.iter().map(|subcommand| (subcommand.command)()));
    examples::add(tool)
}

fn ordinary(args: Vec<OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            // Never 2, which some subcommands use as an answer.
            return if error.exit_code() == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(status::USAGE)
            };
        }
    };
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let subcommand = SUBCOMMANDS
            .iter()
            .find(|one| (one.command)().get_name() == name)?;
        Some((subcommand.run)(matches))
    });
    chosen.unwrap_or(ExitCode::FAILURE)
}

fn version(_: &ArgMatches) -> ExitCode {
    print(format!("{}\n", VERSION).as_bytes())
}

fn completions_command() -> Command {
    Command::new("completions")
        .about("Print a completion script for a shell")
        .args([
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("Shell that the script is for"),
            Arg::new("program")
                .value_name("PROGRAM")
                .default_value("rflannel")
                .value_parser(["rflannel", "flanneld"])
                .help("Program whose arguments it completes"),
        ])
}

fn completions(matches: &ArgMatches) -> ExitCode {
    let daemon = matches
        .get_one::<String>("program")
        .is_some_and(|program| program == "flanneld");
    let Some(shell) = matches.get_one::<Shell>("shell").copied() else {
        return ExitCode::FAILURE;
    };
    let of_daemon = || {
        let (mut command, mut script) = (flag_table::command(), Vec::new());
        clap_complete::generate(shell, &mut command, "flanneld", &mut script);
        script
    };
    let script = if daemon {
        completion::flanneld(shell).map_or_else(of_daemon, String::into_bytes)
    } else {
        completion::tool(shell, &mut command()).into_bytes()
    };
    print(&script)
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_command() {
        command().debug_assert();
    }

    #[test]
    fn a_link_chooses_the_subcommand() {
        let rows = [
            ("/root/local/bin/mk-docker-opts.sh", 2),
            ("mk-docker-opts", 2),
            ("/usr/bin/rflannel", 1),
            ("flanneld", 1),
        ];
        for (program, arguments) in rows {
            assert_eq!(
                called_as(vec![program.into()]).len(),
                arguments,
                "{program}"
            );
        }
        assert!(called_as(vec![]).is_empty());
    }
}
