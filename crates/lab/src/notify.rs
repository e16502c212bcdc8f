//! Records what a program sends through `NOTIFY_SOCKET`, as a service manager would.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io, thread};

use super::{LabError, Node};

/// A datagram socket at a path of a node that records every received line, in order. Path sockets work across network
/// namespaces. Recording ends on drop.
#[derive(Debug)]
pub struct NotifySocket {
    path: String,
    socket: UnixDatagram,
    record: Arc<Record>,
}

/// The lines so far, and who waits for more.
#[derive(Debug, Default)]
struct Record {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl NotifySocket {
    /// Listens at `/run/NAME.notify` of the node and replaces an earlier socket.
    pub fn bind(node: &Node, name: &str) -> Result<Self, LabError> {
        let path = format!("/run/{name}.notify");
        let fail =
            |error: io::Error| LabError::failed(node.name(), format!("listen at {path}"), error);
        let socket = listen(&node.path(&path)).map_err(fail)?;
        let record = Arc::new(Record::default());
        let (ear, written) = (socket.try_clone().map_err(fail)?, Arc::clone(&record));
        thread::spawn(move || receive_all(&ear, &written));
        Ok(Self {
            path,
            socket,
            record,
        })
    }

    /// Returns the value of `NOTIFY_SOCKET` for programs on the node.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns every line so far, such as `READY=1`.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.record.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn ready(&self) -> bool {
        self.lines().iter().any(|line| line == "READY=1")
    }

    /// Returns the last STATUS= text.
    pub fn status(&self) -> Option<String> {
        self.lines()
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("STATUS=").map(str::to_owned))
    }

    /// Waits for a line, and returns whether it was received.
    pub fn wait_for(&self, line: &str, timeout: Duration) -> bool {
        let Record { lines, grown } = &*self.record;
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_missing = |lines: &mut Vec<String>| !lines.iter().any(|heard| heard == line);
        let waited = grown.wait_timeout_while(lines, timeout, is_missing);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // Wakes the listening thread, which then ends. It may have ended already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let socket = UnixDatagram::bind(path)?;
    // A daemon without root may send too.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// Records until the socket is shut down. An empty datagram, which nothing sends, would end it too.
fn receive_all(socket: &UnixDatagram, Record { lines, grown }: &Record) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(text.lines().map(str::to_owned));
        grown.notify_all();
    }
}
