//! One host that is as it should be, and each thing that can be wrong with it.

use super::facts::{Binary, Cgroup, Disk, FileFact, Listener, Live};
use super::*;
use crate::Settings;
use crate::finding::Level;
use crate::systemctl::UnitStatus;

fn model(more: &str) -> Model {
    let defaults = [
        ("node-ip", "10.64.3.7"),
        ("etcd-endpoints", "http://10.64.3.7:2379"),
        ("kubernetes-version", "1.28"),
    ];
    let missing = defaults.iter().filter(|(name, _)| !more.contains(name));
    let toml = missing
        .map(|(name, value)| format!("{name} = '{value}'\n"))
        .collect::<String>()
        + more;
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
        addresses: addresses
            .iter()
            .map(|(name, own)| ((*name).into(), own.parse().unwrap()))
            .collect(),
        routes: vec![
            ("eth0".into(), "10.64.0.0/16".parse().unwrap()),
            ("flannel.1".into(), "172.30.16.0/24".parse().unwrap()),
        ],
        default_route: true,
        links: vec![("eth0".into(), 1500), ("flannel.1".into(), 1450)],
        own_head: head(62),
        binaries: [("/usr/local/bin/kubelet".into(), binary(62))].into(),
        disks: vec![disk("/var/lib/kubelet", 50, 50)],
        rules: [("iptables-nft".into(), FILTER.into())].into(),
        verified: [(
            "flanneld.service".into(),
            "/etc/systemd/system/other.service:1: x".into(),
        )]
        .into(),
        units: [("flanneld.service".into(), active("enabled"))].into(),
        sysctls: ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"]
            .iter()
            .map(|name| ((*name).into(), "1".into()))
            .collect(),
        tools: [
            "ip",
            "iptables",
            "mount",
            "nsenter",
            "conntrack",
            "ebtables",
            "ethtool",
            "socat",
            "tc",
        ]
        .map(String::from)
        .to_vec(),
        ..Live::default()
    }
}

/// As where docker was first: what is of the overlay is accepted all the same.
const FILTER: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:FLANNEL-FWD - [0:0]\n\
    -A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\nCOMMIT\n";

/// The beginning of a program for this processor.
fn head(processor: u8) -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01".to_vec();
    head.resize(18, 0);
    head.extend([processor, 0]);
    head
}

fn binary(processor: u8) -> Binary {
    Binary {
        head: head(processor),
        label: Some("system_u:object_r:bin_t:s0".into()),
        noexec: false,
    }
}

/// With so many percent of its bytes and files left.
fn disk(path: &str, free: u64, free_inodes: u64) -> Disk {
    let size = 100 << 30;
    Disk {
        path: path.into(),
        size,
        free: size / 100 * free,
        inodes: 1000,
        free_inodes: free_inodes * 10,
    }
}

fn facts(live: Live) -> Facts {
    let mut facts = Facts {
        now: 1_700_000_000,
        live: Some(live),
        ..Facts::default()
    };
    let env = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.15.1/24\nFLANNEL_MTU=1450\n";
    facts
        .files
        .insert("/run/flannel/subnet.env".into(), file(env));
    let plugins = ["bridge", "flannel", "host-local", "loopback", "portmap"].map(String::from);
    facts
        .files
        .insert("/opt/cni/bin".into(), FileFact::Directory(plugins.to_vec()));
    for (name, user) in [
        ("bootstrap", "token: 0123456789abcdef0123456789abcdef"),
        ("kube-proxy", "token: x"),
    ] {
        facts.files.insert(
            format!("/etc/kubernetes/{name}.kubeconfig").into(),
            file(&kubeconfig(user)),
        );
    }
    facts
}

fn file(text: &str) -> FileFact {
    FileFact::File {
        bytes: text.as_bytes().to_vec(),
        mode: 0o600,
        user: 0,
    }
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
    let findings = offline(model, facts)
        .into_iter()
        .filter(|finding| finding.level != Level::Ok);
    findings
        .map(|finding| (finding.id, finding.level))
        .collect()
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
    let facts = Facts {
        live: None,
        ..facts(live())
    };
    assert_eq!(wrong(&model(""), &facts), []);
    assert!(offline(&model(""), &facts).iter().all(|finding| {
        [
            "conflicts",
            "kubeconfigs",
            "certs",
            "cni-plugins",
            "systemd-version",
        ]
        .contains(&finding.id)
    }));
}

#[test]
fn program_on_noexec_mount_differs_from_missing_program() {
    let mut live = live();
    let kubelet: std::path::PathBuf = "/usr/local/bin/kubelet".into();
    live.programs.insert(kubelet.clone(), None);
    let found = |live: &Live| {
        let findings = offline(&model(""), &facts(live.clone())).into_iter();
        findings
            .filter(|one| one.level == Error)
            .map(|one| one.found)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert!(
        found(&live).ends_with("does not exist or is not executable"),
        "{}",
        found(&live)
    );
    live.binaries.insert(
        kubelet,
        Binary {
            noexec: true,
            ..binary(62)
        },
    );
    assert!(
        found(&live).ends_with("mounted with noexec"),
        "{}",
        found(&live)
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
    pod_network_of_another_program: "iface = 'eth0'\n", |live, facts| { live.routes.push(("tun0".into(), "172.30.8.0/24".parse().unwrap())); let _ = &mut facts; } => [("cidr-overlap", Error)];
    a_port_is_taken: "", |live, facts| {
        live.listeners.push(Listener { protocol: "tcp", port: 10250, program: Some("nginx".into()) });
        let _ = &mut facts;
    } => [("ports", Error)];
    a_port_is_taken_by_whom_it_is_for: "", |live, facts| {
        live.listeners.push(Listener { protocol: "tcp", port: 10250, program: Some("kubelet".into()) });
        let _ = &mut facts;
    } => [];
    a_firewall_is_managed: "", |live, facts| { live.units.insert("firewalld.service".into(), active("enabled")); let _ = &mut facts; } => [("firewall", Warning)];
    no_unit_waits_for_the_network: "", |live, facts| { live.units.insert("systemd-networkd.service".into(), active("enabled")); let _ = &mut facts; } => [("wait-online", Warning)];
    a_cloud_removes_routes: "", |live, facts| { live.units.insert("nm-cloud-setup.timer".into(), active("enabled")); let _ = &mut facts; } => [("nm-cloud-setup", Error)];
    rules_of_two_kinds: "", |live, facts| { live.rules.insert("iptables-legacy".into(), "*nat\n-A POSTROUTING -j ACCEPT\n".into()); let _ = &mut facts; } => [("iptables-backend", Warning)];
    forwarded_packets_are_dropped: "", |live, facts| { live.rules.insert("iptables-nft".into(), FILTER.replace("-A FORWARD", "-A INPUT")); let _ = &mut facts; } => [("forward-policy", Warning)];
    another_tables_jump_does_not_count: "", |live, facts| {
        live.rules.insert("iptables-nft".into(), FILTER.replace("-A FORWARD", "COMMIT\n*mangle\n-A FORWARD"));
        let _ = &mut facts;
    } => [("forward-policy", Warning)];
    before_the_start_a_policy_is_no_trouble: "", |live, facts| {
        live.units.clear();
        live.rules.insert("iptables-nft".into(), "*filter\n:FORWARD DROP [0:0]\n".into());
        let _ = &mut facts;
    } => [];
    rules_of_other_programs_are_reported: "", |live, facts| {
        live.rules.insert("iptables-nft".into(), "*nat\n:KUBE-SERVICES - [0:0]\n:cali-PREROUTING - [0:0]\n".into());
        let _ = &mut facts;
    } => [("stale-chains", Warning), ("stale-chains", Warning)];
    rules_of_who_runs: "", |live, facts| {
        live.units.insert("kube-proxy.service".into(), active("enabled"));
        live.rules.insert("iptables-nft".into(), "*nat\n:KUBE-SERVICES - [0:0]\n".into());
        let _ = &mut facts;
    } => [];
    the_overlay_is_larger_than_its_carrier: "", |live, facts| { live.links[0].1 = 1460; let _ = &mut facts; } => [("mtu", Error), ("mtu", Error)];
    the_carrier_is_small: "", |live, facts| {
        live.links = vec![("eth0".into(), 1300)];
        facts.files.remove(std::path::Path::new("/run/flannel/subnet.env"));
    } => [("mtu", Warning)];
    another_backend_has_another_overhead: "network-config = '{\"Network\": \"172.30.0.0/16\", \"Backend\": {\"Type\": \"host-gw\"}}'\n", |live, facts| { live.links[0].1 = 1450; let _ = &mut facts; } => [];
    a_program_is_for_another_processor: "", |live, facts| {
        live.binaries.insert("/usr/local/bin/flanneld".into(), binary(183));
        live.programs.insert("/usr/local/bin/flanneld".into(), None);
        let _ = &mut facts;
    } => [("binaries", Error), ("arch", Error)];
    a_program_that_runs_is_for_this_processor: "", |live, facts| {
        live.binaries.insert("/usr/local/bin/flanneld".into(), binary(3));
        live.programs.insert("/usr/local/bin/flanneld".into(), Some("v0.1".into()));
        let _ = &mut facts;
    } => [];
    a_program_may_not_be_executed: "", |live, facts| {
        live.selinux = Some(true);
        live.binaries.insert("/root/x".into(), Binary { label: Some("unconfined_u:object_r:admin_home_t:s0".into()), ..binary(62) });
        let _ = &mut facts;
    } => [("selinux", Error)];
    nothing_is_forbidden: "", |live, facts| {
        live.selinux = Some(false);
        live.binaries.insert("/root/x".into(), Binary { label: Some("unconfined_u:object_r:admin_home_t:s0".into()), ..binary(62) });
        let _ = &mut facts;
    } => [];
    the_kubelet_evicts_for_bytes: "", |live, facts| { live.disks = vec![disk("/var/lib/kubelet", 9, 50)]; let _ = &mut facts; } => [("disk", Warning)];
    the_kubelet_evicts_for_images: "", |live, facts| { live.disks = vec![disk("/var/lib/containerd", 14, 50), disk("/var/lib/kubelet", 14, 50)]; let _ = &mut facts; } => [("disk", Warning)];
    the_kubelet_evicts_for_inodes: "", |live, facts| { live.disks = vec![disk("/var/lib/kubelet", 50, 4)]; let _ = &mut facts; } => [("disk", Warning)];
    no_room_for_the_subnet_file: "", |live, facts| { live.disks = vec![disk("/run", 0, 50), disk("/etc", 1, 50)]; let _ = &mut facts; } => [("disk", Error)];
    systemd_complains: "", |live, facts| {
        live.verified.insert("kubelet.service".into(), "/etc/systemd/system/kubelet.service:7: Unknown key name 'Xx'".into());
        let _ = &mut facts;
    } => [("units", Warning)];
    docker_counts_elsewhere: "runtime = 'docker'\n", |live, facts| {
        facts.files.insert("/etc/docker/daemon.json".into(), file("{\"exec-opts\": [\"native.cgroupdriver=cgroupfs\"]}"));
        live.user = 0;
    } => [("cgroup-driver", Error)];
    a_node_without_cni_plugins: "runtime = 'containerd'\n", |live, facts| { facts.files.insert("/opt/cni/bin".into(), FileFact::Directory(vec!["flannel".into(), "bridge".into()])); let _ = &mut live; } => [("cni-plugins", Error)];
    too_old_a_systemd: "", |live, facts| { facts.systemd = Some(215); let _ = &mut live; } => [("systemd-version", Error)];
    too_new_a_systemd: "kubernetes-version = '1.16'\n", |live, facts| { facts.systemd = Some(258); live.cgroup = Cgroup::V1; } => [("systemd-version", Error), ("cgroup-driver", Warning)];
    docker_will_be_told: "runtime = 'docker'\n", |live, facts| { live.cgroup = Cgroup::V1; let _ = &mut facts; } => [("cgroup-driver", Warning)];
    containerd_counts_elsewhere: "", |live, facts| {
        facts.files.insert("/etc/containerd/config.toml".into(), file("[runc.options]\n  SystemdCgroup = false\n"));
        live.user = 0;
    } => [("cgroup-driver", Error)];
    containerd_counts_as_the_kubelet: "", |live, facts| {
        facts.files.insert("/etc/containerd/config.toml".into(), file("# SystemdCgroup = false\nSystemdCgroup=true\n"));
        live.user = 0;
    } => [];
    the_token_is_another_users: "", |live, facts| {
        facts.files.insert("/etc/kubernetes/token.csv".into(), file("0123456789abcdef0123456789abcdef,admin,1,\"system:masters\"\n"));
        live.user = 0;
    } => [("token-csv", Warning), ("bootstrap-user", Error)];
    the_token_is_the_bootstrap_users: "", |live, facts| {
        facts.files.insert("/etc/kubernetes/token.csv".into(), file("0123456789abcdef0123456789abcdef,\"kubelet-bootstrap\",10001,\"system:kubelet-bootstrap\"\n"));
        live.user = 0;
    } => [("token-csv", Warning)];
    docker_has_another_subnet: "pod-network = 'bip'\nruntime = 'docker'\n", |live, facts| { live.addresses[2].1 = "172.17.0.1/16".parse().unwrap(); let _ = &mut facts; } => [("docker-bip", Error)];
    options_of_docker_that_do_harm: "runtime = 'docker'\n", |live, facts| {
        facts.files.insert("/etc/docker/daemon.json".into(), file("{\"iptables\": false, \"ip-forward\": false, \"live-restore\": true}"));
        live.user = 0;
    } => [("docker-iptables", Warning), ("docker-daemon-json", Error), ("docker-live-restore", Warning)];
    docker_guards_its_containers: "pod-network = 'bip'\nruntime = 'docker'\n", |live, facts| {
        live.programs.insert("/usr/bin/dockerd".into(), Some("Docker version 28.1.1, build x".into()));
        let _ = &mut facts;
    } => [("docker-direct-routing", Warning)];
    no_bootstrap: "", |live, facts| { facts.files.remove(std::path::Path::new("/etc/kubernetes/bootstrap.kubeconfig")); live.user = 0; } => [("kubeconfigs", Error)];
    a_token_of_another_cluster: "", |live, facts| { facts.files.insert("/etc/kubernetes/token.csv".into(), file("")); live.user = 0; } => [("token-csv", Warning), ("bootstrap-user", Error)];
    certificates_are_missing: "etcd-endpoints = 'https://10.64.3.7:2379'\netcd-cafile = '/x/ca.pem'\netcd-certfile = '/x/c.pem'\netcd-keyfile = '/x/k.pem'\n", |live, facts| { live.user = 0; let _ = &mut facts; } => [("certs", Error), ("certs", Error), ("certs", Error)];
}

fn active(file: &str) -> UnitStatus {
    UnitStatus {
        load: "loaded".into(),
        active: "active".into(),
        file: file.into(),
        ..UnitStatus::default()
    }
}

#[test]
fn each_kubeconfig_fault_is_told_from_the_others() {
    let good = kubeconfig("token: 0123456789abcdef0123456789abcdef");
    let told = |text: &str| {
        let mut facts = facts(live());
        facts
            .files
            .insert("/etc/kubernetes/bootstrap.kubeconfig".into(), file(text));
        let bad = offline(&model(""), &facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| finding.found)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(told(&good), "");
    for (from, to, want) in [
        ("kind: Config", "kind: Pod", "is a Pod"),
        (
            "current-context: default",
            "current-context: other",
            "current-context \"other\" does not exist",
        ),
        ("user: u}", "user: w}", "user \"w\" does not exist"),
        (
            "cluster: kubernetes,",
            "cluster: k,",
            "cluster \"k\" does not exist",
        ),
        (
            "https://10.64.3.7:6443",
            "http://10.64.3.7:8080",
            "the server is \"http",
        ),
        (
            "https://10.64.3.7:6443",
            "https://127.0.0.1:6443",
            "the server is https://127.0.0.1",
        ),
        (
            "certificate-authority-data: Y2E=",
            "insecure-skip-tls-verify: true",
            "any host can pose as the API server",
        ),
        (
            "certificate-authority-data: Y2E=",
            "certificate-authority-data: '*'",
            "not base64",
        ),
        (
            "certificate-authority-data: Y2E=",
            "certificate-authority: ca.pem",
            "/etc/kubernetes/ca.pem, which the kubeconfig names",
        ),
        (
            "token: 0123456789abcdef0123456789abcdef",
            "token: hunter2",
            "unusual form",
        ),
        (
            "token: 0123456789abcdef0123456789abcdef",
            "username: x",
            "neither token nor certificate",
        ),
        (
            "kind: Config",
            "kind: Config\nkind: Config",
            "cannot be parsed",
        ),
        ("kind: Config", "kind: [", "cannot be parsed"),
    ] {
        let found = told(&good.replace(from, to));
        assert!(
            found.contains(want) && !found.contains("hunter2"),
            "{to}: {found}"
        );
    }
}
