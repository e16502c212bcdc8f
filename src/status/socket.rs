//! The status socket: for root only. A request is one line of JSON, `{"ask":"status"}`; so is the answer, and then the
//! connection ends. What cannot be understood is answered with `{"error":"…"}`.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Connections;
use super::report::{Refusal, Request};
use super::reporter::Reporter;
use crate::util::retry_log::RetryLog;

/// How often the socket is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Longest request, in bytes.
const REQUEST: u64 = 1024;
/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;
/// Between two attempts to open the socket, and after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(2);

/// Device and inode number.
type Inode = (u64, u64);

/// A socket in the file system, which is removed with this value.
struct SocketListener {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<Inode>,
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // What another program put there is left alone.
        if look(&self.path, self.inode) == Found::Same {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What is at the path of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Gone,
    Replaced,
}

fn look(path: &Path, inode: Option<Inode>) -> Found {
    match inode_at(path) {
        Ok(now) if inode.is_some_and(|inode| inode != now) => Found::Replaced,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Gone,
        // Such as a directory that may not be read now.
        Ok(_) | Err(_) => Found::Same,
    }
}

fn inode_at(path: &Path) -> io::Result<Inode> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl SocketListener {
    /// Looks a while later, beside the loop: a disk may hang.
    fn look_later(&self) -> JoinHandle<Found> {
        let (path, inode) = (self.path.clone(), self.inode);
        tokio::spawn(async move {
            sleep(LOOK).await;
            // Without an answer the process is ending.
            spawn_blocking(move || look(&path, inode))
                .await
                .unwrap_or(Found::Same)
        })
    }
}

/// Serves every client. A socket that cannot be made is waited for.
pub(super) async fn serve(path: &Path, reporter: Reporter) -> Infallible {
    let mut listener = open(path).await;
    let mut looking = listener.look_later();
    let mut connections = Connections::default();
    loop {
        let found = tokio::select! {
            accepted = listener.listener.accept() => {
                match accepted {
                    Ok((stream, _)) => connections.serve(visit(stream, reporter.clone())),
                    Err(error) => {
                        debug!(
                            path = %path.display(), err = %error,
                            "cannot accept a connection at {}: {error}",
                            path.display()
                        );
                        sleep(PAUSE).await;
                    }
                }
                continue;
            }
            found = &mut looking => found.unwrap_or(Found::Same),
        };
        let replaced = (found == Found::Replaced).then(|| {
            format!(
                "another program replaced the status socket {}",
                path.display()
            )
        });
        if reporter.note_socket(replaced) && found == Found::Replaced {
            warn!(
                path = %path.display(),
                "another program replaced the status socket {}: rflannel cannot reach this daemon; remove that file, and flanneld creates the socket again",
                path.display()
            );
        }
        if found == Found::Gone {
            warn!(
                path = %path.display(),
                "another program removed the status socket {}; creating it again",
                path.display()
            );
            listener = open(path).await;
        }
        looking = listener.look_later();
    }
}

async fn open(path: &Path) -> SocketListener {
    let mut waiting = RetryLog::default();
    loop {
        match bind(path).await {
            Ok((listener, inode)) => {
                info!(path = %path.display(), "serving status at {} (rflannel status)", path.display());
                return SocketListener { listener, path: path.to_owned(), inode };
            }
            Err(error) => waiting.log(&format!(
                "cannot create the status socket {}: {error}; make its directory writable, or set -status-socket to another path or none",
                path.display()
            )),
        }
        sleep(PAUSE).await;
    }
}

/// Takes the place of what an earlier life left there, and of nothing else.
async fn bind(path: &Path) -> io::Result<(UnixListener, Option<Inode>)> {
    let is_taken = UnixStream::connect(path).await.is_ok();
    if is_taken {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another flanneld listens there",
        ));
    }
    let place = path.to_owned();
    let made = spawn_blocking(move || Ok((make(&place)?, inode_at(&place).ok())));
    let (socket, inode): (OwnedFd, _) = made
        .await
        .unwrap_or_else(|ended| Err(io::Error::other(ended)))?;
    Ok((UnixListener::from_std(socket.into())?, inode))
}

/// Makes the socket, in a directory that is made where it is missing.
fn make(path: &Path) -> io::Result<OwnedFd> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| *directory != Path::new(""))
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
    }
    if is_socket(path) {
        std::fs::remove_file(path)?;
    }
    // From its first moment on only root may connect: the socket in the file system takes over the mode of the one that is bound.
    // The process's umask is no way, for other threads make directories.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

async fn visit(mut stream: UnixStream, reporter: Reporter) {
    let answer = match read(&mut stream).await {
        Ok(line) => respond(&line, &reporter).await,
        Err(error) => refuse(format!("cannot read the request: {error}")),
    };
    // Anyone who does not wait for the answer does not need it.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST))
        .read_line(&mut line)
        .await?;
    Ok(line)
}

async fn respond(line: &str, reporter: &Reporter) -> String {
    let report = match Request::read(line) {
        Ok(Request::Status) => reporter.report().await,
        Err(why) => return refuse(why),
    };
    match serde_json::to_string(&report) {
        Ok(text) => text + "\n",
        Err(error) => refuse(error.to_string()),
    }
}

fn refuse(error: String) -> String {
    serde_json::to_string(&Refusal { error }).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::super::Names;
    use super::*;
    use crate::subnet::Telemetry;

    async fn reasons(reporter: &Reporter, words: &str, are_there: bool) {
        let seen = async {
            while reporter
                .findings()
                .await
                .report
                .reasons
                .iter()
                .any(|why| why.contains(words))
                != are_there
            {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(
            timeout(Duration::from_secs(30), seen).await.is_ok(),
            "{words:?}: {are_there}"
        );
    }

    #[tokio::test]
    async fn replaced_socket_is_reported_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sock");
        let (_told, told) = watch::channel(Default::default());
        let (reporter, mut requests) =
            Reporter::new(Telemetry::default(), Names::default(), told, None);
        let story = async {
            while UnixStream::connect(&path).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
            std::fs::rename(&path, home.path().join("former")).unwrap();
            let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
            reasons(
                &reporter,
                "another program replaced the status socket",
                true,
            )
            .await;
            assert!(is_socket(&path), "not ours to remove");
            drop(theirs);
            std::fs::remove_file(&path).unwrap();
            reasons(
                &reporter,
                "another program replaced the status socket",
                false,
            )
            .await;
            while UnixStream::connect(&path).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = story => {}
            never = serve(&path, reporter.clone()) => match never {},
            never = super::super::not_yet(&mut requests) => match never {},
        }
        assert!(!path.exists(), "the own one goes");
    }
}
