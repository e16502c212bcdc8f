//! Other machines that announce this host's public address.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::owner::MachineId;
use super::super::{Error, Lease};

/// A live other owner is challenged again after this: each challenge is an event for every host.
const PAUSE: Duration = Duration::from_secs(60);

/// The other owner that was met last.
#[derive(Default)]
pub(super) struct KnownDuplicates(Mutex<Option<(MachineId, Instant)>>);

impl KnownDuplicates {
    /// `other_owner` is alive and has `lease`.
    pub(super) fn meet(&self, lease: &Lease, other_owner: MachineId, me: &MachineId) -> Error {
        let error = duplicate(lease, &other_owner, me);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((other_owner, Instant::now()));
        error
    }

    /// # Errors
    /// When `other_owner` was alive a short time ago.
    pub(super) fn refuse_known(
        &self,
        lease: &Lease,
        other_owner: &MachineId,
        me: &MachineId,
    ) -> Result<(), Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_ref() {
            Some((met, at)) if met.is(other_owner) && at.elapsed() < PAUSE => {
                Err(duplicate(lease, other_owner, me))
            }
            _ => Ok(()),
        }
    }
}

fn duplicate(lease: &Lease, other_owner: &MachineId, me: &MachineId) -> Error {
    Error::Duplicate {
        subnets: lease.subnets,
        ip: lease.attrs.known_as(),
        host: other_owner.host().to_owned(),
        clone: if other_owner.is_alike(me) {
            "; both hosts have the same machine ID, so one is a clone: give it a new /etc/machine-id as well"
        } else {
            ""
        },
    }
}
