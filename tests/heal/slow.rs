//! A log reader, disk, name server or program that does not answer holds up neither the daemon nor its end.

use lab::{LabError, Process, Signal, wait_until};

use super::host::{Host, START, lease_key, lease_value};
use super::{SOON, Test};

/// The host's own subnet is none of the peers', which have 172.30.10.0/24 and up.
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMax":"172.30.9.0","Backend":{"Type":"vxlan"}}"#;
const HEALTH: &str = "-healthz-port=8471";
/// More than one transaction of etcd's would take with the next size.
const PEERS: usize = 120;

/// Puts all peers with addresses that end in `last`.
fn put_peers(host: &Host, last: usize) -> Test {
    let put = |n: usize| {
        let value = lease_value(5 + n).replace("10.64.9.", &format!("10.64.{last}."));
        format!(
            "put /kubernetes/network/subnets/172.30.{}.0-24 {value}",
            9 + n
        )
    };
    let puts: Vec<String> = (1..=PEERS).map(put).collect();
    host.lab
        .etcd()?
        .ctl_feed(["txn"], format!("\n{}\n\n\n", puts.join("\n")).as_bytes())
        .map(drop)
}

fn is_programmed(host: &Host, last: usize) -> bool {
    let script = format!("bridge fdb show dev flannel.1 | grep -c 'dst 10.64.{last}.'");
    host.sh(&script)
        .is_ok_and(|count| count.trim() == PEERS.to_string())
}

fn is_healthy(host: &Host) -> bool {
    host.sh("curl -sf -m 5 http://127.0.0.1:8471/healthz")
        .is_ok()
}

#[test]
fn stalled_log_reader_costs_only_lines() -> Test {
    let mut host = Host::start_with(NETWORK, &[HEALTH])?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    // A pipe that is full and has a reader, which does not read.
    host.sh("mkfifo /run/stalled")?;
    let stalled = [
        "sh",
        "-c",
        r#"exec 3<>/run/stalled; head -c 65536 /dev/zero >&3; exec "$@" 2>&3"#,
        "sh",
    ];
    host.lab
        .start_flanneld_under(1, &stalled, &["-v=4", "-log-format=json"])?
        .wait_ready(SOON)?;
    for last in 20..80 {
        put_peers(&host, last)?;
        assert!(
            wait_until(SOON, || is_programmed(&host, last)),
            "{:?}",
            host.state()
        );
        assert!(is_healthy(&host));
    }
    host.sh("timeout 5 cat /run/stalled > /run/drained || true")?;
    let told = host.sh("grep -a -o '[0-9]* log lines were dropped here' /run/drained")?;
    assert!(!told.starts_with('0'), "{told}");

    host.sh("head -c 65536 /dev/zero 1<>/run/stalled >&1 &")?;
    put_peers(&host, 90)?;
    assert!(wait_until(SOON, || is_programmed(&host, 90)));
    host.lab.end_flanneld(1, Signal::TERM)?;
    Ok(())
}

/// Far less than what is slow takes in these tests.
fn ends_soon(host: &mut Host) -> Test {
    let daemon = host.lab.flanneld(1)?.process();
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait(SOON)?;
    assert!(status.success(), "{status}: {}", daemon.log());
    Ok(())
}

#[test]
fn silent_name_server_does_not_delay_a_stop() -> Test {
    let mut host = Host::start()?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.sh(
        "ip link add dead type veth peer name end; ip link set end up; ip link set dead up
        ip addr add 10.99.0.2/24 dev dead; ip neigh add 10.99.0.1 lladdr 02:00:00:00:00:01 dev dead
        printf 'nameserver 10.99.0.1\\noptions timeout:30 attempts:5\\n' > /run/resolv.conf
        mount --bind /run/resolv.conf /etc/resolv.conf",
    )?;
    host.lab
        .start_flanneld(1, &["-etcd-endpoints=http://etcd.example:2379"])?;
    let requests = || host.sh("grep -q ':0035 ' /proc/net/udp").is_ok();
    assert!(
        wait_until(SOON, requests),
        "{:?}",
        host.sh("cat /proc/net/udp")
    );
    ends_soon(&mut host)
}

/// From now on no file of the daemon's gets to the disk.
fn hang_disk(host: &Host) -> Result<Process, LabError> {
    let script = "exec strace -f -qq -o /run/strace.out -e trace=fsync -e inject=fsync:delay_enter=300000000 \
        -p $(pidof flanneld)";
    let strace = host.node().spawn("strace", ["sh", "-ec", script])?;
    let attached = || {
        host.sh("! grep -q '^TracerPid:.0$' /proc/$(pidof flanneld)/status")
            .is_ok()
    };
    assert!(wait_until(SOON, attached), "{}", strace.log());
    Ok(strace)
}

#[test]
fn hung_write_of_the_state_file_does_not_delay_a_stop() -> Test {
    let mut host = Host::start()?;
    let saved = || host.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(SOON, saved), "the state file is written");
    let strace = hang_disk(&host)?;
    host.lab.etcd()?.put(&lease_key(9), lease_value(9))?;
    let hangs = || host.sh("ls /run/flannel/.rflannel-*").is_ok();
    assert!(
        wait_until(SOON, hangs),
        "{:?}",
        host.sh("ls -la /run/flannel; cat /run/strace.out")
    );
    let daemon = host.lab.flanneld(1)?.process();
    daemon.signal(Signal::TERM)?;
    // The thread that hangs is strace's and goes with it: what can end on its own is the first one.
    let pid = daemon.pid().unwrap_or_default();
    let has_ended =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "));
    assert!(wait_until(SOON, has_ended), "{}", daemon.log());
    strace.kill()?;
    assert!(daemon.wait(SOON)?.success());
    Ok(())
}

#[test]
fn state_file_that_cannot_be_read_to_its_end_is_not_waited_for() -> Test {
    let mut host = Host::start_with(NETWORK, &[HEALTH])?;
    host.lab.etcd_mut()?.kill(1)?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.sh("rm -f /run/flannel/state.json; mkfifo /run/flannel/state.json")?;
    let writer = "exec 3>/run/flannel/state.json; touch /run/opened; exec sleep 1000";
    let _writer = host.node().spawn("writer", ["sh", "-ec", writer])?;
    host.lab.start_flanneld(1, &[])?;
    assert!(
        wait_until(SOON, || host.sh("test -e /run/opened").is_ok()),
        "the daemon reads the file"
    );
    assert!(is_healthy(&host));
    host.lab.etcd_mut()?.start_member(1)?;
    host.lab.flanneld(1)?.wait_ready(START)?;
    ends_soon(&mut host)
}

#[test]
fn hung_disk_below_the_subnet_file_holds_up_nothing_else() -> Test {
    let mut host = Host::start_with(NETWORK, &[HEALTH])?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    let slow = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/run/strace.out",
        "-e",
        "trace=fsync",
        "-e",
    ];
    let slow = [&slow[..], &["inject=fsync:delay_enter=300000000"]].concat();
    host.lab.start_flanneld_under(1, &slow, &[])?;
    let waits = |host: &mut Host| {
        let status = host
            .lab
            .flanneld(1)
            .ok()
            .and_then(|daemon| daemon.notify().status());
        status.is_some_and(|status| {
            status == "waiting: the file system of /run/flannel/subnet.env does not answer"
        })
    };
    assert!(wait_until(SOON, || waits(&mut host)), "{}", host.log()?);
    assert!(is_healthy(&host));
    Ok(())
}

#[test]
fn hung_ethtool_holds_up_nothing() -> Test {
    let mut host = Host::start()?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.sh(
        "printf '#!/bin/sh\\ntouch /run/asked\\nexec sleep 1000\\n' > /run/hung; chmod +x /run/hung
        mount --bind /run/hung $(command -v ethtool)",
    )?;
    host.lab
        .start_flanneld(1, &["-tx-checksum=off"])?
        .wait_ready(SOON)?;
    assert!(
        wait_until(SOON, || host.sh("test -e /run/asked").is_ok()),
        "the daemon runs ethtool"
    );
    ends_soon(&mut host)
}
