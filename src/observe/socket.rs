//! The status socket: for root only. A request is one line of JSON, `{"ask":"status"}`; so is the answer, and then the
//! connection ends. What cannot be understood is answered with `{"error":"…"}`.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::guests::Guests;
use super::reporter::Reporter;
use super::request::{self, Refusal, Request};
use crate::waiting::Waiting;

/// How often the socket is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Longest request, in bytes.
const REQUEST: u64 = 1024;
/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;
/// Between two attempts to open the socket, and after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(2);

/// A socket in the file system, which goes with this value.
struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Door {
    /// Whether nobody can find the socket any more.
    fn is_gone(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

/// Serves whoever comes. A socket that cannot be made is waited for.
pub(super) async fn serve(path: &Path, reporter: Reporter) -> Infallible {
    let mut door = open(path).await;
    let mut guests = Guests::default();
    loop {
        match timeout(LOOK, door.listener.accept()).await {
            Err(_) if door.is_gone() => {
                warn!("the status socket {} was removed by another program; making it again", path.display());
                // Its end removes whatever is at the path.
                drop(door);
                door = open(path).await;
            }
            Err(_) => {}
            Ok(Ok((stream, _))) => guests.welcome(visit(stream, reporter.clone())),
            Ok(Err(error)) => {
                debug!("cannot take a connection to {}: {error}", path.display());
                sleep(PAUSE).await;
            }
        }
    }
}

async fn open(path: &Path) -> Door {
    let mut waiting = Waiting::default();
    loop {
        match bind(path).await {
            Ok(listener) => {
                info!("Status at {} (rflannel status)", path.display());
                return Door { listener, path: path.to_owned() };
            }
            Err(error) => waiting.say(&format!(
                "cannot make the status socket {}: {error}; make its place writable, or choose another one (-status-socket, none for no socket)",
                path.display()
            )),
        }
        sleep(PAUSE).await;
    }
}

/// Takes the place of what an earlier life left there, and of nothing else.
async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| *directory != Path::new("")) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another flanneld answers there")),
        Err(_) if is_socket(path) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    // From its first moment on only root may connect: the socket in the file system takes over the mode of the one that is bound.
    // The process's umask is no way, for other threads make directories.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

async fn visit(mut stream: UnixStream, reporter: Reporter) {
    let answer = match read(&mut stream).await {
        Ok(line) => respond(&line, &reporter).await,
        Err(error) => refuse(format!("cannot read the request: {error}")),
    };
    // Whoever does not wait for the answer does not need it.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST)).read_line(&mut line).await?;
    Ok(line)
}

async fn respond(line: &str, reporter: &Reporter) -> String {
    let report = match request::read(line) {
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
