//! What the commands of a cluster's administrators share: a conversation with etcd, and how they end.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use super::settings::{self, Settings};
use crate::admin::Inventory;
use flanneld::config::Config;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::etcd::dump::TimeLeft;
use flanneld::subnet::{Error, LeaseId};

/// Questions about one etcd lease each that are under way at the same time.
const AT_ONCE: usize = 32;

/// What such a command ends with.
pub const EXITS: &str = "\
Exit codes:
  0   done; of a command with --yes, without it: could be done
  1   refused, or another client was faster; the message says what was written, if anything
  4   cannot tell: etcd gives no answer
  64  wrong usage";

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line is wrong, or only asked for help.
    #[error("{text}")]
    Usage {
        /// What is wrong with it.
        text: String,
    },
    /// It is not done.
    #[error("{0}")]
    Refused(String),
    /// etcd gives no answer.
    #[error("{0}")]
    Silent(String),
}

impl CommandError {
    fn code(&self) -> u8 {
        match self {
            CommandError::Refused(_) => 1,
            CommandError::Silent(_) => 4,
            CommandError::Usage { .. } => 64,
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match error.is_silence() {
            true => CommandError::Silent(error.to_string()),
            false => CommandError::Refused(error.to_string()),
        }
    }
}

/// `--yes`.
pub fn yes_arg() -> Arg {
    Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .help("Do it; otherwise it is only said what would be done")
}

/// `--force`.
pub fn force_arg(help: &'static str) -> Arg {
    Arg::new("force")
        .long("force")
        .action(ArgAction::SetTrue)
        .help(help)
}

/// `--json`.
pub fn json_arg() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("A JSON document on one line")
}

/// Text of an argument; empty if it was not given.
pub fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// A conversation with etcd.
pub struct EtcdSession {
    runtime: Runtime,
    /// The other side.
    pub manager: EtcdManager,
    /// How long before its end a lease is renewed.
    pub margin: Duration,
    /// What it was opened with.
    pub settings: Option<Settings>,
}

impl EtcdSession {
    /// Connects at the first question.
    ///
    /// # Errors
    /// When flags, endpoints or TLS files are wrong.
    pub fn open(matches: &ArgMatches) -> Result<Self, CommandError> {
        let settings = settings::announced(matches)?;
        let session = Self::of(&settings.config)?;
        Ok(Self {
            settings: Some(settings),
            ..session
        })
    }

    /// Adds the settings to a JSON document.
    pub fn in_json(&self, document: String) -> String {
        self.settings
            .as_ref()
            .map_or(document.clone(), |settings| settings.in_json(&document))
    }

    /// With a configuration that there is already.
    ///
    /// # Errors
    /// When endpoints or TLS files are wrong.
    pub fn of(config: &Config) -> Result<Self, CommandError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            CommandError::Refused(format!("cannot start the event loop: {error}"))
        })?;
        let manager = EtcdManager::new(config.etcd.clone())?;
        Ok(Self {
            runtime,
            manager,
            margin: config.etcd.renew_margin,
            settings: None,
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When etcd gives none, or refuses.
    pub fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CommandError> {
        Ok(self.runtime.block_on(question)?)
    }

    /// All leases as of now.
    ///
    /// # Errors
    /// When etcd gives no answer, or refuses.
    pub fn inventory(&self) -> Result<Inventory, CommandError> {
        self.ask(async {
            let dump = self.manager.dump().await?;
            let lease_ids: Vec<LeaseId> = dump
                .leases
                .iter()
                .filter_map(|record| record.lease_id)
                .collect();
            let ask = async |lease_id| {
                Ok(self
                    .manager
                    .time_left(lease_id)
                    .await?
                    .map(|left| (lease_id, left)))
            };
            let answers = stream::iter(lease_ids).map(ask).buffer_unordered(AT_ONCE);
            let times: BTreeMap<LeaseId, TimeLeft> = answers
                .try_filter_map(async |found| Ok(found))
                .try_collect()
                .await?;
            Ok(Inventory::read(dump, &times, self.margin))
        })
    }
}

/// Says how a command ended.
pub fn end(done: Result<ExitCode, CommandError>) -> ExitCode {
    done.unwrap_or_else(|stop| {
        super::print_error(&stop);
        ExitCode::from(stop.code())
    })
}

/// Prints.
///
/// # Errors
/// When no one reads it.
pub fn say(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::Refused(format!("cannot print: {error}")))
}
