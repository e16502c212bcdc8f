//! `rflannel status`: how the daemon of this host is, or what is left of it.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::flanneld::{self, Parsed};
use crate::config::Config;
use crate::observe::report::{Report, State};
use crate::observe::{absent, client, text};
use crate::subnet::etcd::EtcdManager;
use crate::subnet::{NetworkConfig, Snapshot, SubnetManager};
use crate::systemd;

/// For the datastore, where there is no daemon to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a wrong command line ends with, so that nobody takes it for an answer: `EX_USAGE`.
pub const USAGE: u8 = 64;
/// No permission, or no usable answer.
pub(super) const CANNOT_TELL: u8 = 4;

const EXITS: &str = "\
Ends with:
  0   fine
  1   degraded: this host serves, and something needs attention
  2   not running: shown is what the kernel, the state file and, if asked, etcd say
  3   not ready: the daemon waits, or peers do not reach this host
  4   cannot tell: no permission, or no usable answer
  64  wrong usage";

/// The subcommand, for clap.
pub fn command() -> Command {
    Command::new("status")
        .about("How the daemon of this host is: lease, etcd, peers, kernel, repairs")
        .after_help(EXITS)
        .args([
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("As the daemon says it: a JSON document on one line"),
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("Again and again"),
            super::socket_arg(),
            Arg::new("flags").last(true).num_args(0..).value_parser(value_parser!(OsString)).help(
                "The daemon's flags, where they are not the default ones; FLANNELD_* variables count as well. \
                 Without a daemon, etcd is asked if -etcd-endpoints is among them",
            ),
        ])
}

/// Runs what [`command`] has parsed.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let flags: Vec<OsString> = matches.get_many::<OsString>("flags").into_iter().flatten().cloned().collect();
    let asks_etcd = names_endpoints(&flags);
    let config = match flanneld::parse(flags, env::vars_os()) {
        Parsed::Run(run) => run.config,
        Parsed::Show { text, code } => return complain(&text, if code == 0 { 0 } else { USAGE }),
    };
    let socket = matches.get_one::<PathBuf>("socket").cloned().or_else(|| config.windows.status.clone());
    let look = || look(socket.as_ref(), &config, asks_etcd);
    let json = matches.get_flag("json");
    let pause = matches.get_one::<u64>("watch").copied().map(Duration::from_secs);
    loop {
        let (code, shown) = show(look(), json, pause.is_some());
        match pause {
            Some(pause) if shown.is_ok() => std::thread::sleep(pause),
            _ => return code,
        }
    }
}

/// The default endpoints are nobody's wish.
pub(super) fn names_endpoints(flags: &[OsString]) -> bool {
    let named =
        |flag: &OsString| flag.to_string_lossy().trim_start_matches('-').starts_with("etcd-endpoints");
    flags.iter().any(named) || env::var_os("FLANNELD_ETCD_ENDPOINTS").is_some_and(|value| !value.is_empty())
}

fn look(socket: Option<&PathBuf>, config: &Config, asks_etcd: bool) -> Result<Report, client::Error> {
    let why = match socket.map(|path| client::ask(path)) {
        Some(Ok(report)) => return Ok(report),
        Some(Err(error @ client::Error::Absent { .. })) => error.to_string(),
        Some(Err(error)) => return Err(error),
        None => "there is no socket to ask the daemon at (-status-socket=none)".to_owned(),
    };
    let (etcd, complaint) = match asks_etcd.then(|| ask_etcd(config)) {
        Some(Ok(known)) => (Some(known), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let mut report = absent::report(why, config, &systemd::machine_id(), etcd);
    report.reasons.extend(complaint);
    Ok(report)
}

/// Network and leases, from etcd itself.
pub(super) fn ask_etcd(config: &Config) -> Result<(NetworkConfig, Snapshot), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let manager = EtcdManager::new(config.etcd.clone()).map_err(|error| error.to_string())?;
    let ask = async { Ok((manager.network_config().await?, manager.snapshot().await?)) };
    let answer = runtime.block_on(async { timeout(PATIENCE, ask).await });
    let answer: Result<_, crate::subnet::Error> =
        answer.map_err(|_| format!("etcd gave no answer within {} s", PATIENCE.as_secs()))?;
    answer.map_err(|error| error.to_string())
}

fn show(found: Result<Report, client::Error>, json: bool, again: bool) -> (ExitCode, io::Result<()>) {
    let report = match found {
        Ok(report) => report,
        Err(error) => return (complain(&format!("rflannel: {error}\n"), CANNOT_TELL), Ok(())),
    };
    let text = match json {
        true => serde_json::to_string(&report).map(|text| text + "\n").unwrap_or_default(),
        false => text::render(&report),
    };
    let mut out = io::stdout();
    let clear = if again && !json && out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let gap = if again && !json && clear.is_empty() { "\n" } else { "" };
    let shown = out.write_all(format!("{clear}{text}{gap}").as_bytes()).and_then(|()| out.flush());
    (ExitCode::from(code(report.state)), shown)
}

fn code(state: State) -> u8 {
    match state {
        State::Fine => 0,
        State::Degraded => 1,
        State::NotRunning => 2,
        State::NotReady => 3,
    }
}

/// Nobody is left to be told when standard error is gone.
pub(super) fn complain(text: &str, code: u8) -> ExitCode {
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
