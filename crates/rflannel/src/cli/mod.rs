//! Command lines: what the binaries take, and what they answer to it. The only place that knows clap.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Arg, value_parser};

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

/// Says on standard error what went wrong. In one write: what several say at once stays in lines.
fn print_error(what: impl Display) {
    // No one is left to be told when it is closed.
    let _ = io::stderr().write_all(format!("rflannel: {what}\n").as_bytes());
}

/// `--socket`, of those who ask the daemon.
fn socket_arg() -> Arg {
    Arg::new("socket")
        .long("socket")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("The daemon's status socket, where several daemons run or its settings are not known [default: as its settings say]")
}
