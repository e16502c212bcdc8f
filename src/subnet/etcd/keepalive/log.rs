//! What is logged about the own key.

use tracing::{info, warn};

use super::super::store::{Before, Store};
use super::Holder;

impl<S: Store> Holder<'_, S> {
    /// Says so when the key became a reservation, or is none any more.
    pub(super) fn note_reservation(&mut self, is_reservation: bool) {
        let subnets = self.lease.subnets;
        match self.is_reservation.replace(is_reservation) {
            Some(false) if is_reservation => info!(
                "the lease of {subnets} is a reservation now: its key was written without an etcd lease, so it does not expire; to end that, use `rflannel lease unreserve`, or delete the key, which this host then writes again"
            ),
            Some(true) if !is_reservation => {
                info!(
                    "the lease of {subnets} is no longer a reservation: its key expires again when it is not renewed"
                );
            }
            _ => {}
        }
    }

    /// Says that the key was written, and why.
    pub(super) fn report(&self, before: Before) {
        let subnets = self.lease.subnets;
        match before {
            Before::At(_) if self.published != self.lease.attrs => {
                info!("the lease of {subnets} announces what has changed on this host");
            }
            Before::Absent => warn!("the lease of {subnets} was gone from etcd and is back"),
            Before::At(_) if self.is_unchanged => {
                info!("confirmed the lease of {subnets}, which another client asked for");
            }
            Before::At(_) => warn!(
                "restored the lease of {subnets}, which another client modified; check for a duplicate public address"
            ),
        }
    }
}
