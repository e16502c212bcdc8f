//! `rflannel handover`: what is said, what goes, and that no packet is lost by it.

use crate::support::tool::rflannel;
use lab::{Signal, wait_until};

use super::support::steady_ping::SteadyPing;
use super::{Cluster, PREFIX, Ran, SOON, Test};

/// All that Go flannel would not clean up.
const FLAGS: &[&str] = &[
    "-ip-masq",
    "-ip-blackhole-route",
    "-vxlan-source-filter",
    "-docker-opts-file=/run/flannel/docker",
];

/// What a Go daemon would find.
const STATE: &str = "
    ip -d link show flannel.1 | sed 's/^[0-9]*: //'; ip -4 -o addr show dev flannel.1
    ip route show dev flannel.1 | sort; ip neigh show dev flannel.1 nud permanent | sort
    bridge fdb show dev flannel.1 | sort; cat /run/flannel/subnet.env
    iptables-save | sed '/^#/d; s/\\[[0-9:]*\\]//'";

/// What is left of rflannel.
const OURS: &str = "
    nft list tables | grep flannel-sources || true
    ip route show type blackhole
    ls /run/flannel/state.json /run/flannel/subnet.sock 2>/dev/null || true";

/// What is said of a host with all of [`FLAGS`].
const TOLD: &[&str] = &[
    "ok    the lease of 172.30.",
    "note  Go flannel does not know -vxlan-source-filter",
    "left  nft table inet flannel-sources-1: Go flannel would not remove it",
    "left  blackhole route 172.30.",
    "left  state file /run/flannel/state.json",
    "left  etcd key /kubernetes/network/owners/172.30.",
    "ExecStart=/usr/local/bin/flanneld -etcd-endpoints=http://10.64.255.1:2379 -etcd-prefix=/kubernetes/network -iface=eth0 -ip-masq -ip-blackhole-route\n",
    "ExecStartPost=/usr/local/bin/mk-docker-opts.sh -k DOCKER_NETWORK_OPTIONS -f /run/flannel/subnet.env -d /run/flannel/docker",
    "WatchdogSec=0",
    "nothing was changed. Next: stop the daemon",
];

fn handover(cluster: &Cluster, args: &str) -> Ran {
    let output = cluster
        .lab
        .host(2)
        .run([
            "sh",
            "-c",
            &format!("{rflannel} handover {args} 2>&1", rflannel = rflannel()),
        ])
        .unwrap();
    Ran {
        code: output.status.code().unwrap_or_default(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

#[test]
fn a_host_is_prepared_for_go_without_a_packet_lost() -> Test {
    let mut cluster = Cluster::start(2)?;
    for n in [1, 2] {
        cluster.lab.start_flanneld(n, FLAGS)?.wait_ready(SOON)?;
        cluster.lab.wire_pod(n)?;
    }
    assert!(wait_until(SOON, || cluster.lab.ping_all(SOON).is_ok_and(
        |matrix| matrix.times.iter().flatten().flatten().count() == 2
    )));
    let saved = || {
        cluster
            .lab
            .host(2)
            .sh("test -s /run/flannel/state.json")
            .is_ok()
    };
    assert!(wait_until(SOON, saved));
    let pod = cluster.lab.hosts()[1].pod().unwrap().address;
    let ping = SteadyPing::start(cluster.lab.host(1), pod)?;
    let (state, ours) = (
        cluster.lab.host(2).sh(STATE)?,
        cluster.lab.host(2).sh(OURS)?,
    );
    assert_eq!(ours.lines().count(), 4, "{ours}");

    // The running daemon's own flags are read.
    let text = handover(&cluster, "").expect(0, TOLD);
    let again = text
        .split("rflannel handover --yes -- ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .unwrap()
        .to_owned();
    handover(&cluster, "--yes").expect(1, &["refused: the daemon runs"]);
    assert_eq!(cluster.lab.host(2).sh(OURS)?, ours);

    cluster.lab.end_flanneld(2, Signal::TERM)?;
    handover(&cluster, &format!("-- {again}"))
        .expect(0, &["nothing was changed. Next: rflannel handover --yes"]);
    let text = handover(&cluster, &format!("--yes -- {again}")).expect(
        0,
        &[
            "removed nft table",
            "removed blackhole",
            "removed state file",
            "removed etcd key",
            "ready for Go flannel",
        ],
    );
    assert_eq!(cluster.lab.host(2).sh(OURS)?, "", "{text}");
    assert_eq!(
        cluster.lab.host(2).sh(STATE)?,
        state,
        "what Go adopts is as it was"
    );
    assert_eq!(
        cluster
            .lab
            .etcd()?
            .keys(&format!("{PREFIX}/owners/"))?
            .len(),
        1,
        "the record of the other host"
    );
    assert_eq!(
        cluster
            .lab
            .etcd()?
            .keys(&format!("{PREFIX}/subnets/"))?
            .len(),
        2
    );
    ping.assert_nothing_lost();
    handover(&cluster, &format!("--yes -- {again}")).expect(0, &["ready for Go flannel"]);
    Ok(())
}

#[test]
fn what_go_cannot_do_is_said_and_nothing_is_changed() -> Test {
    let mut cluster = Cluster::start(2)?;
    cluster
        .lab
        .start_flanneld(2, &["-public-ip=10.64.200.2"])?
        .wait_ready(SOON)?;
    let saved = |cluster: &Cluster| {
        cluster
            .lab
            .host(2)
            .sh("test -s /run/flannel/state.json")
            .is_ok()
    };
    assert!(wait_until(SOON, || saved(&cluster)));
    handover(&cluster, "").expect(
        1,
        &[
            "STOP  no interface has the public address 10.64.200.2",
            "refused: see STOP above",
        ],
    );
    cluster.lab.end_flanneld(2, Signal::TERM)?;
    let (code, text) = {
        let ran = handover(
            &cluster,
            "--yes -- -etcd-endpoints=http://10.64.255.1:1 -iface=eth0",
        );
        (ran.code, ran.text)
    };
    assert!(
        code == 1 && text.contains("STOP  no network configuration: cannot list the leases"),
        "{code} {text}"
    );
    cluster.lab.host(2).sh("test -s /run/flannel/state.json")?;
    Ok(())
}
