//! Implements `rflannel status`: the state of this host's daemon, or what is left of a daemon.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::time::{Instant, timeout};

use super::etcd_session::{self, CommandError, EtcdSession};
use super::settings::{self, Settings};
use super::{flag_arg, terminal};
use crate::admin::Inventory;
use flanneld::config::Config;
use flanneld::status::client::{self, Daemon};
use flanneld::status::offline::{self, FromEtcd};
use flanneld::status::report::{Report, State};
use flanneld::status::{peers, text};
use flanneld::util::systemd;
use flanneld::util::table::count;

/// Time limit for etcd, if there is no daemon to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval of `--wait`.
const PAUSE: Duration = Duration::from_millis(500);

const EXITS: &str = "\
Exit codes:
  0   fine
  1   degraded: this host serves, but something needs attention
  2   not running, or the daemon does not answer: the output comes from the kernel, the state file, and etcd
  3   not ready: the daemon waits, or peers do not reach this host
  4   unknown: no permission, or no usable answer
  64  wrong usage";

pub fn command() -> Command {
    let seconds = |name: &'static str, default: &'static str| {
        let arg = Arg::new(name)
            .long(name)
            .value_name("SECONDS")
            .num_args(0..=1)
            .require_equals(true);
        arg.default_missing_value(default)
            .value_parser(value_parser!(u64).range(1..=3600))
    };
    Command::new("status")
        .about("Show the state of this host's daemon: lease, etcd, peers, kernel, repairs")
        .after_help(EXITS)
        .args([
            flag_arg("json", "Print the daemon's JSON document on one line"),
            flag_arg("brief", "Print one line: the state and the reasons for it")
                .conflicts_with("json"),
            flag_arg(
                "peers",
                "List the peers: name, subnet, public IP, state, last probe",
            ),
            seconds("wait", "60")
                .help("Wait until this host serves, at most this many seconds [default: 60]"),
            seconds("watch", "2")
                .help("Repeat the output, with this many seconds between [default: 2]"),
        ])
        .args(settings::args())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let again = matches
        .get_one::<u64>("watch")
        .copied()
        .map(Duration::from_secs);
    loop {
        let (code, shown) = match once(matches) {
            Ok((state, text)) => (ExitCode::from(code(state)), print(&text, matches)),
            Err(stop) => (etcd_session::end(Err(stop.or_unknown())), Ok(())),
        };
        match again {
            Some(pause) if shown.is_ok() => std::thread::sleep(pause),
            _ => return code,
        }
    }
}

/// Prints the status once. The settings are found again each time, because a daemon that was started meanwhile is a better source.
fn once(matches: &ArgMatches) -> Result<(State, String), CommandError> {
    let end = matches
        .get_one::<u64>("wait")
        .map(|seconds| Instant::now() + Duration::from_secs(*seconds));
    loop {
        let seen = seen(matches);
        let serves = seen
            .as_ref()
            .is_ok_and(|(_, report)| report.state <= State::Degraded);
        match end.filter(|end| !serves && Instant::now() < *end) {
            Some(_) => std::thread::sleep(PAUSE),
            None => {
                return seen.and_then(|(settings, report)| {
                    Ok((report.state, shown(&settings, report, matches)?))
                });
            }
        }
    }
}

fn seen(matches: &ArgMatches) -> Result<(Settings, Report), CommandError> {
    let settings = settings::find(matches)?;
    let report = look(&settings)?;
    Ok((settings, report))
}

fn shown(
    settings: &Settings,
    report: Report,
    matches: &ArgMatches,
) -> Result<String, CommandError> {
    let is_json = matches.get_flag("json");
    if matches.get_flag("peers") {
        let listed = listed(settings, &report).map_err(CommandError::Silent)?;
        return Ok(if is_json {
            settings.in_json(&serde_json::json!({ "peers": listed }).to_string())
        } else {
            peers::table(&listed)
        });
    }
    Ok(match (is_json, matches.get_flag("brief")) {
        (true, _) => settings.in_json(&serde_json::to_string(&report).unwrap_or_default()),
        (_, true) => brief(&report),
        _ => text::render(&report, &settings.one_line(), |link| {
            std::path::Path::new("/sys/class/net").join(link).exists()
        }),
    })
}

fn brief(report: &Report) -> String {
    let mut parts = vec![report.state.to_string()];
    parts.extend(report.overlay.as_ref().map(|overlay| {
        let peers = &overlay.peers;
        format!(
            "{}, {} of {}",
            overlay.subnet,
            peers.installed,
            count(peers.desired, "peer", "peers")
        )
    }));
    parts.extend(report.reasons.iter().cloned());
    flanneld::status::summary::plain(&parts.join("; ")) + "\n"
}

fn listed(settings: &Settings, report: &Report) -> Result<Vec<peers::Peer>, String> {
    let (config, machine) = (&settings.config, systemd::machine_id());
    let etcd = settings
        .name_etcd()
        .then(|| query_etcd(config))
        .and_then(Result::ok);
    let known = offline::known(config, &machine, etcd)?;
    let comparison = offline::compare(config, &machine, &known)?;
    Ok(peers::peers(&known, &comparison, report.probes.as_ref()))
}

fn look(settings: &Settings) -> Result<Report, client::Error> {
    let progress = terminal::Progress::begin("asking the daemon");
    let (state, why) = match settings.daemon()? {
        Daemon::Answers(report) => return Ok(*report),
        Daemon::Silent(why) => (State::Silent, why),
        Daemon::Absent(why) => (State::NotRunning, why),
    };
    progress.next("asking etcd");
    let asked = settings.name_etcd().then(|| query_etcd(&settings.config));
    let (etcd, complaint) = match asked.transpose() {
        Ok(etcd) => (etcd, None),
        Err(error) => (None, Some(error)),
    };
    let mut report = offline::report(state, why, &settings.config, &systemd::machine_id(), etcd);
    report.reasons.extend(complaint);
    Ok(report)
}

/// Reads the network configuration, the leases, and their hosts from etcd.
pub(super) fn query_etcd(config: &Config) -> Result<FromEtcd, String> {
    let dump = EtcdSession::of(config).and_then(|session| {
        let dump = session.manager.dump();
        session.ask(async { timeout(PATIENCE, dump).await.ok().transpose() })
    });
    let dump = dump
        .map_err(|stop| stop.to_string())?
        .ok_or_else(|| format!("etcd did not answer within {} s", PATIENCE.as_secs()))?;
    let inventory = Inventory::read(dump, &Default::default(), config.etcd.renew_margin);
    let (network, _) = inventory.network?;
    let mut found = FromEtcd {
        network,
        leases: Vec::new(),
        machines: Default::default(),
    };
    for entry in inventory.entries {
        let Some(lease) = entry.lease else { continue };
        found
            .machines
            .extend(entry.owner.map(|(machine, _)| (lease.subnets, machine)));
        found.leases.push(lease);
    }
    Ok(found)
}

fn print(text: &str, matches: &ArgMatches) -> io::Result<()> {
    let terminal = terminal::stdout();
    let (mut out, is_json) = (io::stdout(), matches.get_flag("json"));
    let is_again = matches.contains_id("watch") && !is_json;
    let (clear, gap) = match (is_again, terminal.is_live()) {
        (true, true) => ("\x1b[H\x1b[2J", ""),
        (true, false) => ("", "\n"),
        (false, _) => ("", ""),
    };
    let text = if is_json {
        text.to_owned()
    } else {
        terminal.fit(text)
    };
    out.write_all(format!("{clear}{text}{gap}").as_bytes())
        .and_then(|()| out.flush())
}

fn code(state: State) -> u8 {
    match state {
        State::Fine => 0,
        State::Degraded => 1,
        State::NotRunning | State::Silent => 2,
        State::NotReady => 3,
    }
}
