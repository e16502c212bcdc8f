//! etcd members that are killed, hang, lose their leader or their majority, or are replaced.

use lab::{Lab, Signal};

use crate::outage::{Outage, RECOVERED, outage};
use crate::{PATIENCE, Test, must, options, peers, start};

fn kill(lab: &mut Lab, members: impl IntoIterator<Item = usize>) -> Test {
    members
        .into_iter()
        .try_for_each(|member| lab.etcd_mut()?.kill(member))
}

fn restart(lab: &mut Lab, members: impl IntoIterator<Item = usize>) -> Test {
    members
        .into_iter()
        .try_for_each(|member| lab.etcd_mut()?.start_member(member))?;
    lab.etcd()?.wait_healthy()
}

fn signal(lab: &Lab, signal: Signal) -> Test {
    (1..=3).try_for_each(|member| lab.etcd()?.signal(member, signal))
}

#[test]
fn etcd_can_die_hang_and_lose_its_majority() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    outage(
        "all members killed",
        lab,
        |lab| {
            kill(lab, 1..=3)?;
            // For attempts without pauses to add up.
            std::thread::sleep(std::time::Duration::from_secs(5));
            Ok(())
        },
        |lab| {
            restart(lab, 1..=3)?;
            peers::change(lab)
        },
    )?;
    // The one in use stays, without a leader.
    let member = connected_to(lab, 1).expect("host 1 is connected to a member");
    let others = move || (1..=3).filter(move |other| *other != member);
    outage(
        "majority lost",
        lab,
        |lab| kill(lab, others()),
        |lab| {
            restart(lab, others())?;
            peers::change(lab)
        },
    )?;
    outage(
        "all members paused",
        lab,
        |lab| signal(lab, Signal::STOP),
        |lab| {
            signal(lab, Signal::CONT)?;
            lab.etcd()?.wait_healthy()?;
            peers::change(lab)
        },
    )
}

/// Where the daemon of a host has its connections: index of the member.
fn connected_to(lab: &Lab, host: usize) -> Option<usize> {
    let text = lab
        .host(host)
        .sh("ss -Htn state established dport = :2379")
        .ok()?;
    (1..=3).find(|member| text.contains(&format!("10.64.255.{member}:2379")))
}

#[test]
fn members_can_go_one_after_another() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;

    let mut lost = Outage::begin("leader killed", lab)?;
    let leader = lab.etcd()?.leader()?;
    lab.etcd_mut()?.kill(leader)?;
    lab.etcd()?.wait_healthy()?;
    lost.was_silent();
    peers::change(lab)?;
    lost.ends(lab)?;
    restart(lab, [leader])?;

    let mut hung = Outage::begin("the member in use hangs for good", lab)?;
    let member = connected_to(lab, 1).expect("host 1 is connected to a member");
    lab.etcd()?.signal(member, Signal::STOP)?;
    let moved = || connected_to(lab, 1).is_some_and(|other| other != member);
    must("host 1 uses another member", RECOVERED, moved);
    hung.was_silent();
    must("two members are a majority", PATIENCE, || {
        peers::change(lab).is_ok()
    });
    hung.ends(lab)?;
    lab.etcd_mut()?.kill(member)?;
    restart(lab, [member])?;

    let mut replaced = Outage::begin("all members replaced, one by one", lab)?;
    for member in 1..=3 {
        kill(lab, [member])?;
        lab.etcd()?.wait_healthy()?;
        restart(lab, [member])?;
        must("the member is back", PATIENCE, || {
            lab.etcd().is_ok_and(|etcd| etcd.leader().is_ok())
        });
    }
    replaced.was_silent();
    peers::change(lab)?;
    replaced.ends(lab)
}
