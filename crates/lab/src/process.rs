//! A long-running program on a node of the lab.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{LabError, Node, wait_until};

/// Time limit for forking on a busy machine.
const FORK: Duration = Duration::from_secs(10);

/// A program on a node, started by an `nsenter` that waits for it. Dropping it kills the program.
#[derive(Debug)]
pub struct Process {
    name: String,
    node: String,
    log: PathBuf,
    /// `nsenter`, which runs outside of the lab's PID namespaces and passes on the exit status.
    outside: Child,
}

impl Process {
    pub(super) fn start(node: &Node, name: &str, mut command: Command) -> Result<Self, LabError> {
        let fail =
            |error: std::io::Error| LabError::failed(node.name(), format!("start {name}"), error);
        let log = node.path(format!("/run/{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(fail)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(fail)?)
            .stderr(file);
        // A process group of its own, so that Ctrl-C in the terminal does not reach it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let outside = command.spawn().map_err(fail)?;
        let mut process = Self {
            name: name.into(),
            node: node.name().into(),
            log,
            outside,
        };
        wait_until(FORK, || process.pid().is_some() || !process.running());
        Ok(process)
    }

    /// Returns the program's process ID outside of the lab; `None` after its end.
    pub fn pid(&self) -> Option<u32> {
        child_of(self.outside.id())
    }

    /// Returns whether it has not ended yet. A stopped program counts as running.
    pub fn running(&mut self) -> bool {
        matches!(self.outside.try_wait(), Ok(None))
    }

    /// Sends a signal; returns an error if the program has ended. After `STOP` the program has stopped.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let gone = || {
            LabError::failed(
                &self.node,
                format!("signal {}", self.name),
                "it is not running",
            )
        };
        let pid = self.pid().ok_or_else(gone)?;
        send(pid, signal).map_err(|error| self.failed("signal", error))?;
        // nsenter stops itself when its child stops, and wakes the child again when it is woken. Unless that is
        // waited for, it interferes with the next signal or misses the end of the child.
        match signal {
            Signal::STOP => self.wait_until_nsenter_is('T'),
            Signal::CONT => {
                send(self.outside.id(), signal).map_err(|error| self.failed("signal", error))?;
                self.wait_until_nsenter_is('S');
            }
            _ => {}
        }
        Ok(())
    }

    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, LabError> {
        let mut ended = None;
        wait_until(timeout, || {
            ended = self.outside.try_wait().ok().flatten();
            ended.is_some()
        });
        ended.ok_or_else(|| {
            self.failed(
                "wait for the end of",
                format!("still running after {timeout:?}"),
            )
        })
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) -> Result<(), LabError> {
        self.signal(Signal::KILL)?;
        send(self.outside.id(), Signal::CONT).map_err(|error| self.failed("kill", error))?;
        self.wait(FORK).map(|_| ())
    }

    /// Returns everything that it and earlier programs of the same name printed. A program may print on a thread of its own:
    /// waits until all of its threads wait.
    pub fn log(&self) -> String {
        let is_busy = || self.pid().is_some_and(has_running_threads);
        wait_until(Duration::from_secs(1), || !is_busy());
        std::fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Returns the last `count` lines of its log.
    pub fn log_tail(&self, count: usize) -> Vec<String> {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(count))
            .map(ToString::to_string)
            .collect()
    }

    fn wait_until_nsenter_is(&self, state: char) {
        wait_until(FORK, || {
            state_of(self.outside.id()).is_none_or(|now| now == state || now == 'Z')
        });
    }

    fn failed(&self, step: &str, why: impl std::fmt::Display) -> LabError {
        LabError::failed(&self.node, format!("{step} {}", self.name), why)
            .with_log(self.log_tail(20))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.outside);
    }
}

/// Ends an `nsenter` by ending the program that it runs, and waits for both. nsenter must reap the program itself: an orphan would wait for
/// the machine's first process, which may take seconds, and until then its namespace would remain.
pub(super) fn end(outside: &mut Child) {
    let ended = wait_until(FORK, || {
        let running = matches!(outside.try_wait(), Ok(None));
        if running {
            // Errors mean that they have ended meanwhile. An nsenter with a stopped child has stopped too.
            let _ = child_of(outside.id()).map(|pid| send(pid, Signal::KILL));
            let _ = send(outside.id(), Signal::CONT);
        }
        !running
    });
    if !ended {
        let _ = outside.kill();
        let _ = outside.wait();
    }
}

/// Returns the only child of `pid`, if it has one.
pub(super) fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn has_running_threads(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.any(|thread| matches!(state_in(&thread.path()), Some('R' | 'D')))
}

/// Returns `S` sleeping, `T` stopped, `Z` ended; `None` if there is no such process.
pub(super) fn state_of(pid: u32) -> Option<char> {
    state_in(&PathBuf::from(format!("/proc/{pid}")))
}

fn state_in(directory: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends a signal to a process inside or outside of the lab.
pub(super) fn send(pid: u32, signal: Signal) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    Ok(kill_process(pid, signal)?)
}
