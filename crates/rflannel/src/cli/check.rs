//! Implements `rflannel check`: why hosts do not reach each other.

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::etcd_session::{self, CommandError, runtime};
use super::settings::{self, Settings, Source};
use super::status::query_etcd;
use super::{CANNOT_TELL, flag_arg, terminal, value_arg};
use crate::check::junit;
use crate::check::render::json::Document;
use crate::check::render::text::{self, Style};
use crate::check::target::Target;
use crate::check::{self, Question};
use flanneld::probe::ping::Timing;
use flanneld::util::systemd;
use node_setup::finding::Level;

/// Attempts of each probe, unless it is answered.
const ATTEMPTS: u16 = 3;
/// Time between attempts.
const GAP: Duration = Duration::from_millis(300);

const EXITS: &str = "\
Without PEER, the command checks this host and sends a few probes to every peer; it examines peers that do not answer. With PEER, \
it checks this host and runs all tests on the path to that peer. It changes nothing. It needs root.

It names one cause for each peer that is not reached. docs/reference/check-causes.md explains each cause and its remedy.

Exit codes:
  0   fine: no problem was found
  1   degraded: packets pass, but something needs attention
  2   not running or hung: packets pass, but no daemon maintains the overlay
  3   broken: the daemon is not ready, or some packets to peers do not pass
  4   unknown: no permission, no usable answer, or no packets were sent
  64  wrong usage";

pub fn command() -> Command {
    Command::new("check")
        .about("Find out why hosts do not reach each other: compare leases, kernel, and device, probe peers, and name the cause")
        .after_help(EXITS)
        .args([
            Arg::new("peer").value_name("PEER").value_parser(|text: &str| text.parse::<Target>()).help(
                "Peer to test: host name, subnet (172.30.5.0/24), public IP, overlay address, or the address of a pod",
            ),
            flag_arg("all", "Print a table of all peers with times, including those that are reached"),
            flag_arg("json", "Print a JSON document; the same as --output=json"),
            value_arg("output", "FORMAT", "Format: text, a JSON document, or JUnit XML for CI systems [default: text]")
                .value_parser(["text", "json", "junit"])
                .conflicts_with("json"),
            Arg::new("underlay").long("underlay").value_name("HOST").conflicts_with_all(["peer", "all"]).help(
                "Only test whether UDP packets to the VXLAN port of this host or address arrive; needs no daemon on either side",
            ),
            value_arg("port", "PORT", "VXLAN port").requires("underlay").default_value("8472").value_parser(value_parser!(u16).range(1..)),
            value_arg("timeout", "SECONDS", "Seconds to wait for an answer")
                .default_value("1")
                .value_parser(value_parser!(u64).range(1..=60)),
        ])
        .args(settings::args())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.get_one::<String>("underlay") {
        _ if !rustix::process::geteuid().is_root() => Err(CommandError::Silent(
            "check sends raw packets and reads files of root: run as root".into(),
        )),
        Some(host) => underlay(host, matches),
        None => found(matches).map(|(settings, document)| show(&settings, &document, matches)),
    };
    etcd_session::end(done.map_err(CommandError::or_unknown))
}

/// Tests whether the VXLAN port of a host is open, whatever runs there.
fn underlay(host: &str, matches: &ArgMatches) -> Result<ExitCode, CommandError> {
    let port = matches.get_one::<u16>("port").copied().unwrap_or_default();
    let address = (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next());
    let address = address.ok_or_else(|| CommandError::Silent(format!("cannot resolve {host}")))?;
    let runtime = runtime()?;
    let progress = terminal::Progress::begin(&format!("probing {host}"));
    let finding = runtime.block_on(check::underlay::underlay(
        address.ip(),
        port,
        timing(matches),
    ));
    drop(progress);
    let terminal = terminal::stdout();
    let style = Style {
        color: terminal.has_color,
        ..Style::default()
    };
    let text = match format(matches) {
        "json" => serde_json::to_string(&finding).unwrap_or_default() + "\n",
        _ => terminal.fit(&text::finding(&finding, style)),
    };
    let shown = io::stdout().write_all(text.as_bytes());
    let code = match finding.level {
        Level::Ok => 0,
        Level::Warning => 1,
        Level::Error => 3,
    };
    Ok(ExitCode::from(if shown.is_ok() {
        code
    } else {
        CANNOT_TELL
    }))
}

fn timing(matches: &ArgMatches) -> Timing {
    let patience = Duration::from_secs(matches.get_one("timeout").copied().unwrap_or(1));
    Timing {
        attempts: ATTEMPTS,
        gap: GAP,
        patience,
    }
}

fn found(matches: &ArgMatches) -> Result<(Settings, Document), CommandError> {
    let progress = terminal::Progress::begin("asking the daemon");
    let settings = settings::find(matches)?;
    let daemon = settings.daemon();
    progress.next("asking etcd");
    let etcd = settings.name_etcd().then(|| query_etcd(&settings.config));
    progress.next("probing peers");
    let question = Question {
        config: &settings.config,
        machine: &systemd::machine_id(),
        daemon: daemon?,
        etcd,
        has_no_settings: settings.source == Source::Defaults,
        target: matches.get_one::<Target>("peer").cloned(),
        timing: timing(matches),
    };
    let document = runtime()?.block_on(check::check(question));
    Ok((settings, document))
}

fn format(matches: &ArgMatches) -> &str {
    if matches.get_flag("json") {
        "json"
    } else {
        matches
            .get_one::<String>("output")
            .map_or("text", String::as_str)
    }
}

fn show(settings: &Settings, document: &Document, matches: &ArgMatches) -> ExitCode {
    let (mut out, terminal) = (io::stdout(), terminal::stdout());
    let text = match format(matches) {
        "json" => settings.in_json(&serde_json::to_string(document).unwrap_or_default()),
        "junit" => junit::render(document),
        _ => terminal.fit(&text::render(
            document,
            &settings.one_line(),
            Style {
                color: terminal.has_color,
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
