//! Finds daemons that run on this host, in /proc.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{CommandLine, Variables};
use flanneld::status::client::state_of;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// State, as `ps` shows it.
    pub(super) state: char,
    pub(super) line: CommandLine,
    /// Whether the environment could be read.
    pub(super) is_complete: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the daemon (pid {}, state {})", self.pid, self.state)
    }
}

/// Returns the daemons in this process's network namespace, the oldest first; if that cannot be read, those of all namespaces.
pub(super) fn all() -> Vec<Process> {
    let own = namespace(Path::new("/proc/self"));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let is_here = |pid: &u32| {
        let theirs = namespace(&directory(*pid));
        is_daemon(*pid) && (theirs.is_none() || theirs == own)
    };
    pids.retain(is_here);
    // A child that has not yet become the program for which it was made looks like its parent.
    let is_child = |pid: &u32| parent(*pid).is_some_and(|parent| pids.contains(&parent));
    let daemons = pids.iter().copied().filter(|pid| !is_child(pid));
    daemons.filter_map(read).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(directory(pid).join("stat")).ok()?;
    // The name of the program before it may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Reads the command line of a process.
pub(super) fn read(pid: u32) -> Option<Process> {
    let args = words(pid, "cmdline")?
        .into_iter()
        .skip(1)
        .map(OsString::from_vec)
        .collect();
    let environment = words(pid, "environ");
    let is_complete = environment.is_some();
    let variables: Variables = environment.into_iter().flatten().filter_map(pair).collect();
    Some(Process {
        pid,
        state: state_of(pid)?,
        line: CommandLine { args, variables },
        is_complete,
    })
}

fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn namespace(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/net")).ok()
}

/// Returns whether the program is called flanneld. Go flannel's is, too, and takes the same flags.
fn is_daemon(pid: u32) -> bool {
    let program = words(pid, "cmdline")
        .and_then(|words| words.into_iter().next())
        .unwrap_or_default();
    Path::new(OsStr::from_bytes(&program)).file_name() == Some(OsStr::new("flanneld"))
}

/// Reads a file of words that end with a zero byte. A process that has ended but was not reaped has none.
fn words(pid: u32, file: &str) -> Option<Vec<Vec<u8>>> {
    let bytes = fs::read(directory(pid).join(file)).ok()?;
    let ended = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let is_empty = ended.is_empty();
    Some(if is_empty {
        Vec::new()
    } else {
        ended.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    })
}

fn pair(line: Vec<u8>) -> Option<(OsString, OsString)> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (line.get(..at)?.to_vec(), line.get(at + 1..)?.to_vec());
    Some((OsString::from_vec(name), OsString::from_vec(value)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn own_process_is_read_from_proc() {
        let own = read(std::process::id()).unwrap();
        assert!(
            own.is_complete && ['R', 'S', 'D'].contains(&own.state),
            "{own:?}"
        );
        assert!(own.line.variables.iter().any(|(name, _)| name == "PATH"));
        assert!(!is_daemon(std::process::id()));
        assert_eq!(read(u32::MAX), None);
    }

    #[test]
    fn child_that_still_looks_like_its_daemon_is_none() {
        let mut daemon = Command::new("bash")
            .arg0("flanneld")
            .args(["-c", "(sleep 60; true) & wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = daemon.id();
        let copy = || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            let child: u32 = children.trim().parse().ok()?;
            is_daemon(child).then_some(child)
        };
        while copy().is_none() {
            std::thread::yield_now();
        }
        let child = copy().unwrap();
        let found: Vec<u32> = all().into_iter().map(|process| process.pid).collect();
        let group = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        daemon.wait().unwrap();
        assert!(found.contains(&pid) && !found.contains(&child), "{found:?}");
    }

    #[test]
    fn a_variable_may_be_empty_or_hold_equal_signs() {
        assert_eq!(pair(b"A=b=c".to_vec()), Some(("A".into(), "b=c".into())));
        assert_eq!(pair(b"A=".to_vec()), Some(("A".into(), "".into())));
        assert_eq!(pair(b"A".to_vec()), None);
    }
}
