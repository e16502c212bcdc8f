//! Reads settings from flags, a file, and the environment.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueHint};
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::cli::{flag_arg, value_arg};
use node_setup::settings::{Kind, SETTINGS, Setting, Value};
use node_setup::{Error, Settings, Warning};

/// Returns a flag for each setting, and the flags for other sources.
pub(super) fn args() -> impl Iterator<Item = Arg> {
    let sources = [
        value_arg(
            "config",
            "FILE",
            "File with settings in TOML; flags override it",
        )
        .value_parser(value_parser!(PathBuf)),
        flag_arg(
            "from-env",
            "Read settings from exported variables: ADDRESS or NODE_IP, CLUSTER_DNS, FLANNEL_ETCD_ENDPOINTS or ETCD_ENDPOINTS, and so on; flags and file override them",
        ),
        flag_arg(
            "print-config",
            "Only print all settings, including defaults, as a file for --config",
        ),
    ];
    let sources = sources
        .into_iter()
        .map(|arg| arg.help_heading("Settings").global(true));
    sources.chain(SETTINGS.iter().map(to_arg))
}

/// Accepts any text and offers words for completion. Errors in values are reported in one way, wherever the value was given.
#[derive(Debug, Clone)]
struct Offered(&'static [&'static str]);

impl TypedValueParser for Offered {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

fn to_arg(setting: &Setting) -> Arg {
    let arg = value_arg(setting.name, setting.value, setting.help)
        .help_heading("Settings")
        .global(true);
    let arg = match setting.value {
        "FILE" => arg.value_hint(ValueHint::FilePath),
        "DIR" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    };
    match setting.kind {
        // The help lists the words.
        Kind::Text if !setting.words.is_empty() => arg
            .value_parser(Offered(setting.words))
            .hide_possible_values(true),
        Kind::Text | Kind::List => arg,
        // The values begin with dashes.
        Kind::Words => arg.allow_hyphen_values(true),
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(value_parser!(bool)),
    }
}

/// Returns the settings (flags override the file, which overrides the environment) and warnings about them.
/// Fails if a setting is wrong, or the file cannot be read.
pub(super) fn read(matches: &ArgMatches) -> Result<(Settings, Vec<Warning>), Error> {
    let flags = from_flags(matches)?;
    let file = match matches.get_one::<PathBuf>("config") {
        Some(path) => from_file(path)?,
        None => Settings::default(),
    };
    let given = flags.over(file);
    let (variables, warnings) = if matches.get_flag("from-env") {
        Settings::from_variables(|name| std::env::var(name).ok(), &given)?
    } else {
        Default::default()
    };
    Ok((given.over(variables), warnings))
}

fn from_flags(matches: &ArgMatches) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for setting in SETTINGS {
        let value = match setting.kind {
            Kind::Switch => matches
                .get_one::<bool>(setting.name)
                .copied()
                .map(Value::Switch),
            Kind::Text | Kind::List | Kind::Words => matches
                .get_one::<String>(setting.name)
                .cloned()
                .map(Value::Text),
        };
        value.map_or(Ok(()), |value| settings.set(setting.name, value))?;
    }
    Ok(settings)
}

fn from_file(path: &PathBuf) -> Result<Settings, Error> {
    let text = std::fs::read_to_string(path);
    let wrong =
        |error| Error::setting("config", format!("cannot read {}: {error}", path.display()));
    Settings::from_toml(&text.map_err(wrong)?)
}
