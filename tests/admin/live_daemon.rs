//! Leases of hosts whose daemons run.

use crate::support::tool::rflannel;
use lab::{Signal, wait_until};

use super::{Cluster, SOON, Test};

/// One host with a daemon, and the second with one started with these flags; the second one's subnet.
fn cluster(flags: &[&str]) -> Result<(Cluster, String), lab::LabError> {
    let mut cluster = Cluster::start(2)?;
    cluster.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    cluster.lab.start_flanneld(2, flags)?.wait_ready(SOON)?;
    let subnet = subnet(&cluster)?;
    Ok((cluster, subnet))
}

fn subnet(cluster: &Cluster) -> Result<String, lab::LabError> {
    let line = cluster
        .lab
        .host(2)
        .sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env")?;
    Ok(line.trim().replace(".1/", ".0/"))
}

/// A subnet that neither host has.
fn free(cluster: &Cluster) -> String {
    let taken = cluster.run(&["lease", "list"]).text;
    (1..255)
        .map(|n| format!("172.30.{n}.0/24"))
        .find(|subnet| !taken.contains(&format!("{subnet} ")))
        .unwrap()
}

#[test]
fn a_host_that_answers_keeps_its_lease() -> Test {
    let (mut cluster, subnet) = cluster(&[])?;
    let key = format!("subnets/{}", subnet.replace('/', "-"));
    cluster.run(&["lease", "release", &subnet]).expect(
        1,
        &[
            "its host: renewed",
            "waits 5 s for the answer",
            "refused: its host may be alive",
        ],
    );
    for args in [
        &["lease", "release", &subnet, "--yes"][..],
        &["lease", "move", "h2", &free(&cluster), "--yes"],
    ] {
        cluster.run(args).expect(
            1,
            &[
                "refused: the daemon of h2 (10.64.0.2) answers",
                "stop it first",
                "rewritten unchanged to ask its daemon for confirmation; nothing else was changed",
            ],
        );
        assert!(cluster.value(&key).is_some());
    }
    // The question is no cause for alarm.
    let log = cluster.lab.flanneld(2)?.process().log();
    assert!(
        log.contains("confirmed the lease of") && !log.contains("WARN"),
        "{log}"
    );
    // Forced: the daemon makes its key again, and that is said.
    cluster
        .run(&["lease", "release", &subnet, "--yes", "--force"])
        .expect(
            1,
            &["deleted", "has created the key of", "again: stop it first"],
        );
    assert!(cluster.value(&key).is_some());
    Ok(())
}

#[test]
fn a_stopped_host_is_released_by_force_and_its_peers_forget_it() -> Test {
    let (mut cluster, subnet) = cluster(&[])?;
    cluster.lab.end_flanneld(2, Signal::TERM)?;
    let routed = |cluster: &Cluster| cluster.node().sh("ip route").unwrap().contains(&subnet);
    assert!(wait_until(SOON, || routed(&cluster)));
    cluster.run(&["lease", "release", "h2", "--yes"]).expect(
        1,
        &["did not answer a challenge: it is stopped, or it runs without etcd"],
    );
    cluster
        .run(&["lease", "release", "h2", "--yes", "--force"])
        .expect(
            0,
            &[
                "deleted /kubernetes/network/subnets/",
                "deleted /kubernetes/network/owners/",
            ],
        );
    assert!(
        wait_until(SOON, || !routed(&cluster)),
        "the peer's route is gone"
    );
    assert_eq!(
        cluster
            .lab
            .etcd()?
            .keys("/kubernetes/network/owners/")?
            .len(),
        1
    );
    Ok(())
}

/// The running daemon keeps a reservation one, and one that is none any more alive.
#[test]
fn a_running_daemon_goes_along_with_a_reservation() -> Test {
    let (cluster, subnet) = cluster(&[])?;
    let shows = |words: &'static str| {
        wait_until(SOON, || {
            cluster
                .run(&["lease", "show", &subnet])
                .text
                .contains(words)
        })
    };
    cluster
        .run(&["lease", "reserve", "h2", "--yes"])
        .expect(0, &["wrote"]);
    assert!(shows("never: it is a reservation"));
    let status = format!("{} status", rflannel());
    let says = |words: &str| {
        wait_until(SOON, || {
            cluster
                .lab
                .host(2)
                .sh(&status)
                .is_ok_and(|text| text.contains(words))
        })
    };
    assert!(
        says("does not expire"),
        "the daemon knows that its lease is reserved"
    );
    cluster
        .run(&["lease", "unreserve", "h2", "--yes"])
        .expect(0, &["wrote"]);
    assert!(shows("in 23 h"));
    assert!(says("expires in"), "the daemon renews it again");
    Ok(())
}

/// The way that the tool advises: stop, move, start.
#[test]
fn a_stopped_host_is_moved_and_comes_back_in_its_new_subnet() -> Test {
    let (mut cluster, old) = cluster(&[])?;
    cluster.lab.end_flanneld(2, Signal::TERM)?;
    let new = free(&cluster);
    cluster
        .run(&["lease", "move", "h2", &new, "--yes", "--force"])
        .expect(0, &["wrote", "deleted"]);
    cluster.lab.start_flanneld(2, &[])?.wait_ready(SOON)?;
    assert_eq!(subnet(&cluster)?, new);
    let routes = |cluster: &Cluster| cluster.node().sh("ip route").unwrap();
    assert!(wait_until(SOON, || routes(&cluster).contains(&new)
        && !routes(&cluster).contains(&old)));
    cluster
        .run(&["lease", "list"])
        .expect(0, &["2 leases", "0 with problems"]);
    Ok(())
}

/// With `hold` a daemon takes its subnet back: the move is undone, and nothing is left of it.
#[test]
fn a_move_against_a_daemon_that_holds_on_is_undone() -> Test {
    let (cluster, old) = cluster(&["-on-lease-lost=hold"])?;
    let new = free(&cluster);
    cluster
        .run(&["lease", "move", "h2", &new, "--yes", "--force"])
        .expect(
            1,
            &[
                "wrote",
                "has taken",
                "back (-on-lease-lost=hold), which undid the move",
            ],
        );
    cluster
        .run(&["lease", "list"])
        .expect(0, &["2 leases", "0 with problems", &old]);
    assert_eq!(subnet(&cluster)?, old);
    Ok(())
}

/// With `move` a running daemon goes over at once: device and peers stay, the subnet changes everywhere.
#[test]
fn a_daemon_that_gives_way_is_moved_while_it_runs() -> Test {
    let (mut cluster, old) = cluster(&["-on-lease-lost=move"])?;
    let new = free(&cluster);
    let mac = cluster
        .lab
        .host(2)
        .sh("cat /sys/class/net/flannel.1/address")?;
    cluster
        .run(&["lease", "move", "h2", &new, "--yes", "--force"])
        .expect(
            0,
            &["wrote", "its daemon uses the new subnet; restart docker"],
        );
    assert!(wait_until(SOON, || subnet(&cluster).is_ok_and(|subnet| subnet == new)));
    assert_eq!(
        cluster
            .lab
            .host(2)
            .sh("cat /sys/class/net/flannel.1/address")?,
        mac
    );
    let routes = |cluster: &Cluster| cluster.node().sh("ip route").unwrap();
    assert!(wait_until(SOON, || routes(&cluster).contains(&new)
        && !routes(&cluster).contains(&old)));
    cluster
        .run(&["lease", "list"])
        .expect(0, &["2 leases", "0 with problems"]);
    let log = cluster.lab.flanneld(2)?.process().log();
    assert!(
        log.contains(&format!("moved from {old} to {new}: containers")),
        "{log}"
    );
    let status = cluster.lab.host(2).sh(&format!("{} status", rflannel()))?;
    assert!(status.contains("fine"), "{status}");
    Ok(())
}

#[test]
fn exiting_daemon_has_new_subnet_at_next_start() -> Test {
    let (mut cluster, _) = cluster(&["-on-lease-lost=exit"])?;
    let new = free(&cluster);
    cluster
        .run(&["lease", "move", "h2", &new, "--yes", "--force"])
        .expect(0, &["its daemon has not reacted yet"]);
    let ended = cluster.lab.flanneld(2)?.process().wait(SOON)?;
    assert_eq!(ended.code(), Some(1));
    cluster.lab.start_flanneld(2, &[])?.wait_ready(SOON)?;
    assert_eq!(subnet(&cluster)?, new);
    Ok(())
}
