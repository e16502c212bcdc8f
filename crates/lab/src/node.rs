//! A place in a lab where commands run: a host, its pod, an etcd member, or the switch.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::{LabError, Process};

/// Prefixes of variables that would affect the programs of the lab from outside.
const FOREIGN: [&str; 4] = ["FLANNELD_", "ETCD", "NOTIFY_SOCKET", "WATCHDOG_"];

/// A place in a lab where commands run. Cheap to clone; it owns nothing and ends with its lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// The first process of its namespaces, as numbered outside.
    pub(super) pid: u32,
    /// Whether commands run in the network namespace of the host's pod.
    #[serde(default)]
    pub(super) in_pod: bool,
}

impl Node {
    /// Returns `h1`, `e1`, or `switch`. A pod has the name of its host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its address on the underlay; a pod has that of its host.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Returns its IPv6 address on the underlay: the IPv4 address in fd64::/64.
    pub fn address_v6(&self) -> Ipv6Addr {
        let prefix = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
        Ipv6Addr::from_bits(prefix.to_bits() | u128::from(self.address.to_bits()))
    }

    /// Returns the first process of its namespaces, as numbered by this process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the pod of this host. Commands there fail until [`super::Lab::wire_pod`] has created it.
    #[must_use]
    pub fn pod(&self) -> Self {
        Self {
            in_pod: true,
            ..self.clone()
        }
    }

    /// Returns the path outside of the lab for `path` of this node, while the node runs.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns a command that will run on this node. Add environment or pipes, then start it or pass it to
    /// [`Node::start`]. It dies with the node.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.pid.to_string())
            .args(["--all", "--"]);
        if self.in_pod {
            command.args(["ip", "netns", "exec", "pod"]);
        }
        command.args(args);
        for name in foreign_variables() {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end, without input. Any exit status is a result.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output, LabError> {
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.cannot_start(&command, &error))
    }

    /// Runs a shell script that must succeed (`sh -e`), and returns its standard output.
    pub fn sh(&self, script: &str) -> Result<String, LabError> {
        let output = self.run(["sh", "-ec", script])?;
        self.expect_success(script, &output)
    }

    /// Runs a command that must succeed with `input` as its standard input, and returns its standard output.
    pub fn feed<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<String, LabError> {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| self.cannot_start(&command, &error))?;
        let pipe = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // If a program stops reading, its status and stderr are the better error.
            scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(|error| self.cannot_start(&command, &error))?;
        self.expect_success(&format!("{command:?}"), &output)
    }

    /// Starts a program in the background. Its output goes to `/run/NAME.log` on this node.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Process, LabError> {
        self.start(name, self.command(args))
    }

    /// Does the same as [`Node::spawn`], for a command made by [`Node::command`].
    pub fn start(&self, name: &str, command: Command) -> Result<Process, LabError> {
        Process::start(self, name, command)
    }

    /// Writes a file on this node and creates its directory if needed.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<(), LabError> {
        let file = self.path(path);
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&file, content))
            .map_err(|error| LabError::failed(&self.name, format!("write {path}"), error))
    }

    /// Reads a text file of this node.
    pub fn read(&self, path: &str) -> Result<String, LabError> {
        std::fs::read_to_string(self.path(path))
            .map_err(|error| LabError::failed(&self.name, format!("read {path}"), error))
    }

    /// Returns whether the node is powered on.
    pub fn alive(&self) -> bool {
        self.path("/run").exists()
    }

    /// Returns the names of the programs that run on it, except the one that holds it.
    pub fn processes(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.path("/proc"))
            .into_iter()
            .flatten()
            .flatten();
        let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != 1)
            .filter_map(|pid| self.read(&format!("/proc/{pid}/comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    fn cannot_start(&self, command: &Command, error: &std::io::Error) -> LabError {
        LabError::failed(&self.name, format!("start {command:?}"), error)
    }

    fn expect_success(&self, what: &str, output: &Output) -> Result<String, LabError> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = format!("{}; {}", output.status, stderr.trim());
        Err(LabError::failed(
            &self.name,
            format!("run `{}`", what.trim()),
            why,
        ))
    }
}

fn foreign_variables() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        FOREIGN.iter().any(|beginning| name.starts_with(beginning))
    })
}
