//! What happened while the daemon was down is caught up with, and nothing else is touched.

use lab::{Lab, Signal};

use super::assertions::{Monitor, Vtep, assert_mesh, assert_peers};
use super::support::PATIENCE;
use super::support::steady_ping::SteadyPing;
use super::{Test, eventually, options};

#[test]
fn neither_a_crash_nor_a_stop_nor_a_start_disturbs_anything() -> Test {
    let mut lab = Lab::start(options().hosts(2))?;
    let before = assert_mesh(&lab, &[1, 2], &[])?;
    let pod = lab.hosts()[1].pod().map(|pod| pod.address);
    let ping = SteadyPing::start(lab.host(1), pod.unwrap_or(lab.host(2).address().into()))?;
    let monitors = [Monitor::start(lab.host(1))?, Monitor::start(lab.host(2))?];
    for (signal, code) in [
        (Signal::KILL, None),
        (Signal::TERM, Some(0)),
        (Signal::INT, Some(0)),
    ] {
        assert_eq!(lab.end_flanneld(1, signal)?.code(), code, "{signal:?}");
        ping.assert_nothing_lost();
        assert_eq!(
            lab.etcd()?.keys("/kubernetes/network/subnets")?.len(),
            2,
            "{signal:?}: the lease stays"
        );
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        ping.assert_nothing_lost();
        assert_eq!(
            assert_mesh(&lab, &[1, 2], &[])?,
            before,
            "{signal:?}: same subnet, same MAC"
        );
    }
    for monitor in &monitors {
        assert_eq!(monitor.changes()?, [""; 0], "not one change in the kernel");
    }
    Ok(())
}

#[test]
fn peer_changes_are_followed_live_and_at_start() -> Test {
    let mut lab = Lab::start(options().hosts(1))?;
    let put = |lab: &Lab, peer: &Vtep| lab.etcd()?.put(&peer.key(), peer.value());
    let moved = |peer: u8, to: u8| Vtep {
        subnet: Vtep::invented(peer).subnet,
        ..Vtep::invented(to)
    };
    let [gone, changed, stays] = [201, 202, 203].map(Vtep::invented);
    for peer in [&gone, &changed, &stays] {
        put(&lab, peer)?;
    }
    assert_peers(lab.host(1), &[gone.clone(), changed.clone(), stays.clone()]);
    put(&lab, &moved(202, 212))?;
    assert_peers(lab.host(1), &[gone.clone(), moved(202, 212), stays.clone()]);
    lab.etcd()?.delete(&gone.key())?;
    assert_peers(lab.host(1), &[moved(202, 212), stays.clone()]);
    put(&lab, &gone)?;
    assert_peers(lab.host(1), &[gone.clone(), moved(202, 212), stays.clone()]);

    lab.end_flanneld(1, Signal::KILL)?;
    lab.etcd()?.delete(&gone.key())?;
    put(&lab, &moved(202, 222))?;
    let fresh = Vtep::invented(204);
    put(&lab, &fresh)?;
    let (unknown, foreign) = (
        Vtep::invented(205),
        "172.30.99.0/24 via 10.64.255.254 dev eth0",
    );
    lab.host(1)
        .sh(&format!("{} ip route add {foreign}", unknown.by_hand()))?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_peers(lab.host(1), &[moved(202, 222), stays, fresh]);
    assert_eq!(
        lab.host(1).sh("ip route show 172.30.99.0/24")?.trim(),
        foreign,
        "not ours, not touched"
    );
    Ok(())
}

#[test]
fn the_own_key_comes_back_when_it_is_deleted_or_scribbled_over() -> Test {
    let mut lab = Lab::start(options().hosts(1).no_tls())?;
    let own = Vtep::of(lab.host(1))?;
    let is_right = |lab: &Lab| {
        lab.etcd()
            .is_ok_and(|etcd| etcd.get(&own.key()).is_ok_and(|v| v == Some(own.value())))
    };
    lab.etcd()?.delete(&own.key())?;
    eventually("the deleted key is back", || is_right(&lab));
    lab.etcd()?.put(&own.key(), "{")?;
    eventually("the value is as it was", || is_right(&lab));
    assert!(lab.flanneld(1)?.process().running());
    Ok(())
}
