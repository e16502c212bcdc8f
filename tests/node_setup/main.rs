//! `node-setup apply --enable --start` on three hosts that systemd runs: real etcd, our flanneld, Docker Engine; kubelet and
//! kube-proxy are stand-ins that note their arguments and look for their files. Needs root and what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod node;
mod process;

use lab::Signal;
use node::{CONFIG, Nodes, argv, pid};
use support::docker::Container;
use support::systemd_host::SystemdHost;

const UNITS: [&str; 4] = ["flanneld", "docker", "kubelet", "kube-proxy"];

#[test]
fn from_nothing_to_containers_that_reach_each_other_and_back() {
    let nodes = Nodes::new();
    let mut hosts = nodes.boot();

    start_without_configuration_says_what_it_waits_for(&hosts[0]);
    nodes.lab.configure().unwrap();
    for host in &hosts[1..] {
        let said = host.must(&format!(
            "rflannel node-setup apply {CONFIG} --enable --start --wait 90"
        ));
        assert!(
            said.contains("created   /etc/systemd/system/flanneld.service"),
            "{said}"
        );
    }
    // The one that had to wait came up by itself.
    hosts.iter().for_each(all_active);
    hosts.iter().for_each(stand_ins_had_what_they_need);
    hosts.iter().for_each(docker_has_the_lease);
    containers_reach_each_other(&hosts);

    a_check_finds_nothing_wrong(&hosts[1]);
    a_check_names_the_prefix_itself(&nodes, &hosts[1]);
    a_second_apply_changes_nothing(&hosts[1]);
    a_crash_of_flanneld_leaves_docker_alone(&hosts[1]);
    an_edit_is_seen_and_kept(&hosts[1]);
    a_changed_setting_restarts_only_what_it_is_for(&hosts[1]);

    the_order_of_a_start_does_not_matter(&hosts[0]);
    a_power_cut_of_the_whole_rack_is_survived(&nodes, &mut hosts);
    containers_reach_each_other(&hosts);

    uninstall_leaves_nothing(&hosts[2]);
}

fn start_without_configuration_says_what_it_waits_for(host: &SystemdHost<'_>) {
    let output = host.run(&format!(
        "rflannel node-setup apply {CONFIG} --enable --start --wait 3"
    ));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("flanneld.service: activating") && told.contains("no network configuration"),
        "{told}"
    );
    assert_eq!(
        host.property("docker", "ActiveState"),
        "inactive",
        "docker must not take a network of its own"
    );
}

fn all_active(host: &SystemdHost<'_>) {
    for unit in UNITS {
        host.wait(&format!("systemctl is-active {unit}"), |state| {
            state == "active"
        });
        assert_eq!(host.say(&format!("systemctl is-enabled {unit}")), "enabled");
    }
    host.wait(
        &format!("rflannel node-setup status {CONFIG} >/dev/null && echo sound"),
        |told| told == "sound",
    );
}

fn stand_ins_had_what_they_need(host: &SystemdHost<'_>) {
    for (program, flag) in [
        ("kubelet", "--config=/etc/kubernetes/kubelet.yaml"),
        ("kube-proxy", "--config=/etc/kubernetes/kube-proxy.yaml"),
    ] {
        let argv = argv(host, program);
        assert!(argv.lines().any(|arg| arg == flag), "{program}: {argv}");
    }
    assert_eq!(host.property("kubelet", "NRestarts"), "0");
}

fn docker_has_the_lease(host: &SystemdHost<'_>) {
    let subnet = host.must(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET");
    host.wait("ip -4 -o addr show docker0", |told| {
        told.contains(&format!("inet {subnet} "))
    });
    assert!(
        host.say("tr '\\0' ' ' </proc/$(pidof dockerd)/cmdline")
            .contains("--mtu=1450")
    );
}

fn containers_reach_each_other(hosts: &[SystemdHost<'_>]) {
    let containers: Vec<_> = (1..)
        .zip(hosts)
        .map(|(n, host)| Container::run(host, &format!("web{n}")))
        .collect();
    for from in &containers {
        for to in containers.iter().filter(|to| to.name != from.name) {
            from.wait_reaches(to);
        }
    }
    hosts
        .iter()
        .zip(&containers)
        .for_each(|(host, container)| drop(host.must(&format!("docker rm -f {}", container.name))));
}

/// The document has the configuration at the prefix as well, where no one reads it.
fn a_check_names_the_prefix_itself(nodes: &Nodes, host: &SystemdHost<'_>) {
    let etcd = nodes.lab.etcd().unwrap();
    etcd.put("/kubernetes/network", r#"{"Network": "172.30.0.0/16"}"#)
        .unwrap();
    let told = host.say(&format!(
        "rflannel node-setup check {CONFIG} --online --ignore tools,api-server"
    ));
    assert!(
        told.contains(
            "warning  etcd-prefix          there is another network configuration at /kubernetes/network"
        ),
        "{told}"
    );
    etcd.delete("/kubernetes/network").unwrap();
}

/// But what the machine of the test may lack; an API server is none of what runs here.
fn a_check_finds_nothing_wrong(host: &SystemdHost<'_>) {
    let told = host.say(&format!(
        "rflannel node-setup check {CONFIG} --online --ignore tools,api-server"
    ));
    assert_eq!(
        told.lines()
            .filter(|line| line.starts_with("error"))
            .count(),
        0,
        "{told}"
    );
    for (id, found) in [
        ("etcd", "answers"),
        ("pod-cidr", "172.30.0.0/16"),
        ("docker-bip", "docker0 has 172.30."),
        ("certs", "with its key, signed by the CA"),
        ("mtu", "eth0 has MTU 1500, the overlay at most 1450"),
        ("arch", std::env::consts::ARCH),
        ("cgroup-driver", "systemd for the kubelet and docker"),
        ("forward-policy", "FORWARD policy"),
        ("stale-chains", "every chain belongs to a running program"),
        ("units", "systemd accepts flanneld.service"),
        ("units", "systemd accepts kube-proxy.service"),
    ] {
        assert!(
            told.lines()
                .any(|line| line.starts_with(&format!("ok       {id} ")) && line.contains(found)),
            "{id}: {told}"
        );
    }
}

fn a_second_apply_changes_nothing(host: &SystemdHost<'_>) {
    let state = "find /etc /var/lib/rflannel -newermt @0 -printf '%p %T@ %i\\n' | sort; \
                 for unit in flanneld docker kubelet kube-proxy; do systemctl show --value -p MainPID $unit; done";
    let before = host.must(state);
    let said = host.must(&format!(
        "rflannel node-setup apply {CONFIG} --enable --start --restart changed"
    ));
    assert!(
        said.contains("\n0 of ") || said.starts_with("0 of "),
        "{said}"
    );
    let up = said
        .lines()
        .filter(|line| line.starts_with("up ") && line.contains(": active (running)"));
    assert_eq!(up.count(), UNITS.len(), "{said}");
    assert_eq!(host.must(state), before);
}

/// The wiring that the document has restarts docker with flanneld; this one must not.
fn a_crash_of_flanneld_leaves_docker_alone(host: &SystemdHost<'_>) {
    let (docker, flanneld) = (pid(host, "docker"), pid(host, "flanneld"));
    host.must("systemctl kill -s KILL flanneld");
    host.wait("systemctl show --value -p NRestarts flanneld", |count| {
        count == "1"
    });
    all_active(host);
    assert_ne!(pid(host, "flanneld"), flanneld);
    host.must("systemctl restart flanneld");
    all_active(host);
    assert_eq!(pid(host, "docker"), docker);
}

/// Stops everything, and starts it in an order that no one would choose.
fn the_order_of_a_start_does_not_matter(host: &SystemdHost<'_>) {
    host.must(
        "systemctl stop kube-proxy kubelet docker.socket docker flanneld; rm -r /run/flannel /run/*.argv",
    );
    host.must(
        "systemctl --no-block start kube-proxy kubelet; systemctl --no-block start docker flanneld",
    );
    all_active(host);
    docker_has_the_lease(host);
}

/// Nothing is left but the disks, the hosts come back in another order, and etcd answers only when they are all up.
fn a_power_cut_of_the_whole_rack_is_survived(nodes: &Nodes, hosts: &mut [SystemdHost<'_>]) {
    let lease = "cat /run/flannel/subnet.env";
    let leases: Vec<_> = hosts.iter().map(|host| host.must(lease)).collect();
    hosts
        .iter()
        .for_each(|host| drop(host.must("touch /run/up")));
    nodes.lab.etcd().unwrap().signal(1, Signal::STOP).unwrap();
    hosts.iter().for_each(SystemdHost::power_off);
    for n in [2, 0, 1] {
        hosts[n].power_on().unwrap();
    }
    for (host, lease_before) in hosts.iter().zip(&leases) {
        all_active(host);
        assert_eq!(host.say("ls /run/up"), "", "the host has not been off");
        assert_eq!(&host.must(lease), lease_before);
        stand_ins_had_what_they_need(host);
    }
    nodes.lab.etcd().unwrap().signal(1, Signal::CONT).unwrap();
    hosts.iter().for_each(docker_has_the_lease);
}

fn an_edit_is_seen_and_kept(host: &SystemdHost<'_>) {
    let unit = "/etc/systemd/system/flanneld.service";
    host.must(&format!(
        "cp -p {unit} /root/kept && echo '# mine' >>{unit}"
    ));
    let status = host.run("rflannel node-setup status");
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stdout).contains(&format!("edited    {unit}")));
    let refused = host.run(&format!("rflannel node-setup apply {CONFIG}"));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it was edited"));
    assert!(
        host.must(&format!("rflannel node-setup diff {CONFIG}"))
            .contains("-# mine")
    );
    host.must(&format!(
        "cp -p /root/kept {unit} && systemctl daemon-reload"
    ));
    all_active(host);
}

fn a_changed_setting_restarts_only_what_it_is_for(host: &SystemdHost<'_>) {
    let before = [
        pid(host, "docker"),
        pid(host, "kubelet"),
        pid(host, "kube-proxy"),
    ];
    let (config, later) = (
        format!("{CONFIG} --flannel-options=-v=2"),
        format!("{CONFIG} --flannel-options=-v=3"),
    );
    let flanneld = pid(host, "flanneld");
    let said = host.must(&format!("rflannel node-setup apply {config}"));
    assert!(
        said.contains("run later: systemctl restart flanneld.service"),
        "{said}"
    );
    assert_eq!(
        pid(host, "flanneld"),
        flanneld,
        "nothing is restarted unless told"
    );
    host.must(&format!(
        "rflannel node-setup apply {later} --start --restart changed"
    ));
    host.wait(
        "tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID flanneld)/cmdline",
        |line| line.contains("-v=3"),
    );
    host.must("rflannel node-setup rollback && rflannel node-setup rollback && systemctl restart flanneld");
    all_active(host);
    assert!(
        !host
            .say("tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID flanneld)/cmdline")
            .contains("-v=")
    );
    assert_eq!(
        [
            pid(host, "docker"),
            pid(host, "kubelet"),
            pid(host, "kube-proxy")
        ],
        before
    );
}

fn uninstall_leaves_nothing(host: &SystemdHost<'_>) {
    let said = host.must("rflannel node-setup uninstall");
    assert!(
        said.contains("removed   /etc/systemd/system/flanneld.service"),
        "{said}"
    );
    assert!(
        said.contains("systemctl stop flanneld.service")
            && said.contains("systemctl restart docker.service"),
        "{said}"
    );
    assert_eq!(
        host.say(
            "find /etc -name '*flannel*' -o -name 'kubelet.service*' -o -name 'kube-proxy.service*'"
        ),
        ""
    );
    assert_eq!(host.say("ls -d /var/lib/rflannel"), "");
    assert_ne!(host.say("systemctl is-enabled docker"), "enabled");
}
