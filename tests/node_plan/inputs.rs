//! Bad input: each a clear error, and nothing written. Through the program itself.

use crate::support::tool::rflannel;
use std::fs;
use std::process::{Command, Output};

use super::DOCUMENT;

/// Runs `node-setup plan --output` for a bare host, with an environment of its own; whether it wrote anything.
fn run(args: &[String], env: &[(&str, &str)]) -> (Output, bool) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut command = Command::new(rflannel());
    command
        .args(["node-setup", "plan", "--root"])
        .arg(&root)
        .arg("--output")
        .arg(&out)
        .args(args)
        .env_clear();
    let output = command.envs(env.iter().copied()).output().unwrap();
    (output, out.exists())
}

fn good() -> Vec<String> {
    DOCUMENT
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

/// The document's node with one setting said otherwise.
fn with(name: &str, value: &str) -> Vec<String> {
    let flag = format!("--{name}=");
    let rest = good().into_iter().filter(|arg| !arg.starts_with(&flag));
    rest.chain([format!("{flag}{value}")]).collect()
}

fn refused(args: &[String], env: &[(&str, &str)]) -> String {
    let (output, written) = run(args, env);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{args:?}: {error}");
    assert!(!written && output.stdout.is_empty(), "{args:?}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    error
}

#[test]
fn a_good_one_is_written() {
    let (output, written) = run(&good(), &[]);
    assert!(output.status.success() && written, "{output:?}");
}

/// Setting, value, and a part of the error.
const BAD: &[(&str, &str, &str)] = &[
    ("node-ip", "127.0.0.1", "loopback"),
    ("node-ip", "0.0.0.0", "cannot be the address of a node"),
    ("node-ip", "10.64.3", "not an IP address"),
    ("node-ip", "10.64.3.7 ", "not an IP address"),
    ("node-ip", "::ffff:10.64.3.7", "IPv4 address"),
    ("node-ip", "172.30.1.1", "node's own address"),
    ("node-name", "Node-1", "use that name"),
    ("node-name", "node_1", "not a valid node name"),
    ("node-name", "node.", "not a valid node name"),
    ("node-name", "-node", "not a valid node name"),
    ("node-name", "\u{1f600}", "not a valid node name"),
    ("node-name", "fd00::1", "not a valid node name"),
    (
        "node-name",
        "a123456789b123456789c123456789d123456789e123456789f123456789-1234",
        "longer than 63",
    ),
    ("iface", "eth0:1", "not a valid interface name"),
    ("iface", "wg-a@if3", "not a valid interface name"),
    ("iface", "a-name-of-sixteen", "not a valid interface name"),
    ("iface", "*", "not a valid interface name"),
    ("iface", "../x", "not a valid interface name"),
    ("pod-cidr", "172.30.1.2/16", "the network is 172.30.0.0/16"),
    ("pod-cidr", "0.0.0.0/0", "contains every address"),
    ("pod-cidr", "172.30.0.0/33", "not an IPv4 network"),
    ("pod-cidr", "172.30.0.0", "not an IPv4 network"),
    ("pod-cidr", "::ffff:172.30.0.0/112", "not an IPv4 network"),
    ("pod-cidr", "10.254.0.0/16", "overlaps"),
    ("pod-cidr", "10.0.0.0/8", "overlaps"),
    ("pod-cidr", "172.30.0.0/30", "network-config"),
    ("service-cidr", "10.64.0.0/16", "node's own address"),
    (
        "controller-manager-cluster-cidr",
        "10.254.0.0/16",
        "--cluster-cidr 10.254.0.0/16",
    ),
    ("cluster-dns", "10.254.0.1", "belongs to the API server"),
    ("cluster-dns", "10.255.0.2", "not the address of a service"),
    ("cluster-dns", "fd00::2", "IPv4"),
    ("cluster-domain", "cluster..local", "not a valid domain"),
    (
        "etcd-endpoints",
        "https://a:2379,",
        "etcd-endpoints: an endpoint is empty",
    ),
    (
        "etcd-endpoints",
        "https://a:2379,https://a:2379",
        "given twice",
    ),
    (
        "etcd-endpoints",
        "https://a:2379,http://b:2379",
        "does not encrypt",
    ),
    (
        "etcd-endpoints",
        "https://a:2379#x",
        "only have a scheme, a host, and a port",
    ),
    ("etcd-endpoints", "a:2379", "must start with https://"),
    ("etcd-endpoints", "ftp://a:2379", "http"),
    (
        "etcd-endpoints",
        "https://172.30.1.1:2379",
        "only after flanneld has reached etcd",
    ),
    (
        "network-config",
        "{\"Network\":\"10.1.0.0/16\"}",
        "differs from pod-cidr",
    ),
    ("network-config", "{\"Network\":NaN}", "network-config"),
    ("network-config", "{/*x*/}", "network-config"),
    ("backend", "udp", "udp is not one of vxlan, host-gw, alloc"),
    ("backend", "x\"}", "network-config"),
    ("bin-dir", "usr/bin", "absolute"),
    ("bin-dir", "/usr/../bin", "without //"),
    ("bin-dir", "/usr//bin", "without //"),
    ("bin-dir", "/opt:x", "contains : or $"),
    ("bin-dir", "/opt/$x", "contains : or $"),
    ("kubernetes-version", "1.5", "older than 1.6"),
    ("kubernetes-version", "latest", "not a release"),
    ("kubernetes-version", "1.9", "containerd"),
    ("services", "flanneld,etcd", "not one of flanneld"),
    ("style", "literal", "not one of document, recommended"),
    ("style", "document --", "not one of"),
    (
        "registry-mirrors",
        "hub-mirror.c.163.com",
        "must start with https://",
    ),
    ("registry-mirrors", "https://m/?x", "no user, query"),
    ("max-concurrent-downloads", "0", "from 1 to 100"),
    ("proxy-mode", "userspace", "not one of iptables"),
    ("etcd-username", "root", "be set together"),
    ("flannel-options", "-nonsense", "unknown flag -nonsense"),
    ("flannel-options", "stray", "stray"),
    ("flannel-options", "-iface='eth0", "not closed"),
    ("etcd-prefix", "/a\nExecStartPre=/bin/evil", "U+000A"),
    ("etcd-prefix", "/a\u{202e}", "U+202E"),
    ("flannel-options", "-v=\u{1b}[31m", "U+001B"),
];

#[test]
fn bad_values_are_named() {
    for (name, value, want) in BAD {
        let more = if *value == "1.9" {
            vec!["--runtime=containerd".to_owned()]
        } else {
            Vec::new()
        };
        let error = refused(&[with(name, value), more].concat(), &[]);
        assert!(error.contains(want), "{name}={value}: {error}");
    }
    let error = from_file(&format!("pause-image = '{}'", "x".repeat(1 << 20)));
    assert!(
        error.contains("1048576 bytes") && error.len() < 200,
        "{error}"
    );
}

/// The error about a file for `--config`.
fn from_file(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, text).unwrap();
    refused(
        &[good(), vec![format!("--config={}", file.display())]].concat(),
        &[],
    )
}

#[test]
fn a_secret_in_an_endpoint_is_not_shown() {
    let error = refused(&with("etcd-endpoints", "https://root:hunter2@a:2379"), &[]);
    assert!(
        error.contains("user and password") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let ip = refused(&good()[1..], &[]);
    assert!(ip.contains("node-ip: is required"), "{ip}");
    let etcd = refused(&good()[..1], &[]);
    assert!(etcd.contains("etcd-endpoints: is required"), "{etcd}");
    let (output, written) = run(&["--services=flanneld".into(), good()[1].clone()], &[]);
    assert!(
        output.status.success() && written,
        "flanneld alone needs not a valid node name: {output:?}"
    );
}

#[test]
fn the_documents_exports_work_unchanged() {
    let exports = [
        ("FLANNEL_ETCD_PREFIX", "/kubernetes/network"),
        ("FLANNEL_ETCD_ENDPOINTS", DOCUMENT[1].1),
        ("FLANNEL_OPTIONS", "-iface=eth0"),
        ("ADDRESS", "10.64.3.7"),
        ("CLUSTER_DNS", "10.254.0.2"),
        ("CLUSTER_CIDR", "10.254.0.0/16"),
    ];
    let from_env = vec!["--from-env".to_owned(), "--style=document".to_owned()];
    let (output, _) = run(&from_env, &exports);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("cluster-cidr: CLUSTER_CIDR=10.254.0.0/16"),
        "{output:?}"
    );
    let none = refused(&from_env, &[("ADDRESS", "")]);
    assert!(none.contains("is exported: run"), "{none}");
}

/// The variables of the guide's later versions (its `environment.sh`).
#[test]
fn follow_me_exports_are_understood() {
    let exports = [
        ("NODE_IP", "10.64.3.7"),
        ("ETCD_ENDPOINTS", DOCUMENT[1].1),
        ("FLANNEL_ETCD_PREFIX", "/kubernetes/network"),
        ("SERVICE_CIDR", "10.99.0.0/16"),
        ("CLUSTER_CIDR", "172.31.0.0/16"),
        ("CLUSTER_DNS_SVC_IP", "10.99.0.2"),
        ("CLUSTER_DNS_DOMAIN", "cluster.local."),
        ("KUBE_APISERVER", "https://10.64.3.7:6443"),
        ("BOOTSTRAP_TOKEN", "hunter2"),
    ];
    let (output, _) = run(
        &[
            "--from-env".to_owned(),
            "--cluster-domain=x.local".to_owned(),
        ],
        &exports,
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let line = text
        .lines()
        .find(|line| line.starts_with("from-env: "))
        .unwrap();
    for unused in ["KUBE_APISERVER", "BOOTSTRAP_TOKEN", "CLUSTER_DNS_DOMAIN"] {
        assert!(line.contains(unused), "{unused}: {line}");
    }
    assert!(
        !line.contains("SERVICE_CIDR") && !text.contains("hunter2"),
        "{line}"
    );
    let print = [vec!["--from-env".to_owned(), "--print-config".to_owned()]].concat();
    let output = Command::new(rflannel())
        .args(["node-setup", "--root=/nonexistent"])
        .args(print)
        .env_clear()
        .envs(exports)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for want in [
        "node-ip = \"10.64.3.7\"",
        "service-cidr = \"10.99.0.0/16\"",
        "pod-cidr = \"172.31.0.0/16\"",
        "cluster-dns = \"10.99.0.2\"",
        "cluster-domain = \"cluster.local.\"",
        "https://10.66.3.86:2379",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
    let both = refused(
        &["--from-env".to_owned()],
        &[exports.as_slice(), &[("ADDRESS", "10.64.3.8")]].concat(),
    );
    assert!(
        both.contains("ADDRESS") && both.contains("NODE_IP"),
        "{both}"
    );
}

#[test]
fn explain_lists_topics_and_suggests_a_near_miss() {
    let explain = |topic: &[&str]| {
        Command::new(rflannel())
            .args(["node-setup", "explain"])
            .args(topic)
            .output()
            .unwrap()
    };
    let list = explain(&[]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.status.success(), "{list:?}");
    for topic in [
        "require-kubeconfig",
        "daemon.json",
        "systemd-version",
        "pod-cidr",
        "docker-28.0",
    ] {
        assert!(text.contains(topic), "{topic}: {text}");
    }
    for (typo, want) in [
        ("--requre-kubeconfig", "require-kubeconfig"),
        ("pod-cdir", "pod-cidr"),
        ("deamon.json", "daemon.json"),
    ] {
        let error = String::from_utf8_lossy(&explain(&[typo]).stderr).into_owned();
        assert!(
            error.contains(&format!("did you mean {want}")),
            "{typo}: {error}"
        );
    }
}

#[test]
fn files_of_the_host_that_contradict_are_named() {
    let rows: &[(&str, &str)] = &[
        ("{\"bip\": \"172.17.0.1/16\"}", "\"bip\""),
        ("{\"hosts\": [\"fd://\"]}", "dockerd does not start"),
        ("{\"a\": 1, \"a\": 2}", "\"a\" twice"),
        ("[]", "not a JSON object"),
        ("\u{feff}{}", "byte order mark"),
        (
            "{\"exec-opts\": [\"native.cgroupdriver=cgroupfs\"]}",
            "cgroup-driver",
        ),
    ];
    for (json, want) in rows {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/docker/daemon.json", json);
        write(
            "usr/lib/systemd/system/docker.service",
            "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n",
        );
        let root = format!("--root={}", dir.path().display());
        let args = [
            "--kubernetes-version=1.23".to_owned(),
            "--runtime=docker".to_owned(),
            root,
        ];
        let output = Command::new(rflannel())
            .args(["node-setup", "plan"])
            .args(good())
            .args(args)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{json}: {error}");
        assert!(
            error.contains("/etc/docker/daemon.json: ") && error.contains(want),
            "{json}: {error}"
        );
    }
}

#[test]
fn printed_settings_make_the_same_plan() {
    let tool = |args: &[String]| {
        let output = Command::new(rflannel())
            .args(["node-setup", "--root=/nonexistent"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let options = [
        "--flannel-options=-iface=eth0 -v=1".to_owned(),
        "--kubernetes-version=1.16".to_owned(),
    ];
    let args = [good(), options.to_vec()].concat();
    let printed = tool(&[args.clone(), vec!["--print-config".into()]].concat());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, &printed).unwrap();
    let config = format!("--config={}", file.display());
    assert_eq!(tool(&[config.clone(), "--print-config".into()]), printed);
    assert_eq!(tool(&[config]), tool(&args));
}

#[test]
fn the_configuration_of_the_network_needs_no_node() {
    let args = [
        "node-setup",
        "etcd-config",
        "--json",
        "--etcd-prefix=/kubernetes/network/",
        "--pod-cidr=10.5.0.0/16",
    ];
    let output = Command::new(rflannel())
        .args(args)
        .arg("--etcd-endpoints=https://10.64.3.7:2379")
        .output()
        .unwrap();
    let pair: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(pair["key"], "/kubernetes/network/config");
    assert_eq!(
        pair["value"],
        "{\"Network\":\"10.5.0.0/16\",\"SubnetLen\":24,\"Backend\":{\"Type\":\"vxlan\"}}"
    );
}

/// The two things that a reader of the guide still does by hand.
#[test]
fn plan_and_check_say_what_to_install() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let tool = |verb: &str, release: &str, more: &[&str]| {
        fs::write(root.path().join("etc/os-release"), release).unwrap();
        let mut command = Command::new(rflannel());
        command
            .args(["node-setup", verb, "--root"])
            .arg(root.path())
            .args(good())
            .args(more);
        let output = command.output().unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code(),
        )
    };
    let (debian, _) = tool("plan", "ID=debian\n", &[]);
    assert!(
        debian.contains("\napt-get install iproute2 iptables conntrack "),
        "{debian}"
    );
    assert!(
        debian.contains(" containerd\n")
            && debian.contains("https://dl.k8s.io/release/stable-1.36.txt")
    );
    assert!(debian.contains("/opt/cni/bin/flannel"), "{debian}");
    let (centos, _) = tool(
        "plan",
        "ID=centos\nVERSION_ID=7\n",
        &["--kubernetes-version=1.16"],
    );
    assert!(
        centos.contains("\nyum install ")
            && centos.contains(" docker\n")
            && !centos.contains("cni-plugins"),
        "{centos}"
    );
    let (check, status) = tool("check", "ID=debian\n", &["--prerequisites"]);
    assert_eq!(status, Some(3));
    assert!(
        check.lines().last().unwrap().starts_with("summary  "),
        "{check}"
    );
    let (table, summary) = check.split_once("\nthis node lacks:\n").unwrap();
    assert!(
        summary.contains("cni-plugins: missing in /opt/cni/bin: flannel, bridge"),
        "{check}"
    );
    assert!(
        !table.contains("kubeconfigs") && !table.contains("certs"),
        "{table}"
    );
}
