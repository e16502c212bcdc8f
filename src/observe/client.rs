//! Asks a running daemon for its report.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::report::{FORMAT, Report};
use super::request::{Refusal, Request};

/// The daemon gives its visitors ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("no daemon answers at {path}: {error}")]
    Absent {
        /// The socket.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// This user may not ask.
    #[error("may not ask at {path}: {error} (run as root)")]
    Forbidden {
        /// The socket.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Somebody is there, and does not answer as expected.
    #[error("the daemon at {path} gives no usable answer: {why}")]
    Strange {
        /// The socket.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// The report of the daemon whose socket this is.
///
/// # Errors
/// See [`Error`].
pub fn ask(path: &Path) -> Result<Report, Error> {
    let name = || path.display().to_string();
    let stream =
        UnixStream::connect(path).map_err(|error| match error.kind() == io::ErrorKind::PermissionDenied {
            true => Error::Forbidden { path: name(), error },
            false => Error::Absent { path: name(), error },
        })?;
    let text = converse(stream).map_err(|error| Error::Strange { path: name(), why: error.to_string() })?;
    read(&text).map_err(|why| Error::Strange { path: name(), why })
}

fn converse(mut stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = serde_json::to_string(&Request::Status)?;
    stream.write_all(request.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    Ok(text)
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Report, String> {
    if let Ok(Refusal { error }) = serde_json::from_str(text) {
        return Err(error);
    }
    let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match report.format {
        FORMAT => Ok(report),
        other => {
            Err(format!("its format is {other}, this program's {FORMAT}: use the rflannel of its release"))
        }
    }
}
