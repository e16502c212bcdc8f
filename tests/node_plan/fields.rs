//! Configuration files against the fields of each release's types. The programs start with unknown and duplicate fields and only
//! log them, so a misspelt field would go unnoticed.
//!
//! `fields/` has the lists for 1.12 to 1.36. The repositories that they come from begin with 1.12: 1.10 and 1.11 are read with
//! that list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use node_setup::Host;
use node_setup::versions::KubeVersion;
use serde_json::Value;

use super::planned;

const FIRST: u16 = 12;
const FILES: [(&str, &str); 2] = [
    ("kubelet.yaml", "KubeletConfiguration"),
    ("kube-proxy.yaml", "KubeProxyConfiguration"),
];

/// The fields of one release: kind and path.
fn known(version: KubeVersion) -> BTreeSet<String> {
    let release = KubeVersion(version.0.max(FIRST));
    let path = format!(
        "{}/tests/node_plan/fields/{release}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// What the types of a release would refuse in a file of this kind.
fn complaints(text: &str, kind: &str, version: KubeVersion) -> Vec<String> {
    match serde_saphyr::from_str::<Value>(text) {
        Err(error) => vec![error.to_string()],
        Ok(value) => {
            let known = known(version);
            let mut complaints = Vec::new();
            unknown(&value, "", &mut |path| {
                let is_head = ["apiVersion", "kind"].contains(&path);
                let any = path
                    .rsplit_once('.')
                    .map(|(above, _)| format!("{kind} {above}.*"));
                let is_known = known.contains(&format!("{kind} {path}"))
                    || known.contains(&format!("{kind} {path}.*"))
                    || any.is_some_and(|any| known.contains(&any));
                if !is_head && !is_known {
                    complaints.push(path.to_owned());
                }
            });
            complaints.extend((value["kind"] != kind).then(|| format!("kind {}", value["kind"])));
            complaints
        }
    }
}

/// Calls `at` with the path of every field.
fn unknown(value: &Value, above: &str, at: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if above.is_empty() {
                    name.clone()
                } else {
                    format!("{above}.{name}")
                };
                at(&path);
                unknown(value, &path, at);
            }
        }
        Value::Array(items) => {
            items
                .iter()
                .filter(|item| item.is_object())
                .for_each(|item| unknown(item, &format!("{above}[]"), at));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The release that a golden tree is for.
fn release(name: &str) -> KubeVersion {
    let text = match name {
        "containerd-without-package" => KubeVersion::NEWEST.to_string(),
        name if name.starts_with("systemd-") => "1.16".into(),
        name if name.starts_with("docker-") => "1.23".into(),
        name => name.split('-').nth(1).unwrap().to_owned(),
    };
    text.parse().unwrap()
}

#[test]
fn every_golden_file_has_only_fields_of_its_release() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node_plan/golden");
    let mut seen = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let tree = entry.unwrap();
        let name = tree.file_name().into_string().unwrap();
        for (file, kind) in FILES {
            let path = tree.path().join("etc/kubernetes").join(file);
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            assert_eq!(
                complaints(&text, kind, release(&name)),
                [""; 0],
                "{}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn every_release_gets_only_fields_it_has() {
    for minor in KubeVersion::FILES.0..=KubeVersion::NEWEST.0 {
        let version = format!("1.{minor}");
        for mode in ["iptables", "ipvs"] {
            let more = [
                ("kubernetes-version", version.as_str()),
                ("server-tls-bootstrap", "true"),
                ("proxy-mode", mode),
            ];
            let plan = planned(&more, &Host::default()).unwrap();
            for (file, kind) in FILES {
                let text = &plan
                    .files
                    .iter()
                    .find(|one| one.path.ends_with(file))
                    .unwrap()
                    .content;
                assert_eq!(
                    complaints(text, kind, KubeVersion(minor)),
                    [""; 0],
                    "1.{minor} {file}"
                );
            }
        }
    }
}

#[test]
fn there_is_a_list_for_every_release() {
    for minor in FIRST..=KubeVersion::NEWEST.0 {
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/node_plan/fields/1.{minor}.txt"))
                .exists()
        );
        assert!(known(KubeVersion(minor)).len() > 100);
    }
}

/// A check that refuses nothing protects nothing.
#[test]
fn misspelt_early_and_double_fields_are_refused() {
    let complaints =
        |text: &str, minor| complaints(text, "KubeletConfiguration", KubeVersion(minor));
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let with = |text: &str| format!("{head}{text}");
    assert_eq!(
        complaints(
            &with("clusterDNS:\n- \"10.254.0.2\"\nfeatureGates:\n  Any: true\n"),
            36
        ),
        [""; 0]
    );
    assert_eq!(
        complaints(&with("clusterDns:\n- \"10.254.0.2\"\n"), 36),
        ["clusterDns"]
    );
    assert_eq!(
        complaints(
            &with("authentication:\n  x509:\n    clientCaFile: /x\n"),
            36
        ),
        ["authentication.x509.clientCaFile"]
    );
    assert_eq!(
        complaints(&with("containerRuntimeEndpoint: x\n"), 26),
        ["containerRuntimeEndpoint"]
    );
    assert_eq!(
        complaints(&with("containerRuntimeEndpoint: x\n"), 27),
        [""; 0]
    );
    assert_eq!(
        complaints(&with("readOnlyPort: 0\nreadOnlyPort: 0\n"), 36).len(),
        1
    );
    assert_eq!(complaints("kind: KubeProxyConfiguration\n", 36).len(), 1);
}
