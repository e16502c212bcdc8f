//! docker's unit, its environment files, and daemon.json: what dockerd would refuse is found before anything is written.

use crate::support::tool::rflannel;
use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::DOCUMENT;

const UNIT: &str = "usr/lib/systemd/system/docker.service";
const JSON: &str = "etc/docker/daemon.json";

/// A host below a directory.
fn host(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// Runs a verb for the document's node on that host.
fn run(root: &TempDir, verb: &str, more: &[&str]) -> Output {
    let mut command = Command::new(rflannel());
    command
        .args(["node-setup", verb, "--kubernetes-version=1.16", "--root"])
        .arg(root.path())
        .args(more);
    command
        .args(
            DOCUMENT
                .iter()
                .map(|(name, value)| format!("--{name}={value}")),
        )
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `plan` prints.
fn planned(files: &[(&str, &str)], more: &[&str]) -> String {
    let output = run(&host(files), "plan", more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The lines of the error that `plan` ends with.
fn refused(files: &[(&str, &str)], more: &[&str]) -> Vec<String> {
    let output = run(&host(files), "plan", more);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(
        output.stdout.is_empty(),
        "nothing is printed that must not be applied"
    );
    text(&output.stderr).lines().map(str::to_owned).collect()
}

/// CentOS 7's, shortened.
fn centos(flags: &str) -> String {
    format!(
        "[Service]\nType=notify\nEnvironmentFile=-/etc/sysconfig/docker\nEnvironmentFile=-/etc/sysconfig/docker-network\n\
         ExecStart=/usr/bin/dockerd-current \\\n          --add-runtime docker-runc=/usr/libexec/docker/runc \\\n          {flags} \\\n          \
         $OPTIONS \\\n          $DOCKER_NETWORK_OPTIONS\n"
    )
}

/// With host-gw packets of other hosts' pods come in by the underlay.
#[test]
fn docker_lets_in_pods_of_other_hosts_with_either_backend() {
    let unit = "[Service]\nType=notify\nExecStart=/usr/bin/dockerd -H fd://\n";
    for (backend, rule) in [
        ("vxlan", "DOCKER-USER -i flannel+ -o docker0 -j ACCEPT"),
        (
            "host-gw",
            "DOCKER-USER -s 172.30.0.0/16 -o docker0 -j ACCEPT",
        ),
    ] {
        let plan = planned(
            &[(UNIT, unit)],
            &["--docker-version=28.3", &format!("--backend={backend}")],
        );
        assert!(plan.contains(rule), "{plan}");
        let plain = plan.replace('\\', "");
        assert!(
            plain.contains(&format!("\"Type\":\"{backend}\"")) || !plain.contains("\"Type\""),
            "{plan}"
        );
    }
}

#[test]
fn flag_with_the_wanted_value_keeps_its_key_out_of_the_file() {
    for flag in [
        "--exec-opt native.cgroupdriver=systemd",
        "--exec-opt=native.cgroupdriver=systemd",
    ] {
        let plan = planned(&[(UNIT, &centos(flag))], &[]);
        assert!(!plan.contains("==> /etc/docker/daemon.json"), "{plan}");
        let mirror = format!("{flag} --registry-mirror https://m.example/");
        let more = [
            "--registry-mirrors=https://m.example",
            "--max-concurrent-downloads=5",
        ];
        let plan = planned(&[(UNIT, &centos(&mirror))], &more);
        assert!(
            plan.contains("==> /etc/docker/daemon.json")
                && plan.contains("\"max-concurrent-downloads\": 5")
        );
        assert!(
            !plan.contains("\"registry-mirrors\"") && !plan.contains("\"exec-opts\""),
            "{plan}"
        );
    }
}

#[test]
fn flag_with_another_value_is_named() {
    let unit =
        centos("--exec-opt native.cgroupdriver=cgroupfs --registry-mirror=https://a.example");
    let errors = refused(&[(UNIT, &unit)], &["--registry-mirrors=https://b.example"]).join("\n");
    for want in [
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
        "cgroup-driver",
        "--registry-mirror",
        "https://a.example",
    ] {
        assert!(errors.contains(want), "{want}: {errors}");
    }
}

#[test]
fn flags_in_environment_files_count() {
    let options =
        "# comment\nOPTIONS='--selinux-enabled --exec-opt native.cgroupdriver=cgroupfs'\n";
    let unit = centos("");
    let files = [
        (UNIT, unit.as_str()),
        ("etc/sysconfig/docker", options),
        (JSON, "{\"selinux-enabled\": true}"),
    ];
    let errors = refused(&files, &[]).join("\n");
    assert!(
        errors.contains("\"selinux-enabled\"") && errors.contains("--exec-opt"),
        "{errors}"
    );
    let absent = [(UNIT, unit.as_str())];
    assert!(planned(&absent, &[]).contains("\"exec-opts\""));
}

#[test]
fn every_flag_is_known_by_its_key() {
    for (flag, key) in [
        ("--insecure-registry 10.0.0.0/8", "insecure-registries"),
        ("--add-runtime x=/y", "runtimes"),
        ("-s overlay2", "storage-driver"),
        ("-soverlay2", "storage-driver"),
        ("--storage-opt a=b", "storage-opts"),
        ("-g /srv", "graph"),
        ("--graph=/srv", "data-root"),
        ("-H fd://", "hosts"),
        ("-D", "debug"),
        ("-l error", "log-level"),
        ("--label a=b", "labels"),
        ("--log-opt max-size=1m", "log-opts"),
        ("--default-ulimit nofile=1", "default-ulimits"),
    ] {
        let unit = format!("[Service]\nExecStart=/usr/bin/dockerd {flag}\n");
        let errors =
            refused(&[(UNIT, &unit), (JSON, &format!("{{\"{key}\": 1}}"))], &[]).join("\n");
        assert!(
            errors.contains(&format!("\"{key}\"")) && errors.contains("command line"),
            "{flag}: {errors}"
        );
    }
}

#[test]
fn bridge_flags_beside_the_options_are_named() {
    for flags in ["--bip=172.17.0.1/16", "--mtu 1500", "-b br0"] {
        let name = flags.split([' ', '=']).next().unwrap();
        let errors = refused(&[(UNIT, &centos(flags))], &[]).join("\n");
        assert!(
            errors.contains("docker.service: ") && errors.contains(name),
            "{flags}: {errors}"
        );
    }
    // The variable that flannel's file sets again is not read from the package's file.
    let unit = centos("");
    let network = (
        "etc/sysconfig/docker-network",
        "DOCKER_NETWORK_OPTIONS=--bip=1.2.3.4/24\n",
    );
    planned(&[(UNIT, &unit), network], &[]);
}

#[test]
fn iptables_off_is_a_warning() {
    let unit = centos("");
    let plan = planned(&[(UNIT, &unit), (JSON, "{\"iptables\": false}")], &[]);
    assert!(plan.contains("docker-iptables: "), "{plan}");
}

/// An operator repairs daemon.json once, not once for each conflict.
#[test]
fn every_verb_lists_all_conflicts_and_goes_on() {
    let unit = centos("--mtu=1400");
    let json = "{\"bip\": \"172.17.0.1/16\", \"fixed-cidr\": \"x\", \"exec-opts\": [\"native.cgroupdriver=cgroupfs\"]}";
    let root = host(&[
        (UNIT, &unit),
        (JSON, json),
        ("etc/systemd/system/kubelet.service", "[Service]\n"),
    ]);
    let all = [
        "\"bip\"",
        "\"fixed-cidr\"",
        "native.cgroupdriver=cgroupfs",
        "--mtu",
    ];
    let complete = |what: &str, said: &str| {
        all.iter()
            .for_each(|want| assert!(said.contains(want), "{what}, {want}: {said}"));
    };
    let plan = run(&root, "plan", &[]);
    complete("plan", &text(&plan.stderr));
    let diff = run(&root, "diff", &[]);
    complete("diff", &text(&diff.stderr));
    assert_eq!(diff.status.code(), Some(1));
    assert!(
        text(&diff.stdout).contains("etc/systemd/system/flanneld.service"),
        "the other files are compared"
    );
    let check = run(&root, "check", &[]);
    complete("check", &text(&check.stdout));
    assert!(
        text(&check.stdout).contains("conflicts")
            && text(&check.stdout).contains("kubelet.service")
    );
    let apply = run(&root, "apply", &[]);
    complete("apply", &text(&apply.stderr));
    assert!(
        text(&apply.stderr).contains("kubelet.service: node-setup did not write it"),
        "{}",
        text(&apply.stderr)
    );
    assert!(
        !root
            .path()
            .join("etc/systemd/system/flanneld.service")
            .exists(),
        "nothing is written"
    );
    assert_eq!(
        run(&root, "apply", &["--force"]).status.code(),
        Some(1),
        "force is no answer to dockerd"
    );
}
