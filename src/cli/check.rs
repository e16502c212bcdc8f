//! `rflannel check`: why these hosts cannot talk.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::Builder;

use super::settings::{self, Settings};
use super::status::{CANNOT_TELL, ask_etcd, complain, refused};
use super::terminal;
use crate::check::document::Document;
use crate::check::target::Target;
use crate::check::text::{self, Style};
use crate::check::{self, Question};
use crate::probe::ping::Pace;
use crate::systemd;

/// Every question is asked so often, unless it is answered,
const ATTEMPTS: u16 = 3;
/// after so long,
const GAP: Duration = Duration::from_millis(300);

const EXITS: &str = "\
Without PEER: this host, and a quick question to every peer; those that do not answer are examined. With PEER: this host, \
and everything that can be found out about the way to it. Nothing is changed. Needs root.

Each peer that is not reached has one cause, by name; docs/check.md says what each means and what to do.

Exit codes:
  0   fine: nothing is wrong
  1   degraded: packets pass, and something needs attention
  2   not running or hung: packets pass, and no daemon maintains the overlay
  3   broken: this host does not serve, or some packets to peers do not pass
  4   cannot tell: no permission, no usable answer, or no packets were sent
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
                "Its host name, subnet (172.30.5.0/24), public address, address in the overlay, or the address of a pod there",
            ),
            flag("all", "Also the peers that are reached, in a table with their times"),
            flag("json", "A JSON document"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .default_value("1")
                .value_parser(value_parser!(u64).range(1..=60))
                .help("How long to wait for an answer"),
        ])
        .args(settings::args())
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
        Ok((settings, document)) => show(&settings, &document, matches),
        Err((why, code)) => complain(&why, code),
    }
}

fn found(matches: &ArgMatches) -> Result<(Settings, Document), (String, u8)> {
    let settings = settings::find(matches).map_err(refused)?;
    let daemon = settings.daemon().map_err(|error| (format!("rflannel: {error}\n"), CANNOT_TELL));
    let etcd = settings.name_etcd().then(|| ask_etcd(&settings.config));
    let patience = Duration::from_secs(matches.get_one("timeout").copied().unwrap_or(1));
    let question = Question {
        config: &settings.config,
        machine: &systemd::machine_id(),
        daemon: daemon?,
        etcd,
        target: matches.get_one::<Target>("peer").cloned(),
        pace: Pace { attempts: ATTEMPTS, gap: GAP, patience },
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (format!("rflannel: {error}\n"), CANNOT_TELL))?;
    let document = runtime.block_on(check::check(question));
    Ok((settings, document))
}

fn show(settings: &Settings, document: &Document, matches: &ArgMatches) -> ExitCode {
    let (mut out, terminal) = (io::stdout(), terminal::stdout());
    let text = match matches.get_flag("json") {
        true => settings.in_json(&serde_json::to_string(document).unwrap_or_default()),
        false => terminal.fit(&text::render(
            document,
            &settings.one_line(),
            Style {
                colour: terminal.has_color,
                all: matches.get_flag("all"),
                trail: matches.contains_id("peer"),
            },
        )),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(document.verdict.code()),
        Err(_) => ExitCode::from(CANNOT_TELL),
    }
}
