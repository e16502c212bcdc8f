//! `rflannel mk-docker-opts` against recorded runs of the original script, and where it differs from it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "support/tool.rs"]
mod tool;

use crate::tool::rflannel;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

const ENV: &str = "FLANNEL_SUBNET=172.30.15.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
const COMBINED: &str = "DOCKER_OPTS=\" --bip=172.30.15.1/24 --ip-masq=true --mtu=1450\"\n";

/// One run of the original. `@ENV@` and `@OUT@` in `args` stand for its two files.
#[derive(Debug, Deserialize)]
struct Recorded {
    args: Vec<String>,
    subnet_env: String,
    env: BTreeMap<String, String>,
    missing_env: bool,
    rc: i32,
    /// Content of the output; `None` when there is none.
    out: Option<String>,
}

struct Files {
    root: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn with_env(text: &str) -> Self {
        let files = Self::new();
        fs::write(files.path("env"), text).unwrap();
        files
    }

    fn fill_in(&self, arg: &str) -> String {
        arg.replace("@ENV@", self.path("env").to_str().unwrap())
            .replace("@OUT@", self.path("out").to_str().unwrap())
    }

    fn run(&self, args: &[&str], env: &BTreeMap<String, String>) -> Output {
        let mut command = Command::new(rflannel());
        command
            .arg("mk-docker-opts")
            .args(args.iter().map(|arg| self.fill_in(arg)));
        command
            .env_clear()
            .envs(env)
            .current_dir(self.root.path())
            .output()
            .unwrap()
    }

    fn out(&self) -> Option<String> {
        fs::read_to_string(self.path("out")).ok()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_recorded_run() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/docker-opts.json");
    let recorded: Vec<Recorded> = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    assert!(recorded.len() > 30);
    for run in recorded {
        let files = if run.missing_env {
            Files::new()
        } else {
            Files::with_env(&run.subnet_env)
        };
        let args: Vec<&str> = run.args.iter().map(String::as_str).collect();
        let output = files.run(&args, &run.env);
        let got = (output.status.code(), files.out());
        assert_eq!(
            got,
            (Some(run.rc), run.out.clone()),
            "{run:?}\n{}",
            stderr(&output)
        );
        assert_eq!(
            output.status.success() && !run.missing_env,
            output.stderr.is_empty(),
            "{run:?}"
        );
    }
}

#[test]
fn the_scripts_names_run_it() {
    for name in ["mk-docker-opts.sh", "mk-docker-opts"] {
        let files = Files::with_env(ENV);
        let mut command = Command::new(rflannel());
        command.arg0(format!("/opt/bin/{name}")).env_clear();
        let status = command
            .args(["-c", "-f@ENV@", "-d@OUT@"].map(|arg| files.fill_in(arg)))
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(files.out().as_deref(), Some(COMBINED));
    }
}

#[test]
fn the_input_is_never_executed() {
    let files =
        Files::with_env("touch pwned\nFLANNEL_MTU=$(touch pwned)\nDOCKER_OPT_X=`touch pwned`\n");
    let output = files.run(&["-f", "@ENV@", "-d", "@OUT@"], &BTreeMap::new());
    assert!(output.status.success());
    assert!(!files.path("pwned").exists());
    assert!(
        stderr(&output).contains("line 2: $ and ` are literal characters"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn output_may_be_the_input() {
    let files = Files::with_env(ENV);
    let output = files.run(&["-c", "-f", "@ENV@", "-d", "@ENV@"], &BTreeMap::new());
    assert!(output.status.success());
    assert_eq!(fs::read_to_string(files.path("env")).unwrap(), COMBINED);
}

#[test]
fn links_modes_and_devices_are_respected() {
    let files = Files::with_env(ENV);
    fs::write(files.path("real"), "old").unwrap();
    fs::set_permissions(files.path("real"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real", files.path("out")).unwrap();
    assert!(
        files
            .run(&["-c", "-f@ENV@", "-d@OUT@"], &BTreeMap::new())
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(files.path("real")).unwrap(), COMBINED);
    assert_eq!(
        fs::metadata(files.path("real"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    assert!(
        fs::symlink_metadata(files.path("out"))
            .unwrap()
            .is_symlink()
    );
    let printed = files.run(&["-c", "-f@ENV@", "-d/dev/stdout"], &BTreeMap::new());
    assert_eq!(String::from_utf8_lossy(&printed.stdout), COMBINED);
}

#[test]
fn trouble_is_told() {
    let files = Files::with_env(ENV);
    for (args, rc, want) in [
        (&["-d@OUT@/no/x"][..], 1, "create the directory first"),
        (&["-d."], 1, "cannot write ."),
        (
            &["-f./missing", "-d@OUT@"],
            0,
            "./missing is missing or not a regular file",
        ),
        (&["-d@OUT@", "-kA-B"], 0, "not a variable name"),
        (&["-h"], 1, "Unlike the shell script"),
        (&["-k"], 1, "option requires an argument -- k"),
    ] {
        let output = files.run(&[&["-f@ENV@"], args].concat(), &BTreeMap::new());
        assert_eq!(output.status.code(), Some(rc), "{args:?}");
        assert!(
            stderr(&output).contains(want),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    let help = files.run(&["--help"], &BTreeMap::new());
    assert!(
        help.status.success()
            && String::from_utf8_lossy(&help.stdout).contains("Unlike the shell script")
    );
}

/// Needs root and iproute2: the route lives in a network namespace of its own.
#[test]
fn a_gateway_route_to_our_own_subnet_is_reported_after_writing() {
    let files = Files::with_env(ENV);
    let setup = "ip link add d0 type bridge && ip addr add 192.0.2.2/24 dev d0 && ip link set d0 up && \
                 ip route add 172.30.15.0/24 via 192.0.2.1 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "sh",
        "-c",
        setup,
        "sh",
        rflannel(),
        "mk-docker-opts",
    ]);
    let output = command
        .args(["-c", "-f@ENV@", "-d@OUT@"].map(|arg| files.fill_in(arg)))
        .output()
        .unwrap();
    let want =
        "Your routing table already contains the subnet: 172.30.15.0/24 via 192.0.2.1 dev d0\n";
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(1), want)
    );
    assert_eq!(files.out().as_deref(), Some(COMBINED));
}
