//! Whole plans as trees of files. `UPDATE_EXPECT=1` writes them instead of comparing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use node_setup::versions::KubeVersion;
use node_setup::{Error, Host, Plan};

use super::systemd::VERSIONS;
use super::{RELEASES, combinations, packaged, planned};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node_plan/golden");

/// Files by path below the golden directory.
type Tree = BTreeMap<PathBuf, String>;

fn tree(plan: Result<Plan, Error>) -> Tree {
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return Tree::from([("refused.txt".into(), format!("{error}\n"))]),
    };
    let below = |path: &Path| path.strip_prefix("/").unwrap().to_path_buf();
    let files = plan
        .files
        .iter()
        .map(|file| (below(&file.path), file.content.clone()));
    files
        .chain([(PathBuf::from("plan.txt"), summary(&plan))])
        .collect()
}

/// All that is no file's content.
fn summary(plan: &Plan) -> String {
    let files = plan.files.iter().map(|file| {
        let path = file.path.display();
        format!(
            "{path} {:04o} {} {:?}",
            file.mode, file.service, file.effect
        )
    });
    let directories = plan
        .directories
        .iter()
        .map(|dir| format!("{} {:04o}", dir.path.display(), dir.mode));
    let units = plan
        .units
        .iter()
        .map(|unit| format!("{} ours={}", unit.name, unit.ours));
    let warnings = plan
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.id, warning.text));
    let parts: [(&str, Vec<String>); 5] = [
        ("files", files.collect()),
        ("directories", directories.collect()),
        ("units", units.collect()),
        ("warnings", warnings.collect()),
        ("next steps", plan.next_steps.clone()),
    ];
    parts
        .into_iter()
        .map(|(name, lines)| format!("== {name}\n{}\n\n", lines.join("\n")))
        .collect()
}

fn on_disk(dir: &Path) -> Tree {
    let mut found = Tree::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf(), text);
            }
        }
    }
    found
}

fn assert_golden(name: &str, plan: Result<Plan, Error>) {
    let (dir, want) = (Path::new(GOLDEN).join(name), tree(plan));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let _ = fs::remove_dir_all(&dir);
        for path in want.keys() {
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        }
    }
    for (path, text) in &want {
        expect_file![dir.join(path)].assert_eq(text);
    }
    let there = on_disk(&dir);
    assert_eq!(
        there.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "{name}"
    );
}

#[test]
fn the_document() {
    let style = [("style", "document"), ("kubernetes-version", "1.6")];
    assert_golden("document-1.6", planned(&style, &Host::default()));
}

#[test]
fn recommended_for_each_release_and_runtime() {
    assert_eq!(
        RELEASES.last(),
        Some(&KubeVersion::NEWEST.to_string().as_str()),
        "the newest one is kept"
    );
    for (release, runtime) in combinations() {
        let more = [("kubernetes-version", release), ("runtime", runtime)];
        assert_golden(
            &format!("recommended-{release}-{runtime}"),
            planned(&more, &packaged("/usr/bin/dockerd")),
        );
    }
}

/// CentOS 7's docker node, but for the version of systemd. From 247 on every directive is known.
#[test]
fn units_for_each_version_of_systemd() {
    for version in VERSIONS {
        let text = version.to_string();
        let more = [
            ("kubernetes-version", "1.16"),
            ("docker-version", "19.3"),
            ("systemd-version", text.as_str()),
        ];
        assert_golden(
            &format!("systemd-{version}"),
            planned(&more, &packaged("/usr/bin/dockerd")),
        );
    }
}

#[test]
fn variants_of_the_wiring() {
    let bip = [
        ("kubernetes-version", "1.23"),
        ("docker-version", "29.1"),
        ("docker-wait", "true"),
    ];
    assert_golden(
        "docker-29-waiting",
        planned(&bip, &packaged("/usr/bin/dockerd")),
    );
    let unpacked = [
        ("kubernetes-version", "1.23"),
        ("docker-version", "28.1"),
        ("registry-mirrors", "https://m.example"),
    ];
    assert_golden(
        "docker-28.1-without-package",
        planned(&unpacked, &Host::default()),
    );
    let containerd = [
        ("registry-mirrors", "https://m.example"),
        ("proxy-mode", "nftables"),
        ("containerd-version", "2.1"),
        ("server-tls-bootstrap", "true"),
    ];
    assert_golden(
        "containerd-without-package",
        planned(&containerd, &Host::default()),
    );
}

/// A plan depends on nothing but settings and host, and its settings make it again.
#[test]
fn a_plan_comes_back_from_its_own_settings() {
    use node_setup::{Model, Settings, plan};
    let host = packaged("/usr/bin/dockerd");
    for (release, runtime) in combinations() {
        let Ok(first) = planned(
            &[("kubernetes-version", release), ("runtime", runtime)],
            &host,
        ) else {
            continue;
        };
        let again = Settings::from_toml(&first.settings).unwrap();
        assert_eq!(
            plan(&Model::new(again).unwrap(), &host).unwrap(),
            first,
            "{release} {runtime}"
        );
    }
}
