//! Where the daemon can be asked how it is: pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Invalid;

/// Where the daemon can be asked how it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Windows {
    /// Address of the health port.
    pub health: Option<SocketAddr>,
    /// The socket that `rflannel status` asks.
    pub status: Option<PathBuf>,
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.health.iter().try_for_each(|address| write!(f, " healthz={address}"))?;
        self.status.iter().try_for_each(|path| write!(f, " status-socket={}", path.display()))
    }
}

/// `-healthz-ip` and `-healthz-port`. Zero and less mean no port, as in flannel.
pub(super) fn health(ip: &str, port: i64) -> Result<Option<SocketAddr>, Invalid> {
    if port <= 0 {
        return Ok(None);
    }
    let port = u16::try_from(port).map_err(|_| {
        Invalid::new("healthz-port", format!("{port} is no port: give 1 to 65535, or 0 for none"))
    })?;
    let ip: IpAddr = ip.parse().map_err(|_| {
        Invalid::new("healthz-ip", format!("{ip:?} is no IP address: give one of this host's, 0.0.0.0 or ::"))
    })?;
    Ok(Some(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_less_mean_no_port() {
        assert_eq!([0, -1].map(|port| health("anything", port)), [Ok(None), Ok(None)]);
        assert_eq!(health("::1", 8471), Ok(Some("[::1]:8471".parse().unwrap())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |ip, port| health(ip, port).unwrap_err();
        assert_eq!(wrong("0.0.0.0", 65_536).flag, "healthz-port");
        let error = wrong("localhost", 80);
        assert!(error.flag == "healthz-ip" && error.why.contains("0.0.0.0"), "{}", error.why);
    }
}
