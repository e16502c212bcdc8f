//! One host that is as it should be, and each thing that can be wrong with it.

use super::facts::{Cgroup, FileFact, Listener, Live};
use super::*;
use crate::node_setup::Settings;
use crate::node_setup::unit_fact::UnitFact;

fn model(more: &str) -> Model {
    let defaults = [
        ("node-ip", "10.64.3.7"),
        ("etcd-endpoints", "http://10.64.3.7:2379"),
        ("kubernetes-version", "1.28"),
    ];
    let missing = defaults.iter().filter(|(name, _)| !more.contains(name));
    let toml = missing.map(|(name, value)| format!("{name} = '{value}'\n")).collect::<String>() + more;
    Model::new(Settings::from_toml(&toml).unwrap()).unwrap()
}

fn live() -> Live {
    let addresses = [
        ("lo", "127.0.0.1/8"),
        ("eth0", "10.64.3.7/16"),
        ("docker0", "172.30.15.1/24"),
        ("flannel.1", "172.30.15.0/32"),
    ];
    Live {
        kernel: "6.1.0-18-amd64".into(),
        init: "systemd".into(),
        hostname: "node".into(),
        addresses: addresses.iter().map(|(name, own)| ((*name).into(), own.parse().unwrap())).collect(),
        routes: vec![
            ("eth0".into(), "10.64.0.0/16".parse().unwrap()),
            ("flannel.1".into(), "172.30.16.0/24".parse().unwrap()),
        ],
        default_route: true,
        sysctls: ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"]
            .iter()
            .map(|name| ((*name).into(), "1".into()))
            .collect(),
        tools: ["ip", "iptables", "mount", "nsenter", "conntrack", "ebtables", "ethtool", "socat", "tc"]
            .map(String::from)
            .to_vec(),
        ..Live::default()
    }
}

fn facts(live: Live) -> Facts {
    let mut facts = Facts { now: 1_700_000_000, live: Some(live), ..Facts::default() };
    let env = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.15.1/24\nFLANNEL_MTU=1450\n";
    facts.files.insert("/run/flannel/subnet.env".into(), file(env));
    for (name, user) in [("bootstrap", "token: 0123456789abcdef0123456789abcdef"), ("kube-proxy", "token: x")]
    {
        facts.files.insert(format!("/etc/kubernetes/{name}.kubeconfig").into(), file(&kubeconfig(user)));
    }
    facts
}

fn file(text: &str) -> FileFact {
    FileFact::File { bytes: text.as_bytes().to_vec(), mode: 0o600, user: 0 }
}

fn kubeconfig(user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: default\nclusters:\n- name: kubernetes\n  cluster:\n    \
         server: https://10.64.3.7:6443\n    certificate-authority-data: Y2E=\nusers:\n- name: u\n  user:\n    {user}\n\
         contexts:\n- name: default\n  context: {{cluster: kubernetes, user: u}}\n"
    )
}

/// What is wrong, by the names of the checks.
fn wrong(model: &Model, facts: &Facts) -> Vec<(&'static str, Level)> {
    let findings = offline(model, facts).into_iter().filter(|finding| finding.level != Level::Ok);
    findings.map(|finding| (finding.id, finding.level)).collect()
}

#[test]
fn a_host_that_is_as_it_should_be_has_nothing_wrong() {
    assert_eq!(wrong(&model(""), &facts(live())), []);
    for finding in offline(&model(""), &facts(live())) {
        assert!(!finding.found.is_empty(), "{finding:?}");
    }
}

#[test]
fn below_another_root_only_files_are_judged() {
    let facts = Facts { live: None, ..facts(live()) };
    assert_eq!(wrong(&model(""), &facts), []);
    assert!(
        offline(&model(""), &facts)
            .iter()
            .all(|finding| ["conflicts", "kubeconfigs", "certs"].contains(&finding.id))
    );
}

/// A host with one thing wrong, and what should be told.
macro_rules! host {
    ($($name:ident: $more:expr, |$live:ident, $facts:ident| $change:block => $want:expr;)*) => {
        $(#[test]
        fn $name() {
            let mut $live = live();
            let mut $facts = facts(Live::default());
            $change
            $facts.live = Some($live);
            assert_eq!(wrong(&model($more), &$facts), $want);
        })*
    };
}

use Level::{Error, Warning};

host! {
    a_user_sees_less: "", |live, facts| { live.user = 1000; let _ = &mut facts; } => [("root", Warning)];
    without_systemd_nothing_runs: "", |live, facts| { live.init = "tini".into(); let _ = &mut facts; } => [("systemd", Error)];
    an_old_kernel: "", |live, facts| { live.kernel = "2.6.32-754.el6".into(); let _ = &mut facts; } => [("kernel", Error)];
    forwarding_off: "", |live, facts| { live.sysctls.insert("net.ipv4.ip_forward".into(), "0".into()); let _ = &mut facts; } => [("ip-forward", Warning)];
    bridge_netfilter_missing: "", |live, facts| { live.sysctls.remove("net.bridge.bridge-nf-call-iptables"); let _ = &mut facts; } => [("bridge-netfilter", Warning)];
    swap_on: "", |live, facts| { live.swaps = vec!["/dev/sda2".into()]; let _ = &mut facts; } => [("swap", Error)];
    an_old_kubelet_bears_swap: "kubernetes-version = '1.6'\nstyle = 'document'\n", |live, facts| {
        (live.swaps, live.cgroup) = (vec!["/dev/sda2".into()], Cgroup::V1);
        let _ = &mut facts;
    } => [("swap", Warning), ("paths", Warning)];
    the_document_needs_old_control_groups: "kubernetes-version = '1.6'\nstyle = 'document'\n", |live, facts| {
        live.cgroup = Cgroup::V2;
        let _ = &mut facts;
    } => [("cgroup", Error), ("cgroup", Error), ("paths", Warning)];
    the_newest_kubelet_needs_new_ones: "kubernetes-version = '1.35'\n", |live, facts| { live.cgroup = Cgroup::V1; let _ = &mut facts; } => [("cgroup", Error)];
    a_tool_is_missing: "", |live, facts| { live.tools.retain(|tool| tool != "conntrack"); let _ = &mut facts; } => [("tools", Error)];
    a_program_is_missing: "", |live, facts| { live.programs.insert("/usr/local/bin/kubelet".into(), None); let _ = &mut facts; } => [("binaries", Error)];
    a_program_is_of_another_release: "", |live, facts| {
        live.programs.insert("/usr/local/bin/kubelet".into(), Some("Kubernetes v1.32.4".into()));
        let _ = &mut facts;
    } => [("version", Error)];
    the_clock_is_not_set: "", |live, facts| { live.synchronised = Some(false); let _ = &mut facts; } => [("time", Warning)];
    the_node_has_another_address: "", |live, facts| { live.addresses[1].1 = "10.64.3.8/16".parse().unwrap(); let _ = &mut facts; } => [("node-ip", Error)];
    no_way_to_the_other_nodes: "", |live, facts| { live.default_route = false; let _ = &mut facts; } => [("iface", Error)];
    several_ways_to_them: "", |live, facts| { live.addresses.push(("eth1".into(), "192.0.2.1/24".parse().unwrap())); let _ = &mut facts; } => [("iface", Warning)];
    the_interface_is_not_there: "iface = 'eth9'\n", |live, facts| { live.user = 0; let _ = &mut facts; } => [("iface", Error)];
    the_pods_network_is_somebody_elses: "iface = 'eth0'\n", |live, facts| { live.routes.push(("tun0".into(), "172.30.8.0/24".parse().unwrap())); let _ = &mut facts; } => [("cidr-overlap", Error)];
    a_port_is_taken: "", |live, facts| {
        live.listeners.push(Listener { protocol: "tcp", port: 10250, program: Some("nginx".into()) });
        let _ = &mut facts;
    } => [("ports", Error)];
    a_port_is_taken_by_whom_it_is_for: "", |live, facts| {
        live.listeners.push(Listener { protocol: "tcp", port: 10250, program: Some("kubelet".into()) });
        let _ = &mut facts;
    } => [];
    a_firewall_is_managed: "", |live, facts| { live.units.insert("firewalld.service".into(), active("enabled")); let _ = &mut facts; } => [("firewall", Warning)];
    nobody_waits_for_the_network: "", |live, facts| { live.units.insert("systemd-networkd.service".into(), active("enabled")); let _ = &mut facts; } => [("wait-online", Warning)];
    a_cloud_removes_routes: "", |live, facts| { live.units.insert("nm-cloud-setup.timer".into(), active("enabled")); let _ = &mut facts; } => [("nm-cloud-setup", Error)];
    rules_of_two_kinds: "", |live, facts| { live.iptables = Some("3 and 4".into()); let _ = &mut facts; } => [("iptables-backend", Warning)];
    docker_has_another_subnet: "pod-network = 'bip'\nruntime = 'docker'\n", |live, facts| { live.addresses[2].1 = "172.17.0.1/16".parse().unwrap(); let _ = &mut facts; } => [("docker-bip", Error)];
    an_option_in_two_places: "runtime = 'docker'\n", |live, facts| {
        facts.files.insert("/etc/docker/daemon.json".into(), file("{\"bip\": \"172.17.0.1/16\", \"iptables\": false, \"live-restore\": true}"));
        live.user = 0;
    } => [("docker-daemon-json", Error), ("docker-daemon-json", Error), ("docker-live-restore", Warning)];
    docker_guards_its_containers: "pod-network = 'bip'\nruntime = 'docker'\n", |live, facts| {
        live.programs.insert("/usr/bin/dockerd".into(), Some("Docker version 28.1.1, build x".into()));
        let _ = &mut facts;
    } => [("docker-direct-routing", Warning)];
    no_bootstrap: "", |live, facts| { facts.files.remove(std::path::Path::new("/etc/kubernetes/bootstrap.kubeconfig")); live.user = 0; } => [("kubeconfigs", Error)];
    all_tokens_of_the_cluster: "", |live, facts| { facts.files.insert("/etc/kubernetes/token.csv".into(), file("")); live.user = 0; } => [("token-csv", Warning)];
    certificates_are_missing: "etcd-endpoints = 'https://10.64.3.7:2379'\netcd-cafile = '/x/ca.pem'\netcd-certfile = '/x/c.pem'\netcd-keyfile = '/x/k.pem'\n", |live, facts| { live.user = 0; let _ = &mut facts; } => [("certs", Error), ("certs", Error), ("certs", Error)];
}

fn active(file: &str) -> UnitFact {
    UnitFact { load: "loaded".into(), active: "active".into(), file: file.into(), ..UnitFact::default() }
}

#[test]
fn each_kubeconfig_fault_is_told_from_the_others() {
    let good = kubeconfig("token: 0123456789abcdef0123456789abcdef");
    let told = |text: &str| {
        let mut facts = facts(live());
        facts.files.insert("/etc/kubernetes/bootstrap.kubeconfig".into(), file(text));
        let bad = offline(&model(""), &facts).into_iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| finding.found).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(told(&good), "");
    for (from, to, want) in [
        ("kind: Config", "kind: Pod", "it is a Pod"),
        ("current-context: default", "current-context: other", "current-context \"other\" is not in it"),
        ("user: u}", "user: w}", "user \"w\" is not in it"),
        ("cluster: kubernetes,", "cluster: k,", "cluster \"k\" is not in it"),
        ("https://10.64.3.7:6443", "http://10.64.3.7:8080", "its server is \"http"),
        ("https://10.64.3.7:6443", "https://127.0.0.1:6443", "its server is https://127.0.0.1"),
        (
            "certificate-authority-data: Y2E=",
            "insecure-skip-tls-verify: true",
            "anybody can be its API server",
        ),
        ("certificate-authority-data: Y2E=", "certificate-authority-data: '*'", "no base64"),
        (
            "certificate-authority-data: Y2E=",
            "certificate-authority: ca.pem",
            "/etc/kubernetes/ca.pem, which it names",
        ),
        ("token: 0123456789abcdef0123456789abcdef", "token: hunter2", "unusual form"),
        ("token: 0123456789abcdef0123456789abcdef", "username: x", "neither token nor certificate"),
        ("kind: Config", "kind: Config\nkind: Config", "it cannot be read"),
        ("kind: Config", "kind: [", "it cannot be read"),
    ] {
        let found = told(&good.replace(from, to));
        assert!(found.contains(want) && !found.contains("hunter2"), "{to}: {found}");
    }
}
