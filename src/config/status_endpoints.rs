//! Where the daemon can be asked how it is: pure.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusEndpoints {
    pub health: Option<SocketAddr>,
    /// The socket that `rflannel status` asks.
    pub status: Option<PathBuf>,
    /// How often every peer is probed for it.
    pub probe: Option<Duration>,
}

impl fmt::Display for StatusEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.health {
            write!(f, " healthz={address}")?;
        }
        if let Some(path) = &self.status {
            write!(f, " status-socket={}", path.display())?;
        }
        match self.probe {
            Some(interval) => write!(f, " probe-interval={}s", interval.as_secs()),
            None => Ok(()),
        }
    }
}
