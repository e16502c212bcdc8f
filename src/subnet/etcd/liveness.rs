//! Finding out whether another machine that has this host's lease is alive.
//!
//! The challenger writes the lease again as it is. A live owner's watch sees that, its `hold` finds a lease that is newer
//! than the owner record and writes both; a dead one's does not. Who answers in time keeps the lease. Silence is no proof
//! of death: an owner that is cut off from etcd loses it, and learns so when it is back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::owner::MachineId;
use super::super::{Error, Lease, PublicAddrs, Revision, Snapshot, Subnets};
use super::store::{self, Before, Commit, Owner, Seen, Sight, Store, Write};

/// How long an owner may take to answer: an event, a look and a write.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look for the answer.
const LOOK: Duration = Duration::from_millis(250);

/// What came of a challenge.
pub enum Answer {
    /// The owner of the record is alive.
    Alive(MachineId),
    /// No one answered. The revision of the lease as it is now: anyone who writes it at that revision was the only one.
    Silent(Revision),
    /// The lease became something else, or the question was lost. No sign of life: who wants to know looks again.
    Moved,
}

/// Another machine that a key announcing this host's address belongs to, and when it said so.
pub(super) fn other_owner<'a>(
    sight: &'a Sight,
    me: Option<&MachineId>,
) -> Option<(&'a MachineId, Revision)> {
    let Owner::Recorded(owner, recorded) = &sight.owner else {
        return None;
    };
    me.filter(|me| !me.is(owner)).map(|_| (owner, *recorded))
}

/// Whether the record beside a key is this machine's and covers its last write. Always so for an unknown machine, and where
/// records are denied.
pub(super) fn owner_confirmed(sight: &Sight, modified: Revision, me: Option<&MachineId>) -> bool {
    let Some(me) = me else { return true };
    match &sight.owner {
        Owner::Denied => true,
        Owner::Unrecorded => false,
        Owner::Recorded(owner, recorded) => me.is(owner) && *recorded == modified,
    }
}

/// What there is of leases that may be at odds with one of this host's.
#[derive(Debug, Clone)]
pub(super) struct RelatedLeases {
    /// Of the list that they are from.
    pub(super) revision: Revision,
    cluster_id: u64,
    /// Other keys.
    pub(super) leases: Vec<Lease>,
}

impl RelatedLeases {
    /// Those in a list.
    pub(super) fn of(own: &Lease, list: &Snapshot) -> Self {
        let is_related = |lease: &&Lease| {
            lease.subnets != own.subnets
                && (are_of_one_host(lease, own) || lease.subnets.meets(&own.subnets))
        };
        let leases = list.leases.iter().filter(is_related).cloned().collect();
        Self {
            revision: list.revision,
            cluster_id: list.cluster_id,
            leases,
        }
    }

    /// With what was written since.
    pub(super) async fn brought_up_to_date<S: Store>(
        &self,
        store: &S,
        own: &Lease,
    ) -> Result<Self, Error> {
        let news = store::written_after(store, self.revision).await?;
        if news.cluster_id != self.cluster_id {
            return Ok(Self::of(own, &store::snapshot(store).await?));
        }
        let mut now = Self::of(own, &news);
        let is_old = |old: &&Lease| news.leases.iter().all(|new| new.subnets != old.subnets);
        now.leases
            .extend(self.leases.iter().filter(is_old).cloned());
        Ok(now)
    }
}

fn are_of_one_host(one: &Lease, other: &Lease) -> bool {
    let [one, other] = [one, other].map(|lease| PublicAddrs::of(&lease.attrs));
    one.zip(other).is_some_and(|(one, other)| one.is(&other))
}

/// That one of `leases` which another machine has with the address of `own` under another key, and which was created before
/// `created`.
///
/// Two hosts that announce one address may come at the same moment, and neither sees the other in its list. So who has
/// created a key looks again: the younger one goes.
pub(super) async fn older_duplicate<S: Store>(
    store: &S,
    me: Option<&MachineId>,
    own: &Lease,
    created: Revision,
    leases: &[Lease],
) -> Result<Option<(Lease, Revision)>, Error> {
    let is_meant = |lease: &&Lease| {
        are_of_one_host(lease, own) && lease.subnets != own.subnets && lease.created < created
    };
    for lease in leases.iter().filter(is_meant).filter(|_| me.is_some()) {
        let sight = store.look(&lease.subnets).await?;
        let is_there = matches!(sight.seen, Seen::Lease(_));
        if let Some((_, recorded)) = other_owner(&sight, me).filter(|_| is_there) {
            return Ok(Some((lease.clone(), recorded)));
        }
    }
    Ok(None)
}

/// That one of `leases` with one of `own`'s subnets under another key, made before `created`.
///
/// Two hosts that lease a subnet of each family at the same moment can choose the same one of one family and different ones
/// of the other. Their keys differ, so both are made. So who has created a key looks again: the younger one goes. With one
/// family the key is the subnet.
pub(super) fn earlier_claimant<'a>(
    own: &Subnets,
    created: Revision,
    leases: &'a [Lease],
) -> Option<&'a Lease> {
    let precedes = |lease: &&Lease| {
        lease.created < created && lease.subnets != *own && lease.subnets.meets(own)
    };
    leases
        .iter()
        .find(precedes)
        .filter(|_| own.iter().count() > 1)
}

/// The first of these leases that is no other machine's.
pub(super) async fn first_unclaimed<S: Store>(
    store: &S,
    me: Option<&MachineId>,
    leases: &[Lease],
    is_meant: impl Fn(&Lease) -> bool,
) -> Result<Option<Subnets>, Error> {
    for lease in leases.iter().filter(|lease| is_meant(lease)) {
        if other_owner(&store.look(&lease.subnets).await?, me).is_none() {
            return Ok(Some(lease.subnets));
        }
    }
    Ok(None)
}

/// Challenges the owner of `lease`, whose record was written at `recorded`. A record of this machine is no answer: a write of its
/// own has come late.
pub(super) async fn challenge<S: Store>(
    store: &S,
    me: Option<&MachineId>,
    lease: &Lease,
    recorded: Revision,
) -> Result<Answer, Error> {
    let Lease {
        subnets,
        attrs,
        lease_id,
        modified,
        ..
    } = lease;
    let before = Before::At(*modified);
    let write = Write {
        subnets,
        attrs,
        lease_id: *lease_id,
        before,
        owner: None,
        config: None,
        replaces: &[],
    };
    let begun = Instant::now();
    let mut asked = match store.write(&write).await? {
        Commit::Done(_) => Some(Instant::now()),
        Commit::Unknown => None,
        Commit::Lost => return Ok(Answer::Moved),
    };
    loop {
        sleep(LOOK).await;
        let sight = store.look(subnets).await?;
        let Seen::Lease(now) = &sight.seen else {
            return Ok(Answer::Moved);
        };
        if now.modified != *modified {
            asked.get_or_insert_with(Instant::now);
        }
        // Who was never asked has not been silent.
        let is_over = asked.unwrap_or(begun).elapsed() >= PATIENCE;
        match sight.owner {
            Owner::Recorded(owner, _) if me.is_some_and(|me| me.is(&owner)) => {
                return Ok(Answer::Moved);
            }
            Owner::Recorded(owner, at) if at != recorded => return Ok(Answer::Alive(owner)),
            Owner::Recorded(..) if now.attrs != *attrs => return Ok(Answer::Moved),
            Owner::Recorded(..) if is_over && asked.is_none() => return Ok(Answer::Moved),
            Owner::Recorded(..) if is_over => return Ok(Answer::Silent(now.modified)),
            Owner::Recorded(..) => {}
            Owner::Unrecorded | Owner::Denied => return Ok(Answer::Moved),
        }
    }
}
