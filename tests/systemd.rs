//! The files in `systemd/`, as systemd's own tools see them. Needs what `scripts/setup` installs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

mod support;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use flanneld::cli::flanneld::{Parsed, parse};
use node_setup::versions::SystemdVersion;
use support::shipped::shipped_as;
use tempfile::TempDir;

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");
const UNIT: &str = "system/flanneld.service";
const DROP_IN: &str = "docker.service.d/flannel.conf";

/// The units as they are installed, with programs that are on this machine.
fn installed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "flanneld.service",
        shipped_as(UNIT).replace("/usr/local/bin/flanneld", FLANNELD),
    );
    write("docker.service", "[Service]\nExecStart=/bin/false\n".into());
    write(DROP_IN, shipped_as(DROP_IN).replace("=dockerd", "=true"));
    dir
}

/// Runs a tool that must succeed; what it says.
fn tool(command: &mut Command) -> String {
    let output = command
        .output()
        .expect("systemd's tools are installed (Debian package systemd)");
    let text = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn analyze(dir: &Path, args: &[&str]) -> String {
    // The colon: systemd's own units are found as well.
    let path = format!("{}:", dir.display());
    tool(
        Command::new("systemd-analyze")
            .args(args)
            .env("SYSTEMD_UNIT_PATH", path)
            .current_dir(dir),
    )
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let dir = installed();
    for unit in ["flanneld.service", "docker.service"] {
        assert_eq!(
            analyze(dir.path(), &["verify", "--man=no", &format!("./{unit}")]),
            ""
        );
    }
}

/// An older systemd cannot start the unit, so the file and the package say which one they need.
#[test]
fn unit_and_package_name_the_systemd_they_need() {
    let needed = SystemdVersion::SHIPPED_UNIT;
    let head = shipped_as(UNIT).split("[Unit]").next().unwrap().to_owned();
    assert!(
        head.contains(&format!("needs systemd {needed} or later")),
        "{head}"
    );
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(
        manifest.contains(&format!("systemd (>= {needed})")),
        "the package's depends"
    );
}

#[test]
fn the_daemon_can_do_little_harm() {
    analyze(
        installed().path(),
        &[
            "security",
            "--offline=yes",
            "--threshold=25",
            "./flanneld.service",
        ],
    );
}

/// Flags in the unit's command line.
fn unit_flags() -> Vec<OsString> {
    let unit = shipped_as(UNIT);
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    line.split(' ')
        .skip(1)
        .filter(|word| !word.starts_with('$'))
        .map(Into::into)
        .collect()
}

/// The settings file with all examples switched on: what becomes flags, what becomes environment.
fn examples() -> (Vec<OsString>, Vec<(OsString, OsString)>) {
    let text = shipped_as("default/flanneld");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
    let pairs = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once('=').unwrap());
    let (options, variables): (Vec<_>, Vec<_>) =
        pairs.partition(|(name, _)| *name == "FLANNEL_OPTIONS");
    let flags = options
        .iter()
        .flat_map(|(_, value)| value.split(' '))
        .map(Into::into)
        .collect();
    (
        flags,
        variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    )
}

#[test]
fn flanneld_takes_the_unit_and_every_example_without_a_word() {
    let (options, variables) = examples();
    assert!(!options.is_empty() && variables.len() >= 5);
    for (flags, env) in [
        (unit_flags(), Vec::new()),
        ([unit_flags(), options].concat(), variables),
    ] {
        match parse(flags, env) {
            Parsed::Run(run) => assert_eq!(run.warnings, [""; 0]),
            other @ (Parsed::Show(_) | Parsed::Wrong(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn docker_is_given_the_file_that_the_daemon_writes() {
    let key = "DOCKER_NETWORK_OPTIONS";
    let Parsed::Run(run) = parse(unit_flags(), []) else {
        panic!("the unit's flags are wrong")
    };
    let file = run
        .config
        .docker_opts
        .expect("the unit asks for docker's options");
    let drop_in = shipped_as(DROP_IN);
    assert_eq!(file.key, key);
    assert!(
        drop_in.contains(&format!("EnvironmentFile={}\n", file.path.display()))
            && drop_in.contains(&format!("${key}"))
    );
}

#[test]
fn systemd_makes_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("flannel.conf");
    fs::write(&config, shipped_as("tmpfiles.d/flannel.conf")).unwrap();
    let root_option = format!("--root={}", root.path().display());
    tool(
        Command::new("systemd-tmpfiles")
            .args(["--create", &root_option])
            .arg(&config),
    );
    assert!(root.path().join("run/flannel").is_dir());
}
