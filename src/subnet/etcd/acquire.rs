//! Getting a lease: read, choose, write if nothing changed; else again.

use std::sync::PoisonError;
use std::time::Duration;

use tracing::{debug, info};

use super::super::alloc::{self, Choice};
use super::super::machine::Machine;
use super::super::{Claim, Error, Grant, Lease, NetworkConfig, Revision, Snapshot, Subnets};
use super::EtcdManager;
use super::challenge::{self, Answer, Kin};
use super::store::{self, Before, Commit, Seen, Store, Write};

/// Lost races before giving up.
const ROUNDS: usize = 10;
/// An etcd lease shorter than this is not worth keeping: an outage that long would delete the key.
const SHORTEST: Duration = Duration::from_secs(60);

/// Gets a lease for `claim`. The first round chooses from `known`.
pub(super) async fn acquire<S: Store>(
    manager: &EtcdManager<S>,
    config: &NetworkConfig,
    claim: &Claim,
    known: &Snapshot,
) -> Result<Lease, Error> {
    let won = win(manager, config, claim, known).await;
    // After any other error one of the grants may be what keeps an earlier lease of this host: the next attempt sees.
    if let Ok(Lease { grant: used, .. }) = won {
        manager.discard_grants(used).await;
    } else if let Err(Error::Duplicate { .. }) = won {
        manager.discard_grants(None).await;
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
        let choice = alloc::choose(config, &list.leases, claim, &mut |below| manager.dice.below(below));
        let won = match choice {
            Choice::Reuse(lease) => reuse(manager, lease, claim, list).await?,
            Choice::Create { subnets, replaces } => {
                announce(config, claim, &subnets, &replaces);
                create(manager, claim, subnets, &replaces, list).await?
            }
            Choice::Full(range) => return Err(Error::Full(range)),
        };
        if let Some((lease, kin)) = won {
            *manager.kin.lock().unwrap_or_else(PoisonError::into_inner) = Some(kin);
            return Ok(lease);
        }
        debug!("the leases changed while one was chosen, choosing again");
        manager.check_config().await?;
        fresh = Some(store::snapshot(&manager.store).await?);
    }
    Err(Error::Unavailable(format!(
        "cannot acquire a subnet: other hosts were faster {ROUNDS} times, or etcd did not say whether it wrote"
    )))
}

/// Keeps an earlier lease of this host. Nothing is written if it is as it should be.
async fn reuse<S: Store>(
    manager: &EtcdManager<S>,
    lease: Lease,
    claim: &Claim,
    list: &Snapshot,
) -> Result<Option<(Lease, Kin)>, Error> {
    let kin = Kin::of(&Lease { attrs: claim.attrs.clone(), ..lease.clone() }, list);
    let Some(Own { lease, owner, move_off }) = own(manager, lease, &kin).await? else { return Ok(None) };
    let grant = match lease.grant {
        Some(grant) if move_off || !usable(&manager.store, grant).await? => Some(manager.take_grant().await?),
        same => same,
    };
    info!("Found lease ({}) for current IP ({}), reusing", lease.subnets.in_log(), claim.attrs.known_as());
    if grant == lease.grant && lease.attrs == claim.attrs && owner.is_none() {
        return Ok(Some((lease, kin)));
    }
    let write = Write {
        subnets: &lease.subnets,
        attrs: &claim.attrs,
        grant,
        before: Before::At(lease.modified),
        owner,
        config: manager.config_read(),
        replaces: &[],
    };
    let is_new = grant != lease.grant;
    Ok(match commit(manager, &write, is_new).await? {
        Commit::Done(modified) => Some((Lease { attrs: claim.attrs.clone(), modified, grant, ..lease }, kin)),
        Commit::Lost | Commit::Unknown => None,
    })
}

/// A lease that is this machine's, or nobody's else.
struct Own<'a> {
    lease: Lease,
    /// The owner record to write.
    owner: Option<&'a Machine>,
    /// It was another machine's, which may come back and renew the etcd lease that it knows.
    move_off: bool,
}

/// Makes sure that no other live machine has `lease`. `None` if it changed meanwhile.
async fn own<'a, S: Store>(
    manager: &'a EtcdManager<S>,
    lease: Lease,
    kin: &Kin,
) -> Result<Option<Own<'a>>, Error> {
    let Some(me) = manager.machine.known() else {
        return Ok(Some(Own { lease, owner: None, move_off: false }));
    };
    let sight = manager.store.look(&lease.subnets).await?;
    if sight.seen != Seen::Lease(lease.clone()) {
        return Ok(None);
    }
    let Some((rival, recorded)) = challenge::rival(&sight, Some(me)) else {
        let owner = (!challenge::is_vouched(&sight, lease.modified, Some(me))).then_some(me);
        return Ok(Some(Own { lease, owner, move_off: false }));
    };
    manager.rivals.refuse_known(&lease, rival, me)?;
    match challenge::challenge(&manager.store, &lease, recorded).await? {
        Answer::Alive(rival) => Err(manager.rivals.meet(&lease, rival, me)),
        Answer::Silent(modified) => {
            refuse_elsewhere(manager, &lease, me, kin).await?;
            Ok(Some(Own { lease: Lease { modified, ..lease }, owner: Some(me), move_off: true }))
        }
        Answer::Moved => Ok(None),
    }
}

/// A host may have left one key and live on under another.
///
/// # Errors
/// When a live machine has another lease with the address of this one.
async fn refuse_elsewhere<S: Store>(
    manager: &EtcdManager<S>,
    lease: &Lease,
    me: &Machine,
    kin: &Kin,
) -> Result<(), Error> {
    let now = kin.brought_up_to_date(&manager.store, lease).await?;
    let found = challenge::elder(&manager.store, Some(me), lease, Revision::MAX, &now.leases).await?;
    let Some((other, recorded)) = found else { return Ok(()) };
    match challenge::challenge(&manager.store, &other, recorded).await? {
        Answer::Alive(rival) => Err(manager.rivals.meet(&other, rival, me)),
        Answer::Silent(_) | Answer::Moved => Ok(()),
    }
}

async fn create<S: Store>(
    manager: &EtcdManager<S>,
    claim: &Claim,
    subnets: Subnets,
    replaces: &[Lease],
    list: &Snapshot,
) -> Result<Option<(Lease, Kin)>, Error> {
    let grant = Some(manager.take_grant().await?);
    let write = Write {
        subnets: &subnets,
        attrs: &claim.attrs,
        grant,
        before: Before::Absent,
        owner: manager.machine.known(),
        config: manager.config_read(),
        replaces,
    };
    let Commit::Done(revision) = commit(manager, &write, true).await? else { return Ok(None) };
    let lease = Lease { subnets, attrs: claim.attrs.clone(), created: revision, modified: revision, grant };
    // Until it is known to be the only one.
    manager.grants().doubtful.extend(grant);
    let kin = Kin::of(&lease, list).brought_up_to_date(&manager.store, &lease).await?;
    let me = manager.machine.known();
    let is_first = challenge::elder(&manager.store, me, &lease, revision, &kin.leases).await?.is_none()
        && challenge::forestaller(&subnets, revision, &kin.leases).is_none();
    if is_first {
        return Ok(Some((lease, kin)));
    }
    manager.discard_grants(None).await;
    Ok(None)
}

/// Writes. A new grant that was surely not used goes back, for the next round. One that may be used, perhaps later, ends
/// as soon as there is a lease without it: that also undoes the write.
async fn commit<S: Store>(
    manager: &EtcdManager<S>,
    write: &Write<'_>,
    grant_is_new: bool,
) -> Result<Commit, Error> {
    let outcome = manager.store.write(write).await;
    if let Some(grant) = write.grant.filter(|_| grant_is_new) {
        match outcome {
            Ok(Commit::Lost) | Err(_) => manager.grants().spare.push(grant),
            Ok(Commit::Unknown) => manager.grants().doubtful.push(grant),
            Ok(Commit::Done(_)) => {}
        }
    }
    outcome
}

async fn usable<S: Store>(store: &S, grant: Grant) -> Result<bool, Error> {
    Ok(store.granted_ttl(grant).await?.is_some_and(|ttl| ttl >= SHORTEST))
}

fn announce(config: &NetworkConfig, claim: &Claim, subnets: &Subnets, replaces: &[Lease]) {
    for old in replaces {
        let ip = claim.attrs.known_as();
        info!(
            "Found lease ({}) for current IP ({ip}) but not compatible with current config, deleting",
            old.subnets.in_log()
        );
    }
    for (range, subnet) in config.ranges.iter().filter_map(|range| Some((range, subnets.of(range.family())?)))
    {
        match claim.previous.of(range.family()) == Some(subnet) {
            true => info!("Found previously leased subnet ({subnet}), reusing"),
            false => info!("Picking subnet in range {} ... {}", range.subnet_min, range.subnet_max),
        }
    }
}
