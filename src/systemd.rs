//! What systemd is told. Without `NOTIFY_SOCKET` nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::debug;

/// The conversation with the service manager, which others may follow.
#[derive(Debug, Default)]
pub struct Systemd {
    told: watch::Sender<Told>,
}

/// What has been said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The status line.
    pub status: String,
    /// Whether the service does its work.
    pub ready: bool,
}

impl Systemd {
    /// One line for `systemctl status`, in an operator's words. Sent when it changes.
    pub fn status(&mut self, text: String) {
        if self.told.borrow().status != text {
            send(&[NotifyState::Status(&text)]);
            self.told.send_modify(|told| told.status = text);
        }
    }

    /// The service does its work: units that wait for it may start. Sent once.
    pub fn ready(&mut self) {
        if !self.is_ready() {
            send(&[NotifyState::Ready]);
            self.told.send_modify(|told| told.ready = true);
        }
    }

    /// Whether [`ready`](Self::ready) has been said.
    pub fn is_ready(&self) -> bool {
        self.told.borrow().ready
    }

    /// Follows the conversation.
    pub fn listen(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// An orderly stop has begun.
    pub fn stopping() {
        send(&[NotifyState::Stopping]);
    }

    /// The main loop turns.
    pub fn alive(&self) {
        send(&[NotifyState::Watchdog]);
    }

    /// How often [`alive`](Self::alive) has to be said: half of the unit's `WatchdogSec`, if it has one.
    pub fn heartbeat(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }
}

/// What tells this machine from others, over reboots. Without an id the public address has to do alone.
pub fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("cannot tell systemd {state:?}: {error}");
    }
}
