//! The programs that read and write rules: `iptables-save`, `iptables-restore`, `nft`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Whatever hangs is killed after that; the programs wait five seconds at most for the xtables lock.
const LIMIT: Duration = Duration::from_secs(30);
/// Where administrators' programs are, for a `PATH` that lacks it.
const PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    #[error("{0} is not installed: install it (Debian: package {package}), or add its directory to PATH", package = package(.0))]
    Missing(String),
    /// It does not understand what is there.
    #[error(
        "{program} cannot read table {table}: another program wrote rules into it with nft; remove these rules, or let flannel use nftables (EnableNFTables)"
    )]
    Foreign { program: String, table: String },
    /// It could not be run, or did not end.
    #[error("{program} {why}")]
    Broken { program: String, why: String },
    #[error("{program} failed: {why}")]
    Refused {
        /// Name and arguments.
        program: String,
        /// Its own words, on one line.
        why: String,
    },
}

fn package(program: &str) -> &str {
    match program {
        "nft" => "nftables",
        _ => "iptables",
    }
}

impl ExecError {
    /// Whether nothing of flannel's can be there: no program could have written it.
    pub(super) fn leaves_nothing(&self) -> bool {
        matches!(self, ExecError::Missing(_) | ExecError::Foreign { .. })
    }
}

/// Runs a program to its end with `input` as its standard input; what it prints.
pub(super) async fn run(program: &str, args: &[&str], input: &str) -> Result<String, ExecError> {
    let broken = |why: String| ExecError::Broken {
        program: program.to_owned(),
        why,
    };
    let output = match timeout(LIMIT, output(program, args, input)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ExecError::Missing(program.to_owned()));
        }
        Ok(Err(error)) => return Err(broken(format!("cannot be run: {error}"))),
        Err(_) => {
            let limit = LIMIT.as_secs();
            return Err(broken(format!(
                "did not finish within {limit} s and was killed"
            )));
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (program, why) = (program.to_owned(), said(&output));
    Err(ExecError::Refused { program, why })
}

async fn output(program: &str, args: &[&str], input: &str) -> io::Result<Output> {
    let path = path();
    let mut child = Command::new(located(program, &path))
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that stops reading says why itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output
}

fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(PATHS);
    path
}

/// The program's file; its name where there is none. Given a file, the standard library does not copy this process's page
/// tables for the child, which costs the more the more peers there are.
fn located(program: &str, path: &OsStr) -> PathBuf {
    let mut files = std::env::split_paths(path).map(|dir| dir.join(program));
    let may_run = |file: &PathBuf| access(file, Access::EXEC_OK).is_ok() && file.is_file();
    files.find(may_run).unwrap_or_else(|| program.into())
}

/// The words of a program that failed, without its warnings.
fn said(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.take(4).collect::<Vec<_>>().join("; ") {
        nothing if nothing.is_empty() => output.status.to_string(),
        said => said,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    number: (u32, u32, u32),
    /// It writes to nftables, whose changes are heard of.
    pub(super) nft: bool,
}

impl Version {
    /// Reads `iptables v1.8.9 (nf_tables)`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let words = text.split_whitespace();
        let mut words = words.skip_while(|word| !word.starts_with('v'));
        let parts = words.next()?.trim_start_matches('v').split('.');
        let mut parts = parts.map_while(|part| part.parse().ok());
        let number = (parts.next()?, parts.next()?, parts.next().unwrap_or(0));
        let nft = words.next() == Some("(nf_tables)");
        Some(Self { number, nft })
    }

    /// That of the other variant, which comes in the same package.
    pub(super) fn other(self) -> Self {
        let (number, nft) = (self.number, !self.nft);
        Self { number, nft }
    }

    pub(super) fn has_random_fully(self) -> bool {
        self.number >= (1, 6, 2)
    }

    /// Whether `iptables-restore` can wait for the lock.
    pub(super) fn restore_waits(self) -> bool {
        self.number >= (1, 6, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let read = |text| Version::read(text).map(|version| (version.number, version.nft));
        assert_eq!(
            read("iptables v1.8.9 (nf_tables)\n"),
            Some(((1, 8, 9), true))
        );
        assert_eq!(
            read("ip6tables v1.8.11 (legacy)"),
            Some(((1, 8, 11), false))
        );
        assert_eq!(read("iptables v1.6.0"), Some(((1, 6, 0), false)));
        assert_eq!(read("command not found"), None);
        assert!(!Version::read("iptables v1.6.1").unwrap().has_random_fully());
        assert!(
            Version::read("iptables v1.10.0")
                .unwrap()
                .has_random_fully()
        );
    }

    #[tokio::test]
    async fn programs_answer_fail_and_are_missing() {
        assert_eq!(run("cat", &["-"], "x\n").await.unwrap(), "x\n");
        let error = run("ls", &["/nonexistent"], "")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("ls failed: ") && error.contains("/nonexistent"),
            "{error}"
        );
        assert!(
            run("no-such-iptables", &[], "")
                .await
                .unwrap_err()
                .leaves_nothing()
        );
    }
}
