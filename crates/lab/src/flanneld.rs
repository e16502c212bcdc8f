//! Runs a `flanneld` on a host and watches it as systemd would.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::time::Instant;

use super::{LabError, Node, NotifySocket, Process, Signal};

/// How long READY is waited for before a look whether the process is still there.
const ROUND: Duration = Duration::from_millis(50);

/// A `flanneld` that was started on a host. Dropping it kills it.
#[derive(Debug)]
pub struct Flanneld {
    process: Process,
    notify: NotifySocket,
    node: String,
}

impl Flanneld {
    /// Starts a `flanneld` on `node` with a command made by [`Node::command`], without waiting for it. Its log is
    /// `/run/flanneld.log`.
    pub fn start(node: &Node, mut command: Command) -> Result<Self, LabError> {
        let notify = NotifySocket::bind(node, "flanneld")?;
        command.env("NOTIFY_SOCKET", notify.path());
        let process = node.start("flanneld", command)?;
        Ok(Self {
            process,
            notify,
            node: node.name().to_owned(),
        })
    }

    /// Waits for READY=1. If the program ends first, returns an error with the last lines of its log.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), LabError> {
        // In short rounds: it may end instead.
        let end = Instant::now() + timeout;
        while !self.notify.wait_for("READY=1", ROUND)
            && self.process.running()
            && Instant::now() < end
        {}
        if self.notify.ready() {
            return Ok(());
        }
        let why = if self.process.running() {
            self.still_waiting(timeout)
        } else {
            self.ended()
        };
        Err(LabError::failed(&self.node, "start flanneld", why).with_log(self.process.log_tail(15)))
    }

    /// Returns everything that it sent to the service manager.
    pub fn notify(&self) -> &NotifySocket {
        &self.notify
    }

    /// Returns the process: its pid, its log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends a signal and waits for the end of the process.
    pub fn end(mut self, signal: Signal, timeout: Duration) -> Result<ExitStatus, LabError> {
        self.process.signal(signal)?;
        self.process.wait(timeout)
    }

    fn still_waiting(&self, timeout: Duration) -> String {
        let status = self.notify.status().unwrap_or_else(|| "no status".into());
        format!(
            "not ready after {} s; its status: {status}",
            timeout.as_secs()
        )
    }

    fn ended(&mut self) -> String {
        let status = self.process.wait(Duration::ZERO);
        status.map_or_else(
            |error| error.to_string(),
            |status| format!("it ended before it was ready: {status}"),
        )
    }
}
