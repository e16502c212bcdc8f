//! A place in a lab where commands run: a host, its pod, an etcd member or the switch.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::{LabError, Process};

/// Variables with these beginnings would steer the programs of the lab from outside.
const FOREIGN: [&str; 4] = ["FLANNELD_", "ETCD", "NOTIFY_SOCKET", "WATCHDOG_"];

/// A place in a lab where commands run. Cheap to clone; it owns nothing and ends with its lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// The first process of its namespaces, as numbered outside.
    pub(super) pid: u32,
    /// Commands run in the network namespace of the host's pod.
    #[serde(default)]
    pub(super) in_pod: bool,
}

impl Node {
    /// `h1`, `e1`, `bridge`; a pod has the name of its host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the underlay; a pod's is that of its host.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its IPv6 address on the underlay: the IPv4 address in fd64::/64.
    pub fn address_v6(&self) -> Ipv6Addr {
        let prefix = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
        Ipv6Addr::from_bits(prefix.to_bits() | u128::from(self.address.to_bits()))
    }

    /// The first process of its namespaces, as this process numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The pod of this host. Commands there fail until [`super::Lab::wire_pod`] has made it.
    #[must_use]
    pub fn pod(&self) -> Self {
        Self {
            in_pod: true,
            ..self.clone()
        }
    }

    /// Where `path` of this node is to be found from outside. Only while the node lives.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A command that will run on this node: add environment or pipes, then start it yourself or hand it to
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

    /// Runs a command to its end, without input; any exit status is a result.
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

    /// Runs a shell script that must succeed (`sh -e`); its standard output.
    pub fn sh(&self, script: &str) -> Result<String, LabError> {
        let output = self.run(["sh", "-ec", script])?;
        self.expect_success(script, &output)
    }

    /// Runs a command that must succeed, with `input` as its standard input; its standard output.
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
            // A program that stops reading says why itself: its status and stderr are the better error.
            scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(|error| self.cannot_start(&command, &error))?;
        self.expect_success(&format!("{command:?}"), &output)
    }

    /// Starts a program that goes on running; its output goes to `/run/NAME.log` on this node.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Process, LabError> {
        self.start(name, self.command(args))
    }

    /// As [`Node::spawn`], for a command made by [`Node::command`].
    pub fn start(&self, name: &str, command: Command) -> Result<Process, LabError> {
        Process::start(self, name, command)
    }

    /// Writes a file on this node; its directory is made if need be.
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

    /// Whether it has power.
    pub fn alive(&self) -> bool {
        self.path("/run").exists()
    }

    /// Names of the programs that run on it, without the one that holds it.
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
