//! `rflannel check`: why these hosts cannot talk.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::Builder;

use super::flag_table::VARIABLE_PREFIX;
use super::flanneld::{self, Parsed};
use super::status::{CANNOT_TELL, USAGE, ask_etcd, complain, names_endpoints};
use crate::check::document::Document;
use crate::check::host::Daemon;
use crate::check::target::Target;
use crate::check::text::{self, Style};
use crate::check::{self, Question};
use crate::config::Config;
use crate::env_file;
use crate::observe::client;
use crate::probe::ping::Pace;
use crate::systemd;

/// What the shipped unit reads.
const UNITS_VARIABLES: &str = "/etc/default/flanneld";
/// Every question is asked so often, unless it is answered,
const ATTEMPTS: u16 = 3;
/// after so long,
const GAP: Duration = Duration::from_millis(300);

const EXITS: &str = "\
Without PEER: this host, and a quick question to every peer; those that do not answer are examined. With PEER: this host, \
and everything that can be found out about the way to it. Nothing is changed. Needs root.

Each peer that is not reached has one cause, by name; docs/check.md says what each means and what to do.

Ends with:
  0   fine: nothing is wrong
  1   degraded: packets pass, and something needs attention
  2   not running: packets pass, and no daemon looks after them
  3   broken: this host does not serve, or some packets to peers do not pass
  4   cannot tell: no permission, or no usable answer
  64  wrong usage";

/// The subcommand, for clap.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("check")
        .about("Why can these hosts not talk? Compares leases, kernel and device, probes peers, and names the cause")
        .after_help(EXITS)
        .args([
            Arg::new("peer").value_name("PEER").value_parser(|text: &str| text.parse::<Target>()).help(
                "Its subnet (172.30.5.0/24), public address, address in the overlay, or the address of a pod there",
            ),
            flag("all", "Also the peers that are reached, in a table with their times"),
            flag("json", "A JSON document"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .default_value("1")
                .value_parser(value_parser!(u64).range(1..=60))
                .help("How long to wait for an answer"),
            super::socket_arg(),
            Arg::new("flags").last(true).num_args(0..).value_parser(value_parser!(OsString)).help(
                "The daemon's flags; FLANNELD_* variables count as well. Without any: those of the running daemon, else those in /etc/default/flanneld",
            ),
        ])
}

/// Runs what [`command`] has parsed.
pub fn run(matches: &ArgMatches) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        return complain(
            "rflannel: check sends raw packets and reads what only root may: run as root\n",
            CANNOT_TELL,
        );
    }
    match found(matches) {
        Ok(document) => show(&document, matches),
        Err((why, code)) => complain(&why, code),
    }
}

fn found(matches: &ArgMatches) -> Result<Document, (String, u8)> {
    let flags: Vec<OsString> = matches.get_many::<OsString>("flags").into_iter().flatten().cloned().collect();
    let mut asks_etcd = names_endpoints(&flags);
    let is_told = !flags.is_empty() || env::vars_os().any(|(name, _)| is_daemons(&name));
    let mut config = match flanneld::parse(flags, env::vars_os()) {
        Parsed::Run(run) => run.config,
        Parsed::Show { text, code } => return Err((text, if code == 0 { 0 } else { USAGE })),
    };
    let socket = matches.get_one::<PathBuf>("socket").cloned();
    let mut daemon = daemon(socket.clone().or_else(|| config.windows.status.clone()))?;
    let own = match &daemon {
        Daemon::Runs(report) => report.pid.and_then(of_process),
        Daemon::Absent(_) => of_unit(),
    };
    if let Some(own) = own.filter(|_| !is_told) {
        if socket.is_none() && own.windows.status != config.windows.status {
            daemon = self::daemon(own.windows.status.clone())?;
        }
        (config, asks_etcd) = (own, true);
    }
    let etcd = asks_etcd.then(|| ask_etcd(&config));
    let patience = Duration::from_secs(matches.get_one("timeout").copied().unwrap_or(1));
    let question = Question {
        config: &config,
        machine: &systemd::machine_id(),
        daemon,
        etcd,
        target: matches.get_one::<Target>("peer").copied(),
        pace: Pace { attempts: ATTEMPTS, gap: GAP, patience },
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (format!("rflannel: {error}\n"), CANNOT_TELL))?;
    Ok(runtime.block_on(check::check(question)))
}

fn daemon(socket: Option<PathBuf>) -> Result<Daemon, (String, u8)> {
    let Some(path) = socket else {
        return Ok(Daemon::Absent("there is no socket to ask the daemon at (-status-socket=none)".into()));
    };
    match client::ask(&path) {
        Ok(report) => Ok(Daemon::Runs(Box::new(report))),
        Err(error @ client::Error::Forbidden { .. }) => Err((format!("rflannel: {error}\n"), CANNOT_TELL)),
        // One that is stuck looks after nothing either.
        Err(error) => Ok(Daemon::Absent(error.to_string())),
    }
}

/// Whether a variable of the environment means the daemon.
fn is_daemons(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(VARIABLE_PREFIX)
}

/// What the shipped unit starts the daemon with, which splits options at blanks.
fn of_unit() -> Option<Config> {
    let text = fs::read_to_string(UNITS_VARIABLES).ok()?;
    let (variables, _) = env_file::parse(&text);
    let options = variables.get("FLANNEL_OPTIONS").map(String::as_str).unwrap_or_default();
    let options: Vec<OsString> = options.split_whitespace().map(OsString::from).collect();
    match flanneld::parse(options, variables.iter().map(|(name, value)| (name.into(), value.into()))) {
        Parsed::Run(run) => Some(run.config),
        Parsed::Show { .. } => None,
    }
}

/// What a running daemon was started with, from its command line and environment.
fn of_process(pid: u32) -> Option<Config> {
    let words = |file: &str| -> Option<Vec<OsString>> {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some(words.map(|word| OsStr::from_bytes(word).to_owned()).collect())
    };
    let variable = |pair: OsString| {
        let at = pair.as_bytes().iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.as_bytes().split_at_checked(at)?;
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value.get(1..)?).to_owned()))
    };
    let environment: Vec<_> = words("environ")?.into_iter().filter_map(variable).collect();
    match flanneld::parse(words("cmdline")?.into_iter().skip(1), environment) {
        Parsed::Run(run) => Some(run.config),
        Parsed::Show { .. } => None,
    }
}

fn show(document: &Document, matches: &ArgMatches) -> ExitCode {
    let mut out = io::stdout();
    let text = match matches.get_flag("json") {
        true => serde_json::to_string(document).map(|text| text + "\n").unwrap_or_default(),
        false => text::render(
            document,
            Style {
                colour: out.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
                all: matches.get_flag("all"),
                trail: matches.contains_id("peer"),
            },
        ),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(document.verdict.code()),
        Err(_) => ExitCode::from(CANNOT_TELL),
    }
}
