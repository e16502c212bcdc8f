//! Carrying out a change of a lease: shown first, the host asked whether it is alive, then one transaction.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::change::{Change, Hold, Plan, Put, Refusal};
use crate::admin::life::{self, Life, Voice};
use crate::admin::{InventoryEntry, Roll, show};
use crate::cli::datastore::{Desk, Stop, say};
use crate::subnet::etcd::Answer;
use crate::subnet::etcd::dump::Removal;
use crate::subnet::etcd::store::{Before, Commit};
use crate::subnet::{Error, Subnets};

/// How long a living daemon may take to answer what was done to its lease.
const REACTION: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(250);

/// What the operator has said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Do it.
    pub(super) yes: bool,
    /// Also to a host that may be alive.
    pub(super) force: bool,
}

/// Decides, shows, and with `yes` does it.
pub(super) fn carry_out(
    desk: &Desk,
    wish: Wish,
    decide: impl Fn(&Roll) -> Result<Plan, Refusal>,
) -> Result<(), Stop> {
    let plan_of = |roll: &Roll| decide(roll).map_err(|refusal| Stop::Refused(refusal.to_string()));
    let mut roll = desk.roll()?;
    let mut plan = plan_of(&roll)?;
    if !wish.yes {
        return preview(desk, wish, &roll, &plan);
    }
    let mut life = None;
    if let Some(entry) = victim(&roll, &plan) {
        let voice = ask(desk, entry)?;
        if voice != Voice::NotAsked {
            // The question was a write: it changed the revision of the lease.
            (roll, plan) = again(desk, plan_of)?;
        }
        let judged = victim(&roll, &plan).map(|entry| life::judge(entry, voice, desk.margin));
        let asked = if voice == Voice::NotAsked { NOTHING } else { QUESTION };
        life = judged.map(|life| permit(&life, wish.force, asked).map(|()| life)).transpose()?;
    }
    commit(desk, &roll, &plan)?;
    say(&show::steps(&roll, &plan, true))?;
    follow_up(desk, &plan, life.as_ref())
}

fn again(desk: &Desk, plan_of: impl Fn(&Roll) -> Result<Plan, Stop>) -> Result<(Roll, Plan), Stop> {
    let roll = desk.roll()?;
    let plan = plan_of(&roll)?;
    Ok((roll, plan))
}

fn preview(desk: &Desk, wish: Wish, roll: &Roll, plan: &Plan) -> Result<(), Stop> {
    say(&show::steps(roll, plan, false))?;
    let Some(entry) = victim(roll, plan) else { return say("nothing was changed; --yes does it\n") };
    let life = life::judge(entry, Voice::NotAsked, desk.margin);
    say(&format!("its host: {}\n", life.why()))?;
    if entry.owner.is_some() {
        say("with --yes its daemon is asked first, and has 5 s to answer\n")?;
    }
    permit(&life, wish.force, NOTHING)?;
    say("nothing was changed; --yes does it\n")
}

/// The lease of a host that would be hurt if it is alive.
fn victim<'a>(roll: &'a Roll, plan: &Plan) -> Option<&'a InventoryEntry> {
    let subnets = match &plan.change {
        Change::Remove(removal) => removal.lease.subnets,
        Change::Put(put) => put.replaces.first()?.subnets,
    };
    roll.entries.iter().find(|entry| plan.hurts_the_living && entry.subnets() == subnets)
}

fn ask(desk: &Desk, entry: &InventoryEntry) -> Result<Voice, Stop> {
    let (Some(lease), Some((_, recorded))) = (&entry.lease, &entry.owner) else { return Ok(Voice::NotAsked) };
    match desk.ask(desk.manager.challenge(lease, *recorded))? {
        Answer::Alive(_) => Ok(Voice::Alive),
        Answer::Silent(_) => Ok(Voice::Silent),
        Answer::Moved => Err(Stop::Refused(changed(&entry.title()))),
    }
}

/// What was written when a command is refused.
const NOTHING: &str = "nothing was changed";
/// The same after its host was asked.
const QUESTION: &str =
    "the lease was written again as it was, which asks its daemon to confirm it; nothing else was changed";

fn permit(life: &Life, force: bool, written: &str) -> Result<(), Stop> {
    match life {
        Life::Gone(_) => Ok(()),
        Life::Answered(_) | Life::Possible(_) if force => Ok(()),
        Life::Answered(why) => Err(Stop::Refused(format!(
            "refused: {why}. Stop it there first (packets flow on without it), or --force; {written}"
        ))),
        Life::Possible(why) => Err(Stop::Refused(format!(
            "refused: its host may be alive: {why}. If you know that it is gone or stopped: --force; {written}"
        ))),
    }
}

fn commit(desk: &Desk, roll: &Roll, plan: &Plan) -> Result<(), Stop> {
    let (done, key) = match &plan.change {
        Change::Put(put) => (write(desk, put)?, roll.key(&put.subnets)),
        Change::Remove(removal) => {
            (desk.ask(desk.manager.remove_lease(removal))?, roll.key(&removal.lease.subnets))
        }
    };
    match done {
        Commit::Done(_) => Ok(()),
        Commit::Lost => Err(Stop::Refused(changed(&key))),
        Commit::Unknown => Err(Stop::Silent(format!(
            "etcd did not say whether {key} was changed, and it may still be: look with `rflannel lease list`"
        ))),
    }
}

fn changed(what: &str) -> String {
    format!("{what}, or what it depends on, changed since it was read: nothing was changed; run it again")
}

/// A new etcd lease that nothing hangs on ends at once.
fn write(desk: &Desk, put: &Put) -> Result<Commit, Stop> {
    desk.ask(async {
        let new = match put.lease_id {
            Hold::New => Some(desk.manager.new_lease_id().await?),
            Hold::Old(_) | Hold::Reservation => None,
        };
        let done = desk.manager.write_lease(&put.as_write(new)).await;
        if let (Some(lease_id), Ok(Commit::Lost) | Err(_)) = (new, &done) {
            desk.manager.revoke(lease_id).await?;
        }
        done
    })
}

/// What a daemon that is alive makes of it.
fn follow_up(desk: &Desk, plan: &Plan, life: Option<&Life>) -> Result<(), Stop> {
    let Some(Life::Answered(_)) = life else { return Ok(()) };
    match &plan.change {
        Change::Remove(Removal { lease, .. }) => match desk.ask(comes_back(desk, lease.subnets, None))? {
            Reaction::TookItBack => Err(Stop::Refused(format!(
                "its daemon has made the key of {} again: stop it there first",
                lease.subnets
            ))),
            Reaction::WentOver | Reaction::None => Ok(()),
        },
        Change::Put(put) => after_move(desk, put),
    }
}

fn after_move(desk: &Desk, put: &Put) -> Result<(), Stop> {
    let old = put.replaces.first().map(|lease| lease.subnets).unwrap_or_default();
    match desk.ask(comes_back(desk, old, Some(put.subnets)))? {
        Reaction::WentOver => say("its daemon has gone over to it; restart docker and the pods there\n"),
        Reaction::None => say("its daemon has not reacted yet: see its log\n"),
        Reaction::TookItBack => {
            undo(desk, &put.subnets)?;
            Err(Stop::Refused(format!(
                "its daemon has taken {old} back (-on-lease-lost=hold), and the move is undone: stop it there, move, start it"
            )))
        }
    }
}

enum Reaction {
    TookItBack,
    WentOver,
    None,
}

async fn comes_back(desk: &Desk, old: Subnets, new: Option<Subnets>) -> Result<Reaction, Error> {
    let start = Instant::now();
    while start.elapsed() < REACTION {
        sleep(LOOK).await;
        let roll = Roll::read(desk.manager.dump().await?, &std::collections::BTreeMap::new(), desk.margin);
        let find = |subnets: Subnets| roll.entries.iter().find(|entry| entry.subnets() == subnets);
        if find(old).is_some() {
            return Ok(Reaction::TookItBack);
        }
        if new.and_then(find).is_some_and(|entry| entry.owner.is_some()) {
            return Ok(Reaction::WentOver);
        }
    }
    Ok(Reaction::None)
}

/// Deletes what a move has written, if nobody has taken it.
fn undo(desk: &Desk, subnets: &Subnets) -> Result<(), Stop> {
    let roll = desk.roll()?;
    let entry = roll.entries.iter().find(|entry| entry.subnets() == *subnets);
    let Some(lease) = entry.filter(|entry| entry.recorded.is_none()).and_then(|entry| entry.lease.clone())
    else {
        return Ok(());
    };
    desk.ask(desk.manager.remove_lease(&Removal { lease, owner: Before::Absent })).map(drop)
}
