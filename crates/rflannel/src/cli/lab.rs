//! Implements `rflannel lab`: an overlay of several hosts on this machine, created by one command.

mod progress;
mod table;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};

use super::{USAGE, flag_arg, terminal, text, value_arg};
use crate::admin::network;
use flanneld::backend;
use lab::{FAULTS, KeptLab, Lab, LabError, LabOptions, Matrix, kept_labs};

/// Time limit for the pings after every `flanneld` is ready.
const PINGS: Duration = Duration::from_secs(20);

pub fn command() -> Command {
    Command::new("lab")
        .about(
            "Run an overlay of several hosts on this machine, in namespaces, to try and debug it",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(EXITS)
        .subcommands([
            up_command(),
            exec_command(),
            Command::new("ps")
                .about("List kept labs, their hosts, and the programs that run there"),
            down_command(),
        ])
        .subcommands([
            verb("stop", "Stop the daemon of a host; packets keep flowing"),
            verb(
                "start",
                "Start the daemon of a host with its previous flags",
            ),
            verb("cut", "Pull the cable of a host"),
            break_command(),
            verb(
                "mend",
                "Undo cut and break on a host, and start its daemon if it does not run",
            ),
        ])
}

const EXITS: &str = "\
Exit codes:
  0   done
  1   failed; the message says on which node and why
  64  wrong usage";

/// Returns a subcommand that acts on a host of a kept lab.
fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .args([name_arg(), host_arg("Name of the host: h1, or 1")])
}

fn break_command() -> Command {
    let kinds: Vec<String> = FAULTS
        .iter()
        .map(|fault| format!("  {:<18}{}", fault.name, fault.about))
        .collect();
    let names = FAULTS.iter().map(|fault| fault.name);
    let kind = Arg::new("kind")
        .value_name("KIND")
        .required(true)
        .hide_possible_values(true);
    Command::new("break")
        .about("Create a fault that `rflannel check` names")
        .after_help(format!(
            "Faults, by their names in check:\n{}",
            kinds.join("\n")
        ))
        .args([
            name_arg(),
            kind.value_parser(PossibleValuesParser::new(names))
                .help("The fault; see the list below"),
            host_arg("Name of the host: h1, or 1"),
        ])
}

fn host_arg(help: &'static str) -> Arg {
    let arg = Arg::new("host").value_name("HOST");
    arg.required(true).help(help)
}

fn up_command() -> Command {
    let extra = Arg::new("extra")
        .last(true)
        .num_args(0..)
        .help("Additional flags for every flanneld");
    Command::new("up")
        .about("Create hosts, etcd, and a flanneld and a pod on each host; then ping from every pod to every other")
        .args([
            name_arg(),
            value_arg("hosts", "N", "Number of hosts")
                .default_value("3")
                .value_parser(value_parser!(u8).range(1..=250)),
            value_arg("etcd-members", "N", "Number of etcd members: 1 or 3")
                .default_value("1")
                .value_parser(value_parser!(u8)),
            flag_arg("no-tls", "Run etcd without TLS"),
            value_arg(
                "network",
                "JSON",
                "Network configuration [default: 172.30.0.0/16 with /24 subnets, vxlan]",
            ),
            value_arg("backend", "TYPE", "Backend: vxlan, host-gw, or alloc, which does not connect pods")
                .default_value("vxlan")
                .value_parser(PossibleValuesParser::new(backend::names()))
                .hide_possible_values(true),
            flag_arg("dual-stack", "Use IPv4 and IPv6, with fd30::/48 and /64 subnets in addition")
                .conflicts_with("network"),
            flag_arg("ipv6", "Use IPv6 only, with fd30::/48 and /64 subnets")
                .conflicts_with_all(["network", "dual-stack"]),
            value_arg("flanneld", "PATH", "Daemon to run [default: flanneld in the directory of this program]")
                .value_parser(value_parser!(PathBuf)),
            flag_arg("keep", "Keep the lab running; `rflannel lab down` ends it"),
            extra,
        ])
}

fn exec_command() -> Command {
    Command::new("exec")
        .about("Run a command on a host of a kept lab")
        .args([
            name_arg(),
            flag_arg("pod", "Run it in the host's pod"),
            host_arg("Name of the node: h1 or 1, an etcd member such as e1, or switch"),
            Arg::new("command")
                .last(true)
                .num_args(0..)
                .default_value("bash")
                .help("The command and its arguments"),
        ])
}

fn down_command() -> Command {
    let all = flag_arg("all", "End every kept lab").conflicts_with("name");
    Command::new("down")
        .about("End a kept lab")
        .args([name_arg(), all])
}

fn name_arg() -> Arg {
    value_arg("name", "NAME", "Name of the lab").default_value("lab")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("up", matches)) => up(matches),
        Some(("exec", matches)) => exec(matches),
        Some(("down", matches)) => down(matches),
        Some(("stop", matches)) => on_host(matches, KeptLab::stop, "stopped flanneld on"),
        Some(("start", matches)) => on_host(matches, KeptLab::start, "started flanneld on"),
        Some(("cut", matches)) => on_host(matches, KeptLab::cut, "pulled the cable of"),
        Some(("mend", matches)) => on_host(matches, KeptLab::mend, "mended"),
        Some(("break", matches)) => make_fault(matches),
        _ => ps(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::print_error(&error);
            let is_usage = matches!(error, LabError::BadOption(_));
            ExitCode::from(if is_usage { USAGE } else { 1 })
        }
    }
}

/// Cleaning up needs no code here, not even for Ctrl-C: a lab ends with the process that created it.
fn up(matches: &ArgMatches) -> Result<(), LabError> {
    let (name, keep) = (text(matches, "name"), matches.get_flag("keep"));
    let options = options(matches)?;
    if keep {
        KeptLab::reserve(name)?;
    }
    let lab = Lab::start(options)?;
    let verdict = match text(matches, "backend") {
        "alloc" => {
            say(&format!("\n{}\n", table::hosts(&lab)?))?;
            "backend alloc only leases subnets: pods of different hosts do not reach each other"
                .to_owned()
        }
        _ => pings(&lab)?,
    };
    if keep {
        lab.keep()?;
        say(&format!(
            "the lab keeps running: enter a host with `rflannel lab exec --name {name} h1`, "
        ))?;
        say(&format!("end it with `rflannel lab down --name {name}`\n"))?;
    }
    say(&format!("{verdict}\n"))
}

/// Pings between all pods and describes the result.
fn pings(lab: &Lab) -> Result<String, LabError> {
    say("pinging from every pod to every other\n")?;
    let matrix = lab.ping_all(PINGS)?;
    say(&format!(
        "\n{}\n{}\n",
        table::hosts(lab)?,
        table::pings(lab, &matrix)
    ))?;
    judge(lab, &matrix)?;
    let hosts = lab.hosts().len();
    Ok(format!(
        "all {hosts}×{} = {} pod pairs reach each other",
        hosts - 1,
        matrix.pairs()
    ))
}

fn options(matches: &ArgMatches) -> Result<LabOptions, LabError> {
    let hosts = *matches.get_one("hosts").unwrap_or(&3);
    let mut options = LabOptions::new(flanneld(matches.get_one("flanneld"))?)
        .name(text(matches, "name"))
        .hosts(hosts)
        .etcd_members(*matches.get_one("etcd-members").unwrap_or(&1))
        .flanneld_args(matches.get_many::<String>("extra").unwrap_or_default())
        .report(progress::to_stdout(hosts));
    if matches.get_flag("no-tls") {
        options = options.no_tls();
    }
    let options = match matches.get_one::<String>("network") {
        Some(json) => {
            let wrong = |why| LabError::BadOption(format!("--network: {why}"));
            network::parse(json.as_bytes()).map_err(wrong)?;
            options.network(json)
        }
        None if matches.get_flag("dual-stack") => options.dual_stack(),
        None if matches.get_flag("ipv6") => options.ipv6(),
        None => options,
    };
    Ok(options.backend(text(matches, "backend")))
}

/// Returns the daemon to run: the given one, or the one in the directory of this program.
fn flanneld(told: Option<&PathBuf>) -> Result<PathBuf, LabError> {
    let beside = || std::env::current_exe().map(|program| program.with_file_name("flanneld"));
    let path = told.map_or_else(beside, |path| Ok(path.clone()));
    let found = path.and_then(|path| path.canonicalize().map_err(|error| named(&path, &error)));
    let hint = "build it with `cargo build`, or give its path with --flanneld PATH";
    let found = found
        .map_err(|error| LabError::BadOption(format!("no flanneld to run: {error}; {hint}")))?;
    if found.starts_with("/run") {
        let why = "each host has its own /run: copy the program elsewhere";
        return Err(LabError::BadOption(format!(
            "cannot use {}: {why}",
            found.display()
        )));
    }
    Ok(found)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Fails if a pair of pods does not reach each other, with the log of the daemon on the sending host.
fn judge(lab: &Lab, matrix: &Matrix) -> Result<(), LabError> {
    let Some((from, to)) = matrix.missing().next() else {
        return Ok(());
    };
    let (from, to) = (lab.host(from + 1), lab.host(to + 1));
    let log = from.read("/run/flanneld.log").unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines
        .iter()
        .skip(lines.len().saturating_sub(15))
        .map(ToString::to_string)
        .collect();
    let count = format!(
        "{} of {} pairs do not reach each other",
        matrix.missing().count(),
        matrix.pairs()
    );
    let why = format!(
        "no answer to a ping within {} s; {count}; flanneld on {}:",
        PINGS.as_secs(),
        from.name()
    );
    Err(
        LabError::failed(from.name(), format!("reach the pod of {}", to.name()), why)
            .with_log(tail),
    )
}

fn exec(matches: &ArgMatches) -> Result<(), LabError> {
    let lab = KeptLab::find(text(matches, "name"))?;
    let node = lab.node(text(matches, "host"))?;
    let node = if matches.get_flag("pod") {
        node.pod()
    } else {
        node.clone()
    };
    let args = matches.get_many::<String>("command").unwrap_or_default();
    let mut command = node.command(args);
    // Makes `rflannel` and `flanneld` available there without a path.
    let own = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
    command.env("PATH", path.unwrap_or_default());
    // Replaces this process; returns only if that fails.
    let error = command.exec();
    Err(LabError::failed(node.name(), "run nsenter", error))
}

fn on_host(
    matches: &ArgMatches,
    act: impl Fn(&KeptLab, &str) -> Result<(), LabError>,
    done: &str,
) -> Result<(), LabError> {
    let (lab, host) = (KeptLab::find(text(matches, "name"))?, text(matches, "host"));
    act(&lab, host)?;
    say(&format!("{done} {}\n", lab.node(host)?.name()))
}

fn make_fault(matches: &ArgMatches) -> Result<(), LabError> {
    let kind = text(matches, "kind");
    let fault = FAULTS.iter().find(|fault| fault.name == kind);
    let fault = fault.ok_or_else(|| {
        LabError::BadOption(format!(
            "there is no fault {kind:?}; `rflannel lab break --help` lists them"
        ))
    })?;
    on_host(
        matches,
        |lab, host| lab.break_host(fault, host),
        &format!("created the fault {kind} on"),
    )?;
    say(
        "examine it with `rflannel lab exec HOST -- rflannel check`, undo it with `rflannel lab mend HOST`\n",
    )
}

fn ps() -> Result<(), LabError> {
    let labs = kept_labs()?;
    if labs.is_empty() {
        return say("no lab is running\n");
    }
    labs.iter().try_for_each(|lab| say(&table::kept(lab)))
}

fn down(matches: &ArgMatches) -> Result<(), LabError> {
    let (name, all) = (text(matches, "name"), matches.get_flag("all"));
    let labs: Vec<KeptLab> = kept_labs()?
        .into_iter()
        .filter(|lab| all || lab.name() == name)
        .collect();
    if labs.is_empty() && !all {
        return Err(LabError::BadOption(format!(
            "there is no lab {name:?}; `rflannel lab ps` lists all"
        )));
    }
    labs.iter().try_for_each(|lab| {
        lab.down()
            .and_then(|()| say(&format!("ended lab {}\n", lab.name())))
    })
}

fn say(text: &str) -> Result<(), LabError> {
    let written = io::stdout().write_all(terminal::stdout().spell(text).as_bytes());
    written.map_err(|error| LabError::failed("this terminal", "write", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let parse = |line: &str| command().try_get_matches_from(line.split(' '));
        for good in [
            "lab up",
            "lab up --hosts 2 -- -v=1",
            "lab up --backend host-gw --dual-stack",
            "lab exec --pod 2 -- ip -br a",
            "lab exec h1",
            "lab ps",
            "lab break mtu h2",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "lab",
            "lab up --hosts 0",
            "lab up --backend udp",
            "lab up --hosts 251",
            "lab exec",
            "lab down --all --name x",
            "lab break x h2",
            "lab cut",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_daemon_is_named() {
        let error = flanneld(Some(&PathBuf::from("/nonexistent/flanneld")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nonexistent/flanneld") && error.contains("--flanneld"),
            "{error}"
        );
    }
}
