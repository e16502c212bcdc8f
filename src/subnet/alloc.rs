//! Which subnet this host should lease: pure.

use super::{Claim, Lease, NetworkConfig, Subnets};

/// What to do, decided from one consistent list of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This host holds a lease that fits the configuration: keep it (and write the value if it differs).
    Reuse(Lease),
    /// Create the key for these subnets. `replaces`: leases of this host that do not fit the configuration any more and
    /// are deleted in the same transaction.
    Create {
        /// The subnets to lease.
        subnets: Subnets,
        /// Leases of this host to delete with it.
        replaces: Vec<Lease>,
    },
    /// Nothing is free.
    Full,
}

/// Decides. `random(n)` yields a number below `n`.
pub fn choose(
    _config: &NetworkConfig,
    _leases: &[Lease],
    _claim: &Claim,
    _random: &mut dyn FnMut(u64) -> u64,
) -> Choice {
    Choice::Full
}
