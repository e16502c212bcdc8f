//! Runs programs with a timeout and returns their output.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Returns the output of a program, if it succeeds in time.
pub fn said(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = run("5", program.as_ref(), args)?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns all output of a program, even if it fails.
pub(super) fn heard(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = run("20", program.as_ref(), args)?;
    let all = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&all).into_owned())
}

fn run(seconds: &str, program: &OsStr, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", seconds]).arg(program);
    command.args(args).stdin(Stdio::null()).output().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_is_not_there_says_nothing() {
        assert_eq!(said("echo", &["a", "b"]).as_deref(), Some("a b"));
        assert_eq!(said("false", &[]), None);
        assert_eq!(said("/nonexistent/program", &[]), None);
        assert_eq!(
            heard("sh", &["-c", "echo a; echo b >&2; exit 3"]).as_deref(),
            Some("a\nb\n")
        );
    }
}
