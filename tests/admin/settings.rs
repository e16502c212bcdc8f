//! Commands find the daemon's settings on a node where nothing is told to them, and say which ones they use.

use crate::support::tool::rflannel;
use lab::Signal;

use super::{Cluster, Ran, SOON, Test};

/// Runs the tool on the second host, with what is found there.
fn run(cluster: &Cluster, args: &str) -> Ran {
    let script = format!(
        "HOME=/run/desk PATH=/run/bin:$PATH {rflannel} {args} 2>&1",
        rflannel = rflannel()
    );
    let output = cluster.lab.host(2).run(["sh", "-c", &script]).unwrap();
    Ran {
        code: output.status.code().unwrap_or_default(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

/// Two hosts, each with a daemon.
fn cluster() -> Result<Cluster, lab::LabError> {
    let mut cluster = Cluster::start(2)?;
    for n in [1, 2] {
        cluster.lab.start_flanneld(n, &[])?.wait_ready(SOON)?;
        cluster.lab.wire_pod(n)?;
    }
    Ok(cluster)
}

#[test]
fn settings_of_the_running_daemon_are_used() -> Test {
    let cluster = cluster()?;
    let used = "settings: running daemon (pid ";
    run(&cluster, "lease list").expect(
        0,
        &[
            used,
            "prefix /kubernetes/network at http://10.64.255.1:2379",
            "2 leases",
        ],
    );
    run(&cluster, "lease list --json").expect(
        0,
        &["\"settings\":{\"source\":\"daemon\",", "\"leases\":[{"],
    );
    run(&cluster, "config get").expect(0, &[used, "\"Network\":\"172.30.0.0/16\""]);
    run(&cluster, "handover").expect(0, &[used, "-etcd-prefix=/kubernetes/network"]);
    run(&cluster, "status").expect(0, &["settings   running daemon (pid "]);
    run(&cluster, "status --json").expect(0, &["\"source\":\"daemon\""]);
    run(&cluster, "status --peers")
        .expect(0, &["h1    172.30.", "10.64.0.1", "installed", "1 peer\n"]);
    run(&cluster, "status --brief --wait=60").expect(0, &["fine; 172.30.", "1 of 1 peer\n"]);
    run(&cluster, "check h1").expect(0, &["settings   running daemon (pid ", "h1 (172.30."]);
    let bundle = run(
        &cluster,
        "support-bundle -o /run/b.tar.gz; tar -xzOf /run/b.tar.gz rflannel/etcd/leases.json",
    );
    bundle.expect(0, &["\"prefix\":\"/kubernetes/network\"", "10.64.0.2"]);
    Ok(())
}

/// The daemon is stopped: its unit says how it would be started, else the file of the shipped unit.
#[test]
fn settings_of_unit_and_defaults_file_are_used() -> Test {
    let mut cluster = cluster()?;
    let flags = cluster.lab.flanneld_args()?.join(" ");
    cluster.lab.end_flanneld(2, Signal::TERM)?;
    let node = cluster.lab.host(2).clone();
    run(&cluster, "lease list").expect(
        4,
        &["settings: flannel's defaults (no daemon, unit, or context found)"],
    );
    node.write(
        "/run/default/flanneld",
        format!("FLANNEL_OPTIONS=\"{flags}\"\n"),
    )?;
    node.sh("mount --bind /run/default /etc/default")?;
    run(&cluster, "lease list").expect(
        0,
        &[
            "settings: /etc/default/flanneld: prefix /kubernetes/network",
            "2 leases",
        ],
    );
    run(&cluster, "handover").expect(
        0,
        &[
            "ok    the lease of 172.30.",
            "-etcd-prefix=/kubernetes/network -iface=eth0",
        ],
    );
    // systemctl comes from the host, on which no systemd runs.
    node.write(
        "/run/bin/systemctl",
        format!(
            "#!/bin/sh\necho LoadState=loaded\necho 'ExecStart={{ path=/usr/bin/flanneld ; argv[]=/usr/bin/flanneld {flags} ; x }}'\n"
        ),
    )?;
    node.sh("chmod +x /run/bin/systemctl; umount --lazy /etc/default")?;
    run(&cluster, "lease list").expect(
        0,
        &[
            "settings: flanneld.service: prefix /kubernetes/network",
            "2 leases",
        ],
    );
    run(&cluster, "status").expect(
        2,
        &[
            "not running",
            "settings   flanneld.service",
            "compared with etcd",
        ],
    );
    run(&cluster, "check").expect(2, &["not running: packets pass, but no daemon runs"]);
    Ok(())
}

#[test]
fn context_is_used_without_a_daemon() -> Test {
    let mut cluster = cluster()?;
    cluster.lab.end_flanneld(2, Signal::TERM)?;
    let context = "[contexts.lab]\netcd-endpoints = \"http://10.64.255.1:2379\"\netcd-prefix = \"/kubernetes/network\"\n";
    let node = cluster.lab.host(2).clone();
    node.write("/run/desk/.config/rflannel/config.toml", context)?;
    let used = "settings: context lab of /run/desk/.config/rflannel/config.toml";
    run(&cluster, "lease list --context lab").expect(0, &[used, "2 leases"]);
    run(&cluster, "lease list").expect(4, &["flannel's defaults"]);
    run(&cluster, "lease list --context x")
        .expect(64, &["there is no context \"x\"; known contexts: lab"]);
    node.write(
        "/run/desk/.config/rflannel/config.toml",
        format!("current = \"lab\"\n{context}"),
    )?;
    run(&cluster, "lease list").expect(0, &[used, "2 leases"]);
    run(
        &cluster,
        "lease list -- -etcd-prefix=/none -etcd-endpoints=http://10.64.255.1:2379",
    )
    .expect(
        0,
        &[
            "settings: flags after -- and FLANNELD_* variables: prefix /none",
            "0 leases",
        ],
    );
    Ok(())
}

#[test]
fn several_daemons_are_listed_and_one_is_asked_for() -> Test {
    let cluster = cluster()?;
    let second = super::NETWORK
        .replace("172.30.", "172.31.")
        .replace("\"vxlan\"", "\"vxlan\",\"VNI\":7");
    cluster.lab.etcd()?.put("/second/config", second)?;
    let mut flags = cluster.lab.flanneld_args()?;
    flags.extend(
        [
            "-etcd-prefix=/second",
            "-subnet-file=/run/flannel/second.env",
            "-state-file=none",
        ]
        .map(str::to_owned),
    );
    let command = std::iter::once(env!("CARGO_BIN_EXE_flanneld").to_owned()).chain(flags);
    let _second = cluster.lab.host(2).spawn("second", command)?;
    let ready = || {
        cluster
            .lab
            .host(2)
            .sh("test -s /run/flannel/second.env")
            .is_ok()
    };
    assert!(lab::wait_until(SOON, ready));
    for command in ["lease list", "status", "check"] {
        run(&cluster, command).expect(
            64,
            &[
                "2 daemons run on this host",
                "--socket /run/flannel/subnet.sock  (pid ",
                "run-flannel-second.env.sock  (pid ",
                "prefix /second)",
            ],
        );
    }
    run(
        &cluster,
        "lease list --socket /run/flannel/run-flannel-second.env.sock",
    )
    .expect(0, &["prefix /second", "1 lease of "]);
    run(&cluster, "status --socket /run/flannel/subnet.sock").expect(0, &["172.30."]);
    Ok(())
}

/// What is found out about the daemon's process needs no answer of it.
#[test]
fn a_hung_daemon_is_named_and_its_settings_are_found() -> Test {
    let mut cluster = cluster()?;
    let saved = || {
        cluster
            .lab
            .host(2)
            .sh("test -s /run/flannel/state.json")
            .is_ok()
    };
    assert!(lab::wait_until(SOON, saved));
    cluster.lab.flanneld(2)?.process().signal(Signal::STOP)?;
    run(&cluster, "lease list").expect(0, &["settings: running daemon (pid ", "2 leases"]);
    run(&cluster, "status").expect(
        2,
        &[
            "does not answer (v",
            "the daemon (pid ",
            ", state T) does not answer at /run/flannel/subnet.sock",
            "kill -CONT",
            "1 desired, 1 installed",
        ],
    );
    run(&cluster, "check").expect(
        2,
        &[
            "hung: packets pass, but the daemon does not answer",
            "state T",
            "1 of 1 reached",
        ],
    );
    cluster.lab.flanneld(2)?.process().signal(Signal::CONT)?;
    run(&cluster, "status --brief --wait").expect(0, &["fine"]);
    Ok(())
}
