//! etcd's own history: compacted, defragmented, full, or set back by a backup.

use lab::{Lab, LabError, Signal};

use crate::monitor::Pings;
use crate::outage::{Outage, RECOVERED, outage};
use crate::{
    PATIENCE, Test, connected, disconnect, holds, log, must, options, own_key, peers, start,
};

/// Room for little more than what the test fills.
const QUOTA: &str = "--quota-backend-bytes=4000000";

/// etcd's revision now.
pub(crate) fn revision(lab: &Lab) -> Result<u64, LabError> {
    let text = lab.etcd()?.ctl(["get", "/none", "--write-out=json"])?;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(answer["header"]["revision"].as_u64().unwrap_or_default())
}

fn kill_all(lab: &mut Lab) -> Test {
    (1..=3).try_for_each(|member| lab.etcd_mut()?.kill(member))
}

fn start_all(lab: &mut Lab) -> Test {
    (1..=3).try_for_each(|member| lab.etcd_mut()?.start_member(member))?;
    lab.etcd()?.wait_healthy()
}

fn signal_all(lab: &mut Lab, signal: Signal) -> Test {
    (1..=lab.hosts().len()).try_for_each(|host| lab.flanneld(host)?.process().signal(signal))
}

/// Closes or opens the hosts' way to etcd, at the hosts.
fn reachable(lab: &Lab, yes: bool) -> Test {
    let script = if !yes {
        "iptables -I OUTPUT -p tcp --dport 2379 -j REJECT --reject-with tcp-reset"
    } else {
        "iptables -D OUTPUT -p tcp --dport 2379 -j REJECT --reject-with tcp-reset"
    };
    lab.hosts()
        .iter()
        .try_for_each(|host| host.node().sh(script).map(|_| ()))
}

#[test]
fn a_compacted_defragmented_and_full_etcd_changes_nothing() -> Test {
    let mut lab = start(options(2).etcd_args([QUOTA]))?;
    let lab = &mut lab;
    outage(
        "compacted while away",
        lab,
        |lab| reachable(lab, false),
        |lab| {
            peers::change(lab)?;
            lab.etcd()?.ctl(["compact", &revision(lab)?.to_string()])?;
            reachable(lab, true)
        },
    )?;

    let mut suspended = Outage::begin("suspended, cut off and compacted meanwhile", lab)?;
    signal_all(lab, Signal::STOP)?;
    // First of all: what has come in can still be read afterwards.
    lab.hosts()
        .iter()
        .try_for_each(|host| disconnect(host.node()))?;
    peers::change(lab)?;
    lab.etcd()?.ctl(["compact", &revision(lab)?.to_string()])?;
    suspended.was_silent();
    signal_all(lab, Signal::CONT)?;
    suspended.ends(lab)?;
    must("the log says what was compacted", PATIENCE, || {
        log(lab.host(1)).contains("etcd compacted the changes in between")
    });

    let mut defrag = Outage::begin("defragmented under load", lab)?;
    for round in 0..10 {
        lab.etcd()?
            .put(&format!("/load/{round}"), "x".repeat(100_000))?;
        lab.etcd()?.ctl(["--command-timeout=30s", "defrag"])?;
    }
    defrag.was_silent();
    peers::change(lab)?;
    defrag.ends(lab)?;
    full(lab)
}

/// Writes until the NOSPACE alarm refuses all further ones.
fn fill(lab: &Lab) -> Test {
    let value = "x".repeat(100_000);
    let refused = (0..60).any(|n| {
        lab.etcd()
            .is_ok_and(|etcd| etcd.put(&format!("/full/{n}"), &value).is_err())
    });
    assert!(refused, "etcd never got full");
    assert!(lab.etcd()?.ctl(["alarm", "list"])?.contains("NOSPACE"));
    Ok(())
}

/// Makes room, as an operator would.
fn disarm(lab: &Lab) -> Test {
    let etcd = lab.etcd()?;
    etcd.ctl(["del", "--prefix", "/full/"])?;
    etcd.ctl(["compact", &revision(lab)?.to_string()])?;
    etcd.ctl(["--command-timeout=30s", "defrag"])?;
    etcd.ctl(["alarm", "disarm"])?;
    must("there is room again", PATIENCE, || {
        etcd.put("/room", "1").is_ok()
    });
    Ok(())
}

fn full(lab: &mut Lab) -> Test {
    let mut full = Outage::begin("no space", lab)?;
    fill(lab)?;
    full.was_silent();
    disarm(lab)?;
    peers::change(lab)?;
    full.ends(lab)?;

    // A daemon can start, for its lease is there; what it cannot write, it writes once there is room.
    fill(lab)?;
    lab.end_flanneld(1, Signal::KILL)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let (key, value) = (own_key(lab, 1), lab.etcd()?.get(&own_key(lab, 1))?);
    lab.etcd()?.delete(&key)?;
    must("it says why", PATIENCE, || {
        log(lab.host(1)).contains("database space exceeded")
    });
    disarm(lab)?;
    must("the lease is back", RECOVERED, || holds(lab, &key, &value));
    connected(lab)
}

#[test]
fn a_restored_backup_is_followed() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    peers::prepare(lab)?;
    let backup = lab.etcd()?.backup()?;
    let before = revision(lab)?;
    peers::change(lab)?;
    peers::all_converged(lab, PATIENCE)?;
    // Far ahead of the backup, which knows nothing of this.
    for _ in 0..10 {
        lab.etcd()?.put("/ahead", "1")?;
    }

    kill_all(lab)?;
    lab.etcd()?.restore(&backup)?;
    start_all(lab)?;
    assert!(revision(lab)? <= before + 2, "the revision went backwards");
    peers::all_converged(lab, RECOVERED)?;
    connected(lab)?;
    for index in 1..=2 {
        assert!(
            lab.etcd()?.get(&own_key(lab, index))?.is_some(),
            "host {index} is in etcd"
        );
    }
    Ok(())
}

/// The daemons see etcd again only when the restored history has got past what they know.
#[test]
fn a_restored_backup_that_has_moved_on_is_followed() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    peers::prepare(lab)?;
    let backup = lab.etcd()?.backup()?;
    peers::change(lab)?;
    peers::all_converged(lab, PATIENCE)?;
    let known = revision(lab)?;

    reachable(lab, false)?;
    kill_all(lab)?;
    lab.etcd()?.restore(&backup)?;
    start_all(lab)?;
    while revision(lab)? <= known + 5 {
        lab.etcd()?.put("/ahead", "1")?;
    }
    reachable(lab, true)?;
    peers::all_converged(lab, RECOVERED)
}

#[test]
fn a_backup_from_before_a_lease_gets_the_lease_back() -> Test {
    let mut lab = Lab::bare(options(2))?;
    lab.start_etcd()?;
    lab.add_hosts(2)?;
    lab.configure()?;
    lab.start_flanneld(1, &[])?;
    lab.wait_all_ready(PATIENCE)?;
    let backup = lab.etcd()?.backup()?;
    lab.start_flanneld(2, &[])?;
    lab.wait_all_ready(PATIENCE)?;
    lab.wire_all()?;
    connected(&lab)?;
    let (key, value) = (own_key(&lab, 2), lab.etcd()?.get(&own_key(&lab, 2))?);
    let pings = Pings::begin(&lab, 1, 2)?;

    kill_all(&mut lab)?;
    lab.etcd()?.restore(&backup)?;
    // Host 1 lists before host 2 can see that its key is missing.
    lab.flanneld(2)?.process().signal(Signal::STOP)?;
    let said = log(lab.host(1)).len();
    start_all(&mut lab)?;
    let is_back = || log(lab.host(1))[said..].contains("watching the leases again");
    must("host 1 has listed", RECOVERED, is_back);
    lab.flanneld(2)?.process().signal(Signal::CONT)?;
    must("the lease is back", RECOVERED, || holds(&lab, &key, &value));
    // Longer than a list of peers is uncertain: what it lacks would be gone by now.
    std::thread::sleep(std::time::Duration::from_secs(12));
    let (lost, answered) = pings.end()?;
    assert!(
        lost.is_empty() && answered > 0,
        "lost {lost:?} of {answered} pings"
    );
    peers::all_converged(&lab, RECOVERED)
}
