//! The tool: arguments -> exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rflannel::cli::rflannel::run(std::env::args_os())
}
