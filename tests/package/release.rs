//! What `scripts/release` refuses before it builds anything.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A repository with what the script looks at.
fn checkout() -> TempDir {
    let (dir, source) = (
        tempfile::tempdir().unwrap(),
        Path::new(env!("CARGO_MANIFEST_DIR")),
    );
    fs::create_dir(dir.path().join("scripts")).unwrap();
    for file in ["scripts/release", "Cargo.toml", "CHANGELOG.md"] {
        fs::copy(source.join(file), dir.path().join(file)).unwrap();
    }
    git(&dir, &["init", "--quiet"]);
    commit(&dir);
    dir
}

fn git(dir: &TempDir, args: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@t.invalid"];
    let status = Command::new("git")
        .arg("-C")
        .arg(dir.path())
        .args(who)
        .args(args)
        .status();
    assert!(status.unwrap().success(), "git {args:?}");
}

fn commit(dir: &TempDir) {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--message", "All"]);
}

fn refusal(dir: &TempDir, args: &[&str]) -> String {
    let mut command = Command::new(dir.path().join("scripts/release"));
    let Output { status, stderr, .. } = command.args(args).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn what_is_not_a_release_is_refused() {
    let dir = checkout();
    let changelog = dir.path().join("CHANGELOG.md");
    let text = fs::read_to_string(&changelog).unwrap();
    fs::write(
        &changelog,
        text.replace(&format!("## [{VERSION}]"), "## []") + "more\n",
    )
    .unwrap();
    assert!(refusal(&dir, &[]).contains("the checkout has changes: commit them first"));
    commit(&dir);
    assert!(refusal(&dir, &[]).contains(&format!("the commit is not tagged v{VERSION}")));
    git(&dir, &["tag", &format!("v{VERSION}")]);
    assert!(refusal(&dir, &[]).contains(&format!(
        "CHANGELOG.md has no entry for {VERSION} with a date"
    )));
    assert!(refusal(&dir, &["--snapshot", "scripts"]).contains("scripts is not empty"));
    assert!(refusal(&dir, &["--snapsot"]).contains("unknown flag --snapsot"));
}
