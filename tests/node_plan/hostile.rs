//! Hostile words through a real service manager, and the generated command through a real etcd.

use lab::{Lab, LabOptions};
use node_setup::argv::{Word, encode};
use node_setup::{Model, etcd_config};

use node_setup::settings::Value;
use node_setup::unit::Unit;
use node_setup::{FileKind, Plan, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::support::systemd_host::{File, SystemdHost};
use super::{packaged, settings};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Appends its arguments, each with a zero at its end, and one more zero.
const WITNESS: &str = "#!/bin/sh\nprintf '%s\\0' \"$@\" >>/run/words\nprintf '\\0' >>/run/words\n";

/// What people and attackers write, and what chance makes of the same characters.
fn lines_of_words() -> Vec<Vec<String>> {
    let known = [
        "",
        " ",
        "a b",
        "-",
        "--",
        "a=b",
        "a, b",
        "%",
        "%%",
        "%n",
        "%y",
        "50%",
        "$",
        "$$",
        "$HOME",
        "${HOME}",
        "$(reboot)",
        "`id`",
        "\"",
        "'",
        "\"open",
        "it's",
        "\\",
        "end\\",
        "\\n",
        "\\x41",
        "\\q",
        "[Install]",
        "#",
        ";",
        "b;c",
        "&&",
        "|",
        "é",
        "\u{1f600}",
        "{\"k\":\"v\"}",
        "~",
        "*",
        "@x",
        "!x",
        ":x",
        "+x",
        "<",
        "x\\\\y",
        "'a' \"b\"",
        "\\$A",
        "$A-$B",
        "%%n",
    ];
    let strategy = r#"[ ;#"'\\$%{}A-Z0-9é=-]{1,14}"#;
    let mut runner = TestRunner::deterministic();
    let chance = (0..150).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    let words: Vec<String> = known
        .iter()
        .map(ToString::to_string)
        .chain(chance)
        .collect();
    words.chunks(5).map(<[String]>::to_vec).collect()
}

fn unit(lines: &[Vec<String>]) -> String {
    let start = |words: &Vec<String>| {
        let words: Vec<Word> = words.iter().map(Word::from).collect();
        format!(
            "ExecStart={}\n",
            encode("/usr/local/bin/witness %", &words).unwrap()
        )
    };
    let starts: String = lines.iter().map(start).collect();
    format!(
        "[Service]\nType=oneshot\nEnvironment=A=leaked HOME=leaked X=leaked\n{starts}[Install]\nWantedBy=multi-user.target\n"
    )
}

/// What must not depend on values: keys of units, lines of YAML, members of JSON, by file.
fn shape(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let units = plan
        .files
        .iter()
        .filter(|file| matches!(file.kind, FileKind::Unit | FileKind::DropIn));
    let keys = |text: &str| {
        Unit::parse(text)
            .entries()
            .map(|(section, key, _)| format!("{section} {key}"))
            .collect()
    };
    let units = units.map(|file| (file.path.display().to_string(), keys(&file.content)));
    let yaml = plan
        .files
        .iter()
        .filter(|file| file.path.extension().is_some_and(|end| end == "yaml"));
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let yaml = yaml.map(|file| {
        (
            file.path.display().to_string(),
            file.content.lines().map(name).collect(),
        )
    });
    let shape = units
        .chain(yaml)
        .map(|(path, keys)| (path.rsplit('/').next().unwrap().to_owned(), keys));
    shape.collect()
}

/// A plan with one setting said in this way, on a host with packages; containerd or docker.
fn with(name: &str, value: &str, docker: bool) -> Option<Plan> {
    let runtime = if docker { "docker" } else { "containerd" };
    let mut all = settings(&[("kubernetes-version", "1.28"), ("runtime", runtime)]).unwrap();
    if !name.is_empty() {
        all.set(name, Value::Text(value.into())).ok()?;
    }
    plan(&Model::new(all).ok()?, &packaged("/usr/bin/dockerd")).ok()
}

/// Settings that take any text, or any path.
const FREE: [&str; 12] = [
    "bin-dir",
    "kubernetes-dir",
    "ssl-dir",
    "etcd-prefix",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "etcd-endpoints",
    "flannel-options",
    "pause-image",
    "client-ca-file",
    "bootstrap-user",
];

#[test]
fn hostile_values_get_as_far_as_the_units() {
    let plan = with("bin-dir", "/a \"b\" %n;#'", true).unwrap();
    let text = |end: &str| {
        &plan
            .files
            .iter()
            .find(|file| file.path.ends_with(end))
            .unwrap()
            .content
    };
    assert!(text("kubelet.service").contains("ExecStart=\"/a \\\"b\\\" %%n;#'/kubelet\" \\\n"));
    let image = with("pause-image", "$A: {x} #y\"", true).unwrap();
    let unit = image
        .files
        .iter()
        .find(|file| file.path.ends_with("cri-docker.service"))
        .unwrap();
    assert!(
        unit.content
            .contains("\"--pod-infra-container-image=$$A: {x} #y\\\"\""),
        "{}",
        unit.content
    );
    assert!(with("bin-dir", "/a\nExecStartPre=/bin/evil", true).is_none());
}

proptest! {
    /// Whatever a value is, it is refused or it is a value: it adds no key, no line and no file's name of its own.
    #[test]
    fn no_value_becomes_anything_else(
        name in prop::sample::select(&FREE[..]),
        value in r#"/[ ;:#"'\\%{}a-z0-9.=\[\]-]{1,16}|/\PC{1,12}|[\n\r -~]{1,12}"#,
        docker: bool,
    ) {
        if let Some(plan) = with(name, &value, docker) {
            prop_assert_eq!(shape(&plan), shape(&with("", "", docker).unwrap()), "{}={:?}", name, value);
            for file in plan.files.iter().filter(|file| file.path.extension().is_some_and(|end| end == "json")) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&file.content).is_ok());
            }
        }
    }
}

#[test]
fn systemd_passes_on_exactly_what_was_meant() {
    let lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    let lines = lines_of_words();
    let files: [File; 2] = [
        ("/usr/local/bin/witness %".into(), WITNESS.into(), 0o755),
        (
            "/etc/systemd/system/hostile.service".into(),
            unit(&lines).into(),
            0o644,
        ),
    ];
    let host = SystemdHost::boot(&lab, "argv", "10.64.0.98", &files, &["hostile.service"]).unwrap();
    host.wait(
        "systemctl show --value -p ExecMainExitTimestampMonotonic,ActiveState hostile",
        |state| state.contains("inactive") && !state.ends_with("\n0") && !state.starts_with("0\n"),
    );
    assert_eq!(host.property("hostile", "Result"), "success");
    let text = String::from_utf8(host.run("cat /run/words").stdout).unwrap();
    let want: String = lines
        .iter()
        .map(|words| {
            words
                .iter()
                .map(|word| format!("{word}\0"))
                .collect::<String>()
                + "\0"
        })
        .collect();
    assert!(lines.len() >= 30);
    assert_eq!(text, want);
}

#[test]
fn etcd_takes_the_configuration_once() {
    let mut lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    lab.start_etcd().unwrap();
    lab.add_hosts(1).unwrap();
    lab.etcd().unwrap().wait_healthy().unwrap();
    let endpoints = lab.etcd().unwrap().endpoints();
    let run = |len: u8| {
        let config = format!(
            "{{\"Network\":\"172.30.0.0/16\",\"SubnetLen\":{len},\"Backend\":{{\"Type\":\"vxlan\"}}}}"
        );
        let more = [
            ("etcd-endpoints", &*endpoints),
            ("etcd-cafile", "/run/pki/ca.pem"),
            ("etcd-certfile", "/run/pki/client.pem"),
            ("etcd-keyfile", "/run/pki/client-key.pem"),
            ("network-config", &*config),
        ];
        let model = Model::new(settings(&more).unwrap()).unwrap();
        let output = lab
            .host(1)
            .run(["sh", "-c", &etcd_config::command(&model)])
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (told, config)
    };
    let (first, config) = run(24);
    assert!(first.contains("SUCCESS"), "{first}");
    let (second, _) = run(25);
    assert!(
        second.contains("FAILURE") && second.contains(&config),
        "shows what is there: {second}"
    );
}
