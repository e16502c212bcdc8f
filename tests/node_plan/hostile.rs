//! Hostile words through a real service manager, and the generated command through a real etcd.

use rflannel::lab::{Lab, LabOptions};
use rflannel::node_setup::argv::{Word, encode};
use rflannel::node_setup::{Model, etcd_config};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::settings;
use super::support::systemd_host::{File, SystemdHost};

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
    let words: Vec<String> = known.iter().map(ToString::to_string).chain(chance).collect();
    words.chunks(5).map(<[String]>::to_vec).collect()
}

fn unit(lines: &[Vec<String>]) -> String {
    let start = |words: &Vec<String>| {
        let words: Vec<Word> = words.iter().map(Word::from).collect();
        format!("ExecStart={}\n", encode("/usr/local/bin/witness %", &words).unwrap())
    };
    let starts: String = lines.iter().map(start).collect();
    format!(
        "[Service]\nType=oneshot\nEnvironment=A=leaked HOME=leaked X=leaked\n{starts}[Install]\nWantedBy=multi-user.target\n"
    )
}

#[test]
fn systemd_passes_on_exactly_what_was_meant() {
    let lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    let lines = lines_of_words();
    let files: [File; 2] = [
        ("/usr/local/bin/witness %".into(), WITNESS.into(), 0o755),
        ("/etc/systemd/system/hostile.service".into(), unit(&lines).into(), 0o644),
    ];
    let host = SystemdHost::boot(&lab, "argv", "10.64.0.98", &files, &["hostile.service"]).unwrap();
    host.wait("systemctl show --value -p ExecMainExitTimestampMonotonic,ActiveState hostile", |state| {
        state.contains("inactive") && !state.ends_with("\n0") && !state.starts_with("0\n")
    });
    assert_eq!(host.property("hostile", "Result"), "success");
    let text = String::from_utf8(host.run("cat /run/words").stdout).unwrap();
    let want: String = lines
        .iter()
        .map(|words| words.iter().map(|word| format!("{word}\0")).collect::<String>() + "\0")
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
        let output = lab.host(1).run(["sh", "-c", &etcd_config::command(&model)]).unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        (told, config)
    };
    let (first, config) = run(24);
    assert!(first.contains("SUCCESS"), "{first}");
    let (second, _) = run(25);
    assert!(second.contains("FAILURE") && second.contains(&config), "shows what is there: {second}");
}
