//! One daemon for one device: a name in the network namespace that goes with the process, however it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The right to drive a device.
#[derive(Debug)]
pub struct DeviceLock {
    _listener: UnixListener,
}

/// Why the right is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("another flanneld{} drives device {device} in this network namespace; stop it first, or give this one another VNI", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Taken {
        /// The device.
        device: String,
        /// The other process, where it can be told.
        pid: Option<i32>,
    },
    /// The kernel refuses.
    #[error("cannot reserve device {device}: {error}")]
    Refused {
        /// The device.
        device: String,
        /// Why.
        error: io::Error,
    },
}

impl DeviceLock {
    /// Takes it, until dropped.
    ///
    /// # Errors
    /// When another daemon of this kind has it.
    pub fn take(device: &str) -> Result<Self, Error> {
        let refused = |error| Error::Refused { device: device.to_owned(), error };
        let name = SocketAddr::from_abstract_name(format!("rflannel/{device}")).map_err(refused)?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::Taken { device: device.to_owned(), pid: owner(&name) })
            }
            Err(error) => Err(refused(error)),
        }
    }
}

fn owner(name: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(name).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_has_it() {
        let device = format!("test.{}", std::process::id());
        let first = DeviceLock::take(&device).unwrap();
        let error = DeviceLock::take(&device).unwrap_err();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(error, Error::Taken { pid: Some(p), .. } if p == pid), "{error}");
        drop(first);
        DeviceLock::take(&device).unwrap();
    }
}
