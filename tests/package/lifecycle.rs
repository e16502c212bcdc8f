//! From installation to purge, as `docs/guides/install.md` says.

use lab::{Lab, LabOptions};

use crate::build::{Packages, allowing};
use crate::steps::run;
use crate::support::installed::{certificates, file, settings};
use crate::support::systemd_host::SystemdHost;
use crate::{FLANNELD, cluster};

/// What the first boot of a machine has: nothing of rflannel.
fn host(lab: &Lab) -> SystemdHost<'_> {
    let packages = Packages::new();
    let mut files: Vec<_> = certificates(lab).collect();
    files.extend(["0.1.0-1", "0.2.0-1"].map(|version| packages.file(version)));
    files.push(allowing());
    files.push(file("/root/settings", &settings(lab, "-iface=eth0")));
    let host = SystemdHost::boot(
        lab,
        "deb",
        "10.64.0.50",
        &files,
        &["docker.socket", "containerd.service"],
    )
    .unwrap();
    host.wait("systemctl is-system-running", |state| state == "running");
    host
}

fn pid(host: &SystemdHost<'_>) -> String {
    host.property("flanneld", "MainPID")
}

fn wait_for_another(host: &SystemdHost<'_>, before: &str) {
    host.wait("systemctl show --value -p MainPID flanneld", |now| {
        now != before && now != "0"
    });
}

fn wait_active(host: &SystemdHost<'_>) {
    host.wait("systemctl is-active flanneld", |state| state == "active");
}

#[test]
fn from_install_to_purge() {
    let lab = cluster(LabOptions::new(FLANNELD));
    let host = host(&lab);
    installing_starts_nothing(&host);
    an_upgrade_does_not_wait_for_a_daemon_that_waits(&host);
    lab.configure().unwrap();
    run(&host, "Install", 1);
    wait_active(&host);
    another_version_restarts_the_daemon_and_keeps_the_rest(&host);
    docker_gets_its_drop_in_when_it_is_asked_for(&host);
    removing_leaves_the_overlay_and_the_settings(&host);
    what_was_enabled_starts_again(&host);
    purging_leaves_nothing_behind(&host);
}

fn installing_starts_nothing(host: &SystemdHost<'_>) {
    let said = run(host, "Install", 0);
    assert!(
        said.contains("edit /etc/default/flanneld, then: systemctl enable --now flanneld"),
        "{said}"
    );
    let properties = ["LoadState", "UnitFileState", "ActiveState"];
    assert_eq!(
        properties.map(|name| host.property("flanneld", name)),
        ["loaded", "disabled", "inactive"]
    );
    assert_eq!(host.must("dpkg --verify rflannel"), "");
    assert_eq!(
        host.must("mk-docker-opts.sh --help | head -n 1 | cut -d ' ' -f 1"),
        "mk-docker-opts"
    );
    assert!(
        host.must("man -w 8 flanneld; man -w mk-docker-opts.sh")
            .contains("/usr/share/man/man8/")
    );
    assert_eq!(
        host.must("systemd-analyze verify --man=yes flanneld.service"),
        ""
    );
    host.must("bash -c '. /usr/share/bash-completion/completions/rflannel; complete -p rflannel'");
}

/// There is no network configuration yet.
fn an_upgrade_does_not_wait_for_a_daemon_that_waits(host: &SystemdHost<'_>) {
    host.must(
        "cp /root/settings /etc/default/flanneld; systemctl enable --now --no-block flanneld",
    );
    host.wait("systemctl show --value -p StatusText flanneld", |text| {
        text.starts_with("waiting: ")
    });
    let before = pid(host);
    run(host, "Upgrade", 0);
    wait_for_another(host, &before);
    assert_eq!(host.property("flanneld", "ActiveState"), "activating");
}

fn another_version_restarts_the_daemon_and_keeps_the_rest(host: &SystemdHost<'_>) {
    let told = "cat /run/flannel/subnet.env /etc/default/flanneld /sys/class/net/flannel.1/address";
    let told_before = host.must(told);
    for (file, version) in [("0.1.0-1", "0.1.0-1"), ("0.2.0-1", "0.2.0-1")] {
        let before = pid(host);
        host.must(&format!("dpkg -i /root/rflannel_{file}_*.deb 2>&1"));
        wait_for_another(host, &before);
        wait_active(host);
        assert_eq!(host.must("dpkg-query -W -f '${Version}' rflannel"), version);
        assert_eq!(host.must(told), told_before);
    }
}

fn docker_gets_its_drop_in_when_it_is_asked_for(host: &SystemdHost<'_>) {
    assert!(!host.property("docker", "DropInPaths").contains("flannel"));
    run(host, "Docker", 0);
    wait_active(host);
    let subnet = host.must(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET");
    host.wait("ip -4 -o addr show docker0", |bridge| {
        bridge.contains(&format!("inet {subnet} "))
    });
    host.must("systemctl stop docker docker.socket; rm -r /etc/systemd/system/docker.service.d; systemctl daemon-reload");
}

fn removing_leaves_the_overlay_and_the_settings(host: &SystemdHost<'_>) {
    // The state file is written some seconds after a change, and may be written once more, with the time of that.
    host.wait("ls /var/lib/flannel", |files| files.contains("subnet.json"));
    let kept = "cat /etc/default/flanneld /run/flannel/subnet.env; ip -o addr show flannel.1; \
        sed 's/\"saved\":[0-9]*/\"saved\":/' /var/lib/flannel/subnet.json";
    let before = host.must(kept);
    let said = run(host, "Remove", 0);
    assert!(said.contains("packets keep flowing"), "{said}");
    assert_eq!(host.property("flanneld", "LoadState"), "not-found");
    assert_eq!(host.say("pidof flanneld"), "");
    assert_eq!(host.must(kept), before);
}

fn what_was_enabled_starts_again(host: &SystemdHost<'_>) {
    run(host, "Install", 0);
    wait_active(host);
    host.must("cmp /root/settings /etc/default/flanneld");
}

fn purging_leaves_nothing_behind(host: &SystemdHost<'_>) {
    run(host, "Remove", 1);
    let left = "find /etc /usr /var/lib -xdev -iname '*flannel*' ! -path '/usr/src/*'";
    assert_eq!(host.say(left), "");
    assert!(
        host.must("ls /sys/class/net").contains("flannel.1"),
        "packets of running pods flow on"
    );
}
