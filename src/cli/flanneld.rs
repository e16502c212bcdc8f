//! `flanneld`'s command line and `FLANNELD_*` variables -> what to do: pure.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::config::config;
use super::explain::{Origins, explain, suggestion};
use super::flag_table::{self, Flag, Kind, Support, VARIABLE_PREFIX};
use super::go_flags::{self, Given, parse_bool};
use crate::config::Config;
use crate::util::logging::{Format, Logging};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    Run(Box<Run>),
    /// Print this text, help or version, on standard error and exit with 0.
    Show(String),
    /// Print this error on standard error and exit with 2.
    Wrong(Mistake),
}

/// Why a command line does not start the daemon, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// The value of a flag is wrong.
    Value {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// The flag or the variable, as it was given.
        given: String,
        why: String,
    },
    Other(String),
}

/// End of every mistake.
pub const HINT: &str = " (flanneld -help lists all flags)";

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { given, why, .. } => write!(f, "{given}: {why}{HINT}"),
            Self::Other(text) => write!(f, "{text}{HINT}"),
        }
    }
}

impl From<String> for Mistake {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub config: Config,
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
    read(args, env).unwrap_or_else(Parsed::Wrong)
}

fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, Mistake> {
    let command = flag_table::command();
    let given = go_flags::read(&command, args).map_err(|error| error.to_string())?;
    if let Some(answer) = answer(&command, &given)? {
        return Ok(answer);
    }
    let mut warnings = Vec::new();
    let variables = variables(&command, &given, env, &mut warnings);
    let origins: Origins = variables.iter().map(|given| given.name.clone()).collect();
    let matches = matches(&command, given.iter().chain(&variables), &origins)?;
    for flag in flag_table::flags() {
        warnings.extend(judge(flag, &matches, &origins)?);
    }
    let logging = Logging::new(int(&matches, "v"), format(&matches));
    let config = config(&matches).map_err(|invalid| Mistake::Value {
        flag: invalid.flag,
        given: origins.spell(invalid.flag),
        why: invalid.why,
    })?;
    Ok(Parsed::Run(Box::new(Run {
        config,
        logging,
        warnings,
    })))
}

/// Help and version come before the environment is looked at: nothing in it can break or cause them.
fn answer(command: &Command, given: &[Given]) -> Result<Option<Parsed>, String> {
    let matches = matches(command, given.iter(), &Origins::default())?;
    let text = if on(&matches, "help") {
        flag_table::help()
    } else if on(&matches, "version") {
        format!("{VERSION}\n")
    } else {
        return Ok(None);
    };
    Ok(Some(Parsed::Show(text)))
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
        let Some(variable) = variable
            .to_str()
            .filter(|name| name.starts_with(VARIABLE_PREFIX))
        else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        match flag_table::flags().find(|flag| flag.variable() == variable) {
            None => warnings.push(unknown_variable(command, variable)),
            Some(flag) if !flag.from_environment() => {
                warnings.push(format!(
                    "{variable} has no effect: use the flag -{}",
                    flag.name
                ));
            }
            Some(flag) if given.iter().any(|given| given.name == flag.name) => (),
            Some(Flag {
                support: Support::Gone(instead),
                kind,
                ..
            }) => {
                let requests =
                    *kind != Kind::Bool || parse_bool(&value.to_string_lossy()) != Ok(false);
                warnings.extend(requests.then(|| format!("{variable} has no effect: {instead}")));
            }
            Some(Flag {
                support: Support::NoEffect(why) | Support::OnlyTrue(why),
                ..
            }) => {
                warnings.push(format!("{variable} has no effect: {why}"));
            }
            Some(flag) => out.push(Given {
                name: flag.name.to_owned(),
                value: Some(value),
            }),
        }
    }
    out
}

fn unknown_variable(command: &Command, variable: &str) -> String {
    let name = variable
        .trim_start_matches(VARIABLE_PREFIX)
        .to_ascii_lowercase()
        .replace('_', "-");
    let error = command
        .clone()
        .try_get_matches_from(["flanneld".to_owned(), format!("--{name}")])
        .err();
    let closest = error.as_ref().and_then(suggestion).and_then(|closest| {
        flag_table::flags()
            .find(|flag| flag.name == closest)
            .map(Flag::variable)
    });
    match closest {
        Some(closest) => {
            format!("unknown variable {variable} is ignored: did you mean {closest}?")
        }
        None => format!("unknown variable {variable} is ignored: remove it"),
    }
}

fn matches<'a>(
    command: &Command,
    given: impl Iterator<Item = &'a Given>,
    origins: &Origins,
) -> Result<ArgMatches, String> {
    let mut args = vec![OsString::from("flanneld")];
    for one in given {
        if one
            .value
            .as_ref()
            .is_some_and(|value| value.to_str().is_none())
            && !is_path(&one.name)
        {
            return Err(format!(
                "{} is not valid UTF-8: correct the value",
                origins.spell(&one.name)
            ));
        }
        args.push(one.to_arg());
    }
    command
        .clone()
        .try_get_matches_from(args)
        .map_err(|error| explain(&error, origins))
}

fn is_path(name: &str) -> bool {
    flag_table::flags().any(|flag| flag.name == name && matches!(flag.kind, Kind::Path(_)))
}

/// A warning for a flag without effect, an error for one that asks for what is not there.
fn judge(flag: &Flag, matches: &ArgMatches, origins: &Origins) -> Result<Option<String>, String> {
    if matches.value_source(flag.name) != Some(ValueSource::CommandLine) {
        return Ok(None);
    }
    let name = origins.spell(flag.name);
    match (flag.support, requests(flag, matches)) {
        (Support::Works | Support::Idle, _) => Ok(None),
        (Support::NoEffect(why), _) | (Support::OnlyTrue(why), true) => {
            Ok(Some(format!("{name} has no effect: {why}")))
        }
        (Support::OnlyTrue(why), false) => Err(format!(
            "{name}=false is not supported: {why}; redirect stderr"
        )),
        (Support::Kubernetes | Support::Gone(_), false) => Ok(None),
        (Support::Kubernetes, true) => Err(format!(
            "{name}: Kubernetes mode is not supported; remove the flag, and set -etcd-endpoints"
        )),
        (Support::Gone(instead), true) => {
            Err(format!("{name} was removed in flannel v0.8.0: {instead}"))
        }
    }
}

/// Whether the value asks for anything: false, zero and less, nothing, and flannel's own default do not.
fn requests(flag: &Flag, matches: &ArgMatches) -> bool {
    match flag.kind {
        Kind::Bool | Kind::On => on(matches, flag.name),
        Kind::Int(_) => int(matches, flag.name) > 0,
        Kind::Text(default) => ![default, ""].contains(&text(matches, flag.name).as_str()),
        Kind::Path(default) => {
            ![default, ""].contains(&path(matches, flag.name).to_string_lossy().as_ref())
        }
        Kind::List => list(matches, flag.name).iter().any(|item| !item.is_empty()),
        Kind::Word(_) => true,
    }
}

fn format(matches: &ArgMatches) -> Format {
    Format::from_name(&text(matches, "log-format")).unwrap_or_default()
}

pub(super) fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

pub(super) fn path(matches: &ArgMatches, name: &str) -> PathBuf {
    matches
        .get_one::<OsString>(name)
        .map(PathBuf::from)
        .unwrap_or_default()
}

pub(super) fn list(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches
        .get_many::<String>(name)
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

pub(super) fn int(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one::<i64>(name).copied().unwrap_or_default()
}

pub(super) fn on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(line: &[&str], env: &[(&str, &str)]) -> Parsed {
        parse(
            line.iter().map(OsString::from),
            env.iter().map(|(name, value)| (name.into(), value.into())),
        )
    }

    fn run(line: &[&str], env: &[(&str, &str)]) -> Run {
        match parsed(line, env) {
            Parsed::Run(run) => *run,
            other @ (Parsed::Show(_) | Parsed::Wrong(_)) => panic!("{line:?} {env:?}: {other:?}"),
        }
    }

    #[test]
    fn the_usual_unit_runs_without_a_warning() {
        let line = [
            "-etcd-cafile=/etc/kubernetes/ssl/ca.pem",
            "-etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem",
            "-etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem",
            "-etcd-endpoints=https://10.64.3.7:2379,https://10.64.3.8:2379,https://10.66.3.86:2379",
            "-etcd-prefix=/kubernetes/network",
            "-iface=eth0",
        ];
        let run = run(&line, &[]);
        assert_eq!(run.warnings, [""; 0]);
        assert_eq!(run.config.etcd.endpoints.len(), 3);
        assert_eq!(run.config.etcd.prefix, "/kubernetes/network");
        assert_eq!(run.config.iface.names, ["eth0"]);
        assert_eq!(
            run.config.etcd.ca_file,
            Some("/etc/kubernetes/ssl/ca.pem".into())
        );
        assert!(run.config.etcd.client_pair.is_some());
    }

    #[test]
    fn nothing_given_is_flannels_default() {
        let Run {
            config,
            logging,
            warnings,
        } = run(&[], &[]);
        assert_eq!(
            config.etcd.endpoints,
            ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
        );
        assert_eq!(config.etcd.prefix, "/coreos.com/network");
        assert_eq!(config.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
        assert_eq!(logging, Logging::new(0, Format::Text));
        assert!(warnings.is_empty());
    }

    #[test]
    fn flags_come_before_variables_before_defaults() {
        type Prefix<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
        let rows: [Prefix<'_>; 5] = [
            (&[], &[("FLANNELD_ETCD_PREFIX", "/env")], "/env"),
            (
                &["-etcd-prefix=/flag"],
                &[("FLANNELD_ETCD_PREFIX", "/env")],
                "/flag",
            ),
            (
                &["-etcd-prefix=/coreos.com/network"],
                &[("FLANNELD_ETCD_PREFIX", "/env")],
                "/coreos.com/network",
            ),
            (&[], &[("FLANNELD_ETCD_PREFIX", "")], "/coreos.com/network"),
            (&["-etcd-prefix=", "--etcd-prefix", "/last"], &[], "/last"),
        ];
        for (line, env, want) in rows {
            assert_eq!(run(line, env).config.etcd.prefix, want, "{line:?} {env:?}");
        }
    }

    #[test]
    fn a_list_appends_and_takes_one_element_from_the_environment() {
        assert_eq!(
            run(&["-iface=a", "-iface", "b"], &[("FLANNELD_IFACE", "c")])
                .config
                .iface
                .names,
            ["a", "b"]
        );
        assert_eq!(
            run(&[], &[("FLANNELD_IFACE", "a,b")]).config.iface.names,
            ["a,b"]
        );
    }

    #[test]
    fn each_flag_has_a_variable() {
        for flag in flag_table::flags().filter(|flag| flag.from_environment()) {
            let off = match flag.kind {
                Kind::Bool | Kind::On => "f",
                Kind::Int(_) => "0x0",
                Kind::Word(words) => words[0],
                Kind::Text(_) | Kind::Path(_) | Kind::List => "10.0.0.1",
            };
            let text = format!("{:?}", parsed(&[], &[(&flag.variable(), off)]));
            assert!(!text.contains("is ignored"), "{text}");
        }
    }

    #[test]
    fn variable_of_a_removed_flag_is_only_warned_of() {
        for (variable, value, why) in [
            (
                "FLANNELD_SUBNET_DIR",
                "/run/flannel/networks",
                "run one flanneld for each network",
            ),
            (
                "FLANNELD_WATCH_NETWORKS",
                "perhaps",
                "run one flanneld for each network",
            ),
            (
                "FLANNELD_LISTEN",
                ":8888",
                "connect each flanneld to etcd itself",
            ),
            (
                "FLANNELD_LOGTOSTDERR",
                "false",
                "flanneld logs to stderr only",
            ),
        ] {
            let warnings = run(&[], &[(variable, value)]).warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(
                warnings[0].starts_with(&format!("{variable} has no effect")),
                "{warnings:?}"
            );
            assert!(warnings[0].contains(why), "{warnings:?}");
        }
        assert_eq!(
            run(&[], &[("FLANNELD_WATCH_NETWORKS", "false")]).warnings,
            [""; 0]
        );
    }

    #[test]
    fn what_only_asks_for_what_is_there_is_taken_silently() {
        let line = [
            "-ip-masq=false",
            "-iptables-forward-rules=0",
            "-kube-subnet-mgr=F",
            "-healthz-port=0",
            "-healthz-ip=127.0.0.1",
            "-public-ipv6=",
            "-networks=",
            "-watch-networks=false",
            "-kube-annotation-prefix=flannel.alpha.coreos.com",
            "-set-node-network-unavailable",
        ];
        assert_eq!(run(&line, &[]).warnings, [""; 0]);
    }

    proptest! {
        /// Any command line is either run or explained on one line.
        #[test]
        fn no_command_line_is_beyond_an_answer(
            line in proptest::collection::vec(words(), 0..5),
            value in "(?s).{0,6}",
        ) {
            let env = [("FLANNELD_IFACE".into(), value.clone().into()), ("FLANNELD_V".into(), value.into())];
            if let Parsed::Wrong(mistake) = parse(line.into_iter().map(OsString::from), env) {
                let text = mistake.to_string();
                prop_assert_eq!(text.lines().count(), 1, "{}", text);
            }
        }
    }

    fn words() -> impl Strategy<Value = String> {
        let names: Vec<&str> = flag_table::flags().map(|flag| flag.name).collect();
        prop_oneof![
            "(?s).{0,8}",
            "(?s)-.{0,8}",
            "-{0,3}[a-z-]{0,12}(=.{0,4})?",
            (proptest::sample::select(names), "(=.{0,6})?")
                .prop_map(|(name, value)| format!("-{name}{value}")),
        ]
    }
}
