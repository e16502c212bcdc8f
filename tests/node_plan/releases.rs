//! Command lines and configuration files against the table of releases.

use std::collections::BTreeSet;

use node_setup::argv::{Word, decode};
use node_setup::explain::explain;
use node_setup::unit::Unit;
use node_setup::versions::{KubeVersion, Program};
use node_setup::{Effect, Host, Plan};

use super::{packaged, planned};

/// The arguments in a program's unit.
fn arguments(plan: &Plan, program: Program) -> Vec<String> {
    let name = format!("{}.service", program.name());
    let file = plan
        .files
        .iter()
        .find(|file| file.path.ends_with(&name))
        .unwrap();
    let line = Unit::parse(&file.content)
        .values("Service", "ExecStart")
        .pop()
        .unwrap();
    decode(&line)
        .iter()
        .skip(1)
        .filter_map(Word::literal)
        .map(str::to_owned)
        .collect()
}

/// Paths of all values in a YAML managed file.
fn fields(yaml: &str) -> BTreeSet<String> {
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut found = BTreeSet::new();
    for line in yaml
        .lines()
        .filter(|line| !line.trim_start().starts_with("- "))
    {
        let indent = line.len() - line.trim_start().len();
        let (name, value) = line.trim_start().split_once(':').unwrap();
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, name.to_owned()));
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        let nested = value.is_empty() && name != "clusterDNS";
        if !nested && !["apiVersion", "kind"].contains(&name) {
            // The names of gates are values.
            let gate = names.first() == Some(&"featureGates");
            found.insert(if gate {
                "featureGates".into()
            } else {
                names.join(".")
            });
        }
    }
    found
}

fn all_plans() -> impl Iterator<Item = (KubeVersion, Plan)> {
    let releases = KubeVersion::OLDEST.0..=KubeVersion::NEWEST.0 + 2;
    let every = releases.flat_map(|minor| ["docker", "containerd"].map(|runtime| (minor, runtime)));
    every.filter_map(|(minor, runtime)| {
        let version = format!("1.{minor}");
        let more = [
            ("kubernetes-version", version.as_str()),
            ("runtime", runtime),
            // 1.6 has no such thing.
            (
                "server-tls-bootstrap",
                if minor > 6 { "true" } else { "false" },
            ),
        ];
        Some((
            KubeVersion(minor),
            planned(&more, &packaged("/usr/bin/dockerd")).ok()?,
        ))
    })
}

#[test]
fn no_release_meets_a_flag_that_it_does_not_know() {
    let mut seen = 0;
    for (version, plan) in all_plans() {
        for program in Program::ALL {
            let args = arguments(&plan, program);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            program.check(&args, version).unwrap();
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
    let document = planned(
        &[("style", "document"), ("kubernetes-version", "1.9")],
        &Host::default(),
    )
    .unwrap();
    let args = arguments(&document, Program::Kubelet);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Program::Kubelet.check(&args, KubeVersion(9)).unwrap();
    assert!(Program::Kubelet.check(&args, KubeVersion(10)).is_err());
}

/// A program ignores a field that it does not know: no one would notice.
#[test]
fn no_release_meets_a_field_that_it_does_not_know() {
    for (version, plan) in all_plans().filter(|(version, _)| *version >= KubeVersion::FILES) {
        for program in Program::ALL {
            let name = format!("{}.yaml", program.name());
            let file = plan
                .files
                .iter()
                .find(|file| file.path.ends_with(&name))
                .unwrap();
            let known: BTreeSet<String> = program
                .flags()
                .iter()
                .filter_map(|flag| flag.field(version))
                .map(str::to_owned)
                .collect();
            let found = fields(&file.content);
            assert!(
                found.is_subset(&known),
                "{version}: {:?}",
                found.difference(&known)
            );
            assert!(found.len() >= 5, "{found:?}");
        }
    }
}

#[test]
fn the_same_name_and_network_reach_everybody() {
    for (_, plan) in all_plans() {
        let count = |text: &str| {
            plan.files
                .iter()
                .filter(|file| file.content.contains(text))
                .count()
        };
        assert_eq!(
            count("10.254.0.0/16"),
            0,
            "the network of the services is not a cluster-cidr"
        );
        assert_eq!(count("172.30.0.0/16"), 1, "kube-proxy's");
        assert!(
            plan.next_steps
                .iter()
                .any(|line| line.contains("172.30.0.0/16")),
            "etcd's"
        );
        assert!(count("10.64.3.7") >= 2);
    }
}

#[test]
fn everything_in_a_plan_can_be_explained() {
    let document = planned(&[("style", "document")], &Host::default()).unwrap();
    let plans = all_plans().map(|(_, plan)| plan).chain([document]);
    for plan in plans {
        for file in &plan.files {
            let path = file.path.to_str().unwrap();
            assert!(explain(path).is_some(), "{path}");
        }
        for warning in &plan.warnings {
            assert!(explain(warning.id).is_some(), "{}", warning.id);
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let error = |more: &[(&str, &str)]| planned(more, &Host::default()).unwrap_err().to_string();
    let old = ("kubernetes-version", "1.16");
    assert!(
        error(&[
            old,
            ("runtime", "containerd"),
            ("containerd-version", "2.1")
        ])
        .contains("use 1.7")
    );
    assert!(error(&[old, ("runtime", "containerd"), ("pod-network", "bip")]).contains("use cni"));
    assert!(error(&[old, ("proxy-mode", "nftables")]).contains("since 1.31"));
    assert!(error(&[old, ("style", "document")]).contains("use recommended"));
    assert!(error(&[("style", "document"), ("runtime", "containerd")]).contains("use recommended"));
}

/// The content of the file whose path ends like this.
fn content<'a>(plan: &'a Plan, end: &str) -> Option<&'a str> {
    plan.files
        .iter()
        .find(|file| file.path.ends_with(end))
        .map(|file| file.content.as_str())
}

#[test]
fn cni_file_has_the_name_that_the_kubelet_reads() {
    let plan = |release| {
        planned(
            &[("kubernetes-version", release), ("pod-network", "cni")],
            &Host::default(),
        )
        .unwrap()
    };
    let old = plan("1.6");
    assert_eq!(
        content(&old, "10-flannel.conflist"),
        None,
        "1.6 reads only .conf and .json"
    );
    let json: serde_json::Value =
        serde_json::from_str(content(&old, "10-flannel.conf").unwrap()).unwrap();
    assert_eq!(
        (json["type"].as_str(), json["plugins"].is_null()),
        (Some("flannel"), true)
    );
    assert_eq!(json["delegate"]["isDefaultGateway"], true);
    let new = plan("1.7");
    assert!(
        content(&new, "10-flannel.conflist").is_some()
            && content(&new, "10-flannel.conf").is_none()
    );
}

#[test]
fn server_tls_bootstrap_sets_its_gate_where_it_is_off() {
    let plan = |minor: u16, style: &str| {
        let release = format!("1.{minor}");
        let more = [
            ("kubernetes-version", release.as_str()),
            ("server-tls-bootstrap", "true"),
            ("style", style),
        ];
        planned(&more, &Host::default())
    };
    let refused = plan(6, "recommended").unwrap_err().to_string();
    assert!(
        refused.starts_with("server-tls-bootstrap: ") && refused.contains("1.7"),
        "{refused}"
    );
    assert!(plan(6, "document").is_err());
    let gate = "--feature-gates=RotateKubeletServerCertificate=true";
    for (minor, style) in [
        (7, "recommended"),
        (9, "recommended"),
        (7, "document"),
        (9, "document"),
    ] {
        let args = arguments(&plan(minor, style).unwrap(), Program::Kubelet);
        assert!(
            args.iter().any(|arg| arg == gate),
            "1.{minor} {style}: {args:?}"
        );
    }
    for (minor, gated) in [(10, true), (11, true), (12, false), (35, false)] {
        let plan = plan(minor, "recommended").unwrap();
        let file = content(&plan, "kubelet.yaml").unwrap();
        assert_eq!(
            file.contains("featureGates:\n  RotateKubeletServerCertificate: true\n"),
            gated,
            "1.{minor}"
        );
        assert_eq!(
            file.contains("serverTLSBootstrap: true\n"),
            minor >= 11,
            "1.{minor}"
        );
    }
}

#[test]
fn ipvs_sets_its_gate_or_is_refused() {
    let plan = |release: &str, style: &str| {
        planned(
            &[
                ("kubernetes-version", release),
                ("proxy-mode", "ipvs"),
                ("style", style),
            ],
            &Host::default(),
        )
    };
    for release in ["1.6", "1.7"] {
        let error = plan(release, "recommended").unwrap_err().to_string();
        assert!(
            error.starts_with("proxy-mode: ") && error.contains("1.8"),
            "{error}"
        );
    }
    let args =
        |release: &str, style: &str| arguments(&plan(release, style).unwrap(), Program::KubeProxy);
    for (release, style, gated) in [
        ("1.8", "recommended", true),
        ("1.9", "recommended", true),
        ("1.9", "document", true),
    ] {
        let args = args(release, style);
        assert!(
            args.contains(&"--proxy-mode=ipvs".to_owned()),
            "{release} {style}: {args:?}"
        );
        assert_eq!(
            args.contains(&"--feature-gates=SupportIPVSProxyMode=true".to_owned()),
            gated,
            "{args:?}"
        );
    }
    let file = plan("1.10", "recommended").unwrap();
    let file = content(&file, "kube-proxy.yaml").unwrap();
    assert!(
        file.contains("mode: ipvs\n") && !file.contains("featureGates"),
        "{file}"
    );
}

/// The error about these settings.
fn refusal(more: &[(&str, &str)]) -> String {
    planned(more, &Host::default())
        .map(|_| "a plan".to_owned())
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn containerd_too_old_for_its_work_is_refused() {
    let error = |kubernetes: &str, containerd: &str, mirrors: &str| {
        let settings = [
            ("kubernetes-version", kubernetes),
            ("runtime", "containerd"),
            ("containerd-version", containerd),
            ("registry-mirrors", mirrors),
        ];
        refusal(if mirrors.is_empty() {
            &settings[..3]
        } else {
            &settings
        })
    };
    assert!(
        error("1.16", "1.2", "").contains("version = 2"),
        "{}",
        error("1.16", "1.2", "")
    );
    assert!(
        error("1.26", "1.5", "").contains("CRI v1"),
        "{}",
        error("1.26", "1.5", "")
    );
    assert!(error("1.25", "1.4", "https://m.example").contains("1.5"));
    for (kubernetes, containerd, mirrors) in [
        ("1.16", "1.3", ""),
        ("1.25", "1.5", ""),
        ("1.25", "1.5", "https://m.example"),
        ("1.26", "1.6", ""),
    ] {
        assert_eq!(error(kubernetes, containerd, mirrors), "a plan");
    }
}

/// Before version 243 systemd-sysctl takes a dash for a part of the name.
#[test]
fn sysctl_file_is_read_by_every_systemd() {
    let plan = planned(&[], &Host::default()).unwrap();
    let lines: Vec<&str> = content(&plan, "99-flannel.conf").unwrap().lines().collect();
    assert!(
        lines.contains(&"net.bridge.bridge-nf-call-iptables = 1"),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.starts_with('-')), "{lines:?}");
}

/// Hosts whose directories have not been merged have it below `/lib`.
#[test]
fn systemd_sysctl_is_run_from_where_the_host_has_it() {
    for (split_usr, want) in [
        (false, "/usr/lib/systemd/systemd-sysctl"),
        (true, "/lib/systemd/systemd-sysctl"),
    ] {
        let plan = planned(
            &[],
            &Host {
                split_usr,
                ..Host::default()
            },
        )
        .unwrap();
        let file = plan
            .files
            .iter()
            .find(|file| file.path.ends_with("99-flannel.conf"))
            .unwrap();
        let Effect::Run(command) = file.effect else {
            panic!("{:?}", file.effect)
        };
        assert_eq!(command, [want, "/etc/sysctl.d/99-flannel.conf"]);
    }
}

#[test]
fn pause_image_is_the_releases_own() {
    let rows = [
        (6, "gcr.io/google_containers/pause-amd64:3.0"),
        (9, "gcr.io/google_containers/pause-amd64:3.0"),
        (10, "gcr.io/google_containers/pause-amd64:3.1"),
        (11, "gcr.io/google_containers/pause-amd64:3.1"),
        (12, "k8s.gcr.io/pause:3.1"),
        (18, "k8s.gcr.io/pause:3.1"),
        (20, "k8s.gcr.io/pause:3.2"),
        (21, "k8s.gcr.io/pause:3.4.1"),
        (22, "k8s.gcr.io/pause:3.5"),
        (24, "k8s.gcr.io/pause:3.6"),
        (25, "registry.k8s.io/pause:3.8"),
        (26, "registry.k8s.io/pause:3.9"),
        (30, "registry.k8s.io/pause:3.9"),
        (31, "registry.k8s.io/pause:3.10"),
        (33, "registry.k8s.io/pause:3.10"),
        (34, "registry.k8s.io/pause:3.10.1"),
        (35, "registry.k8s.io/pause:3.10.1"),
        (36, "registry.k8s.io/pause:3.10.2"),
    ];
    for (minor, image) in rows {
        let plan = planned(
            &[("kubernetes-version", &format!("1.{minor}"))],
            &Host::default(),
        )
        .unwrap();
        let line = format!("pause-image = \"{image}\"\n");
        assert!(
            plan.settings.contains(&line),
            "1.{minor}: {}",
            plan.settings
        );
    }
}

#[test]
fn docker_28_is_warned_about_in_two_patch_releases() {
    let warned = |docker: &str| {
        let more = [("kubernetes-version", "1.23"), ("docker-version", docker)];
        planned(&more, &Host::default())
            .unwrap()
            .warnings
            .iter()
            .any(|warning| warning.id == "docker-28.0")
    };
    let of: Vec<bool> = [
        "28.0", "28.0.0", "28.0.1", "28.0.2", "28.0.4", "28.1", "27.5.1",
    ]
    .map(warned)
    .to_vec();
    assert_eq!(
        of,
        [true, true, true, false, false, false, false],
        "28.0 may be either"
    );
}
