//! `flanneld`'s command line and `FLANNELD_*` variables -> what to do: pure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::flag_table::{self, Flag, Kind, Standing, VARIABLE_PREFIX};
use super::go_flags::{self, Given};
use crate::config::{Config, Flags, Secret};
use crate::logging::{Format, Logging};

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run the daemon.
    Run(Box<Run>),
    /// Print `text` on standard error and exit with `code`.
    Show {
        /// Whole lines.
        text: String,
        /// 0 for help and version, 2 for a mistake.
        code: u8,
    },
}

/// All that the daemon is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What to do.
    pub config: Config,
    /// What to say about it.
    pub logging: Logging,
    /// Whatever was given and has no effect, one sentence each: to be logged first.
    pub warnings: Vec<String>,
}

/// Version as `-version` prints it: the number in the first word, as scripts expect it from flannel.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), " (rflannel)");

/// Reads arguments (after the program's name) and environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Parsed {
    read(args, env).unwrap_or_else(|mistake| Parsed::Show {
        text: format!("flanneld: {mistake} (flanneld -help lists all flags)\n"),
        code: 2,
    })
}

fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, String> {
    let command = flag_table::command();
    let given = go_flags::read(&command, args).map_err(|error| error.to_string())?;
    let mut warnings = Vec::new();
    let variables = variables(&command, &given, env, &mut warnings);
    let origins = Origins { from_env: variables.iter().map(|given| given.name.clone()).collect() };
    let matches = matches(command, given.iter().chain(&variables), &origins)?;

    if on(&matches, "help") {
        return Ok(Parsed::Show { text: flag_table::help(), code: 0 });
    }
    if on(&matches, "version") {
        return Ok(Parsed::Show { text: format!("{VERSION}\n"), code: 0 });
    }
    for flag in flag_table::flags() {
        warnings.extend(judge(flag, &matches, &origins)?);
    }
    let logging = Logging::new(int(&matches, "v"), format(&matches));
    let config = Config::try_from(flags(&matches))
        .map_err(|invalid| format!("{}: {}", origins.spell(invalid.flag), invalid.why))?;
    Ok(Parsed::Run(Box::new(Run { config, logging, warnings })))
}

/// Knows how the user spelled a flag.
struct Origins {
    from_env: BTreeSet<String>,
}

impl Origins {
    /// `-iface`, or `FLANNELD_IFACE` where that was read.
    fn spell(&self, name: &str) -> String {
        match flag_table::flags().find(|flag| flag.name == name && self.from_env.contains(name)) {
            Some(flag) => flag.variable(),
            None => format!("-{name}"),
        }
    }
}

/// Flags that the environment sets: those that are not on the command line and not empty there.
fn variables(
    command: &Command,
    given: &[Given],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    warnings: &mut Vec<String>,
) -> Vec<Given> {
    let mut out = Vec::new();
    for (variable, value) in env {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        match flag_table::flags().find(|flag| flag.variable() == variable) {
            None => warnings.push(unknown_variable(command, variable)),
            Some(flag) if !flag.from_environment() => {
                warnings.push(format!("{variable} has no effect: only the flag -{} does", flag.name));
            }
            Some(flag) if given.iter().any(|given| given.name == flag.name) => (),
            Some(flag) => out.push(Given { name: flag.name.to_owned(), value: Some(value) }),
        }
    }
    out
}

fn unknown_variable(command: &Command, variable: &str) -> String {
    let name = variable.trim_start_matches(VARIABLE_PREFIX).to_ascii_lowercase().replace('_', "-");
    let error = command.clone().try_get_matches_from(["flanneld".to_owned(), format!("--{name}")]).err();
    let closest = error
        .as_ref()
        .and_then(suggestion)
        .and_then(|closest| flag_table::flags().find(|flag| flag.name == closest).map(Flag::variable));
    match closest {
        Some(closest) => format!("{variable} is not known and has no effect: did you mean {closest}?"),
        None => format!("{variable} is not known and has no effect: remove it"),
    }
}

fn matches<'a>(
    command: Command,
    given: impl Iterator<Item = &'a Given>,
    origins: &Origins,
) -> Result<ArgMatches, String> {
    let mut args = vec![OsString::from("flanneld")];
    for one in given {
        if one.value.as_ref().is_some_and(|value| value.to_str().is_none()) && !is_path(&one.name) {
            return Err(format!("{} is not valid UTF-8: give it in plain text", origins.spell(&one.name)));
        }
        args.push(one.to_arg());
    }
    command.try_get_matches_from(args).map_err(|error| explain(&error, origins))
}

fn is_path(name: &str) -> bool {
    flag_table::flags().any(|flag| flag.name == name && matches!(flag.kind, Kind::Path(_)))
}

/// clap's error as one line, in Go's spelling.
fn explain(error: &clap::Error, origins: &Origins) -> String {
    let name = context(error, ContextKind::InvalidArg).map(|arg| bare(&arg)).unwrap_or_default();
    if error.kind() == ErrorKind::UnknownArgument {
        let hint = suggestion(error).map(|closest| format!(": did you mean -{closest}?")).unwrap_or_default();
        return format!("unknown flag -{name}{hint}");
    }
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    let words = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => format!("must be {}", words.join(" or ")),
        _ => String::new(),
    };
    let why = std::error::Error::source(error).map_or(words, ToString::to_string);
    format!("invalid value {value:?} for {}: {why}", origins.spell(&name))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(ToString::to_string)
}

fn suggestion(error: &clap::Error) -> Option<String> {
    context(error, ContextKind::SuggestedArg).map(|arg| bare(&arg))
}

/// The name in clap's `--name[=<TEXT>]` or `--name <TEXT>`.
fn bare(arg: &str) -> String {
    let name = arg.trim_start_matches('-');
    name.split(['=', ' ', '[']).next().unwrap_or(name).to_owned()
}

/// A warning for a flag without effect, an error for one that asks for what is not there.
fn judge(flag: &Flag, matches: &ArgMatches, origins: &Origins) -> Result<Option<String>, String> {
    if matches.value_source(flag.name) != Some(ValueSource::CommandLine) {
        return Ok(None);
    }
    let name = origins.spell(flag.name);
    match (flag.standing, asks(flag, matches)) {
        (Standing::Works | Standing::Idle, _) => Ok(None),
        (Standing::NoEffect(why), _) | (Standing::OnlyTrue(why), true) => {
            Ok(Some(format!("{name} has no effect: {why}")))
        }
        (Standing::OnlyTrue(why), false) => Err(format!("{name}=false is gone: {why}, redirect that")),
        (Standing::Later | Standing::Kubernetes | Standing::Gone(_), false) => Ok(None),
        (Standing::Later, true) => Err(format!("{name} is not supported yet by this release: remove it")),
        (Standing::Kubernetes, true) => {
            Err(format!("{name}: Kubernetes mode is not supported: remove it and give -etcd-endpoints"))
        }
        (Standing::Gone(instead), true) => Err(format!("{name} is gone since flannel v0.8.0: {instead}")),
    }
}

/// Whether the value given asks for anything: not for false, no number above zero, nothing, flannel's own default.
fn asks(flag: &Flag, matches: &ArgMatches) -> bool {
    match flag.kind {
        Kind::Bool => on(matches, flag.name),
        Kind::Int(_) => int(matches, flag.name) > 0,
        Kind::Text(default) => ![default, ""].contains(&text(matches, flag.name).as_str()),
        Kind::Path(default) => ![default, ""].contains(&path(matches, flag.name).to_string_lossy().as_ref()),
        Kind::List => list(matches, flag.name).iter().any(|item| !item.is_empty()),
        Kind::Word(_) => true,
    }
}

fn flags(matches: &ArgMatches) -> Flags {
    Flags {
        etcd_endpoints: text(matches, "etcd-endpoints"),
        etcd_prefix: text(matches, "etcd-prefix"),
        etcd_cafile: path(matches, "etcd-cafile"),
        etcd_certfile: path(matches, "etcd-certfile"),
        etcd_keyfile: path(matches, "etcd-keyfile"),
        etcd_username: text(matches, "etcd-username"),
        etcd_password: Secret::new(text(matches, "etcd-password")),
        ifaces: list(matches, "iface"),
        public_ip: text(matches, "public-ip"),
        subnet_file: path(matches, "subnet-file"),
        renew_margin: int(matches, "subnet-lease-renew-margin"),
        docker_opts_file: path(matches, "docker-opts-file"),
        docker_opts_key: text(matches, "docker-opts-key"),
    }
}

fn format(matches: &ArgMatches) -> Format {
    Format::from_name(&text(matches, "log-format")).unwrap_or_default()
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn path(matches: &ArgMatches, name: &str) -> PathBuf {
    matches.get_one::<OsString>(name).map(PathBuf::from).unwrap_or_default()
}

fn list(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

fn int(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one::<i64>(name).copied().unwrap_or_default()
}

fn on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or_default()
}
