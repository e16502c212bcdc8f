//! Carries out a change of a lease: shows it, asks the host whether it is alive, and then commits one transaction.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::liveness::{self, ChallengeResult, Liveness};
use crate::admin::plan::{Change, KeyLease, Plan, Put};
use crate::admin::{Inventory, InventoryEntry, Refusal, show};
use crate::cli::etcd_session::{CommandError, EtcdSession, say};
use flanneld::subnet::etcd::Answer;
use flanneld::subnet::etcd::dump::Removal;
use flanneld::subnet::etcd::store::{Before, Commit};
use flanneld::subnet::{Error, Subnets};

/// How long a running daemon may take to react to the change.
const REACTION: Duration = Duration::from_secs(10);
/// Interval at which its reaction is checked.
const LOOK: Duration = Duration::from_millis(250);

/// Consent of the operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent {
    pub(super) yes: bool,
    /// Whether to apply it even if the host may be alive.
    pub(super) force: bool,
}

/// Plans and shows the change, and applies it with `yes`.
pub(super) fn carry_out(
    session: &EtcdSession,
    consent: Consent,
    decide: impl Fn(&Inventory) -> Result<Plan, Refusal>,
) -> Result<(), CommandError> {
    let plan_of = |inventory: &Inventory| decide(inventory).map_err(CommandError::from);
    let mut inventory = session.inventory()?;
    let mut plan = plan_of(&inventory)?;
    if !consent.yes {
        return preview(session, consent, &inventory, &plan);
    }
    let mut liveness = None;
    if let Some(entry) = victim(&inventory, &plan) {
        let voice = ask(session, entry)?;
        if voice != ChallengeResult::NotChallenged {
            // The challenge was a write, so it changed the revision of the lease.
            inventory = session.inventory()?;
            plan = plan_of(&inventory)?;
        }
        let judged =
            victim(&inventory, &plan).map(|entry| liveness::judge(entry, voice, session.margin));
        let asked = if voice == ChallengeResult::NotChallenged {
            NOTHING
        } else {
            QUESTION
        };
        liveness = judged
            .map(|liveness| permit(&liveness, consent.force, asked).map(|()| liveness))
            .transpose()?;
    }
    commit(session, &inventory, &plan)?;
    say(&show::steps(&inventory, &plan, true))?;
    follow_up(session, &plan, liveness.as_ref())
}

fn preview(
    session: &EtcdSession,
    consent: Consent,
    inventory: &Inventory,
    plan: &Plan,
) -> Result<(), CommandError> {
    say(&show::steps(inventory, plan, false))?;
    let Some(entry) = victim(inventory, plan) else {
        return say("nothing was changed; use --yes to apply\n");
    };
    let liveness = liveness::judge(entry, ChallengeResult::NotChallenged, session.margin);
    say(&format!("its host: {}\n", liveness.why()))?;
    if entry.owner.is_some() {
        say(
            "with --yes, rflannel first asks the daemon of that host through etcd whether it runs, and waits 5 s for the answer\n",
        )?;
    }
    permit(&liveness, consent.force, NOTHING)?;
    say("nothing was changed; use --yes to apply\n")
}

/// Returns the lease of the host that the change would harm if the host is alive.
fn victim<'a>(inventory: &'a Inventory, plan: &Plan) -> Option<&'a InventoryEntry> {
    let subnets = match &plan.change {
        Change::Remove(removal) => removal.lease.subnets,
        Change::Put(put) => put.replaces.first()?.subnets,
    };
    inventory
        .entry_of(&subnets)
        .filter(|_| plan.takes_from_live_host)
}

fn ask(session: &EtcdSession, entry: &InventoryEntry) -> Result<ChallengeResult, CommandError> {
    let (Some(lease), Some((_, recorded))) = (&entry.lease, &entry.owner) else {
        return Ok(ChallengeResult::NotChallenged);
    };
    match session.ask(session.manager.challenge(lease, *recorded))? {
        Answer::Alive(_) => Ok(ChallengeResult::Alive),
        Answer::Silent(_) => Ok(ChallengeResult::Silent),
        Answer::Moved => Err(CommandError::Refused(changed(&entry.title()))),
    }
}

/// What was written if a command is refused.
const NOTHING: &str = "nothing was changed";
/// What was written if a command is refused after a challenge.
const QUESTION: &str = "the lease was rewritten unchanged to ask its daemon for confirmation; nothing else was changed";

fn permit(liveness: &Liveness, force: bool, written: &str) -> Result<(), CommandError> {
    match liveness {
        Liveness::Gone(_) => Ok(()),
        Liveness::Answered(_) | Liveness::Possible(_) if force => Ok(()),
        Liveness::Answered(why) => Err(CommandError::Refused(format!(
            "refused: {why}; stop it first (packets keep flowing), or use --force ({written})"
        ))),
        Liveness::Possible(why) => Err(CommandError::Refused(format!(
            "refused: its host may be alive: {why}; if the host is gone or stopped, use --force ({written})"
        ))),
    }
}

fn commit(session: &EtcdSession, inventory: &Inventory, plan: &Plan) -> Result<(), CommandError> {
    let (done, key) = match &plan.change {
        Change::Put(put) => (write(session, put)?, inventory.key(&put.subnets)),
        Change::Remove(removal) => (
            session.ask(session.manager.remove_lease(removal))?,
            inventory.key(&removal.lease.subnets),
        ),
    };
    match done {
        Commit::Done(_) => Ok(()),
        Commit::Lost => Err(CommandError::Refused(changed(&key))),
        Commit::Unknown => Err(CommandError::Silent(format!(
            "etcd did not confirm the change of {key}, which may still happen: check with `rflannel lease list`"
        ))),
    }
}

fn changed(what: &str) -> String {
    format!(
        "{what}, or something it depends on, changed since it was read: nothing was changed; run the command again"
    )
}

/// Writes a key. A new etcd lease without a key ends at once.
fn write(session: &EtcdSession, put: &Put) -> Result<Commit, CommandError> {
    session.ask(async {
        let new = match put.lease_id {
            KeyLease::New => Some(session.manager.new_lease_id().await?),
            KeyLease::Old(_) | KeyLease::Reservation => None,
        };
        let done = session.manager.write_lease(&put.as_write(new)).await;
        if let (Some(lease_id), Ok(Commit::Lost) | Err(_)) = (new, &done) {
            session.manager.revoke(lease_id).await?;
        }
        done
    })
}

/// Reports how a running daemon reacts.
fn follow_up(
    session: &EtcdSession,
    plan: &Plan,
    liveness: Option<&Liveness>,
) -> Result<(), CommandError> {
    let Some(Liveness::Answered(_)) = liveness else {
        return Ok(());
    };
    match &plan.change {
        Change::Remove(Removal { lease, .. }) => {
            match session.ask(comes_back(session, lease.subnets, None))? {
                Reaction::TookItBack => Err(CommandError::Refused(format!(
                    "its daemon has created the key of {} again: stop it first",
                    lease.subnets
                ))),
                Reaction::WentOver | Reaction::None => Ok(()),
            }
        }
        Change::Put(put) => after_move(session, put),
    }
}

fn after_move(session: &EtcdSession, put: &Put) -> Result<(), CommandError> {
    let old = put
        .replaces
        .first()
        .map(|lease| lease.subnets)
        .unwrap_or_default();
    match session.ask(comes_back(session, old, Some(put.subnets)))? {
        Reaction::WentOver => {
            say("its daemon uses the new subnet; restart docker and the pods there\n")
        }
        Reaction::None => say("its daemon has not reacted yet: see its log\n"),
        Reaction::TookItBack => {
            undo(session, &put.subnets)?;
            Err(CommandError::Refused(format!(
                "its daemon has taken {old} back (-on-lease-lost=hold), which undid the move: stop it, move again, start it"
            )))
        }
    }
}

enum Reaction {
    TookItBack,
    WentOver,
    None,
}

async fn comes_back(
    session: &EtcdSession,
    old: Subnets,
    new: Option<Subnets>,
) -> Result<Reaction, Error> {
    let start = Instant::now();
    while start.elapsed() < REACTION {
        sleep(LOOK).await;
        let dump = session.manager.dump().await?;
        let inventory = Inventory::read(dump, &Default::default(), session.margin);
        if inventory.entry_of(&old).is_some() {
            return Ok(Reaction::TookItBack);
        }
        let taken = new.and_then(|new| inventory.entry_of(&new));
        if taken.is_some_and(|entry| entry.owner.is_some()) {
            return Ok(Reaction::WentOver);
        }
    }
    Ok(Reaction::None)
}

/// Deletes what a move has written, if no host has taken it.
fn undo(session: &EtcdSession, subnets: &Subnets) -> Result<(), CommandError> {
    let inventory = session.inventory()?;
    let unclaimed = inventory
        .entry_of(subnets)
        .filter(|entry| entry.recorded.is_none());
    let Some(lease) = unclaimed.and_then(|entry| entry.lease.clone()) else {
        return Ok(());
    };
    let owner = Before::Absent;
    let removal = Removal { lease, owner };
    session
        .ask(session.manager.remove_lease(&removal))
        .map(drop)
}
