//! Finds the daemon's settings, in one way for every command that talks to etcd or to the daemon.
//!
//! Only the first of these sources that contains settings is used: the flags after `--`, `FLANNELD_*` variables (both
//! together), a context named with `--context`; the running daemon; its unit; `/etc/default/flanneld`; the current
//! context; flannel's defaults.

mod context;
mod process;
mod unit;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use serde::Serialize;

use super::etcd_session::CommandError;
use super::value_arg;
use flanneld::cli::flag_table::{self, VARIABLE_PREFIX};
use flanneld::cli::flanneld as daemon_cli;
use flanneld::cli::go_flags;
use flanneld::config::Config;
use flanneld::status::client::{self, Daemon};
use flanneld::util::env_file;

use process::Process;

/// The file that the shipped unit reads settings from.
const DEFAULTS_FILE: &str = "/etc/default/flanneld";

/// Environment variables: name and value.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// Command line of a daemon: its arguments and its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) args: Vec<OsString>,
    pub(super) variables: Variables,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The flags after `--` and `FLANNELD_*` variables.
    Flags,
    /// A context of the user's configuration file.
    Context { name: String, path: PathBuf },
    /// The command line of the running daemon.
    Process {
        pid: u32,
        /// Whether its environment could be read, too.
        is_complete: bool,
    },
    /// The unit with this name.
    Unit(&'static str),
    /// `/etc/default/flanneld`.
    DefaultsFile,
    /// No source has settings.
    Defaults,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flags => f.write_str("flags after -- and FLANNELD_* variables"),
            Source::Context { name, path } => write!(f, "context {name} of {}", path.display()),
            Source::Process {
                pid,
                is_complete: true,
            } => write!(f, "running daemon (pid {pid})"),
            Source::Process {
                pid,
                is_complete: false,
            } => {
                write!(
                    f,
                    "running daemon (pid {pid}), without its environment (run as root)"
                )
            }
            Source::Unit(name) => f.write_str(name),
            Source::DefaultsFile => f.write_str(DEFAULTS_FILE),
            Source::Defaults => {
                f.write_str("flannel's defaults (no daemon, unit, or context found)")
            }
        }
    }
}

impl Source {
    /// Returns its stable name in JSON.
    fn id(&self) -> &'static str {
        match self {
            Source::Flags => "flags",
            Source::Context { .. } => "context",
            Source::Process { .. } => "daemon",
            Source::Unit(_) => "unit",
            Source::DefaultsFile => "defaults-file",
            Source::Defaults => "defaults",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub config: Config,
    pub source: Source,
    /// The settings as flags and variables.
    line: CommandLine,
    socket: Option<PathBuf>,
    /// The daemon's process, if one was found.
    process: Option<Process>,
}

/// Returns the arguments `--socket`, `--context`, and the flags after `--`.
pub fn args() -> [Arg; 3] {
    [
        value_arg(
            "socket",
            "PATH",
            "The daemon's status socket, if several daemons run or the settings are unknown [default: from the settings]",
        )
        .value_parser(value_parser!(PathBuf)),
        value_arg(
            "context",
            "NAME",
            "Use this context of ~/.config/rflannel/config.toml instead of this host's settings",
        ),
        Arg::new("flags").last(true).num_args(0..).value_parser(value_parser!(OsString)).help(
            "The daemon's flags (-etcd-endpoints, -etcd-prefix, -etcd-cafile, and so on); FLANNELD_* variables count, too. Without any, the \
             settings come from the running daemon, its unit, /etc/default/flanneld, or the current context: the first of these that \
             exists",
        ),
    ]
}

/// Finds the settings and reports their source on standard error.
pub fn announced(matches: &ArgMatches) -> Result<Settings, CommandError> {
    let found = find(matches)?;
    let is_json = matches
        .try_get_one::<bool>("json")
        .ok()
        .flatten()
        .is_some_and(|is| *is);
    if !is_json {
        super::print_error(format!("settings: {}", found.one_line()));
    }
    Ok(found)
}

/// Finds the settings. Fails if the flags or the context are wrong, or several daemons run and none is named.
pub fn find(matches: &ArgMatches) -> Result<Settings, CommandError> {
    let flags: Vec<OsString> = matches
        .get_many::<OsString>("flags")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let socket = matches.get_one::<PathBuf>("socket").cloned();
    let variables: Variables = env::vars_os()
        .filter(|(name, value)| is_setting(name, value))
        .collect();
    let found = if let Some(name) = matches.get_one::<String>("context") {
        let mut line = context::named(name).map_err(CommandError::Usage)?;
        line.args.extend(flags);
        of_line(line, of_context(name.clone()))
    } else if !flags.is_empty() || !variables.is_empty() {
        let args = flags;
        of_line(CommandLine { args, variables }, Source::Flags)
    } else {
        of_host(socket.as_deref())
    };
    Ok(Settings { socket, ..found? })
}

fn of_context(name: String) -> Source {
    let path = context::path().unwrap_or_default();
    Source::Context { name, path }
}

/// Returns the settings of this host's daemon, or those that it would be started with.
fn of_host(socket: Option<&Path>) -> Result<Settings, CommandError> {
    if let Some(process) = running(socket)? {
        let source = Source::Process {
            pid: process.pid,
            is_complete: process.is_complete,
        };
        if let Ok(found) = of_line(process.line.clone(), source) {
            return Ok(Settings {
                process: Some(process),
                ..found
            });
        }
    }
    let unit = unit::settings().map(|(name, line)| (line, Source::Unit(name)));
    let file = defaults_file().map(|line| (line, Source::DefaultsFile));
    for (line, source) in unit.into_iter().chain(file) {
        if let Ok(found) = of_line(line, source) {
            return Ok(found);
        }
    }
    match context::current().map_err(CommandError::Usage)? {
        Some((name, line)) => of_line(line, of_context(name)),
        None => of_line(CommandLine::default(), Source::Defaults),
    }
}

/// Returns the daemon behind `socket`, or the only one on this host.
fn running(socket: Option<&Path>) -> Result<Option<Process>, CommandError> {
    let all = process::all();
    if let Some(socket) = socket {
        let pid = client::peer(socket);
        let is_meant = |process: &Process| {
            pid == Some(process.pid) || socket_of(&process.line).as_deref() == Some(socket)
        };
        return Ok(all
            .into_iter()
            .find(is_meant)
            .or_else(|| pid.and_then(process::read)));
    }
    match all.len() {
        0 | 1 => Ok(all.into_iter().next()),
        several => Err(CommandError::Usage(format!(
            "{several} daemons run on this host; name one of them:\n{}",
            choices(&all)
        ))),
    }
}

fn choices(all: &[Process]) -> String {
    let choice = |process: &Process| {
        let config = parse(process.line.clone()).ok();
        let prefix = config.as_ref().map_or("", |config| &config.etcd.prefix);
        match config
            .as_ref()
            .and_then(|config| config.status_endpoints.status.as_ref())
        {
            Some(socket) => {
                format!(
                    "  --socket {}  (pid {}, prefix {prefix})",
                    socket.display(),
                    process.pid
                )
            }
            None => format!(
                "  pid {}, prefix {prefix}: it has no status socket; give its flags after --",
                process.pid
            ),
        }
    };
    all.iter().map(choice).collect::<Vec<_>>().join("\n")
}

fn socket_of(line: &CommandLine) -> Option<PathBuf> {
    parse(line.clone()).ok()?.status_endpoints.status
}

fn of_line(line: CommandLine, source: Source) -> Result<Settings, CommandError> {
    let config = parse(line.clone()).map_err(CommandError::Usage)?;
    Ok(Settings {
        config,
        source,
        line,
        socket: None,
        process: None,
    })
}

fn parse(line: CommandLine) -> Result<Config, String> {
    match daemon_cli::parse(line.args, line.variables) {
        daemon_cli::Parsed::Run(run) => Ok(run.config),
        daemon_cli::Parsed::Show(text) => Err(text.trim_end().to_owned()),
        daemon_cli::Parsed::Wrong(mistake) => Err(mistake.to_string()),
    }
}

fn is_setting(name: &OsStr, value: &OsStr) -> bool {
    name.to_string_lossy().starts_with(VARIABLE_PREFIX) && !value.is_empty()
}

/// Returns what the shipped unit would start the daemon with, if systemd does not say it.
fn defaults_file() -> Option<CommandLine> {
    let text = fs::read_to_string(DEFAULTS_FILE).ok()?;
    let (variables, _) = env_file::parse(&text);
    let args = unit::words(
        variables
            .get("FLANNEL_OPTIONS")
            .map(String::as_str)
            .unwrap_or_default(),
    );
    let variables: Variables = variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let says = !args.is_empty()
        || variables
            .iter()
            .any(|(name, value)| is_setting(name, value));
    says.then_some(CommandLine { args, variables })
}

impl Settings {
    /// Returns the daemon's socket; `None` if the settings disable it.
    pub fn socket(&self) -> Option<&Path> {
        self.socket
            .as_deref()
            .or(self.config.status_endpoints.status.as_deref())
    }

    /// Returns whether the settings name etcd endpoints. flannel's default endpoints are a guess, which must not be contacted silently.
    pub fn name_etcd(&self) -> bool {
        match self.source {
            Source::Defaults => false,
            Source::Flags => self
                .flags()
                .is_ok_and(|flags| flags.iter().any(|(name, _)| name == "etcd-endpoints")),
            Source::Context { .. }
            | Source::Process { .. }
            | Source::Unit(_)
            | Source::DefaultsFile => true,
        }
    }

    /// Returns the settings as flags, including the environment: name and value.
    pub fn flags(&self) -> Result<Vec<(String, Option<String>)>, CommandError> {
        let given = go_flags::read(&flag_table::command(), self.line.args.clone())
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let mut flags: Vec<(String, Option<String>)> = given
            .into_iter()
            .map(|one| (one.name, one.value.map(text)))
            .collect();
        for (name, value) in &self.line.variables {
            let flag = flag_table::flags().find(|flag| name.to_str() == Some(&flag.variable()));
            let flag = flag.filter(|flag| flag.from_environment() && !value.is_empty());
            if let Some(flag) =
                flag.filter(|flag| flags.iter().all(|(given, _)| given != flag.name))
            {
                flags.push((
                    flag.name.to_owned(),
                    Some(value.to_string_lossy().into_owned()),
                ));
            }
        }
        Ok(flags)
    }

    /// Asks the daemon for its status. Fails if this user lacks permission, or the answer is not from a daemon of this version.
    pub fn daemon(&self) -> Result<Daemon, client::Error> {
        let Some(path) = self.socket() else {
            let why = "it has no status socket (-status-socket=none)";
            return Ok(match &self.process {
                Some(process) => Daemon::Silent(format!("{process} runs, but {why}")),
                None => Daemon::Absent(format!("no daemon was found, and by its flags {why}")),
            });
        };
        match (client::ask(path), &self.process) {
            (Ok(report), _) => Ok(Daemon::Answers(Box::new(report))),
            (Err(error @ client::Error::Hung { .. }), _) => Ok(Daemon::Silent(error.to_string())),
            (Err(error @ client::Error::Absent { .. }), Some(process)) => {
                Ok(Daemon::Silent(format!("{process} runs, but {error}")))
            }
            (Err(error @ client::Error::Absent { .. }), None) => {
                Ok(Daemon::Absent(error.to_string()))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Returns the process ID of the daemon, from its socket or its settings.
    pub fn pid(&self) -> Option<u32> {
        let behind_socket = || self.socket().and_then(client::peer);
        self.process
            .as_ref()
            .map(|process| process.pid)
            .or_else(behind_socket)
    }

    /// Describes the source and the essential settings on one line.
    pub fn one_line(&self) -> String {
        let etcd = &self.config.etcd;
        format!(
            "{}: prefix {} at {}",
            self.source,
            etcd.prefix,
            etcd.endpoints.join(",")
        )
    }

    /// Adds the settings to a JSON document as its member `settings`.
    pub fn in_json(&self, document: &str) -> String {
        #[derive(Serialize)]
        struct Summary<'a> {
            source: &'static str,
            detail: String,
            endpoints: &'a [String],
            prefix: &'a str,
        }
        let summary = Summary {
            source: self.source.id(),
            detail: self.source.to_string(),
            endpoints: &self.config.etcd.endpoints,
            prefix: &self.config.etcd.prefix,
        };
        let summary = serde_json::to_string(&summary).unwrap_or_default();
        match document.trim_end().strip_suffix('}') {
            Some("{") => format!("{{\"settings\":{summary}}}\n"),
            Some(members) => format!("{members},\"settings\":{summary}}}\n"),
            None => document.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
