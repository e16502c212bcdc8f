//! A host of Go flannel's, as it was recorded, gets the package under traffic, and goes back: `docs/guides/move-a-cluster.md`, step by step.

use std::net::IpAddr;

use lab::{Lab, LabError, LabOptions};

use crate::build::{Packages, allowing};
use crate::steps::run;
use crate::support::go::{Host, Recorded};
use crate::support::installed::{certificates, file, settings};
use crate::support::steady_ping::SteadyPing;
use crate::support::systemd_host::SystemdHost;
use crate::{FLANNELD, cluster};

/// In the place of the Go daemon, which is not here: it holds its unit and does nothing, so that whatever changes is our doing.
const STAND_IN: &str = "#!/bin/sh\nexec sleep infinity\n";

/// The section of the document.
const MIGRATE: &str = "With the Debian package";

const UNIT: &str = "[Unit]\nDescription=Go flannel\n[Service]\nExecStart=/opt/bin/flanneld -etcd-prefix=/kubernetes/network -iface=eth0\n\
    [Install]\nWantedBy=multi-user.target\n";

/// A pod as a CNI plugin wires it.
const POD: &str = "sysctl -qw net.ipv4.ip_forward=1
    . /run/flannel/subnet.env
    ip netns add pod
    ip link add pod0 type veth peer name eth0 netns pod
    ip addr add $FLANNEL_SUBNET dev pod0; ip link set pod0 up
    ip -n pod addr add ${FLANNEL_SUBNET%.1/24}.2/24 dev eth0; ip -n pod link set eth0 up
    ip -n pod route add default via ${FLANNEL_SUBNET%/24}
    echo ${FLANNEL_SUBNET%.1/24}.2";

type Test = Result<(), LabError>;

fn go_host<'lab>(lab: &'lab Lab, recorded: &Recorded) -> Result<SystemdHost<'lab>, LabError> {
    let mut files: Vec<_> = certificates(lab).collect();
    files.extend([
        allowing(),
        Packages::new().file("0.1.0-1"),
        ("/opt/bin/flanneld".into(), STAND_IN.into(), 0o755),
        file("/etc/systemd/system/flanneld.service", UNIT),
        file(
            "/root/settings",
            &settings(
                lab,
                &format!("-iface=eth0 {}", recorded.text("flags").trim()),
            ),
        ),
    ]);
    let host = SystemdHost::boot(lab, "go", "10.64.0.2", &files, &["flanneld.service"])?;
    host.wait("systemctl is-active flanneld", |state| state == "active");
    host.sh(&recorded.by_hand())?;
    recorded.load_rules(&host)?;
    host.write("/run/flannel/subnet.env", &recorded.text("subnet.env"))?;
    Ok(host)
}

/// In charge is this program.
fn serves(host: &SystemdHost<'_>, program: &str) {
    let exe = "tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID flanneld)/cmdline";
    host.wait(exe, |line| line.starts_with(program));
    host.wait("systemctl is-active flanneld", |state| state == "active");
}

#[test]
fn go_host_migrates_and_goes_back_without_loss() -> Test {
    let recorded = Recorded::new("v0.28.9-vxlan");
    let mut lab = cluster(LabOptions::new(FLANNELD).network(recorded.text("config.json")));
    lab.configure()?;
    recorded.lease_all(&lab)?;
    recorded.start_peer(&mut lab)?;
    let host = go_host(&lab, &recorded)?;
    let address: IpAddr = host.must(POD).parse().unwrap();
    let ping = SteadyPing::start(lab.host(1), address)?;

    installing_leaves_the_old_unit_in_charge(&host);
    host.must("cp /root/settings /etc/default/flanneld");
    run(&host, MIGRATE, 1);
    serves(&host, "/usr/bin/flanneld");
    recorded.assert_rules(&host)?;
    recorded.assert_as_recorded(&host, &recorded.wanted_env())?;
    recorded.assert_leases(&lab)?;
    ping.assert_nothing_lost();

    run(&host, MIGRATE, 2);
    serves(&host, "sleep infinity");
    recorded.assert_as_recorded(&host, &recorded.text("subnet.env"))?;
    recorded.assert_leases(&lab)?;
    ping.assert_nothing_lost();
    Ok(())
}

/// Nor does a second installation, or removing, touch what is not ours.
fn installing_leaves_the_old_unit_in_charge(host: &SystemdHost<'_>) {
    let before = host.property("flanneld", "MainPID");
    for verb in ["-i", "-i", "-r", "-i"] {
        let what = if verb == "-i" {
            "/root/rflannel_*.deb"
        } else {
            "rflannel"
        };
        let said = host.must(&format!("dpkg {verb} {what} 2>&1"));
        let told = "/etc/systemd/system/flanneld.service stays in charge";
        assert_eq!(said.contains(told), verb == "-i", "{said}");
        assert_eq!(host.property("flanneld", "MainPID"), before);
    }
    run(host, MIGRATE, 0);
    assert_eq!(host.property("flanneld", "MainPID"), before);
}
