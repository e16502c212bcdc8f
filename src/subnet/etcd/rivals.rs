//! Other machines that announce this host's public address.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::owner::MachineId;
use super::super::{Error, Lease};

/// A live rival is challenged again after this: each challenge is an event for every host.
const PAUSE: Duration = Duration::from_secs(60);

/// The rival that was met last.
#[derive(Default)]
pub(super) struct Rivals(Mutex<Option<(MachineId, Instant)>>);

impl Rivals {
    /// `rival` is alive and has `lease`.
    pub(super) fn meet(&self, lease: &Lease, rival: MachineId, me: &MachineId) -> Error {
        let error = duplicate(lease, &rival, me);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((rival, Instant::now()));
        error
    }

    /// # Errors
    /// When `rival` was alive a short time ago.
    pub(super) fn refuse_known(&self, lease: &Lease, rival: &MachineId, me: &MachineId) -> Result<(), Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_ref() {
            Some((met, at)) if met.is(rival) && at.elapsed() < PAUSE => Err(duplicate(lease, rival, me)),
            _ => Ok(()),
        }
    }
}

fn duplicate(lease: &Lease, rival: &MachineId, me: &MachineId) -> Error {
    Error::Duplicate {
        subnets: lease.subnets,
        ip: lease.attrs.known_as(),
        host: rival.host().to_owned(),
        clone: match rival.is_alike(me) {
            true => {
                "; both have the same machine id, so one is a clone: make it a new /etc/machine-id as well"
            }
            false => "",
        },
    }
}
