//! The program itself, below a directory: killed at each step, twice at once, without a place to write.

use crate::support::tool::rflannel;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SETTINGS: [&str; 6] = [
    "--node-ip",
    "10.64.3.7",
    "--etcd-endpoints",
    "https://10.64.3.7:2379",
    "--kubernetes-version",
    "1.20",
];

/// A node that has a kubelet of another program's.
fn node() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("etc/systemd/system/kubelet.service", "theirs\n"),
        ("etc/docker/daemon.json", "{\"debug\": true}\n"),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(root.path().join("var/lib")).unwrap();
    root
}

fn verb(root: &Path, prefix: &[&str], verb: &[&str]) -> Command {
    let words = [prefix, &[rflannel(), "node-setup"], verb].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--root").arg(root);
    if !["uninstall", "status"].contains(&verb[0]) {
        command.args(SETTINGS);
    }
    command
}

fn run(root: &Path, words: &[&str]) -> Output {
    verb(root, &[], words).output().unwrap()
}

fn must(root: &Path, words: &[&str]) -> String {
    let output = run(root, words);
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every file by path: permissions and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for path in fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            found.insert(path.clone(), (meta.permissions().mode(), content));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

/// `strace` ends the process in the moment of its nth rename: of journal, contents, files, ledger.
#[test]
fn killed_at_any_rename_a_run_is_taken_back_or_finished() {
    let root = node();
    let before = tree(root.path());
    let mut renames = 0;
    loop {
        renames += 1;
        let inject = format!("inject=renameat,renameat2:signal=SIGKILL:when={renames}");
        let trace = root.path().with_extension("trace");
        let strace = [
            "strace",
            "-f",
            "-o",
            trace.to_str().unwrap(),
            "-e",
            "trace=renameat,renameat2",
            "-e",
            &inject,
        ];
        let killed = !verb(root.path(), &strace, &["apply", "--force"])
            .output()
            .unwrap()
            .status
            .success();
        fs::remove_file(trace).unwrap();
        must(root.path(), &["uninstall"]);
        assert_eq!(tree(root.path()), before, "killed at rename {renames}");
        if !killed {
            assert!(
                renames > 8,
                "{renames} renames are fewer than there are files"
            );
            return;
        }
    }
}

#[test]
fn of_two_at_once_one_writes_and_the_other_says_why_not() {
    let root = node();
    let start = || {
        verb(root.path(), &[], &["apply", "--force"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in &both {
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || told.contains("another node-setup is changing this root"),
            "{told}"
        );
    }
    assert!(both.iter().any(|output| output.status.success()));
    let status = must(root.path(), &["status"]);
    assert!(
        status.lines().all(|line| line.starts_with("ok ")),
        "{status}"
    );
}

#[test]
fn read_only_target_is_named_and_apply_leaves_no_trace() {
    let root = node();
    let before = tree(root.path());
    let refused = run(root.path(), &["apply"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && told.contains("/etc/systemd/system/kubelet.service: node-setup did not write it"),
        "{told}"
    );
    assert_eq!(tree(root.path()), before);

    let script = format!(
        "mount -o bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$@\"",
        root.path().display()
    );
    let output = verb(
        root.path(),
        &["unshare", "--mount", "sh", "-c", &script, "sh"],
        &["apply", "--force"],
    )
    .output()
    .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("Read-only file system"),
        "{told}"
    );
    assert_eq!(tree(root.path()), before);
}

#[test]
fn programs_that_may_not_run_where_they_are_are_told_of() {
    let script = "mount -t tmpfs -o noexec none /mnt && cp /bin/true /mnt/kubelet && exec \"$@\"";
    let told = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            rflannel(),
            "node-setup",
            "check",
            "--bin-dir",
            "/mnt",
        ])
        .args(SETTINGS)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.contains("/mnt/kubelet is on a file system mounted with noexec"),
        "{told}"
    );
}

#[test]
fn machines_can_read_every_answer() {
    let root = node();
    for words in [
        &["diff", "--json"][..],
        &["apply", "--force", "--json"],
        &["status", "--json"],
        &["check", "--json"],
        &["uninstall", "--json"],
    ] {
        let output = run(root.path(), words);
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
        assert!(
            parsed.is_ok(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
