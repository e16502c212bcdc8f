//! The daemon: arguments -> logging -> run -> exit code.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rflannel::cli::flanneld::{Parsed, Run, VERSION, parse};
use rflannel::logging;

fn main() -> ExitCode {
    match parse(env::args_os().skip(1), env::vars_os()) {
        Parsed::Run(run) => start(*run),
        Parsed::Show { text, code } => say(&text, code),
    }
}

fn start(run: Run) -> ExitCode {
    if let Err(error) = logging::start(run.logging) {
        return say(&format!("flanneld: cannot start logging: {error}\n"), 1);
    }
    for warning in &run.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("flanneld {VERSION}: {}", run.config);
    ExitCode::SUCCESS
}

/// Nobody is left to be told when standard error is gone.
fn say(text: &str, code: u8) -> ExitCode {
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
