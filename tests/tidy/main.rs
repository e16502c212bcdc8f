//! The rules that this repository keeps and no compiler checks: each test reads the sources and names file, line and rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod causes;
mod commands;
mod docs;
mod layers;
mod links;
mod log_lines;
mod source;
mod words;

use std::collections::BTreeSet;
use std::fs;

use source::{Source, mentions};

/// The longest file: beyond it there is usually a second subject.
const LINES: usize = 600;
/// The same for files that hold nothing but tests.
const TEST_LINES: usize = 800;

/// Files that compute and do nothing else. The first line of their docs says so.
const PURE: &[&str] = &[
    "src/admin/bundle.rs",
    "src/admin/validate.rs",
    "src/admin/plan.rs",
    "src/admin/handover.rs",
    "src/admin/liveness.rs",
    "src/admin/lint.rs",
    "src/admin/network.rs",
    "src/admin/redact.rs",
    "src/admin/inventory.rs",
    "src/admin/show.rs",
    "src/admin/lookup.rs",
    "src/backend/alloc.rs",
    "src/backend/endpoint.rs",
    "src/backend/host_gw.rs",
    "src/backend/mod.rs",
    "src/backend/direct_routes.rs",
    "src/backend/vxlan.rs",
    "src/check/diagnose.rs",
    "src/check/render/json.rs",
    "src/check/evidence.rs",
    "src/check/host.rs",
    "src/check/junit.rs",
    "src/check/capture.rs",
    "src/check/paths.rs",
    "src/check/firewall_rules.rs",
    "src/check/target.rs",
    "src/check/render/text.rs",
    "src/check/render/trace.rs",
    "src/check/render/explain.rs",
    "src/cli/completion.rs",
    "src/cli/examples.rs",
    "src/cli/explain.rs",
    "src/cli/flanneld.rs",
    "src/cli/go_flags.rs",
    "src/cli/man/daemon.rs",
    "src/cli/man/markdown.rs",
    "src/cli/man/text.rs",
    "src/cli/man/tool.rs",
    "src/cli/node_setup/show.rs",
    "src/util/table.rs",
    "src/config.rs",
    "src/config/check.rs",
    "src/config/endpoints.rs",
    "src/config/status_endpoints.rs",
    "src/config/pattern.rs",
    "src/docker_opts.rs",
    "src/util/env_file.rs",
    "src/util/family.rs",
    "src/firewall/diff.rs",
    "src/firewall/iptables.rs",
    "src/firewall/nft.rs",
    "src/firewall/notification.rs",
    "src/firewall/rule.rs",
    "src/firewall/sources.rs",
    "src/firewall/desired.rs",
    "src/util/go_lines.rs",
    "src/iface.rs",
    "src/iface/choice.rs",
    "src/iface/in_use.rs",
    "src/kernel/decode.rs",
    "src/kernel/ownership.rs",
    "src/kernel/encode.rs",
    "src/kernel/link.rs",
    "src/kernel/notification.rs",
    "src/kernel/plan.rs",
    "src/kernel/dump_requests.rs",
    "src/kernel/entry.rs",
    "src/node_setup/apply/text_diff.rs",
    "src/node_setup/apply/ledger.rs",
    "src/node_setup/apply/header.rs",
    "src/node_setup/apply/file_state.rs",
    "src/node_setup/apply/drift.rs",
    "src/node_setup/apply/diff.rs",
    "src/node_setup/check/certs.rs",
    "src/node_setup/check/facts.rs",
    "src/node_setup/check/finding.rs",
    "src/node_setup/check/os.rs",
    "src/node_setup/check/kubeconfig.rs",
    "src/node_setup/check/binaries.rs",
    "src/node_setup/check/needs.rs",
    "src/node_setup/check/network.rs",
    "src/node_setup/check/conflicts.rs",
    "src/node_setup/check/forwarding.rs",
    "src/node_setup/check/runtime.rs",
    "src/node_setup/check/tls.rs",
    "src/node_setup/check/units.rs",
    "src/node_setup/argv.rs",
    "src/node_setup/etcd_config.rs",
    "src/node_setup/distribution.rs",
    "src/node_setup/explain/chapters.rs",
    "src/node_setup/explain/mod.rs",
    "src/node_setup/explain/sentences.rs",
    "src/node_setup/model.rs",
    "src/node_setup/model/addresses.rs",
    "src/node_setup/model/check.rs",
    "src/node_setup/model/defaults.rs",
    "src/node_setup/plan.rs",
    "src/node_setup/render/cluster.rs",
    "src/node_setup/render/cni.rs",
    "src/node_setup/render/containerd.rs",
    "src/node_setup/render/cri_dockerd.rs",
    "src/node_setup/render/daemon_flags.rs",
    "src/node_setup/render/daemon_json.rs",
    "src/node_setup/render/docker.rs",
    "src/node_setup/render/dockerd_flags.rs",
    "src/node_setup/render/document.rs",
    "src/node_setup/render/flanneld.rs",
    "src/node_setup/render/host_files.rs",
    "src/node_setup/render/install.rs",
    "src/node_setup/render/kube_proxy.rs",
    "src/node_setup/render/kubelet.rs",
    "src/node_setup/render/mod.rs",
    "src/node_setup/render/notes.rs",
    "src/node_setup/render/shipped.rs",
    "src/node_setup/render/steps.rs",
    "src/node_setup/render/option.rs",
    "src/node_setup/render/yaml.rs",
    "src/node_setup/settings.rs",
    "src/node_setup/settings/distance.rs",
    "src/node_setup/settings/table.rs",
    "src/node_setup/unit.rs",
    "src/node_setup/unit_status.rs",
    "src/node_setup/versions/flags.rs",
    "src/node_setup/versions/mod.rs",
    "src/node_setup/versions/systemd.rs",
    "src/status/summary.rs",
    "src/status/health.rs",
    "src/status/leftovers.rs",
    "src/status/metrics.rs",
    "src/status/peers.rs",
    "src/status/report.rs",
    "src/status/request.rs",
    "src/status/text.rs",
    "src/status/verdict.rs",
    "src/status/probe_stats.rs",
    "src/desired.rs",
    "src/desired/announced.rs",
    "src/desired/entry_table.rs",
    "src/desired/peer_event.rs",
    "src/desired/overlaps.rs",
    "src/desired/protected_addrs.rs",
    "src/desired/view.rs",
    "src/probe/filter.rs",
    "src/probe/packet.rs",
    "src/probe/pmtu.rs",
    "src/util/backoff.rs",
    "src/host_setup.rs",
    "src/state_file.rs",
    "src/resolver/dns.rs",
    "src/resolver/files.rs",
    "src/subnet/alloc.rs",
    "src/subnet/cidr.rs",
    "src/subnet/etcd/address.rs",
    "src/subnet/etcd/tombstones.rs",
    "src/subnet/etcd/error.rs",
    "src/subnet/etcd/renew_period.rs",
    "src/subnet/etcd/timestamp.rs",
    "src/subnet/etcd/key_state.rs",
    "src/subnet/etcd/tls_error.rs",
    "src/subnet/etcd/tls_policy.rs",
    "src/subnet/go_json.rs",
    "src/subnet/host_names.rs",
    "src/subnet/public_addrs.rs",
    "src/subnet/key.rs",
    "src/subnet/owner.rs",
    "src/subnet/net_config.rs",
    "src/subnet/pool.rs",
    "src/subnet/lease_value.rs",
    "src/subnet_env.rs",
    "src/util/histogram.rs",
];

/// What pure files have no use for.
const IMPURE: &[&str] = &[
    "async ",
    "tokio::",
    "rtnetlink::",
    "rand::",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "fs::",
    "env::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixDatagram",
    "SystemTime::now",
    "Instant::now",
    "println!",
];

/// Fails with all complaints at once.
fn assert_tidy(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn sources() -> Vec<Source> {
    let found = Source::below("src", &[".rs"]);
    assert!(
        found.len() > 50,
        "the sources are not where they are looked for"
    );
    found
}

/// Everything that people write, sources or not.
fn written() -> Vec<Source> {
    let dirs = [
        "src",
        "tests",
        "benches",
        "fuzz/fuzz_targets",
        "packaging",
        "scripts",
        "systemd",
        ".ci",
    ];
    let mut found: Vec<_> = dirs
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[""]))
        .filter(|file| !file.path.ends_with(".json"))
        .collect();
    const FILES: [&str; 8] = [
        "Cargo.toml",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deny.toml",
        "clippy.toml",
    ];
    for name in FILES {
        let text = fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR")));
        found.extend(text.map(|text| Source::new(name, &text)));
    }
    found
}

#[test]
fn modules_use_only_what_is_below_them() {
    assert_tidy(
        sources()
            .iter()
            .filter(|file| file.path != "src/lib.rs")
            .flat_map(layers::upward)
            .collect(),
    );
}

#[test]
fn shells_and_decisions_stay_apart() {
    assert_tidy(sources().iter().flat_map(layers::apart).collect());
}

#[test]
fn each_foreign_crate_stays_in_its_home() {
    assert_tidy(sources().iter().flat_map(layers::homes).collect());
}

#[test]
fn pure_files_do_nothing() {
    assert_tidy(sources().iter().flat_map(purity).collect());
    let files: BTreeSet<String> = sources().into_iter().map(|file| file.path).collect();
    assert_tidy(
        PURE.iter()
            .filter(|path| !files.contains(**path))
            .map(|path| format!("{path} is gone"))
            .collect(),
    );
}

fn purity(source: &Source) -> Vec<String> {
    let header = source
        .text
        .lines()
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let claimed = header.contains("pure");
    match PURE.contains(&source.path.as_str()) {
        true if !claimed => {
            vec![source.at(1, "pure, but the first line of its docs does not say so")]
        }
        true => source.without(IMPURE, "not in a file that is pure"),
        false if claimed => vec![source.at(
            1,
            "says that it is pure, and is not in the list of tests/tidy",
        )],
        false => Vec::new(),
    }
}

#[test]
fn files_stay_short_enough_to_be_read() {
    assert_tidy(written().iter().filter_map(too_long).collect());
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let is_test = source.path.starts_with("tests/") || source.path.contains("/tests");
    let most = if is_test { TEST_LINES } else { LINES };
    (lines > most).then(|| {
        source.at(
            lines,
            &format!("{lines} lines are more than {most}: split it"),
        )
    })
}

#[test]
fn every_module_says_what_it_is_for() {
    let rust = written()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"));
    assert_tidy(rust.filter_map(|file| undocumented(&file)).collect());
}

fn undocumented(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| source.at(1, "the first line must say what the module owns (//!)"))
}

#[test]
fn nothing_is_left_for_later_and_nothing_is_of_one_machine() {
    assert_tidy(
        written()
            .iter()
            .filter(|file| !["tests/tidy/main.rs", "clippy.toml"].contains(&file.path.as_str()))
            .flat_map(leftovers)
            .collect(),
    );
}

fn leftovers(source: &Source) -> Vec<String> {
    const WORDS: &[(&str, &str)] = &[
        ("TODO", "do it, or write an issue"),
        ("FIXME", "do it, or write an issue"),
        ("XXX", "do it, or write an issue"),
        ("#[ignore", "a test runs or is deleted"),
        ("/work/", "a path of one machine"),
        (
            "/tmp/",
            "a path that others can write to: make a temporary directory",
        ),
        ("/home/", "a path of one machine"),
    ];
    let found = |line: &str| WORDS.iter().find(|(word, _)| line.contains(word));
    source
        .lines()
        .filter_map(|(number, line)| {
            found(line).map(|(word, why)| source.at(number, &format!("{word}: {why}")))
        })
        .collect()
}

#[test]
fn the_documents_name_tests_that_are_there() {
    let tests: Vec<Source> = ["src", "tests"]
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[".rs"]))
        .collect();
    assert_tidy(
        docs::tables()
            .iter()
            .flat_map(|table| docs::missing(table, &tests))
            .collect(),
    );
}

#[test]
fn every_command_of_the_documents_is_run_or_says_why_not() {
    let tests = Source::below("tests", &[".rs"]);
    let runner = tests
        .iter()
        .find(|file| file.path == "tests/docs/main.rs")
        .unwrap();
    let front = written()
        .into_iter()
        .find(|file| file.path == "README.md")
        .unwrap();
    assert_tidy(commands::complaints(
        &commands::documents(&front),
        runner,
        &tests,
    ));
}

#[test]
fn links_and_paths_of_documents_lead_somewhere() {
    let files = written();
    let mut pages = Source::below("docs", &[".md"]);
    assert!(
        pages.len() > 30,
        "the documents are not where they are looked for"
    );
    assert_tidy(links::unlisted(&pages));
    let contrib = Source::below("contrib", &[".yml", ".json"]);
    let others = files
        .iter()
        .filter(|file| file.path != "tests/tidy/links.rs");
    let others: Vec<Source> = others
        .map(|file| Source::new(&file.path, &file.text))
        .chain(contrib)
        .collect();
    assert_tidy(links::dead_paths(&others));
    pages.extend(
        files
            .into_iter()
            .filter(|file| file.path.ends_with(".md") && !file.path.contains('/')),
    );
    assert_tidy(links::dead_links(&pages));
}

#[test]
fn every_cause_of_check_has_its_row() {
    for (below, page) in [
        ("src/check/", "check-causes.md"),
        ("src/node_setup/check/", "node-setup.md"),
    ] {
        let page = Source::below("docs/reference", &[&format!("/{page}")]).remove(0);
        assert_tidy(causes::complaints(&sources(), below, &page));
    }
}

#[test]
fn every_line_of_the_log_has_its_entry() {
    assert_tidy(log_lines::complaints(&sources()));
}

#[test]
fn banned_words_do_not_come_back() {
    assert_tidy(words::complaints());
}

#[test]
fn every_dependency_is_used() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let all = sources();
    let tests: Vec<_> = ["tests", "benches"]
        .into_iter()
        .flat_map(|dir| Source::below(dir, &[".rs"]))
        .collect();
    assert!(dependencies(&manifest, "dependencies").len() > 10);
    let unused = unused(&manifest, "dependencies", &all).into_iter();
    let everything: Vec<_> = all.into_iter().chain(tests).collect();
    assert_tidy(
        unused
            .chain(self::unused(&manifest, "dev-dependencies", &everything))
            .collect(),
    );
}

fn unused(manifest: &str, section: &str, files: &[Source]) -> Vec<String> {
    let names = |name: &str| {
        files.iter().any(|file| {
            file.lines()
                .any(|(_, line)| mentions(line, &format!("{name}::")))
        })
    };
    let unused = dependencies(manifest, section)
        .into_iter()
        .filter(|name| !names(&name.replace('-', "_")));
    unused
        .map(|name| format!("Cargo.toml: {name} of [{section}] is not used"))
        .collect()
}

fn dependencies<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != format!("[{section}]"))
        .skip(1);
    let lines = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .collect()
}

/// A rule that never fires protects nothing.
#[test]
fn the_rules_bite() {
    let file = |path: &str, text: &str| Source::new(path, text);
    let upward = |path, text| layers::upward(&file(path, text));
    assert_eq!(
        upward("src/desired.rs", "\nuse crate::reconcile::X;").len(),
        1
    );
    assert_eq!(
        upward("src/kernel/plan.rs", "let x = super::super::subnet::f();").len(),
        1
    );
    assert_eq!(upward("src/config.rs", "use super::{app, util};").len(), 2);
    assert_eq!(upward("src/new.rs", "").len(), 1);
    assert_eq!(
        upward(
            "src/desired.rs",
            "use crate::kernel::X;\n#[cfg(test)]\nmod tests { use crate::app; }"
        ),
        [""; 0]
    );
    assert_eq!(
        layers::apart(&file("src/backend/x.rs", "use crate::subnet::etcd::X;")).len(),
        1
    );
    assert_eq!(
        layers::homes(&file("src/desired.rs", "use clap::Arg;")).len(),
        1
    );
    assert_eq!(
        layers::homes(&file("src/cli/x.rs", "use clap::Arg; // etcd_client::")),
        [""; 0]
    );
    assert_eq!(
        purity(&file(
            "src/desired.rs",
            "//! Is pure.\nlet a = std::fs::read();\n// tokio::"
        ))
        .len(),
        1
    );
    assert_eq!(purity(&file("src/desired.rs", "//! Peers.")).len(), 1);
    assert_eq!(purity(&file("src/app.rs", "//! Pure.")).len(), 1);
    assert!(too_long(&file("src/x.rs", &"\n".repeat(LINES + 1))).is_some());
    assert!(undocumented(&file("src/x.rs", "use x;")).is_some());
    assert_eq!(
        leftovers(&file("src/x.rs", "// TODO\n\n#[ignore]\nopen(\"/tmp/x\")")).len(),
        3
    );
    assert_eq!(
        unused(
            "[dependencies]\na-b = 1\nc = 2",
            "dependencies",
            &[file("src/x.rs", "use a_b::C;")]
        )
        .len(),
        1
    );
}
