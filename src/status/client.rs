//! Asks a running daemon for its report.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::time::Instant;

use super::report::{FORMAT, Refusal, Report, Request};

/// A daemon that has not answered after this hangs: one whose loop is busy says so earlier.
const PATIENCE: Duration = Duration::from_secs(2);

/// The daemon of this host.
#[derive(Debug, Clone, PartialEq)]
pub enum Daemon {
    Answers(Box<Report>),
    /// A process is there and does not answer, or cannot be asked.
    Silent(String),
    /// No process was found.
    Absent(String),
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no daemon answers at {path}: {error}")]
    Absent {
        path: String,
        #[source]
        error: io::Error,
    },
    #[error("cannot query the daemon at {path}: {error}; run as root")]
    Forbidden {
        path: String,
        #[source]
        error: io::Error,
    },
    #[error("the daemon ({process}) does not answer at {path}{}", meaning(.state, .pid))]
    Hung {
        path: String,
        /// Its process and state, as far as they are known.
        process: String,
        /// Its process ID, 0 if it is in another PID namespace.
        pid: u32,
        /// Its state, as `ps` shows it.
        state: Option<char>,
    },
    /// A process listens there and does not answer as expected.
    #[error("the daemon at {path} sent an unusable answer: {why}")]
    Strange { path: String, why: String },
}

/// What a state says of the reason, and what to do.
fn meaning(state: &Option<char>, pid: &u32) -> String {
    match state {
        Some('T') => {
            format!(": a signal stopped it (kill -CONT {pid} continues it, and so does a restart)")
        }
        Some('t') => ": a debugger has stopped it".into(),
        Some('D') => {
            format!(": it waits for a disk or another device (cat /proc/{pid}/stack shows where)")
        }
        Some('R' | 'S') => format!(
            " within {} s: the host is overloaded, or the daemon hangs (restart it: packets keep flowing)",
            PATIENCE.as_secs()
        ),
        _ => String::new(),
    }
}

/// Returns the report of the daemon whose socket this is.
pub fn ask(path: &Path) -> Result<Report, Error> {
    let end = Instant::now() + PATIENCE;
    let name = || path.display().to_string();
    let stream = open(path).map_err(|error| {
        // Late means that all places in its queue are taken.
        if is_late(&error) {
            hung(name(), 0)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Error::Forbidden {
                path: name(),
                error,
            }
        } else {
            Error::Absent {
                path: name(),
                error,
            }
        }
    })?;
    let pid = peer_of(&stream);
    let text = converse(stream, end).map_err(|error| {
        if is_late(&error) {
            hung(name(), pid)
        } else {
            Error::Strange {
                path: name(),
                why: error.to_string(),
            }
        }
    })?;
    read(&text).map_err(|why| Error::Strange { path: name(), why })
}

/// Whether the time for it ran out.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn hung(path: String, pid: u32) -> Error {
    let state = state_of(pid);
    let process = match (pid, state) {
        (0, _) => "pid unknown".to_owned(),
        (pid, Some(state)) => format!("pid {pid}, state {state}"),
        (pid, None) => format!("pid {pid}"),
    };
    Error::Hung {
        path,
        process,
        pid,
        state,
    }
}

/// Returns the process that listens at a socket, if this user may connect and can see it.
pub fn peer(path: &Path) -> Option<u32> {
    open(path)
        .ok()
        .map(|stream| peer_of(&stream))
        .filter(|pid| *pid != 0)
}

/// The kernel translates the ID into this process's namespace: 0 if it has none there.
fn peer_of(stream: &UnixStream) -> u32 {
    let pid = getsockopt(stream, PeerCredentials).map(|credentials| credentials.pid());
    pid.ok()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or_default()
}

/// Returns the state of a process as `ps` shows it.
pub fn state_of(pid: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Connects, for no longer than a daemon may take to answer.
fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Sends the request and returns the answer, which ends with a line or with the connection.
fn converse(mut stream: UnixStream, end: Instant) -> io::Result<String> {
    let request = serde_json::to_string(&Request::Status)?;
    stream.write_all(request.as_bytes())?;
    stream.write_all(b"\n")?;
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while text.last() != Some(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            length => text.extend_from_slice(part.get(..length).unwrap_or_default()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub fn read(text: &str) -> Result<Report, String> {
    if let Ok(Refusal { error }) = serde_json::from_str(text) {
        return Err(error);
    }
    let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match report.format {
        FORMAT => Ok(report),
        other => Err(format!(
            "its report has format {other}, this rflannel reads format {FORMAT}: use the rflannel of the daemon's release"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listener_that_never_answers_is_named() {
        let path =
            std::env::temp_dir().join(format!("rflannel-client-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(peer(&path), Some(std::process::id()));
        // Nothing is accepted, and this process runs.
        let error = ask(&path).unwrap_err();
        let words = format!("the daemon (pid {}, state ", std::process::id());
        assert!(error.to_string().starts_with(&words), "{error}");
        assert!(matches!(error, Error::Hung { .. }));
        drop(listener);
        assert!(
            matches!(ask(&path).unwrap_err(), Error::Absent { .. }),
            "its socket is still there"
        );
        fs::remove_file(&path).unwrap();
    }

    /// A byte now and then does not extend the time that it has.
    #[test]
    fn daemon_that_never_ends_its_answer_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(matches!(
            ask(&path).unwrap_err(),
            Error::Hung {
                state: Some('R' | 'S' | 'D'),
                ..
            }
        ));
        daemon.join().unwrap();
    }

    #[test]
    fn each_state_has_its_explanation() {
        assert!(meaning(&Some('T'), &7).contains("kill -CONT 7"));
        assert!(meaning(&Some('D'), &7).contains("/proc/7/stack"));
        assert!(meaning(&Some('S'), &7).contains("packets keep flowing"));
        assert_eq!(meaning(&None, &7), "");
    }
}
