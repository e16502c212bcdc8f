//! Docker Engine with the options file that the daemon writes: three hosts from boot to containers that reach each other, with a
//! real etcd. Needs root and what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod drop;
#[path = "../support/mod.rs"]
mod support;
mod units;

use lab::{Lab, LabOptions};
use support::docker::{Container, UNITS};
use support::installed::{file, installed};
use support::systemd_host::SystemdHost;

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Sets forwarding before anything else could.
const FORWARDING: &str = "[Unit]\nBefore=flanneld.service docker.service\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh -c 'echo VALUE >/proc/sys/net/ipv4/ip_forward'\n\
    [Install]\nWantedBy=multi-user.target\n";

/// A lab with etcd and its configuration; its one plain host has the certificates for the others.
fn cluster() -> Lab {
    cluster_of(LabOptions::new(FLANNELD))
}

fn cluster_of(options: LabOptions) -> Lab {
    let mut lab = Lab::bare(options).unwrap();
    lab.start_etcd().unwrap();
    lab.add_hosts(1).unwrap();
    lab.configure().unwrap();
    lab
}

/// Three hosts with docker that boot with this value of `ip_forward` and these flags, once docker is up on each.
fn boot<'lab>(lab: &'lab Lab, ip_forward: &str, flags: &str) -> Vec<SystemdHost<'lab>> {
    let mut files = installed(lab, FLANNELD, flags);
    let forwarding = FORWARDING.replace("VALUE", ip_forward);
    files.push(file("/etc/systemd/system/forwarding.service", &forwarding));
    let units = [&UNITS[..], &["forwarding.service"]].concat();
    let start = |n| {
        SystemdHost::boot(
            lab,
            &format!("d{n}"),
            &format!("10.64.0.10{n}"),
            &files,
            &units,
        )
    };
    let hosts: Vec<_> = (1..=3).map(|n| start(n).unwrap()).collect();
    for host in &hosts {
        host.wait("systemctl is-active docker", |state| state == "active");
    }
    hosts
}

/// docker's bridge has the subnet that was leased, containers the MTU.
fn has_what_was_leased(container: &Container<'_, '_>) {
    let host = container.host;
    let value = |name| host.must(&format!(". /run/flannel/subnet.env; echo $FLANNEL_{name}"));
    let bridge = host.must("ip -4 -o addr show docker0");
    assert!(
        bridge.contains(&format!("inet {} ", value("SUBNET"))),
        "{bridge}"
    );
    assert_eq!(value("MTU"), "1450");
    assert!(
        container.say("ip link show eth0").contains(" mtu 1450 "),
        "{}",
        container.say("ip link")
    );
}

fn all_reach_each_other<'h, 'lab>(hosts: &'h [SystemdHost<'lab>]) -> Vec<Container<'h, 'lab>> {
    let name = |n| format!("web{n}");
    let containers: Vec<_> = (1..)
        .zip(hosts)
        .map(|(n, host)| Container::run(host, &name(n)))
        .collect();
    containers.iter().for_each(has_what_was_leased);
    for from in &containers {
        for to in containers.iter().filter(|to| to.name != from.name) {
            from.wait_reaches(to);
        }
    }
    containers
}

/// With `-ip-masq` docker does not masquerade, and flannel only what leaves the overlay.
fn all_were_seen_as_themselves(containers: &[Container<'_, '_>]) {
    for to in containers {
        let log = to.log();
        let others = containers.iter().filter(|other| other.name != to.name);
        others.for_each(|from| {
            assert!(
                log.contains(&from.address),
                "{} at {}: {log}",
                from.address,
                to.name
            )
        });
    }
}

fn policy(host: &SystemdHost<'_>) -> String {
    host.must("iptables -S FORWARD | head -n 1")
}

#[test]
fn containers_connect_with_forwarding_on_before_docker() {
    let lab = cluster();
    let hosts = boot(&lab, "1", "-iface=eth0 -v=1");
    hosts
        .iter()
        .for_each(|host| assert_eq!(policy(host), "-P FORWARD ACCEPT"));
    all_reach_each_other(&hosts);
}

#[test]
fn containers_connect_with_forwarding_enabled_by_docker() {
    let lab = cluster();
    let hosts = boot(&lab, "0", "-iface=eth0 -v=1 -ip-masq");
    hosts
        .iter()
        .for_each(|host| assert_eq!(policy(host), "-P FORWARD DROP"));
    all_were_seen_as_themselves(&all_reach_each_other(&hosts));
}
