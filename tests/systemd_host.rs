//! The shipped unit, settings and drop-in on a host that systemd runs, with a real docker and a real etcd: from boot to stop.
//! Needs root and what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod support;

use lab::{Lab, LabOptions, Signal};
use support::docker::UNITS;
use support::installed::{file, installed};
use support::systemd_host::{File, SystemdHost};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Shorter than anybody wants it, so that no one waits for half a minute here.
const WATCHDOG: &str = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n";

fn files(lab: &Lab) -> Vec<File> {
    let mut files = installed(lab, FLANNELD, "-iface=eth0 -ip-masq");
    files.push(file(
        "/etc/systemd/system/flanneld.service.d/test.conf",
        WATCHDOG,
    ));
    files
}

fn active(host: &SystemdHost, unit: &str) {
    host.wait(&format!("systemctl is-active {unit}"), |state| {
        state == "active"
    });
}

#[test]
fn from_boot_to_stop() {
    let mut lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    lab.start_etcd().unwrap();
    lab.add_hosts(1).unwrap();
    lab.etcd().unwrap().wait_healthy().unwrap();
    let host = SystemdHost::boot(&lab, "sd", "10.64.0.99", &files(&lab), &UNITS).unwrap();

    waits_for_the_configuration_and_docker_waits_with_it(&host);
    lab.configure().unwrap();
    active(&host, "flanneld");
    active(&host, "docker");
    host.wait("systemctl is-system-running", |state| state == "running");
    docker_has_the_subnet(&host);
    restart_keeps_everything(&host);
    the_unit_lets_every_firewall_work(&host);
    crash_and_hang_are_cured(&host);
    lack_of_memory_is_cured(&lab, &host);
    stop_leaves_the_overlay(&host);
    starts_without_etcd(&lab, &host);
}

fn waits_for_the_configuration_and_docker_waits_with_it(host: &SystemdHost) {
    host.wait("systemctl show --value -p StatusText flanneld", |text| {
        text.starts_with("waiting: ")
    });
    assert_eq!(host.property("flanneld", "ActiveState"), "activating");
    assert_eq!(host.property("docker", "ActiveState"), "inactive");
}

fn docker_has_the_subnet(host: &SystemdHost) {
    let log = host.say("journalctl --no-pager -u flanneld");
    assert!(log.contains("Lease acquired: 172.30."), "{log}");
    let subnet = host.say(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET");
    let bridge = host.must("ip -4 -o addr show docker0");
    assert!(bridge.contains(&format!("inet {subnet} ")), "{bridge}");
    assert_eq!(
        host.say("stat -c '%a %U' /run/flannel/docker /run/flannel/subnet.env"),
        "644 root\n644 root"
    );
    host.wait("stat -c %s /var/lib/flannel/subnet.json", |size| {
        size.parse().is_ok_and(|size: u32| size > 2)
    });
    let sysctl = "/lib/systemd/systemd-sysctl /etc/sysctl.d/99-flannel.conf && cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(host.say(sysctl), "1");
}

fn restart_keeps_everything(host: &SystemdHost) {
    let before = (
        host.say("cat /run/flannel/subnet.env"),
        host.property("docker", "MainPID"),
    );
    let pid = host.property("flanneld", "MainPID");
    assert!(host.run("systemctl restart flanneld").status.success());
    assert_ne!(host.property("flanneld", "MainPID"), pid);
    assert_eq!(
        (
            host.say("cat /run/flannel/subnet.env"),
            host.property("docker", "MainPID")
        ),
        before
    );
}

/// The lock file, the raw socket and the programs themselves: whatever the unit forbids would be a warning.
fn the_unit_lets_every_firewall_work(host: &SystemdHost) {
    for variant in ["legacy", "nft"] {
        // Until all three are of one variant, a daemon that looks reads from one and writes to the other.
        host.must("systemctl stop flanneld");
        for part in ["", "-save", "-restore"] {
            host.must(&format!(
                "ln -sf /usr/sbin/iptables-{variant}{part} /etc/alternatives/iptables{part}"
            ));
        }
        host.must("systemctl start flanneld");
        let rules = host.must(&format!("iptables-{variant} -t nat -S FLANNEL-POSTRTG"));
        assert_eq!(rules.lines().count(), 7, "{variant}: {rules}");
    }
}

fn crash_and_hang_are_cured(host: &SystemdHost) {
    for (signal, restarts) in [("KILL", "1"), ("STOP", "2")] {
        host.run(&format!("systemctl kill -s {signal} flanneld"));
        host.wait("systemctl show --value -p NRestarts flanneld", |count| {
            count == restarts
        });
        active(host, "flanneld");
    }
}

/// Ends because it may have no byte more than it has, when a value of the most that etcd takes comes.
fn lack_of_memory_is_cured(lab: &Lab, host: &SystemdHost) {
    let limit = "pid=$(systemctl show --value -p MainPID flanneld)
        prlimit --pid $pid --data=$(($(awk '/^VmData/ {print $2}' /proc/$pid/status) * 1024))";
    assert!(host.run(limit).status.success());
    let (key, value) = (
        "/kubernetes/network/subnets/172.30.1.0-24",
        "x".repeat(1_000_000),
    );
    lab.etcd().unwrap().put(key, value).unwrap();
    host.wait("systemctl show --value -p NRestarts flanneld", |count| {
        count == "3"
    });
    lab.etcd().unwrap().delete(key).unwrap();
    active(host, "flanneld");
    // The journal takes up what is said at the end when it gets to it.
    host.wait("journalctl --no-pager -o cat -u flanneld", |log| {
        log.contains("memory allocation of")
    });
}

fn stop_leaves_the_overlay(host: &SystemdHost) {
    assert!(host.run("systemctl stop flanneld").status.success());
    assert_eq!(host.property("flanneld", "Result"), "success");
    assert_eq!(host.property("flanneld", "ExecMainStatus"), "0");
    assert_eq!(host.property("docker", "ActiveState"), "active");
    // Whatever the unit forbids and the daemon needs would be a warning.
    let log = host.say("journalctl --no-pager -o cat -u flanneld");
    let trouble = |line: &&str| {
        ["WARN", "ERROR"]
            .iter()
            .any(|level| line.starts_with(level))
    };
    // The value that was too large for it may still be there when it starts again.
    let expected = |line: &&str| {
        line.contains("no network configuration")
            || line.contains("not a lease value (1000000 bytes")
    };
    assert!(
        log.lines().any(|line| trouble(&line)),
        "the words for trouble have changed: {log}"
    );
    assert_eq!(
        log.lines()
            .filter(trouble)
            .filter(|line| !expected(line))
            .collect::<Vec<_>>(),
        [""; 0]
    );
    assert!(
        host.run("test -s /run/flannel/subnet.env && ip link show flannel.1")
            .status
            .success()
    );
}

/// As after a reboot of the whole rack: the state file is all there is, and the unit lets the daemon read it.
fn starts_without_etcd(lab: &Lab, host: &SystemdHost) {
    let told = "ip -4 -o addr show flannel.1 | grep -o 'inet .*'; cat /sys/class/net/flannel.1/address /run/flannel/*";
    let before = host.say(told);
    lab.etcd().unwrap().signal(1, Signal::STOP).unwrap();
    assert!(
        host.run("ip link del flannel.1 && rm /run/flannel/*")
            .status
            .success()
    );
    assert!(host.run("systemctl start flanneld").status.success());
    assert!(host.property("flanneld", "StatusText").contains("STALE"));
    assert_eq!(host.say(told), before);
    assert_eq!(
        host.say("stat -c '%a %U' /var/lib/flannel /var/lib/flannel/subnet.json"),
        "700 root\n600 root"
    );
    lab.etcd().unwrap().signal(1, Signal::CONT).unwrap();
    host.wait("systemctl show --value -p StatusText flanneld", |text| {
        text.ends_with(".0/24, 0 peers")
    });
    assert_eq!(host.property("flanneld", "LimitCORE"), "0");
}
