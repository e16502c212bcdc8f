//! Finding out whether another machine that has this host's lease is alive.
//!
//! The challenger writes the lease again as it is. A live owner's watch sees that, its `hold` finds a lease that is newer
//! than the owner record and writes both; a dead one's does not. Who answers in time keeps the lease. Silence is no proof
//! of death: an owner that is cut off from etcd loses it, and learns so when it is back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::machine::Machine;
use super::super::{Error, Identity, Lease, Revision, Subnets};
use super::store::{self, Before, Commit, Seen, Sight, Store, Write};

/// How long an owner may take to answer: an event, a look and a write.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look for the answer.
const LOOK: Duration = Duration::from_millis(250);

/// What came of a challenge.
pub enum Answer {
    /// The owner of the record is alive.
    Alive(Machine),
    /// Nobody answered. The revision of the lease as it is now: whoever writes it at that revision was the only one.
    Silent(Revision),
    /// The lease became something else.
    Moved,
}

/// Another machine that a key announcing this host's address belongs to, and when it said so.
pub(super) fn rival<'a>(sight: &'a Sight, me: Option<&Machine>) -> Option<(&'a Machine, Revision)> {
    let (owner, recorded) = sight.owner.as_ref()?;
    me.filter(|me| !me.is(owner)).map(|_| (owner, *recorded))
}

/// Whether the record beside a key is this machine's and covers its last write. Always so for an unknown machine.
pub(super) fn is_vouched(sight: &Sight, modified: Revision, me: Option<&Machine>) -> bool {
    let Some(me) = me else { return true };
    sight.owner.as_ref().is_some_and(|(owner, recorded)| me.is(owner) && *recorded == modified)
}

/// Another machine's lease that announces the host of `own` under another key, and was created before `created`.
///
/// Two hosts that announce one address may come at the same moment, and neither sees the other in its list. So who has
/// created a key looks again: the younger one goes.
pub(super) async fn elder<S: Store>(
    store: &S,
    me: Option<&Machine>,
    own: &Lease,
    created: Revision,
) -> Result<Option<(Lease, Revision)>, Error> {
    let (Some(_), Some(host)) = (me, Identity::of(&own.attrs)) else { return Ok(None) };
    for lease in store::snapshot(store).await?.leases {
        let is_ours = Identity::of(&lease.attrs).is_some_and(|other| other.is(&host));
        if !is_ours || lease.subnets == own.subnets || lease.created >= created {
            continue;
        }
        let sight = store.look(&lease.subnets).await?;
        if let Some((_, recorded)) = rival(&sight, me) {
            return Ok(Some((lease, recorded)));
        }
    }
    Ok(None)
}

/// A lease with one of `own`'s subnets under another key, made before `created`.
///
/// Two hosts that lease a subnet of each family at the same moment can choose the same one of one family and different ones
/// of the other. Their keys differ, so both are made. So who has created a key looks again: the younger one goes. With one
/// family the key is the subnet.
pub(super) async fn forestaller<S: Store>(
    store: &S,
    own: &Subnets,
    created: Revision,
) -> Result<Option<Lease>, Error> {
    if own.iter().count() < 2 {
        return Ok(None);
    }
    let precedes =
        |lease: &Lease| lease.created < created && lease.subnets != *own && lease.subnets.meets(own);
    Ok(store::snapshot(store).await?.leases.into_iter().find(precedes))
}

/// The first of these leases that is no other machine's.
pub(super) async fn unrivalled<S: Store>(
    store: &S,
    me: Option<&Machine>,
    leases: &[Lease],
    is_meant: impl Fn(&Lease) -> bool,
) -> Result<Option<Subnets>, Error> {
    for lease in leases.iter().filter(|lease| is_meant(lease)) {
        if rival(&store.look(&lease.subnets).await?, me).is_none() {
            return Ok(Some(lease.subnets));
        }
    }
    Ok(None)
}

/// Challenges the owner of `lease`, whose record was written at `recorded`.
pub(super) async fn challenge<S: Store>(
    store: &S,
    lease: &Lease,
    recorded: Revision,
) -> Result<Answer, Error> {
    let Lease { subnets, attrs, grant, modified, .. } = lease;
    let before = Before::At(*modified);
    let write = Write { subnets, attrs, grant: *grant, before, owner: None, config: None, replaces: &[] };
    if store.write(&write).await? == Commit::Lost {
        return Ok(Answer::Moved);
    }
    let asked = Instant::now();
    loop {
        sleep(LOOK).await;
        let sight = store.look(subnets).await?;
        let Seen::Lease(now) = &sight.seen else { return Ok(Answer::Moved) };
        match sight.owner {
            Some((owner, at)) if at != recorded => return Ok(Answer::Alive(owner)),
            Some(_) if now.attrs != *attrs => return Ok(Answer::Moved),
            Some(_) if asked.elapsed() >= PATIENCE => return Ok(Answer::Silent(now.modified)),
            Some(_) => {}
            None => return Ok(Answer::Moved),
        }
    }
}
