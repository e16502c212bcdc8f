//! Calls systemctl to enable, start, and query units, also below another root, where nothing runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::command;

const PROPERTIES: &str =
    "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,StatusText,Result";

/// Where systemctl finds units.
#[derive(Debug, Clone)]
pub struct Systemctl {
    /// `None` for the running system.
    root: Option<OsString>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`systemctl {call}` failed: {why}")]
pub struct SystemctlError {
    pub call: String,
    pub why: String,
}

impl Systemctl {
    /// Returns systemctl for the running system.
    pub const fn live() -> Self {
        Self { root: None }
    }

    /// Returns systemctl for the units below `root`.
    pub fn below(root: &Path) -> Self {
        Self {
            root: (root != Path::new("/")).then(|| root.into()),
        }
    }

    /// Returns whether units can be started.
    pub const fn is_live(&self) -> bool {
        self.root.is_none()
    }

    /// Calls systemctl.
    pub fn call(&self, args: &[&str]) -> Result<(), SystemctlError> {
        command::run(&mut self.command(args)).map_err(|why| SystemctlError {
            call: args.join(" "),
            why,
        })
    }

    pub fn is_enabled(&self, unit: &str) -> bool {
        self.command(&["--quiet", "is-enabled", unit])
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Returns the states of units; unknown units are left out.
    pub fn show<S: AsRef<str>>(&self, units: &[S]) -> Units {
        let mut args = vec!["show", "--property", PROPERTIES];
        args.extend(units.iter().map(AsRef::as_ref));
        let output = self.command(&args).output();
        parse(
            &output
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .unwrap_or_default(),
        )
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        command
            .stdin(Stdio::null())
            .env("SYSTEMD_COLORS", "0")
            .arg("--no-pager");
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command.args(args);
        command
    }
}

/// Parses blocks of `NAME=value` with an empty line between two.
fn parse(text: &str) -> Units {
    text.split("\n\n").filter_map(block).collect()
}

fn block(text: &str) -> Option<(String, UnitStatus)> {
    let lines: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |name: &str| lines.get(name).map(ToString::to_string).unwrap_or_default();
    let fact = UnitStatus {
        load: value("LoadState"),
        active: value("ActiveState"),
        sub: value("SubState"),
        file: value("UnitFileState"),
        stale: value("NeedDaemonReload") == "yes",
        status: value("StatusText"),
        result: value("Result"),
    };
    Some(((*lines.get("Id")?).to_owned(), fact))
}

/// States by the names of the units.
pub type Units = BTreeMap<String, UnitStatus>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, …
    pub active: String,
    /// `running`, `exited`, …
    pub sub: String,
    /// `enabled`, `disabled`, …; empty if there is no unit file.
    pub file: String,
    /// Whether its file has changed since systemd read it.
    pub stale: bool,
    /// Status text of the program.
    pub status: String,
    /// Result of the last run: `success`, `exit-code`, …
    pub result: String,
}

impl UnitStatus {
    pub fn exists(&self) -> bool {
        !matches!(self.load.as_str(), "" | "not-found")
    }

    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_understood() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\
                    NeedDaemonReload=yes\nStatusText=x = y\n\nId=b.service\nLoadState=not-found\nActiveState=inactive\n";
        let units = parse(text);
        let a = &units["a.service"];
        assert!(
            a.is_active() && a.exists() && a.stale && a.status == "x = y" && a.file == "enabled"
        );
        assert!(!units["b.service"].exists());
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_call_that_fails_says_which() {
        let root = tempfile::tempdir().unwrap();
        let error = Systemctl::below(root.path())
            .call(&["enable", "no-such.service"])
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("systemctl enable no-such.service"),
            "{error}"
        );
        assert!(Systemctl::below(Path::new("/")).is_live());
    }
}
