//! Other programs on the same device, and notifications that were lost.

use lab::{Signal, wait_until};

use super::host::{Host, NETWORK, lease_key, lease_value};
use super::{GONE, SOON, Test};

/// How often something is disturbed: more often than it takes to be named.
const OFTEN: usize = 9;
const NAMED: &str = "another program keeps modifying";

#[test]
fn flapping_entry_is_repaired_at_once_and_named_once() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    for _ in 0..OFTEN {
        host.heals_to(
            &wanted,
            "a route deleted again",
            "ip route del 172.30.201.0/24",
        )?;
    }
    let log = host.log()?;
    let repairs = log.matches("repaired: set route 172.30.201.0/24").count();
    assert_eq!(
        repairs, 4,
        "repairs are logged until the entry is named:\n{log}"
    );
    assert_eq!(
        log.matches("another program keeps modifying routes on flannel.1")
            .count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches(NAMED).count(), 1, "{log}");
    Ok(())
}

/// As a NIC driver, or a restart of the network's service, does it.
#[test]
fn flaps_of_the_device_are_repaired_at_once() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    for script in [
        "ip link set flannel.1 down; ip link set flannel.1 up",
        "ip link del flannel.1",
    ] {
        for _ in 0..OFTEN {
            host.heals_to(&wanted, script, script)?;
        }
    }
    let log = host.log()?;
    assert!(
        log.lines()
            .filter(|line| line.contains("repaired: "))
            .count()
            < 9,
        "{log}"
    );
    assert_eq!(
        log.matches("another program keeps modifying device flannel.1")
            .count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches(NAMED).count(), 1, "{log}");
    Ok(())
}

/// Changes that are none of its business overflow the receive buffer of a stopped daemon, and those that are do not fit in any
/// more: all it hears when it goes on is that it has missed something.
#[test]
fn lost_notifications_are_made_up_for() -> Test {
    let mut host = Host::start()?;
    host.settle();
    let wanted = host.state()?;
    host.lab.flanneld(1)?.process().signal(Signal::STOP)?;
    host.sh(
        "for i in $(seq 1 250); do for j in $(seq 1 250); do echo \"neigh replace 10.99.$i.$j lladdr 0a:00:00:00:01:01 dev eth0 nud permanent\"; done; done > /run/batch
         ip -batch /run/batch; ip route flush dev flannel.1",
    )?;
    let dropped = host.sh("awk '$4 != \"00000000\" && $9 > 0' /proc/net/netlink")?;
    assert!(
        dropped.contains(' '),
        "the kernel has dropped notifications"
    );
    host.lab.flanneld(1)?.process().signal(Signal::CONT)?;
    host.becomes(
        "62,500 neighbors elsewhere while the daemon was stopped",
        &wanted,
    )
}

/// Leases change while entries are disturbed: what is left is what the leases say.
#[test]
fn churn_and_disturbance_at_once_end_well() -> Test {
    let host = Host::start()?;
    let wanted = host.state()?;
    let etcd = host.lab.etcd()?;
    for n in 1..=40 {
        etcd.put(&lease_key(n), lease_value(n))?;
        host.sh(&format!(
            "ip route del 172.30.{}.0/24 || true; ip neigh flush dev flannel.1 nud permanent",
            200 + n / 2 + 1
        ))?;
    }
    for n in super::host::PEERS + 1..=40 {
        etcd.delete(&lease_key(n))?;
    }
    host.becomes_within(GONE, "forty peers came and most of them went", &wanted)
}

#[test]
fn a_second_daemon_for_the_device_is_refused() -> Test {
    let mut host = Host::start()?;
    let wanted = host.state()?;
    let mut command = vec![env!("CARGO_BIN_EXE_flanneld").to_owned()];
    command.extend(host.lab.flanneld_args()?);
    let second = host.node().run(
        ["timeout", "10"]
            .into_iter()
            .map(str::to_owned)
            .chain(command),
    )?;
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another flanneld"), "{stderr}");
    assert!(host.lab.flanneld(1)?.process().running());
    assert!(wait_until(SOON, || host
        .state()
        .is_ok_and(|state| state == wanted)));
    Ok(())
}

/// Any user can take a name of an abstract socket.
#[test]
fn name_held_by_another_user_does_not_block_a_start() -> Test {
    let mut host = Host::start()?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    let squat = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "socat",
        "ABSTRACT-LISTEN:rflannel/flannel.1",
        "EXEC:cat",
    ];
    let squatter = host.node().spawn("squatter", squat)?;
    let is_taken = || {
        host.sh("grep -q '@rflannel/flannel.1$' /proc/net/unix")
            .is_ok()
    };
    assert!(wait_until(SOON, is_taken), "{}", squatter.log());
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    assert!(
        host.log_contains("a process without root rights holds the abstract socket"),
        "{}",
        host.log()?
    );
    Ok(())
}

#[test]
fn removed_files_and_socket_come_back() -> Test {
    let mut host = Host::start_with(NETWORK, &["-docker-opts-file=/run/flannel/docker"])?;
    let saved = || host.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(SOON, saved), "the state file is written");
    let files = "cd /run/flannel; cat subnet.env docker; test -s state.json; test -S subnet.sock";
    let wanted = host.sh(files)?;
    host.sh("rm -r /run/flannel")?;
    let is_back = || host.sh(files).is_ok_and(|found| found == wanted);
    assert!(wait_until(SOON, is_back), "{}", host.log()?);
    assert!(
        host.log_contains("another program removed /run/flannel/"),
        "{}",
        host.log()?
    );

    host.sh("echo FLANNEL_MTU=9000 > /run/flannel/subnet.env")?;
    let is_told = || host.log_contains("another program changed /run/flannel/subnet.env");
    assert!(wait_until(SOON, is_told), "{}", host.log()?);
    assert_eq!(
        host.sh("cat /run/flannel/subnet.env")?,
        "FLANNEL_MTU=9000\n"
    );
    Ok(())
}

/// As EL's iptables-services set FORWARD up.
#[test]
fn rule_that_refuses_all_before_flannels_is_reported() -> Test {
    let mut host = Host::start()?;
    host.lab.end_flanneld(1, Signal::TERM)?;
    host.sh("iptables -I FORWARD -j REJECT --reject-with icmp-host-prohibited")?;
    host.lab.start_flanneld(1, &[])?.wait_ready(SOON)?;
    assert!(
        host.log_contains("of FORWARD rejects the packets of pods before flannel"),
        "{}",
        host.log()?
    );
    let status = |host: &mut Host, text: &str| {
        host.lab
            .flanneld(1)
            .is_ok_and(|daemon| daemon.notify().status().is_some_and(|s| s.contains(text)))
    };
    assert!(
        wait_until(SOON, || status(&mut host, "rejects the packets of pods")),
        "{}",
        host.log()?
    );
    host.sh("iptables -D FORWARD -j REJECT --reject-with icmp-host-prohibited")?;
    assert!(
        wait_until(SOON, || !status(&mut host, "rejects the packets of pods")),
        "{}",
        host.log()?
    );
    Ok(())
}
