//! Runs programs and returns their output.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Runs a command. Fails with what it says on stderr, or else with its status.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    match said.as_str() {
        _ if output.status.success() => Ok(()),
        "" => Err(output.status.to_string()),
        _ => Err(said),
    }
}

/// Returns the output of a program, if it succeeds in time.
pub fn said(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = in_time("5", program.as_ref(), args)?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns all output of a program, even if it fails.
pub(crate) fn heard(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = in_time("20", program.as_ref(), args)?;
    let all = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&all).into_owned())
}

fn in_time(seconds: &str, program: &OsStr, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", seconds]).arg(program);
    command.args(args).stdin(Stdio::null()).output().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_says_why() {
        let failed = |script: &str| run(Command::new("sh").args(["-c", script])).unwrap_err();
        assert_eq!(failed("echo a >&2; echo b >&2; exit 3"), "a; b");
        assert_eq!(failed("exit 3"), "exit status: 3");
        assert_eq!(run(&mut Command::new("true")), Ok(()));
        assert!(run(&mut Command::new("/nonexistent/program")).is_err());
    }

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
