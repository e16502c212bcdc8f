//! Implements `rflannel`, the tool beside the daemon: one subcommand for each purpose, with ordinary double-dash flags.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use flanneld::cli::flanneld::VERSION;

use super::{
    USAGE, check, completion, config, examples, handover, lab, lease, man, mk_docker_opts,
    node_setup, status, support_bundle, text,
};

/// A subcommand whose arguments clap parses: what makes its command, and what runs it.
type Subcommand = (fn() -> Command, fn(&ArgMatches) -> ExitCode);

const SUBCOMMANDS: &[Subcommand] = &[
    (status::command, status::run),
    (check::command, check::run),
    (lease::command, lease::run),
    (config::command, config::run),
    (support_bundle::command, support_bundle::run),
    (handover::command, handover::run),
    (lab::command, lab::run),
    (node_setup::command, node_setup::run),
    (completions_command, completions),
    (man::command, |matches| man::run(matches, command())),
    (
        || Command::new("version").about("Print the version"),
        |_| print(&format!("{VERSION}\n")),
    ),
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
    if args.get(1).is_some_and(|name| name == mk_docker_opts::NAME) {
        return mk_docker_opts::run(args.into_iter().skip(2));
    }
    ordinary(args)
}

/// Translates a link named `mk-docker-opts.sh` or `mk-docker-opts` to the subcommand.
fn called_as(mut args: Vec<OsString>) -> Vec<OsString> {
    let program = args
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .and_then(OsStr::to_str);
    if program == Some(mk_docker_opts::NAME) {
        args.insert(1, mk_docker_opts::NAME.into());
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
        .subcommand(mk_docker_opts::command())
        .subcommands(SUBCOMMANDS.iter().map(|(command, _)| command()));
    examples::add(tool, "")
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
                ExitCode::from(USAGE)
            };
        }
    };
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let (_, run) = SUBCOMMANDS
            .iter()
            .find(|(command, _)| command().get_name() == name)?;
        Some(run(matches))
    });
    chosen.unwrap_or(ExitCode::FAILURE)
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
    let Some(shell) = matches.get_one::<Shell>("shell").copied() else {
        return ExitCode::FAILURE;
    };
    print(&match text(matches, "program") {
        "flanneld" => completion::flanneld(shell),
        _ => completion::tool(shell, &mut command()),
    })
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
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
