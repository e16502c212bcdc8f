//! Provides what the commands for cluster administrators share: a session with etcd, and exit codes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use super::settings;
use super::{CANNOT_TELL, USAGE, flag_arg};
use crate::admin::{Inventory, Refusal};
use flanneld::config::Config;
use flanneld::status::client;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::etcd::dump::TimeLeft;
use flanneld::subnet::{Error, LeaseId};

/// Concurrent requests for the state of an etcd lease.
const AT_ONCE: usize = 32;

/// Exit codes of these commands, for their help.
pub const EXITS: &str = "\
Exit codes:
  0   done
  1   refused, or another client was faster; the message says what was written, if anything
  4   unknown: etcd does not answer
  64  wrong usage";

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line is wrong, or asks for help.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NothingToDo(String),
    /// There is no usable answer from etcd or the daemon.
    #[error("{0}")]
    Silent(String),
}

impl CommandError {
    fn code(&self) -> u8 {
        match self {
            CommandError::NothingToDo(_) => 0,
            CommandError::Refused(_) => 1,
            CommandError::Silent(_) => CANNOT_TELL,
            CommandError::Usage(_) => USAGE,
        }
    }

    /// Makes a refusal an unknown result, for commands whose exit code 1 means "degraded".
    pub(super) fn or_unknown(self) -> Self {
        if let CommandError::Refused(why) = self {
            CommandError::Silent(why)
        } else {
            self
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        if error.is_silence() {
            CommandError::Silent(error.to_string())
        } else {
            CommandError::Refused(error.to_string())
        }
    }
}

impl From<client::Error> for CommandError {
    fn from(error: client::Error) -> Self {
        CommandError::Silent(error.to_string())
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Already(_) => CommandError::NothingToDo(refusal.to_string()),
            Refusal::Wrong(_) => CommandError::Refused(refusal.to_string()),
        }
    }
}

pub fn with_exits(command: Command) -> Command {
    let has_yes = command.get_arguments().any(|arg| arg.get_id() == "yes");
    if has_yes {
        let done = "0   done; without --yes: the change is possible";
        command.after_help(EXITS.replacen("0   done", done, 1))
    } else {
        command.after_help(EXITS)
    }
}

pub fn yes_arg() -> Arg {
    flag_arg(
        "yes",
        "Apply the change; without it, only print what would be done",
    )
}

pub fn force_arg(help: &'static str) -> Arg {
    flag_arg("force", help)
}

pub fn json_arg() -> Arg {
    flag_arg("json", "Print one JSON document on one line")
}

pub struct EtcdSession {
    runtime: Runtime,
    pub manager: EtcdManager,
    /// How long before its end a lease is renewed.
    pub margin: Duration,
}

impl EtcdSession {
    /// Opens a session; the first request connects.
    pub fn open(matches: &ArgMatches) -> Result<Self, CommandError> {
        Self::of(&settings::announced(matches)?.config)
    }

    /// Opens a session with a given configuration.
    pub fn of(config: &Config) -> Result<Self, CommandError> {
        Ok(Self {
            runtime: runtime()?,
            manager: EtcdManager::new(config.etcd.clone())?,
            margin: config.etcd.renew_margin,
        })
    }

    /// Sends a request and waits for the answer.
    pub fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CommandError> {
        Ok(self.runtime.block_on(question)?)
    }

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

/// Creates the event loop of a command.
pub(super) fn runtime() -> Result<Runtime, CommandError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Refused(format!("cannot start the event loop: {error}")))
}

/// Prints why there is nothing to do, or the error, and returns the exit code.
pub fn end(done: Result<ExitCode, CommandError>) -> ExitCode {
    let done = match done {
        Err(CommandError::NothingToDo(why)) => say(&format!("{why}\n")).map(|()| ExitCode::SUCCESS),
        done => done,
    };
    done.unwrap_or_else(|stop| {
        super::print_error(&stop);
        ExitCode::from(stop.code())
    })
}

/// Prints to standard output.
pub fn say(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::Refused(format!("cannot print: {error}")))
}
