//! What is in the package, and what Debian's own checker thinks of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::build::Packages;
use crate::support::shipped::shipped;

/// Runs a program that must succeed; what it prints.
pub(crate) fn must(program: &str, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        status.success(),
        "{program} {args:?}: {}\n{}",
        text(&stdout),
        text(&stderr)
    );
    text(&stdout)
}

/// Where an administrator's file is in a package.
fn packaged(target: &str) -> String {
    if target.starts_with("/etc/default/") {
        return target.to_owned();
    }
    match target.strip_prefix("/etc/systemd/system/docker.service.d/") {
        Some(name) => format!("/usr/share/rflannel/docker.service.d/{name}"),
        None => target.replace("/etc/", "/usr/lib/"),
    }
}

pub(crate) fn listed(deb: &Path) -> BTreeSet<String> {
    let list = must("dpkg-deb", &["--contents", deb.to_str().unwrap()]);
    let names = list.lines().filter_map(|line| line.split(" ./").nth(1));
    names
        .map(|name| format!("/{}", name.split(" -> ").next().unwrap_or(name)))
        .collect()
}

/// One package for all that is asked of it: packing takes longer than the questions.
#[test]
fn a_package_is_whole_clean_and_the_same_when_made_again() {
    let packages = [Packages::new(), Packages::new()];
    let [deb, again] = packages.each_ref().map(|packages| packages.make("1.0-1"));
    // The same input, the same bytes.
    assert!(std::fs::read(&deb).unwrap() == std::fs::read(again).unwrap());
    all_shipped_files_are_in(&deb);
    licenses_of_all_linked_crates_are_in(&deb);
    lintian_has_nothing_to_say(&deb);
}

fn all_shipped_files_are_in(deb: &Path) {
    let files = listed(deb);
    let shipped = shipped().into_iter().map(|file| packaged(&file.target));
    let more = [
        "/usr/bin/flanneld",
        "/usr/bin/rflannel",
        "/usr/bin/mk-docker-opts.sh",
        "/usr/libexec/flannel/mk-docker-opts.sh",
        "/usr/share/man/man8/flanneld.8.gz",
        "/usr/share/man/man1/rflannel.1.gz",
        "/usr/share/bash-completion/completions/flanneld",
        "/usr/share/zsh/vendor-completions/_rflannel",
        "/usr/share/fish/vendor_completions.d/rflannel.fish",
        "/usr/share/doc/rflannel/copyright",
        "/usr/share/doc/rflannel/changelog.gz",
        "/usr/share/doc/rflannel/changelog.Debian.gz",
        "/usr/share/doc/rflannel/docs/guides/install.md",
    ];
    for path in shipped.chain(more.map(str::to_owned)) {
        assert!(files.contains(&path), "{path}: {files:#?}");
    }
    let field = |name| must("dpkg-deb", &["--field", deb.to_str().unwrap(), name]);
    assert!(field("Depends").contains("libc6"), "{}", field("Depends"));
    assert_eq!(
        [field("Conflicts"), field("Provides")],
        ["flannel", "flannel"]
    );
}

/// Every crate that the programs are linked from.
fn licenses_of_all_linked_crates_are_in(deb: &Path) {
    let file = "./usr/share/doc/rflannel/third-party-licenses.gz";
    let unpacked = format!(
        "dpkg-deb --fsys-tarfile {} | tar -xO {file} | gunzip",
        deb.display()
    );
    assert_has_all_licenses(&must("sh", &["-c", &unpacked]));
}

/// Compares with the normal dependency tree.
pub(crate) fn assert_has_all_licenses(text: &str) {
    let args = [
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}",
    ];
    let tree = must(
        "cargo",
        &[
            &args[..],
            &[
                "--manifest-path",
                concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
                "--package",
                "rflannel",
            ],
        ]
        .concat(),
    );
    // What has a path is of this workspace.
    let crates: BTreeSet<String> = tree
        .lines()
        .filter(|line| !line.contains(" (/"))
        .map(|line| line.split(" (").next().unwrap().replacen(" v", " ", 1))
        .collect();
    assert!(crates.len() > 100, "{crates:?}");
    let (list, texts) = text.split_once("\n====").unwrap();
    // Lists of names are wrapped.
    let texts = texts.split_whitespace().collect::<Vec<_>>().join(" ");
    for name in &crates {
        assert!(
            list.contains(&format!("\n{name}  ")),
            "{name} is not listed"
        );
        assert!(texts.contains(name), "{name} has no text");
    }
}

/// What is not clean has its reason in `packaging/debian/lintian-overrides`. Texts of a program lie side by side, in an order that
/// changes with each build, and the end of one and the beginning of the next may look like a misspelled word.
fn lintian_has_nothing_to_say(deb: &Path) {
    let said = must(
        "lintian",
        &[
            "--allow-root",
            "--display-info",
            "--fail-on",
            "error,warning,info",
            "--suppress-tags",
            "spelling-error-in-binary",
            deb.to_str().unwrap(),
        ],
    );
    assert_eq!(said, "");
}
