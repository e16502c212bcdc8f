//! The shipped unit, settings and drop-in on a host that systemd runs, with a real etcd: from boot to stop.
//! Needs root and what `scripts/setup` installs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper fails its test")]

mod support;

use std::fs;

use rflannel::lab::{Lab, LabOptions, Signal};
use support::shipped::shipped;
use support::systemd_host::{File, SystemdHost};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");
const SSL: &str = "/etc/kubernetes/ssl";

/// Writes its arguments down and stays. `dockerd` needs more of a machine than this test can ask for.
const DOCKERD: &str = "#!/bin/sh\necho \"$@\" >/run/dockerd.args\nexec sleep infinity\n";

const DOCKER_UNIT: &str = "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n";

/// Shorter than anybody wants it, so that nobody waits for half a minute here.
const WATCHDOG: &str = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n";

/// What an administrator installs: the shipped files where they say they belong, settings, certificates.
fn installed(lab: &Lab) -> Vec<File> {
    let mut files: Vec<File> =
        shipped().into_iter().map(|file| (file.target, file.text.into_bytes(), 0o644)).collect();
    files.retain(|(path, ..)| path != "/etc/default/flanneld");
    let mut add = |path: &str, content: &[u8], mode| files.push((path.to_owned(), content.to_vec(), mode));
    add("/etc/default/flanneld", settings(lab).as_bytes(), 0o644);
    add("/etc/systemd/system/flanneld.service.d/test.conf", WATCHDOG.as_bytes(), 0o644);
    add("/etc/systemd/system/docker.service", DOCKER_UNIT.as_bytes(), 0o644);
    add("/usr/local/bin/dockerd", DOCKERD.as_bytes(), 0o755);
    add("/usr/local/bin/flanneld", &fs::read(FLANNELD).unwrap(), 0o755);
    for (from, to) in [("ca", "ca"), ("client", "kubernetes"), ("client-key", "kubernetes-key")] {
        let pem = lab.host(1).read(&format!("/run/pki/{from}.pem")).unwrap();
        add(&format!("{SSL}/{to}.pem"), pem.as_bytes(), 0o600);
    }
    files
}

fn settings(lab: &Lab) -> String {
    let etcd = lab.etcd().unwrap().endpoints();
    format!(
        "FLANNELD_ETCD_ENDPOINTS={etcd}\nFLANNELD_ETCD_PREFIX=/kubernetes/network\nFLANNELD_ETCD_CAFILE={SSL}/ca.pem\n\
         FLANNELD_ETCD_CERTFILE={SSL}/kubernetes.pem\nFLANNELD_ETCD_KEYFILE={SSL}/kubernetes-key.pem\n\
         FLANNEL_OPTIONS=-iface=eth0 -v=1\n"
    )
}

fn active(host: &SystemdHost, unit: &str) {
    host.wait(&format!("systemctl is-active {unit}"), |state| state == "active");
}

#[test]
fn from_boot_to_stop() {
    let mut lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    lab.start_etcd().unwrap();
    lab.add_hosts(1).unwrap();
    lab.etcd().unwrap().wait_healthy().unwrap();
    let host = SystemdHost::boot(&lab, "sd", "10.64.0.99", &installed(&lab)).unwrap();

    waits_for_the_configuration_and_docker_waits_with_it(&host);
    lab.configure().unwrap();
    active(&host, "flanneld");
    active(&host, "docker");
    host.wait("systemctl is-system-running", |state| state == "running");
    docker_has_the_subnet(&host);
    restart_keeps_everything(&host);
    crash_and_hang_are_cured(&host);
    stop_leaves_the_overlay(&host);
    starts_without_etcd(&lab, &host);
}

fn waits_for_the_configuration_and_docker_waits_with_it(host: &SystemdHost) {
    host.wait("systemctl show --value -p StatusText flanneld", |text| text.starts_with("waiting: "));
    assert_eq!(host.property("flanneld", "ActiveState"), "activating");
    assert_eq!(host.property("docker", "ActiveState"), "inactive");
}

fn docker_has_the_subnet(host: &SystemdHost) {
    let log = host.say("journalctl --no-pager -u flanneld");
    assert!(log.contains("Lease acquired: 172.30."), "{log}");
    let subnet = host.say(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET");
    assert_eq!(
        host.say("cat /run/dockerd.args").split("--bip=").nth(1).unwrap().split(' ').next(),
        Some(&*subnet)
    );
    assert_eq!(host.say("stat -c '%a %U' /run/flannel/docker /run/flannel/subnet.env"), "644 root\n644 root");
    host.wait("stat -c %s /var/lib/flannel/subnet.json", |size| size.parse().is_ok_and(|size: u32| size > 2));
    let sysctl =
        "/lib/systemd/systemd-sysctl /etc/sysctl.d/99-flannel.conf && cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(host.say(sysctl), "1");
}

fn restart_keeps_everything(host: &SystemdHost) {
    let before = (host.say("cat /run/flannel/subnet.env"), host.property("docker", "MainPID"));
    let pid = host.property("flanneld", "MainPID");
    assert!(host.run("systemctl restart flanneld").status.success());
    assert_ne!(host.property("flanneld", "MainPID"), pid);
    assert_eq!((host.say("cat /run/flannel/subnet.env"), host.property("docker", "MainPID")), before);
}

fn crash_and_hang_are_cured(host: &SystemdHost) {
    for (signal, restarts) in [("KILL", "1"), ("STOP", "2")] {
        host.run(&format!("systemctl kill -s {signal} flanneld"));
        host.wait("systemctl show --value -p NRestarts flanneld", |count| count == restarts);
        active(host, "flanneld");
    }
}

fn stop_leaves_the_overlay(host: &SystemdHost) {
    assert!(host.run("systemctl stop flanneld").status.success());
    assert_eq!(host.property("flanneld", "Result"), "success");
    assert_eq!(host.property("flanneld", "ExecMainStatus"), "0");
    assert_eq!(host.property("docker", "ActiveState"), "active");
    // Whatever the unit forbids and the daemon needs would be a warning.
    let log = host.say("journalctl --no-pager -o cat -u flanneld");
    let trouble = |line: &&str| ["WARN", "ERROR"].iter().any(|level| line.starts_with(level));
    let expected = |line: &&str| line.contains("no network configuration");
    assert!(log.lines().any(|line| trouble(&line)), "the words for trouble have changed: {log}");
    assert_eq!(log.lines().filter(trouble).filter(|line| !expected(line)).collect::<Vec<_>>(), [""; 0]);
    assert!(host.run("test -s /run/flannel/subnet.env && ip link show flannel.1").status.success());
}

/// As after a reboot of the whole rack: the state file is all there is, and the unit lets the daemon read it.
fn starts_without_etcd(lab: &Lab, host: &SystemdHost) {
    let told = "ip -4 -o addr show flannel.1 | grep -o 'inet .*'; cat /sys/class/net/flannel.1/address /run/flannel/*";
    let before = host.say(told);
    lab.etcd().unwrap().signal(1, Signal::STOP).unwrap();
    assert!(host.run("ip link del flannel.1 && rm /run/flannel/*").status.success());
    assert!(host.run("systemctl start flanneld").status.success());
    assert!(host.property("flanneld", "StatusText").contains("STALE"));
    assert_eq!(host.say(told), before);
    assert_eq!(
        host.say("stat -c '%a %U' /var/lib/flannel /var/lib/flannel/subnet.json"),
        "700 root\n600 root"
    );
    lab.etcd().unwrap().signal(1, Signal::CONT).unwrap();
    host.wait("systemctl show --value -p StatusText flanneld", |text| text.ends_with(".0/24, 0 peers"));
    assert_eq!(host.property("flanneld", "LimitCORE"), "0");
}
