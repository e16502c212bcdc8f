//! Making sure that a lease is this machine's before it is kept, replaced or deleted, or anything is taken over from it.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::super::owner::MachineId;
use super::super::{Error, Lease, Revision};
use super::EtcdManager;
use super::liveness::{self, Answer, RelatedLeases};
use super::store::{Seen, Store};

use crate::util::lock;

/// A live other owner is challenged again after this: each challenge is an event for every host.
const CHALLENGE_PAUSE: Duration = Duration::from_secs(60);

/// A lease that no other live machine holds.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// As it is now.
    pub(super) lease: Lease,
    /// The revision that it was listed with: a challenge writes it again.
    listed: Revision,
    /// The record beside it is this machine's and covers the last write.
    pub(super) owner_confirmed: bool,
    /// It was another machine's, which may come back and renew the etcd lease that it knows.
    pub(super) move_off: bool,
    /// It is of an earlier boot of this machine, or of a clone, and the datastore does not let it be challenged.
    pub(super) refusal: Option<String>,
}

impl Proof {
    fn of(lease: &Lease, owner_confirmed: bool) -> Self {
        Self {
            lease: lease.clone(),
            listed: lease.modified,
            owner_confirmed,
            move_off: false,
            refusal: None,
        }
    }

    /// Of a lease whose machine was challenged, which wrote it, and did not answer.
    fn of_silent(lease: &Lease, modified: Revision) -> Self {
        let mut proof = Self::of(lease, false);
        (proof.lease.modified, proof.move_off) = (modified, true);
        proof
    }

    /// Whether nothing has been written since.
    fn covers(&self, lease: &Lease) -> bool {
        self.lease.subnets == lease.subnets
            && [self.listed, self.lease.modified].contains(&lease.modified)
    }
}

/// Makes sure that no other live machine has `lease`. `None` if it changed meanwhile.
///
/// # Errors
/// [`Error::Duplicate`] when another live machine has it.
pub(super) async fn prove<S: Store>(
    manager: &EtcdManager<S>,
    lease: &Lease,
    related: &RelatedLeases,
) -> Result<Option<Proof>, Error> {
    let Some(me) = manager.machine.known() else {
        return Ok(Some(Proof::of(lease, true)));
    };
    // Whatever is done next compares the revision: a proof is good for as long as that stays.
    if let Some(known) = proofs(manager).iter().find(|proof| proof.covers(lease)) {
        return Ok(Some(known.clone()));
    }
    let sight = manager.store.look(&lease.subnets).await?;
    if sight.seen != Seen::Lease(lease.clone()) {
        return Ok(None);
    }
    let proof = match liveness::other_owner(&sight, Some(me)) {
        None => Proof::of(
            lease,
            liveness::owner_confirmed(&sight, lease.modified, Some(me)),
        ),
        Some((other_owner, recorded)) => {
            match outlive(manager, lease, (other_owner, recorded), me, related).await {
                // Two things speak for this machine, its address and its id, and nothing against it.
                Err(error) if error.is_refusal() && other_owner.is_alike(me) => {
                    return Ok(Some(Proof {
                        refusal: Some(error.to_string()),
                        ..Proof::of(lease, false)
                    }));
                }
                done => {
                    let Some(modified) = done? else {
                        return Ok(None);
                    };
                    Proof::of_silent(lease, modified)
                }
            }
        }
    };
    keep_proof(manager, proof.clone());
    Ok(Some(proof))
}

fn keep_proof<S>(manager: &EtcdManager<S>, proof: Proof) {
    let mut proofs = proofs(manager);
    proofs.retain(|old| old.lease.subnets != proof.lease.subnets);
    proofs.push(proof);
}

fn proofs<S>(manager: &EtcdManager<S>) -> MutexGuard<'_, Vec<Proof>> {
    lock(&manager.proofs)
}

/// Challenges the machine that has `lease`. The revision of the lease where that machine is silent; `None` if a lease that
/// matters changed meanwhile.
async fn outlive<S: Store>(
    manager: &EtcdManager<S>,
    lease: &Lease,
    (other_owner, recorded): (&MachineId, Revision),
    me: &MachineId,
    related: &RelatedLeases,
) -> Result<Option<Revision>, Error> {
    manager
        .known_duplicates
        .refuse_known(lease, other_owner, me)?;
    match liveness::challenge(&manager.store, Some(me), lease, recorded).await? {
        Answer::Alive(other_owner) => Err(manager.known_duplicates.meet(lease, other_owner, me)),
        Answer::Silent(modified) => Ok(is_alone(manager, lease, me, related)
            .await?
            .then_some(modified)),
        Answer::Moved => Ok(None),
    }
}

/// A host may have left one key and live on under another: all of them are asked, and each one once, since a question writes the key.
/// `false` if another key changed while its owner was asked.
///
/// # Errors
/// When a live machine has another lease with the address of this one.
async fn is_alone<S: Store>(
    manager: &EtcdManager<S>,
    lease: &Lease,
    me: &MachineId,
    related: &RelatedLeases,
) -> Result<bool, Error> {
    let now = related.brought_up_to_date(&manager.store, lease).await?;
    let mut unproven = now.leases;
    loop {
        unproven.retain(|other| !proofs(manager).iter().any(|proof| proof.covers(other)));
        let found =
            liveness::older_duplicate(&manager.store, Some(me), lease, Revision::MAX, &unproven)
                .await?;
        let Some((other, recorded)) = found else {
            return Ok(true);
        };
        match liveness::challenge(&manager.store, Some(me), &other, recorded).await? {
            Answer::Alive(other_owner) => {
                return Err(manager.known_duplicates.meet(&other, other_owner, me));
            }
            Answer::Moved => return Ok(false),
            Answer::Silent(modified) => {
                keep_proof(manager, Proof::of_silent(&other, modified));
            }
        }
    }
}

/// The other owner that was met last.
#[derive(Default)]
pub(super) struct KnownDuplicates(Mutex<Option<(MachineId, Instant)>>);

impl KnownDuplicates {
    /// `other_owner` is alive and has `lease`.
    pub(super) fn meet(&self, lease: &Lease, other_owner: MachineId, me: &MachineId) -> Error {
        let error = duplicate(lease, &other_owner, me);
        *lock(&self.0) = Some((other_owner, Instant::now()));
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
        let known = lock(&self.0);
        match known.as_ref() {
            Some((met, at)) if met.is(other_owner) && at.elapsed() < CHALLENGE_PAUSE => {
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
