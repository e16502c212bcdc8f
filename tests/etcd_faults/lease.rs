//! What may happen to a host's own lease: deleted, expired, overwritten by another host.

use lab::{Lab, Node};

use crate::monitor::{Pings, Silence};
use crate::outage::RECOVERED;
use crate::{
    PATIENCE, PREFIX, SECONDS, Test, connected, holds, lease_id_of, log, must, options, own_key,
    start,
};

/// Anyone who deletes the keys of live hosts, one or all: no route to a peer is missing for a moment.
#[test]
fn keys_that_are_deleted_by_hand_cost_no_packet() -> Test {
    let lab = start(options(3))?;
    let keys: Vec<String> = (1..=3).map(|index| own_key(&lab, index)).collect();
    let values = keys
        .iter()
        .map(|key| lab.etcd()?.get(key))
        .collect::<Result<Vec<_>, _>>()?;
    let pings = (1..=3)
        .map(|from| Pings::begin(&lab, from, from % 3 + 1))
        .collect::<Result<Vec<_>, _>>()?;
    let silence = lab
        .hosts()
        .iter()
        .map(|host| Silence::begin(host.node()))
        .collect::<Result<Vec<_>, _>>()?;
    let all_back = || {
        keys.iter()
            .zip(&values)
            .all(|(key, value)| holds(&lab, key, value) && value.is_some())
    };
    for deleted in [keys[0].as_str(), &keys[0], &format!("{PREFIX}/subnets/")] {
        lab.etcd()?.ctl(["del", "--prefix", deleted])?;
        must("every deleted key is back", SECONDS, all_back);
    }
    lab.etcd()?
        .ctl(["lease", "revoke", &lease_id_of(&lab, &keys[1])?])?;
    must("a key whose lease was revoked is back", SECONDS, all_back);
    // What is believed to be gone is told in order: once this one is, all the others would be.
    lab.etcd()?
        .put(&crate::peers::key_of(109), crate::peers::value(109, 0))?;
    all_say(&lab, "peer 172.30.109.0/24 joined");
    lab.etcd()?.delete(&crate::peers::key_of(109))?;
    all_say(&lab, "peer 172.30.109.0/24 left");
    for (host, silence) in lab.hosts().iter().zip(silence) {
        let mut broken = silence.broken_by();
        broken.retain(|line| !line.contains("172.30.109.0") && !line.contains("0a:01:00:00:00:6d"));
        assert!(
            broken.is_empty(),
            "the data plane of {} changed: {broken:?}",
            host.node().name()
        );
    }
    for pings in pings {
        let (lost, answered) = pings.end()?;
        assert!(
            lost.is_empty() && answered > 0,
            "lost {lost:?} of {answered}"
        );
    }
    connected(&lab)
}

fn all_say(lab: &Lab, what: &str) {
    let says = |host: &Node| log(host).contains(what);
    must(what, RECOVERED, || {
        lab.hosts().iter().all(|host| says(host.node()))
    });
}

#[test]
fn a_lost_lease_is_taken_back_and_never_from_another_host() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    let key = own_key(lab, 1);
    let value = lab.etcd()?.get(&key)?;
    let silence = Silence::begin(lab.host(1))?;

    lab.etcd()?.delete(&key)?;
    must("a deleted key is back", SECONDS, || {
        holds(lab, &key, &value)
    });

    let lease_id = lease_id_of(lab, &key)?;
    lab.etcd()?.ctl(["lease", "revoke", &lease_id])?;
    must("a key whose lease was revoked is back", SECONDS, || {
        holds(lab, &key, &value)
    });
    assert_ne!(
        lease_id_of(lab, &key)?,
        lease_id,
        "on an etcd lease of its own"
    );
    connected(lab)?;

    overwritten(lab, &key, &value)?;
    let broken = silence.broken_by();
    assert!(
        broken.is_empty(),
        "the data plane of host 1 changed: {broken:?}"
    );
    connected(lab)
}

/// The key announces a host that no one is: left alone, told, and taken back when it goes.
fn overwritten(lab: &mut Lab, key: &str, value: &Option<String>) -> Test {
    let other = crate::peers::value(250, 0);
    lab.etcd()?.put(key, &other)?;
    let status = |lab: &mut Lab| {
        lab.flanneld(1)
            .ok()
            .and_then(|flanneld| flanneld.notify().status())
            .unwrap_or_default()
    };
    must("STATUS says that the lease is lost", PATIENCE, || {
        status(lab).contains("LEASE LOST to 10.64.1.250")
    });
    must("the log says what the key announces", PATIENCE, || {
        log(lab.host(1)).contains("its key announces 10.64.1.250")
    });
    assert_eq!(lab.etcd()?.get(key)?, Some(other), "never overwritten");

    lab.etcd()?.delete(key)?;
    must("the key is taken back", SECONDS, || holds(lab, key, value));
    must("STATUS says so", PATIENCE, || {
        !status(lab).contains("LEASE LOST")
    });
    Ok(())
}

#[test]
fn a_host_that_was_suspended_past_the_end_of_its_lease_goes_on() -> Test {
    use lab::Signal;
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    let key = own_key(lab, 1);
    let value = lab.etcd()?.get(&key)?;
    // Only host 1 is watched: host 2 drops its way there while the lease is gone, as it must.
    let silence = Silence::begin(lab.host(1))?;
    lab.flanneld(1)?.process().signal(Signal::STOP)?;
    lab.etcd()?
        .ctl(["lease", "revoke", &lease_id_of(lab, &key)?])?;
    assert_eq!(lab.etcd()?.get(&key)?, None);
    lab.flanneld(1)?.process().signal(Signal::CONT)?;
    must("the lease is back", SECONDS, || holds(lab, &key, &value));
    connected(lab)?;
    let broken = silence.broken_by();
    assert!(
        broken.is_empty(),
        "the data plane of host 1 changed: {broken:?}"
    );
    let pings = Pings::begin(lab, 1, 2)?;
    let leases = lab.etcd()?.keys(&format!("{PREFIX}/subnets/"))?;
    assert_eq!(leases.len(), 2, "one lease a host: {leases:?}");
    let (lost, _) = pings.end()?;
    assert!(lost.is_empty(), "lost {lost:?}");
    Ok(())
}
