//! Units of plans, as systemd's own tools see them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use flanneld::cli::flanneld::{Parsed, parse};
use node_setup::argv::{Word, decode};
use node_setup::unit::Unit;
use node_setup::{FileKind, Host, Plan};
use tempfile::TempDir;

use super::{combinations, packaged, planned};

const PROGRAMS: [&str; 7] = [
    "flanneld",
    "mk-docker-opts.sh",
    "dockerd",
    "containerd",
    "kubelet",
    "kube-proxy",
    "cri-dockerd",
];

/// A directory with a program of each name.
fn programs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        symlink("/bin/true", dir.path().join(name)).unwrap();
    }
    dir
}

/// The plan's units and drop-ins, over the packages' own.
fn unit_directory(plan: &Plan, host: &Host) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    if let Some(text) = &host.docker_unit {
        fs::write(dir.path().join("docker.service"), text).unwrap();
    }
    for file in plan
        .files
        .iter()
        .filter(|file| matches!(file.kind, FileKind::Unit | FileKind::DropIn))
    {
        let path = dir
            .path()
            .join(file.path.strip_prefix("/etc/systemd/system").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.content).unwrap();
    }
    dir
}

fn analyze(dir: &Path, args: &[&str]) -> String {
    // The colon: systemd's own units are found as well.
    let path = format!("{}:", dir.display());
    let output = Command::new("systemd-analyze")
        .args(args)
        .env("SYSTEMD_UNIT_PATH", path)
        .current_dir(dir)
        .output();
    let output = output.expect("systemd's tools are installed (Debian package systemd)");
    let text = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Every plan that there are goldens of, with programs that are on this machine.
fn plans(bin: &str) -> Vec<(String, Plan, Host)> {
    let host = packaged(&format!("{bin}/dockerd"));
    let mut plans = Vec::new();
    for (release, runtime) in combinations() {
        let more = [
            ("kubernetes-version", release),
            ("runtime", runtime),
            ("bin-dir", bin),
        ];
        if let Ok(plan) = planned(&more, &host) {
            plans.push((format!("{release} {runtime}"), plan, host.clone()));
        }
    }
    let bare = [
        ("kubernetes-version", "1.23"),
        ("docker-wait", "true"),
        ("bin-dir", bin),
    ];
    plans.push((
        "unpacked docker".into(),
        planned(&bare, &Host::default()).unwrap(),
        Host::default(),
    ));
    let bare = [("runtime", "containerd"), ("bin-dir", bin)];
    plans.push((
        "unpacked containerd".into(),
        planned(&bare, &Host::default()).unwrap(),
        Host::default(),
    ));
    let document = planned(&[("style", "document"), ("bin-dir", bin)], &Host::default()).unwrap();
    plans.push(("document".into(), document, Host::default()));
    plans
}

#[test]
fn systemd_has_nothing_to_say_about_any_unit() {
    let bin = programs();
    let plans = plans(bin.path().to_str().unwrap());
    assert_eq!(plans.len(), 17 + 3, "containerd has no 1.6");
    for (name, plan, host) in plans {
        let dir = unit_directory(&plan, &host);
        for unit in plan
            .units
            .iter()
            .filter(|unit| dir.path().join(unit.name).exists())
        {
            assert_eq!(
                analyze(
                    dir.path(),
                    &["verify", "--man=no", &format!("./{}", unit.name)]
                ),
                "",
                "{name}"
            );
        }
    }
}

#[test]
fn a_mistake_would_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("x.service"),
        "[Service]\nExecStart=/bin/true \\\n  -a \\ \n  -b\n",
    )
    .unwrap();
    assert_ne!(
        analyze(dir.path(), &["verify", "--man=no", "./x.service"]),
        ""
    );
}

#[test]
fn flanneld_can_do_little_harm() {
    let bin = programs();
    let host = Host::default();
    let plan = planned(&[("bin-dir", bin.path().to_str().unwrap())], &host).unwrap();
    let dir = unit_directory(&plan, &host);
    analyze(
        dir.path(),
        &[
            "security",
            "--offline=yes",
            "--threshold=25",
            "./flanneld.service",
        ],
    );
}

#[test]
fn flanneld_takes_its_command_line_and_docker_reads_its_file() {
    let more = [
        ("kubernetes-version", "1.23"),
        ("iface", "eth0"),
        ("flannel-options", "-v=1"),
    ];
    let plan = planned(&more, &packaged("/usr/bin/dockerd")).unwrap();
    let text = |end: &str| {
        &plan
            .files
            .iter()
            .find(|file| file.path.ends_with(end))
            .unwrap()
            .content
    };
    let line = Unit::parse(text("flanneld.service"))
        .values("Service", "ExecStart")
        .pop()
        .unwrap();
    let flags = decode(&line)
        .into_iter()
        .skip(1)
        .map(|word| word.literal().unwrap().into())
        .collect::<Vec<_>>();
    let Parsed::Run(run) = parse(flags, []) else {
        panic!("{line}")
    };
    let options = run.config.docker_opts.unwrap();
    let drop_in = Unit::parse(text("docker.service.d/flannel.conf"));
    assert_eq!(
        drop_in.values("Service", "EnvironmentFile"),
        [options.path.display().to_string()]
    );
    let start = decode(&drop_in.values("Service", "ExecStart").pop().unwrap());
    assert_eq!(start.last(), Some(&Word::Variable(options.key)));
    assert!(
        text("docker.service.d/flannel.conf")
            .contains("ExecStart=\nExecStart=/usr/bin/dockerd -H fd://")
    );
}

/// The password is in a file that only root reads; the units name the file.
#[test]
fn no_unit_holds_a_password() {
    for style in ["document", "recommended"] {
        let file = "/etc/flanneld/100% secret.env";
        let more = [
            ("style", style),
            ("etcd-username", "flannel"),
            ("etcd-password-file", file),
        ];
        let plan = planned(&more, &Host::default()).unwrap();
        let unit = plan
            .files
            .iter()
            .find(|file| file.path.ends_with("flanneld.service"))
            .unwrap();
        let unit = Unit::parse(&unit.content);
        assert_eq!(
            unit.values("Service", "EnvironmentFile"),
            ["/etc/flanneld/100%% secret.env"]
        );
        assert!(
            unit.values("Service", "ExecStart")
                .pop()
                .unwrap()
                .contains("-etcd-username=flannel")
        );
    }
}

/// Whatever release it is of: unknown tables would be ignored without a word.
#[test]
fn containerd_understands_its_configuration() {
    let plan = planned(
        &[("registry-mirrors", "https://m.example")],
        &Host::default(),
    )
    .unwrap();
    let config = plan
        .files
        .iter()
        .find(|file| file.path.ends_with("containerd/config.toml"))
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, &config.content).unwrap();
    let output = Command::new("containerd")
        .arg("--config")
        .arg(&file)
        .args(["config", "dump"])
        .output()
        .unwrap();
    let dump = String::from_utf8_lossy(&output.stdout).into_owned();
    for want in [
        "registry.k8s.io/pause:3.10.2",
        "SystemdCgroup = true",
        "/etc/containerd/certs.d",
    ] {
        assert!(
            dump.contains(want),
            "{want}: {dump}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
