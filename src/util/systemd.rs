//! What the service manager is told, through the socket that `NOTIFY_SOCKET` names. Without it nothing is sent.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

/// After a datagram that could not be sent, such as while systemd executes itself again.
const RETRY: Duration = Duration::from_secs(1);

/// The conversation with the service manager, which others may follow.
#[derive(Debug, Default)]
pub struct Systemd {
    state: watch::Sender<ServiceState>,
}

/// What the service manager must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceState {
    pub status: String,
    /// Whether the service does its work.
    pub ready: bool,
}

impl Systemd {
    /// One line for `systemctl status`, in an operator's words.
    pub fn status(&mut self, text: String) {
        self.state.send_if_modified(|state| {
            let is_new = state.status != text;
            state.status = text;
            is_new
        });
    }

    /// The service does its work: units that wait for it may start.
    pub fn ready(&mut self) {
        self.state
            .send_if_modified(|state| !std::mem::replace(&mut state.ready, true));
    }

    pub fn listen(&self) -> watch::Receiver<ServiceState> {
        self.state.subscribe()
    }
}

/// The way to the service manager.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_env() -> Self {
        let watchdog = watchdog(
            env::var("WATCHDOG_USEC").ok(),
            env::var("WATCHDOG_PID").ok(),
        );
        match env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) {
            Some(address) => Self {
                watchdog,
                ..Self::to(&address)
            },
            None => Self::default(),
        }
    }

    /// To the socket with this address: a path, or `@` and an abstract name.
    pub fn to(address: &OsStr) -> Self {
        match connect(address) {
            Ok(to) => Self {
                to: Some(Arc::new(to)),
                watchdog: None,
            },
            Err(error) => {
                warn!(
                    path = %address.display(), err = %error,
                    "cannot use NOTIFY_SOCKET={}: {error}; systemd is not notified",
                    address.display()
                );
                Self::default()
            }
        }
    }

    /// Sends what is new, until it has arrived.
    pub async fn follow(&self, mut state: watch::Receiver<ServiceState>) -> Infallible {
        let mut sent = ServiceState::default();
        let mut failed = false;
        loop {
            let now = state.borrow_and_update().clone();
            let status = (now.status != sent.status).then(|| format!("STATUS={}\n", now.status));
            let ready = (now.ready && !sent.ready).then_some("READY=1\n");
            let text = status.unwrap_or_default() + ready.unwrap_or_default();
            match self.send(&text) {
                Ok(()) => {
                    (sent, failed) = (now, false);
                    if state.changed().await.is_err() {
                        return pending().await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(
                            err = %error, retry_in_s = RETRY.as_secs(),
                            "cannot notify systemd: {error}; retrying every second"
                        );
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Says that the thread is alive, while nothing else does.
    pub async fn feed_watchdog(&self) -> Infallible {
        let Some(period) = self.heartbeat() else {
            return pending().await;
        };
        loop {
            self.alive();
            sleep(period).await;
        }
    }

    /// An orderly stop has begun.
    pub fn stopping(&self) {
        // There is no time to try again.
        let _ = self.send("STOPPING=1\n");
    }

    /// The main loop turns.
    pub fn alive(&self) {
        // The next one comes well before the limit.
        let _ = self.send("WATCHDOG=1\n");
    }

    /// How often [`alive`](Self::alive) has to be said: half of the unit's `WatchdogSec`, if it has one.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    fn send(&self, text: &str) -> io::Result<()> {
        match self.to.as_deref().filter(|_| !text.is_empty()) {
            Some((socket, address)) => socket.send_to_addr(text.as_bytes(), address).map(drop),
            None => Ok(()),
        }
    }
}

/// A socket that does not wait for a full receiver, and where to send.
fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => {
            return Err(io::Error::other(
                "the value must be an absolute path, or @ and the name of an abstract socket",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// The limit of the watchdog, if it is this process that it watches.
fn watchdog(limit: Option<String>, pid: Option<String>) -> Option<Duration> {
    let is_own = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let microseconds: u64 = limit?.parse().ok()?;
    (is_own && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

/// What tells this machine from others, over reboots. Without an id the public address has to do alone.
pub fn machine_id() -> String {
    super::read_trimmed("/etc/machine-id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    fn listening(socket: io::Result<UnixDatagram>) -> UnixDatagram {
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[tokio::test(start_paused = true)]
    async fn failed_datagrams_are_sent_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let notifier = Notifier::to(path.as_os_str());
        let mut systemd = Systemd::default();
        let state = systemd.listen();
        let story = async {
            systemd.status("serving".into());
            systemd.ready();
            sleep(RETRY * 3).await;
            let socket = listening(UnixDatagram::bind(&path));
            sleep(RETRY * 2).await;
            assert_eq!(read(&socket).unwrap(), "STATUS=serving\nREADY=1\n");
            systemd.ready();
            systemd.status("degraded".into());
            sleep(RETRY).await;
            assert_eq!(
                (read(&socket).unwrap().as_str(), read(&socket)),
                ("STATUS=degraded\n", None)
            );
        };
        tokio::select! { never = notifier.follow(state) => match never {}, () = story => {} }
    }

    #[tokio::test(start_paused = true)]
    async fn abstract_addresses_are_served_and_the_watchdog_is_fed() {
        let name = format!("rflannel-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = listening(UnixDatagram::bind_addr(&address));
        let watchdog = watchdog(Some("30000000".into()), None);
        let notifier = Notifier {
            watchdog,
            ..Notifier::to(format!("@{name}").as_ref())
        };
        tokio::select! {
            never = notifier.feed_watchdog() => match never {},
            () = sleep(Duration::from_secs(40)) => {}
        }
        let beats = std::iter::from_fn(|| read(&socket))
            .filter(|line| line == "WATCHDOG=1\n")
            .count();
        assert_eq!(beats, 3);
    }

    #[test]
    fn unusable_addresses_are_no_address() {
        for address in ["vsock:2:1234", "relative", &format!("/{}", "x".repeat(200))] {
            assert!(Notifier::to(address.as_ref()).to.is_none(), "{address}");
        }
    }

    #[test]
    fn watchdog_of_another_process_is_not_fed() {
        let limit = || Some("30000000".to_owned());
        assert_eq!(watchdog(limit(), Some("1".into())), None);
        assert_eq!(
            watchdog(limit(), Some(std::process::id().to_string())),
            Some(Duration::from_secs(30))
        );
        assert_eq!(watchdog(None, None), None);
    }
}
