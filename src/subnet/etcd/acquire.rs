//! Getting a lease: read, choose, write if nothing changed; else again.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::super::alloc::{self, Choice, Existing};
use super::super::{Claim, Error, Lease, LeaseId, NetworkConfig, Snapshot, Subnets};
use super::EtcdManager;
use super::liveness::{self, RelatedLeases};
use super::ownership::{self, Proof};
use super::store::{self, Before, Commit, Store, Write};
use crate::util::go_lines::GoLine;
use crate::util::lock;
use crate::util::logging::causes;

/// Lost races before giving up.
const ROUNDS: usize = 10;
/// An etcd lease shorter than this is not worth keeping: an outage that long would delete the key.
const SHORTEST: Duration = Duration::from_secs(60);
/// Leases replaced in one transaction: two operations each, and etcd allows 128.
const REPLACED: usize = 60;

/// Gets a lease for `claim`. The first round chooses from `known`.
pub(super) async fn acquire<S: Store>(
    manager: &EtcdManager<S>,
    config: &NetworkConfig,
    claim: &Claim,
    known: &Snapshot,
) -> Result<Lease, Error> {
    let won = win(manager, config, claim, known).await;
    // After any other error one of the lease IDs may be what keeps an earlier lease of this host: the next attempt sees.
    if let Ok(Lease { lease_id: used, .. }) = won {
        manager.discard_lease_ids(used).await;
    } else if let Err(Error::Duplicate { .. }) = won {
        manager.discard_lease_ids(None).await;
    }
    won
}

async fn win<S: Store>(
    manager: &EtcdManager<S>,
    config: &NetworkConfig,
    claim: &Claim,
    known: &Snapshot,
) -> Result<Lease, Error> {
    let mut fresh = None;
    for _ in 0..ROUNDS {
        let list = fresh.as_ref().unwrap_or(known);
        let choice = alloc::choose(config, &list.leases, claim, &mut |below| {
            manager.random.below(below)
        });
        let won = match choice {
            Choice::Reuse(lease) => reuse(manager, lease, claim, list).await?,
            Choice::Create { subnets, replaces } => {
                announce(config, claim, &subnets, &replaces);
                create(manager, claim, subnets, &replaces, list).await?
            }
            Choice::Full(range) => return Err(Error::Full(range)),
        };
        if let Some((lease, related)) = won {
            *lock(&manager.related) = Some(related);
            return Ok(lease);
        }
        debug!("the leases changed during the choice of a subnet; choosing again");
        manager.check_config().await?;
        fresh = Some(store::snapshot(&manager.store).await?);
    }
    Err(Error::Unavailable(format!(
        "cannot acquire a subnet: in {ROUNDS} attempts other hosts were faster, or etcd did not confirm the write"
    )))
}

/// The leases that `claim` would keep or replace, each proved to be this machine's.
pub(super) async fn prove<S: Store>(
    manager: &EtcdManager<S>,
    config: &NetworkConfig,
    claim: &Claim,
    known: &Snapshot,
) -> Result<Vec<Lease>, Error> {
    let leases = match alloc::existing(config, &known.leases, claim) {
        Existing::Fits(lease) => vec![lease],
        Existing::Misfits(misfits) => misfits,
    };
    let mut proven = Vec::with_capacity(leases.len());
    for lease in leases {
        match ownership::prove(manager, &lease, &related_leases(&lease, claim, known)).await? {
            Some(proof) => proven.push(proof.lease),
            None => {
                return Err(Error::Unavailable(format!(
                    "the lease of {} changed during the check of its owner; reading it again",
                    lease.subnets
                )));
            }
        }
    }
    Ok(proven)
}

fn related_leases(lease: &Lease, claim: &Claim, list: &Snapshot) -> RelatedLeases {
    RelatedLeases::of(
        &Lease {
            attrs: claim.attrs.clone(),
            ..lease.clone()
        },
        list,
    )
}

/// Keeps an earlier lease of this host. Nothing is written if it is as it should be; where nothing can be written it is kept as
/// it is, and `hold` writes it later.
async fn reuse<S: Store>(
    manager: &EtcdManager<S>,
    lease: Lease,
    claim: &Claim,
    list: &Snapshot,
) -> Result<Option<(Lease, RelatedLeases)>, Error> {
    let related = related_leases(&lease, claim, list);
    let Some(proof) = ownership::prove(manager, &lease, &related).await? else {
        return Ok(None);
    };
    GoLine::Reusing(&lease.subnets.in_log(), &claim.attrs.known_as()).log();
    match update(manager, &proof, claim).await {
        Err(error) if error.is_refusal() => {
            warn!(
                subnet = %lease.subnets, err = %causes(&error),
                "{error}; serving the lease of {} as it is in etcd, and retrying the write",
                lease.subnets
            );
            Ok(Some((proof.lease, related)))
        }
        done => Ok(done?.map(|lease| (lease, related))),
    }
}

/// Writes a lease of this host if it is not as it should be. `None` if it changed meanwhile.
async fn update<S: Store>(
    manager: &EtcdManager<S>,
    proof: &Proof,
    claim: &Claim,
) -> Result<Option<Lease>, Error> {
    if let Some(why) = &proof.refusal {
        return Err(Error::Refused(why.clone()));
    }
    let lease = &proof.lease;
    let lease_id = match lease.lease_id {
        Some(lease_id) if proof.move_off || !usable(&manager.store, lease_id).await? => {
            Some(manager.take_lease_id().await?)
        }
        same => same,
    };
    let is_new = lease_id != lease.lease_id;
    if !is_new && lease.attrs == claim.attrs && proof.owner_confirmed {
        return Ok(Some(lease.clone()));
    }
    let write = Write {
        subnets: &lease.subnets,
        attrs: &claim.attrs,
        lease_id,
        before: Before::At(lease.modified),
        owner: manager.machine.known(),
        config: manager.config_read(),
        replaces: &[],
    };
    Ok(match commit(manager, &write, is_new).await? {
        Commit::Done(modified) => Some(Lease {
            attrs: claim.attrs.clone(),
            modified,
            lease_id,
            ..lease.clone()
        }),
        Commit::Lost | Commit::Unknown => None,
    })
}

async fn create<S: Store>(
    manager: &EtcdManager<S>,
    claim: &Claim,
    subnets: Subnets,
    replaces: &[Lease],
    list: &Snapshot,
) -> Result<Option<(Lease, RelatedLeases)>, Error> {
    let Some(replaces) = replaceable(manager, claim, replaces, list).await? else {
        return Ok(None);
    };
    let (replaces, rest) = replaces.split_at(replaces.len().min(REPLACED));
    let lease_id = Some(manager.take_lease_id().await?);
    let write = Write {
        subnets: &subnets,
        attrs: &claim.attrs,
        lease_id,
        before: Before::Absent,
        owner: manager.machine.known(),
        config: manager.config_read(),
        replaces,
    };
    let Commit::Done(revision) = commit(manager, &write, true).await? else {
        return Ok(None);
    };
    let lease = Lease {
        subnets,
        attrs: claim.attrs.clone(),
        created: revision,
        modified: revision,
        lease_id,
    };
    // Until it is known to be the only one.
    manager.lease_ids().uncertain.extend(lease_id);
    let related = RelatedLeases::of(&lease, list)
        .brought_up_to_date(&manager.store, &lease)
        .await?;
    let me = manager.machine.known();
    let is_first = liveness::older_duplicate(&manager.store, me, &lease, revision, &related.leases)
        .await?
        .is_none()
        && liveness::earlier_claimant(&subnets, revision, &related.leases).is_none();
    if is_first {
        return Ok(Some((replace_more(manager, lease, rest).await?, related)));
    }
    manager.discard_lease_ids(None).await;
    Ok(None)
}

/// The leases to replace, each proved to be this machine's. `None` if one changed meanwhile.
async fn replaceable<S: Store>(
    manager: &EtcdManager<S>,
    claim: &Claim,
    replaces: &[Lease],
    list: &Snapshot,
) -> Result<Option<Vec<Lease>>, Error> {
    let mut proven = Vec::with_capacity(replaces.len());
    for lease in replaces {
        match ownership::prove(manager, lease, &related_leases(lease, claim, list)).await? {
            Some(Proof {
                refusal: Some(why), ..
            }) => return Err(Error::Refused(why)),
            Some(proof) => proven.push(proof.lease),
            None => return Ok(None),
        }
    }
    Ok(Some(proven))
}

/// Deletes the leases that had no room in the transaction that made `lease`. Those that cannot be deleted are left to the next
/// start, or to their end.
async fn replace_more<S: Store>(
    manager: &EtcdManager<S>,
    mut lease: Lease,
    rest: &[Lease],
) -> Result<Lease, Error> {
    for replaces in rest.chunks(REPLACED) {
        let write = Write {
            subnets: &lease.subnets,
            attrs: &lease.attrs,
            lease_id: lease.lease_id,
            before: Before::At(lease.modified),
            owner: manager.machine.known(),
            config: None,
            replaces,
        };
        match manager.store.write(&write).await? {
            Commit::Done(modified) => lease.modified = modified,
            Commit::Lost | Commit::Unknown => break,
        }
    }
    Ok(lease)
}

/// Writes. A new lease ID that was surely not used goes back, for the next round. One that may be used, perhaps later, ends
/// as soon as there is a lease without it: that also undoes the write.
async fn commit<S: Store>(
    manager: &EtcdManager<S>,
    write: &Write<'_>,
    lease_id_is_new: bool,
) -> Result<Commit, Error> {
    let outcome = manager.store.write(write).await;
    if let Some(lease_id) = write.lease_id.filter(|_| lease_id_is_new) {
        match outcome {
            Ok(Commit::Lost) | Err(_) => manager.lease_ids().spare.push(lease_id),
            Ok(Commit::Unknown) => manager.lease_ids().uncertain.push(lease_id),
            Ok(Commit::Done(_)) => {}
        }
    }
    outcome
}

async fn usable<S: Store>(store: &S, lease_id: LeaseId) -> Result<bool, Error> {
    Ok(store
        .granted_ttl(lease_id)
        .await?
        .is_some_and(|ttl| ttl >= SHORTEST))
}

fn announce(config: &NetworkConfig, claim: &Claim, subnets: &Subnets, replaces: &[Lease]) {
    for old in replaces {
        let ip = claim.attrs.known_as();
        info!(
            subnet = %old.subnets.in_log(), public_ip = %ip,
            "Found lease ({}) for current IP ({ip}) but not compatible with current config, deleting",
            old.subnets.in_log()
        );
    }
    for (range, subnet) in config
        .ranges
        .iter()
        .filter_map(|range| Some((range, subnets.of(range.family())?)))
    {
        if claim.previous.of(range.family()) == Some(subnet) {
            info!(%subnet, "Found previously leased subnet ({subnet}), reusing")
        } else {
            GoLine::Picking(&range.subnet_min, &range.subnet_max).log()
        }
    }
}
