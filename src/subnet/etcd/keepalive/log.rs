//! Log lines about the own key.

use tracing::{info, warn};

use super::super::store::{Before, Store};
use super::Holder;

impl<S: Store> Holder<'_, S> {
    /// Logs that the key became a reservation, or is no longer one.
    pub(super) fn note_reservation(&mut self, is_reservation: bool) {
        let subnet = self.lease.subnets;
        match self.is_reservation.replace(is_reservation) {
            Some(false) if is_reservation => info!(
                %subnet,
                "the lease of {subnet} is now a reservation: its key has no etcd lease, so it does not expire; to end the reservation, use `rflannel lease unreserve` or delete the key"
            ),
            Some(true) if !is_reservation => {
                info!(
                    %subnet,
                    "the lease of {subnet} is no longer a reservation: it expires unless it is renewed"
                );
            }
            _ => {}
        }
    }

    /// Logs that the key was written, and why.
    pub(super) fn report(&self, before: Before) {
        let subnet = self.lease.subnets;
        match before {
            Before::At(_) if self.published != self.lease.attrs => {
                info!(%subnet, "updated the lease of {subnet} after a change on this host");
            }
            Before::Absent => {
                warn!(%subnet, "restored the lease of {subnet}, which was missing in etcd");
            }
            Before::At(_) if self.is_unchanged => {
                info!(%subnet, "confirmed the lease of {subnet} at the request of another client");
            }
            Before::At(_) => warn!(
                %subnet,
                "restored the lease of {subnet}, which another client modified; check for a duplicate public address"
            ),
        }
    }
}
