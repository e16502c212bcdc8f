//! Where the daemon can be asked how it is: pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Invalid;

/// Longest pause between two probes of a peer: a day.
const LONGEST: u64 = 86_400;

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

/// `-healthz-ip` and `-healthz-port`. Zero and less mean no port, as in flannel.
pub(super) fn health(ip: &str, port: i64) -> Result<Option<SocketAddr>, Invalid> {
    if port <= 0 {
        return Ok(None);
    }
    let port = u16::try_from(port).map_err(|_| {
        let why = format!("{port} is not a port: use 1 to 65535, or 0 for no port");
        Invalid::new("healthz-port", why)
    })?;
    let ip: IpAddr = ip.parse().map_err(|_| {
        let why =
            format!("{ip:?} is not an IP address: use an address of this host, 0.0.0.0, or ::");
        Invalid::new("healthz-ip", why)
    })?;
    Ok(Some(SocketAddr::new(ip, port)))
}

/// `-probe-interval`. Zero means no probes.
pub(super) fn probe(seconds: i64) -> Result<Option<Duration>, Invalid> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= LONGEST => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let why = format!(
                "{seconds} is out of range: use 1 to {LONGEST} seconds, or 0 for no probes"
            );
            Err(Invalid::new("probe-interval", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_seconds_apart() {
        assert_eq!(
            [0, 60].map(probe),
            [Ok(None), Ok(Some(Duration::from_secs(60)))]
        );
        for wrong in [-1, 86_401, i64::MAX] {
            assert_eq!(probe(wrong).unwrap_err().flag, "probe-interval");
        }
    }

    #[test]
    fn zero_and_less_mean_no_port() {
        assert_eq!(
            [0, -1].map(|port| health("anything", port)),
            [Ok(None), Ok(None)]
        );
        assert_eq!(health("::1", 8471), Ok(Some("[::1]:8471".parse().unwrap())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |ip, port| health(ip, port).unwrap_err();
        assert_eq!(wrong("0.0.0.0", 65_536).flag, "healthz-port");
        let error = wrong("localhost", 80);
        assert!(
            error.flag == "healthz-ip" && error.why.contains("0.0.0.0"),
            "{}",
            error.why
        );
    }
}
