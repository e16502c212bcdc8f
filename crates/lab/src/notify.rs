//! The service manager's ear: records what a program says through `NOTIFY_SOCKET`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io, thread};

use super::{LabError, Node, wait_until};

/// A datagram socket at a path of a node (path sockets work across network namespaces) that records every
/// line it gets, in order. Deaf after drop.
#[derive(Debug)]
pub struct NotifySocket {
    path: String,
    socket: UnixDatagram,
    lines: Arc<Mutex<Vec<String>>>,
}

impl NotifySocket {
    /// Listens at `/run/NAME.notify` of the node; takes the place of an earlier one.
    pub fn bind(node: &Node, name: &str) -> Result<Self, LabError> {
        let path = format!("/run/{name}.notify");
        let fail =
            |error: io::Error| LabError::failed(node.name(), format!("listen at {path}"), error);
        let socket = listen(&node.path(&path)).map_err(fail)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (ear, record) = (socket.try_clone().map_err(fail)?, Arc::clone(&lines));
        thread::spawn(move || receive_all(&ear, &record));
        Ok(Self {
            path,
            socket,
            lines,
        })
    }

    /// What `NOTIFY_SOCKET` must be for programs on the node.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Every line so far, such as `READY=1`.
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether READY=1 came.
    pub fn ready(&self) -> bool {
        self.lines().iter().any(|line| line == "READY=1")
    }

    /// The last STATUS= text.
    pub fn status(&self) -> Option<String> {
        self.lines()
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("STATUS=").map(str::to_owned))
    }

    /// Waits for a line; says whether it came.
    pub fn wait_for(&self, line: &str, timeout: Duration) -> bool {
        wait_until(timeout, || self.lines().iter().any(|heard| heard == line))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // Wakes the listening thread, which then ends; there is nothing to do if it has ended.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let socket = UnixDatagram::bind(path)?;
    // A daemon without root may speak too.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// Records until the socket is shut down. An empty datagram, which no one sends, would end it too.
fn receive_all(socket: &UnixDatagram, record: &Mutex<Vec<String>>) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(text.lines().map(str::to_owned));
    }
}
