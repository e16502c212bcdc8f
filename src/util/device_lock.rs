//! One daemon for one device of a network namespace: a lock that ends with the process, however it ends.
//!
//! The lock is a file that only root can open. The name of an abstract socket stands beside it, for daemons that do not see
//! the file: those in other mount namespaces, and earlier releases. Any user can take such a name, so only root's counts.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Uid, geteuid};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, warn};

/// Where the lock files are: only root can write there.
const DIRECTORY: &str = "/run/flannel";
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);
/// What names begin with that stand for a network's routes.
const ROUTES: &str = "routes-of-";

/// The right to drive a device.
#[derive(Debug)]
pub struct DeviceLock {
    _file: Option<File>,
    _name: Option<Name>,
}

/// The name of an abstract socket. Ends with this value.
#[derive(Debug)]
struct Name(JoinHandle<()>);

impl Drop for Name {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why the right is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another flanneld{} manages {} in this network namespace; stop it, or give this flanneld another {}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), what(device).0, what(device).1)]
    Taken {
        /// The device, or what stands for routes without one.
        device: String,
        /// The other process, where it can be told.
        pid: Option<i32>,
    },
    #[error("cannot lock {}: {error}", what(device).0)]
    Refused {
        device: String,
        #[source]
        error: io::Error,
    },
}

/// The name by which a daemon without a device is the only one for a network.
pub fn of_routes(network: impl ToString) -> String {
    format!("{ROUTES}{}", network.to_string().replace('/', "-"))
}

/// What a name stands for, and what sets two daemons apart.
fn what(device: &str) -> (String, &'static str) {
    match device.strip_prefix(ROUTES) {
        Some(network) => (
            format!("the routes of {}", network.replace('-', "/")),
            "Network",
        ),
        None => (format!("device {device}"), "VNI"),
    }
}

/// Who has a name or a file.
enum Holder {
    /// This process, from now on.
    Own(Name),
    /// Another daemon.
    Daemon(Option<i32>),
    /// A process that is none of root's, or does not show whose it is.
    Stranger,
}

impl DeviceLock {
    /// Takes it, until dropped.
    pub fn take(device: &str) -> Result<Self, Error> {
        Self::take_in(Path::new(DIRECTORY), device)
    }

    fn take_in(directory: &Path, device: &str) -> Result<Self, Error> {
        let taken = |pid| Error::Taken {
            device: device.to_owned(),
            pid,
        };
        let refused = |error| Error::Refused {
            device: device.to_owned(),
            error,
        };
        let file = match lock_file(directory, device) {
            Ok(Ok(file)) => Some(file),
            Ok(Err(pid)) => return Err(taken(pid)),
            // As on a read-only /run: the name has to do alone.
            Err(error) => {
                debug!(
                    path = %directory.display(), err = %error,
                    "cannot create a lock file in {}: {error}; using the abstract socket alone",
                    directory.display()
                );
                None
            }
        };
        let name = match name(device).map_err(refused)? {
            Holder::Own(name) => Some(name),
            Holder::Daemon(pid) => return Err(taken(pid)),
            Holder::Stranger => {
                warn!(
                    dev = device,
                    "a process without root rights holds the abstract socket @rflannel/{device}, which locks {}; ignoring it (find it with: ss -xlp)",
                    what(device).0
                );
                None
            }
        };
        Ok(Self {
            _file: file,
            _name: name,
        })
    }
}

/// Locks the file of this device and network namespace; else the process that has it.
fn lock_file(directory: &Path, device: &str) -> io::Result<Result<File, Option<i32>>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let path = directory.join(format!(".lock-{namespace}-{device}"));
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Ok(file))
        }
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            Ok(Err(read.ok().and_then(|_| text.trim().parse().ok())))
        }
        Err(error) => Err(error.into()),
    }
}

fn name(device: &str) -> io::Result<Holder> {
    let name = format!("rflannel/{device}");
    match UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
        Ok(listener) => Ok(Holder::Own(answer(listener)?)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(holder(&name)),
        Err(error) => Err(error),
    }
}

/// Takes whatever connects, and ends it: a queue that is full would hide whose name this is.
fn answer(listener: UnixListener) -> io::Result<Name> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(Name(tokio::spawn(async move {
        loop {
            if listener.accept().await.is_err() {
                // Such as too many open files.
                sleep(PAUSE).await;
            }
        }
    })))
}

fn holder(name: &str) -> Holder {
    let credentials = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Not waiting: anyone who listens there need not take connections.
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(
            &socket,
            &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        )?;
        socket_peercred(&socket)
    };
    match credentials() {
        Ok(peer) if peer.uid == Uid::ROOT || peer.uid == geteuid() => {
            Holder::Daemon(Some(peer.pid.as_raw_nonzero().get()))
        }
        Ok(_) | Err(_) => Holder::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_taken(result: Result<DeviceLock, Error>) {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(
            matches!(result, Err(Error::Taken { pid: Some(pid), .. }) if pid == own),
            "{result:?}"
        );
    }

    /// Until what was aborted is gone.
    async fn ended() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn second_daemon_is_refused_by_the_file_and_by_the_name() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let device = format!("test.{}", std::process::id());
        let mut first = DeviceLock::take_in(one.path(), &device).unwrap();
        assert_taken(DeviceLock::take_in(one.path(), &device));
        assert_taken(DeviceLock::take_in(two.path(), &device));
        first._name = None;
        ended().await;
        assert_taken(DeviceLock::take_in(one.path(), &device));
        drop(first);
        ended().await;
        DeviceLock::take_in(one.path(), &device).unwrap();
    }

    /// As any user can in this network namespace.
    #[tokio::test]
    async fn name_that_many_connect_to_is_still_the_daemons() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let device = format!("test.full.{}", std::process::id());
        let _first = DeviceLock::take_in(one.path(), &device).unwrap();
        let address =
            SocketAddrUnix::new_abstract_name(format!("rflannel/{device}").as_bytes()).unwrap();
        let is_taken = || {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            connect(&socket, &address).is_ok()
        };
        // What is not taken waits, though its other end is gone.
        assert!((0..100_000).any(|_| !is_taken()), "the queue has an end");
        for _ in 0..1000 {
            if is_taken() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert_taken(DeviceLock::take_in(two.path(), &device));
    }

    #[tokio::test]
    async fn name_does_alone_where_no_file_can_be_made() {
        let device = format!("test.ro.{}", std::process::id());
        let first = DeviceLock::take_in(Path::new("/proc/none"), &device).unwrap();
        assert_taken(DeviceLock::take_in(Path::new("/proc/none"), &device));
        drop(first);
        ended().await;
        DeviceLock::take_in(Path::new("/proc/none"), &device).unwrap();
    }
}
