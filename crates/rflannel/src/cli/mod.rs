//! Defines the command line of the tool and its output. Only this module uses clap.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::{Arg, ArgAction, ArgMatches};

pub mod check;
mod completion;
pub mod config;
pub mod etcd_session;
mod examples;
pub mod handover;
pub mod lab;
pub mod lease;
pub mod man;
pub mod mk_docker_opts;
pub mod node_setup;
pub mod rflannel;
pub mod settings;
pub mod status;
pub mod support_bundle;
pub mod terminal;

/// Exit code for a wrong command line, which is never an answer: `EX_USAGE`.
const USAGE: u8 = 64;
/// Exit code if there is no permission, or no usable answer.
const CANNOT_TELL: u8 = 4;

/// Prints an error to standard error in one write, so that lines of concurrent commands do not mix.
fn print_error(what: impl Display) {
    // A closed standard error cannot be reported.
    let _ = io::stderr().write_all(format!("rflannel: {what}\n").as_bytes());
}

/// Returns a flag without a value.
fn flag_arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// Returns a flag with a value.
fn value_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// Returns the text of an argument; empty if it was not given.
fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}
