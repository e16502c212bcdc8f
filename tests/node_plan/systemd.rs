//! Units for older versions of systemd. Those versions cannot be started here, so a parser that knows only what such a version
//! knows reads the units, and refuses the rest. The lists in `systemd/` come from systemd's own sources.

use std::collections::BTreeSet;
use std::fs;

use node_setup::unit::Unit;
use node_setup::{FileKind, Host, Plan};

use super::{combinations, packaged, planned};

/// The versions that there are lists and goldens of.
pub(super) const VERSIONS: [u16; 6] = [219, 229, 237, 245, 252, 256];

/// What one version of systemd knows.
struct Known {
    version: u16,
    /// `Section.Directive`, and `@group` for groups of system calls.
    names: BTreeSet<String>,
}

impl Known {
    fn of(version: u16) -> Self {
        let path = format!(
            "{}/tests/node_plan/systemd/{version}.txt",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = fs::read_to_string(path).unwrap();
        let names = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace);
        let names = names.map(str::to_owned).collect();
        Self { version, names }
    }

    /// Everything in the text that this version would ignore, or read differently than meant.
    fn complaints(&self, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut section = String::new();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = name.to_owned();
                continue;
            }
            match line.split_once('=') {
                None => complaints.push(format!("no assignment: {line}")),
                Some((key, _)) if !self.names.contains(&format!("{section}.{key}")) => {
                    complaints.push(format!("{section}.{key}"));
                }
                Some((key, value)) => complaints.extend(self.value(key, value)),
            }
        }
        complaints
    }

    fn value(&self, key: &str, value: &str) -> Option<String> {
        let since = |version: u16| self.version < version;
        let unknown = match key {
            "SystemCallFilter" => {
                let mut words = value.trim_start_matches('~').split_whitespace();
                words.any(|word| word.starts_with('@') && !self.names.contains(word))
            }
            "TimeoutStartSec" | "TimeoutSec" => value == "infinity" && since(229),
            "ProtectSystem" => value == "strict" && since(232),
            key if key.starts_with("Exec") => value.starts_with(['+', '!']) && since(231),
            _ => false,
        };
        unknown.then(|| format!("{key}={value}"))
    }
}

/// Names and texts of the units and drop-ins in a plan.
fn units(plan: &Plan) -> impl Iterator<Item = (String, &str)> {
    let ours = plan
        .files
        .iter()
        .filter(|file| matches!(file.kind, FileKind::Unit | FileKind::DropIn));
    ours.map(|file| (file.path.display().to_string(), file.content.as_str()))
}

/// Every plan in recommended style for one version of systemd, with what it is called.
fn plans(version: &str) -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for (release, runtime) in combinations() {
        for host in [packaged("/usr/bin/dockerd"), Host::default()] {
            let more = [
                ("kubernetes-version", release),
                ("runtime", runtime),
                ("systemd-version", version),
                ("docker-wait", "true"),
            ];
            if let Ok(plan) = planned(&more, &host) {
                plans.push((format!("{release} {runtime}"), plan));
            }
        }
    }
    plans
}

#[test]
fn old_systemd_meets_no_unknown_directive() {
    for version in VERSIONS {
        let known = Known::of(version);
        let plans = plans(&version.to_string());
        assert!(plans.len() > 20, "{}", plans.len());
        for (name, plan) in &plans {
            for (path, text) in units(plan) {
                assert_eq!(
                    known.complaints(text),
                    [""; 0],
                    "systemd {version}, {name}: {path}"
                );
            }
        }
    }
}

#[test]
fn document_units_suit_every_systemd() {
    let plan = planned(&[("style", "document")], &Host::default()).unwrap();
    for (path, text) in units(&plan) {
        assert_eq!(Known::of(219).complaints(text), [""; 0], "{path}");
    }
}

/// A parser that never refuses protects nothing.
#[test]
fn strict_parser_refuses_the_shipped_unit_where_it_is_too_new() {
    let shipped = include_str!("../../systemd/flanneld.service");
    let complaints = |version: u16| Known::of(version).complaints(shipped);
    let old = complaints(219);
    for want in [
        "Unit.StartLimitIntervalSec",
        "Service.StateDirectory",
        "TimeoutStartSec=infinity",
        "ExecStartPre=+/usr/bin/touch /run/xtables.lock",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "ProtectSystem=strict",
    ] {
        assert!(old.iter().any(|line| line == want), "{want}: {old:?}");
    }
    assert_eq!(
        complaints(237)
            .iter()
            .filter(|line| line.starts_with("SystemCallFilter"))
            .count(),
        1
    );
    assert_eq!(complaints(252), [""; 0]);
    assert_eq!(
        Known::of(256).complaints("[Service]\nTypo=1\nno assignment\n"),
        ["Service.Typo", "no assignment: no assignment"]
    );
}

/// `0` and `infinity`, a limit that is off, directories that stay: what an older unit has instead.
#[test]
fn older_units_keep_what_matters() {
    let flanneld = |version: &str| {
        let plan = planned(&[("systemd-version", version)], &Host::default()).unwrap();
        let unit = plan
            .files
            .iter()
            .find(|file| file.path.ends_with("flanneld.service"))
            .unwrap();
        let tmpfiles = plan
            .files
            .iter()
            .find(|file| file.path.ends_with("tmpfiles.d/flannel.conf"))
            .unwrap();
        (Unit::parse(&unit.content), tmpfiles.content.clone())
    };
    let (unit, tmpfiles) = flanneld("219");
    assert_eq!(unit.values("Service", "TimeoutStartSec"), ["0"]);
    assert_eq!(unit.values("Service", "StartLimitInterval"), ["0"]);
    assert_eq!(unit.values("Service", "Restart"), ["always"]);
    assert_eq!(unit.values("Service", "ProtectSystem"), ["full"]);
    assert_eq!(
        unit.values("Service", "RuntimeDirectory"),
        [""; 0],
        "it would be removed at each stop"
    );
    let prepared = unit.values("Service", "ExecStartPre");
    assert!(
        prepared.contains(&"/bin/mkdir -p -m 0755 /run/flannel".to_owned()),
        "{prepared:?}"
    );
    assert!(
        prepared.contains(&"/bin/mkdir -p -m 0700 /var/lib/flannel".to_owned()),
        "{prepared:?}"
    );
    assert!(
        tmpfiles.contains("d /run/flannel 0755 ") && tmpfiles.contains("d /var/lib/flannel 0700 ")
    );
    let (unit, _) = flanneld("234");
    let writable = unit.values("Service", "ReadWritePaths").join(" ");
    assert_eq!(unit.values("Service", "ProtectSystem"), ["strict"]);
    assert!(
        writable.contains("/run/flannel") && writable.contains("/var/lib/flannel"),
        "{writable}"
    );
    let (unit, tmpfiles) = flanneld("237");
    assert_eq!(unit.values("Service", "StateDirectory"), ["flannel"]);
    assert_eq!(unit.values("Service", "SystemCallFilter"), [""; 0]);
    assert_eq!(unit.values("Service", "TimeoutStartSec"), ["infinity"]);
    assert!(!tmpfiles.contains("/var/lib/flannel"));
}

/// The plan is for the host's systemd unless a setting names another one.
#[test]
fn hosts_own_version_decides_unless_a_setting_does() {
    let unit = |more: &[(&str, &str)], systemd: Option<u16>| {
        let plan = planned(
            more,
            &Host {
                systemd,
                ..Host::default()
            },
        )?;
        let unit = plan
            .files
            .iter()
            .find(|file| file.path.ends_with("flanneld.service"))
            .unwrap();
        Ok::<_, node_setup::Error>((
            unit.content.clone(),
            plan.warnings.iter().any(|one| one.id == "systemd-version"),
        ))
    };
    let newest = unit(&[], None).unwrap();
    assert_eq!(unit(&[], Some(252)).unwrap(), newest);
    assert_eq!(
        unit(&[("systemd-version", "252")], Some(219)).unwrap(),
        newest
    );
    assert!(!newest.1);
    let old = unit(&[], Some(219)).unwrap();
    assert_ne!(old.0, newest.0);
    assert!(
        old.1,
        "the reader of the plan learns that the unit is a weaker one"
    );
    assert_eq!(unit(&[("systemd-version", "219.x-42")], None).unwrap(), old);
    let error = unit(&[], Some(215)).unwrap_err().to_string();
    assert!(
        error.starts_with("systemd-version: ") && error.contains("215"),
        "{error}"
    );
    assert!(
        unit(&[("style", "document")], Some(215)).is_ok(),
        "the document's units have nothing newer"
    );
}
