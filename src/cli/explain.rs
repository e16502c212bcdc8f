//! Explains errors of flags on one line, in the spelling of the user. Pure.

use std::collections::BTreeSet;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::flag_table;

/// Records how the user gave each flag.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    from_env: BTreeSet<String>,
}

impl Origins {
    /// Returns `-iface`, or `FLANNELD_IFACE` if the variable was used.
    pub fn spell(&self, name: &str) -> String {
        match flag_table::flags().find(|flag| flag.name == name && self.from_env.contains(name)) {
            Some(flag) => flag.variable(),
            None => format!("-{name}"),
        }
    }
}

impl FromIterator<String> for Origins {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self {
            from_env: names.into_iter().collect(),
        }
    }
}

pub fn explain(error: &clap::Error, origins: &Origins) -> String {
    let name = context(error, ContextKind::InvalidArg)
        .map(|arg| bare(&arg))
        .unwrap_or_default();
    if error.kind() == ErrorKind::UnknownArgument {
        let hint = suggestion(error)
            .map(|closest| format!(": did you mean -{closest}?"))
            .unwrap_or_default();
        return format!("unknown flag -{}{hint}", name.escape_debug());
    }
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    let words = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => format!("must be {}", words.join(" or ")),
        _ => String::new(),
    };
    let why = std::error::Error::source(error).map_or(words, ToString::to_string);
    format!(
        "invalid value {value:?} for {}: {why}",
        origins.spell(&name)
    )
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(ToString::to_string)
}

pub fn suggestion(error: &clap::Error) -> Option<String> {
    context(error, ContextKind::SuggestedArg).map(|arg| bare(&arg))
}

/// Extracts the name from clap's `--name[=<TEXT>]` or `--name <TEXT>`.
fn bare(arg: &str) -> String {
    let name = arg.trim_start_matches('-');
    name.split(['=', ' ', '['])
        .next()
        .unwrap_or(name)
        .to_owned()
}
