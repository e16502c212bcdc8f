//! The real binaries: arguments and environment -> exit code, standard output, standard error.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "support/tool.rs"]
mod tool;

use crate::tool::rflannel;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Arguments, environment, what the answer contains.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

fn command(program: &str, line: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .args(line.split_whitespace())
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    command
}

fn output(program: &str, line: &str, env: &[(&str, &str)]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(program, line, env).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Starts the daemon, whose etcd answers to nothing, and stops it once it has said how it is configured.
fn started(line: &str, env: &[(&str, &str)]) -> Vec<String> {
    let mut child = command(
        FLANNELD,
        &format!("-etcd-endpoints=http://127.0.0.1:1 {line}"),
        env,
    )
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().is_some_and(|line| line.contains("endpoints=")) {
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().unwrap();
    lines
}

const MISTAKES: &[Row] = &[
    // grammar
    ("---iface=x", &[], "bad flag syntax \"---iface=x\""),
    ("-=x", &[], "bad flag syntax \"-=x\""),
    ("-iface", &[], "-iface needs a value: write -iface=value"),
    (
        "-ip-masq false -iface=x",
        &[],
        "a boolean takes its value after =: -ip-masq=false",
    ),
    (
        "-ip-masq=yes",
        &[],
        "invalid value \"yes\" for -ip-masq: must be true or false",
    ),
    ("-ip-masq=", &[], "invalid value \"\" for -ip-masq"),
    (
        "-v=abc",
        &[],
        "invalid value \"abc\" for -v: must be a whole number",
    ),
    ("-v 08", &[], "invalid value \"08\" for -v"),
    ("eth0", &[], "unexpected argument \"eth0\""),
    ("-", &[], "unexpected argument \"-\""),
    ("-- -iface=x", &[], "unexpected argument \"-iface=x\""),
    ("-version stray", &[], "unexpected argument \"stray\""),
    // names
    (
        "-ifce eth0",
        &[],
        "unknown flag -ifce: did you mean -iface?",
    ),
    ("-IFACE=x", &[], "unknown flag -IFACE"),
    (
        "-etcd-pasword=s3cret",
        &[],
        "unknown flag -etcd-pasword: did you mean -etcd-password?",
    ),
    (
        "-log-format=xml",
        &[],
        "invalid value \"xml\" for -log-format: must be text or json",
    ),
    // what is not there
    (
        "-kube-subnet-mgr",
        &[],
        "Kubernetes mode is not supported; remove the flag, and set -etcd-endpoints",
    ),
    (
        "-kubeconfig-file=/k",
        &[],
        "Kubernetes mode is not supported; remove the flag, and set -etcd-endpoints",
    ),
    (
        "-networks=a,b",
        &[],
        "-networks was removed in flannel v0.8.0: run one flanneld for each network",
    ),
    ("-watch-networks", &[], "-watch-networks was removed"),
    ("-subnet-dir=/d", &[], "-subnet-dir was removed"),
    (
        "-listen=:8888",
        &[],
        "-listen was removed in flannel v0.8.0: connect each flanneld to etcd",
    ),
    ("-remote=a:8888", &[], "-remote was removed"),
    ("-log_dir=/var/log", &[], "-log_dir was removed"),
    ("-logtostderr=false", &[], "flanneld logs to stderr only"),
    // values that do not fit
    (
        "-etcd-endpoints=",
        &[],
        "-etcd-endpoints: contains no endpoint",
    ),
    (
        "-etcd-endpoints=,",
        &[],
        "-etcd-endpoints: contains no endpoint",
    ),
    (
        "-etcd-endpoints=http://a:1;http://b:1",
        &[],
        "separate endpoints by commas",
    ),
    ("-etcd-endpoints=http://a", &[], "has no port"),
    (
        "-etcd-endpoints=http://fd00::1:2379",
        &[],
        "write [fd00::1]:2379",
    ),
    ("-etcd-prefix=", &[], "-etcd-prefix: must not be empty"),
    (
        "-etcd-certfile=/c",
        &[],
        "-etcd-certfile: needs -etcd-keyfile: set both or neither",
    ),
    (
        "-etcd-keyfile=/k",
        &[],
        "-etcd-keyfile: needs -etcd-certfile: set both or neither",
    ),
    (
        "-etcd-username=u",
        &[],
        "-etcd-username: needs -etcd-password: set both or neither",
    ),
    (
        "-subnet-lease-renew-margin=0",
        &[],
        "Invalid subnet-lease-renew-margin option, out of acceptable range",
    ),
    (
        "-subnet-lease-renew-margin=1440",
        &[],
        "Invalid subnet-lease-renew-margin option",
    ),
    (
        "-public-ip=224.0.0.1",
        &[],
        "-public-ip: \"224.0.0.1\" must be the IPv4 unicast address",
    ),
    (
        "-iface-regex=eth(",
        &[],
        "-iface-regex: \"eth(\" is not a regular expression",
    ),
    (
        "-iface-can-reach=gw",
        &[],
        "-iface-can-reach: \"gw\" must be the IP address of a host",
    ),
    (
        "-public-ipv6=fe80::1",
        &[],
        "-public-ipv6: \"fe80::1\" must be the IPv6 unicast address",
    ),
    (
        "-iptables-resync=0",
        &[],
        "-iptables-resync: 0 is out of range: it must be a positive number of seconds",
    ),
    (
        "-healthz-port=65536",
        &[],
        "-healthz-port: 65536 is not a port",
    ),
    (
        "-docker-opts-key=OPTS",
        &[],
        "-docker-opts-key: has no effect without -docker-opts-file",
    ),
    // environment
    (
        "",
        &[("FLANNELD_IP_MASQ", "maybe")],
        "invalid value \"maybe\" for FLANNELD_IP_MASQ",
    ),
    (
        "",
        &[("FLANNELD_PUBLIC_IP", "x")],
        "FLANNELD_PUBLIC_IP: \"x\" must be the IPv4 unicast address",
    ),
    (
        "",
        &[("FLANNELD_V", "loud")],
        "invalid value \"loud\" for FLANNELD_V: must be a whole number",
    ),
    (
        "",
        &[("FLANNELD_ETCD_PASSWORD", "s3cret")],
        "FLANNELD_ETCD_PASSWORD: needs -etcd-username",
    ),
];

#[test]
fn mistakes_are_one_clear_line_and_exit_2() {
    for (line, env, want) in MISTAKES {
        let (code, stdout, stderr) = output(FLANNELD, line, env);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line} {env:?}: {stderr}");
        assert!(
            stderr.starts_with("flanneld: ") && stderr.contains(want),
            "{line} {env:?}: {stderr}"
        );
        assert!(
            stderr.ends_with("(flanneld -help lists all flags)\n"),
            "{line} {env:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{line} {env:?}: {stderr}");
        assert!(!stderr.contains("s3cret"), "{line} {env:?}: {stderr}");
    }
}

#[test]
fn an_unset_variable_of_the_unit_is_explained() {
    let output = Command::new(FLANNELD).arg("").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("unexpected empty argument")
    );
}

#[test]
fn help_and_version_go_to_stderr_and_exit_0() {
    let broken = [("FLANNELD_V", "loud"), ("FLANNELD_ETCD_PASSWORD", "s3cret")];
    let version = concat!("v", env!("CARGO_PKG_VERSION"), " (rflannel)\n");
    for line in [
        "-version",
        "--version",
        "-version=true",
        "-iface eth0 -version",
        "-version --",
    ] {
        assert_eq!(
            output(FLANNELD, line, &broken),
            (0, String::new(), version.to_owned()),
            "{line}"
        );
    }
    for line in ["-help", "--help", "-h", "-help=1", "-version -help"] {
        let (code, stdout, stderr) = output(FLANNELD, line, &broken);
        assert_eq!((code, stdout.as_str()), (0, ""), "{line}");
        assert!(
            stderr.starts_with("Usage: flanneld [OPTION]...\n"),
            "{line}: {stderr}"
        );
        assert!(
            stderr.contains("\n  -etcd-prefix <TEXT>\n") && !stderr.contains("s3cret"),
            "{line}: {stderr}"
        );
    }
}

#[test]
fn what_is_taken_shows_in_the_first_line() {
    let rows: &[Row] = &[
        ("--iface x", &[], "iface=x "),
        ("-iface -v", &[], "iface=-v "),
        ("-iface a -iface=b", &[], "iface=a,b "),
        ("-ip-masq=false -iface=x", &[], "iface=x "),
        ("-etcd-prefix= -etcd-prefix=/a/ -iface=x", &[], "prefix=/a "),
        ("-subnet-lease-renew-margin 0x10", &[], "renew-margin=16m "),
        ("-public-ip 192.0.2.1 --", &[], "public-ip=192.0.2.1 "),
        ("", &[("FLANNELD_IFACE", "a,b")], "iface=a,b "),
        (
            "-etcd-prefix=/flag",
            &[("FLANNELD_ETCD_PREFIX", "/env")],
            "prefix=/flag ",
        ),
        (
            "",
            &[("FLANNELD_ETCD_PREFIX", "")],
            "prefix=/coreos.com/network ",
        ),
        (
            "",
            &[("FLANNELD_HELP", "true"), ("FLANNELD_VERSION", "true")],
            "endpoints=http://127.0.0.1:1 ",
        ),
        (
            "-etcd-username u",
            &[("FLANNELD_ETCD_PASSWORD", "s3cret")],
            "user=u password=*** ",
        ),
    ];
    for (line, env, want) in rows {
        let lines = started(line, env);
        assert!(
            lines.last().is_some_and(|last| last.contains(want)),
            "{line} {env:?}: {lines:?}"
        );
        assert!(
            !lines.concat().contains("s3cret"),
            "{line} {env:?}: {lines:?}"
        );
    }
}

#[test]
fn what_has_no_effect_is_warned_of_once() {
    let rows: &[Row] = &[
        (
            "-logtostderr",
            &[],
            "-logtostderr has no effect: flanneld logs to stderr only",
        ),
        (
            "-alsologtostderr=false",
            &[],
            "-alsologtostderr has no effect: flanneld logs to stderr only",
        ),
        (
            "-stderrthreshold=2",
            &[],
            "-stderrthreshold has no effect: flanneld logs to stderr only",
        ),
        ("-vmodule a=2", &[], "-vmodule has no effect"),
        (
            "-log_backtrace_at a:1",
            &[],
            "-log_backtrace_at has no effect",
        ),
        (
            "",
            &[("FLANNELD_LOGTOSTDERR", "true")],
            "FLANNELD_LOGTOSTDERR has no effect",
        ),
        (
            "",
            &[("FLANNELD_VERSION", "true")],
            "FLANNELD_VERSION has no effect: use the flag -version",
        ),
        (
            "",
            &[("FLANNELD_ETCD_PREFX", "/x")],
            "unknown variable FLANNELD_ETCD_PREFX is ignored: did you mean FLANNELD_ETCD_PREFIX?",
        ),
        (
            "",
            &[("FLANNELD_SUBNET_DIR", "/run/flannel/networks")],
            "FLANNELD_SUBNET_DIR has no effect",
        ),
        (
            "",
            &[("FLANNELD_ZZZ", "s3cret")],
            "unknown variable FLANNELD_ZZZ is ignored: remove it",
        ),
    ];
    for (line, env, want) in rows {
        let lines = started(line, env);
        let warnings: Vec<&String> = lines
            .iter()
            .filter(|line| line.contains(" WARN "))
            .collect();
        assert_eq!(warnings.len(), 1, "{line} {env:?}: {lines:?}");
        assert!(
            warnings[0].contains(want) && !warnings[0].contains("s3cret"),
            "{line} {env:?}: {lines:?}"
        );
    }
}

#[test]
fn the_format_of_lines_follows_flag_and_journal() {
    let json = started("-log-format=json", &[]);
    assert!(
        json.iter().all(|line| line.starts_with("{\"timestamp\":")),
        "{json:?}"
    );

    let inherited = started("", &[("JOURNAL_STREAM", "1:2")]);
    assert!(
        inherited
            .iter()
            .all(|line| line.starts_with("20") && line.contains("Z INFO ")),
        "{inherited:?}"
    );

    let path = tempfile::NamedTempFile::new().unwrap();
    let file = File::create(path.path()).unwrap();
    let meta = file.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let mut child = command(
        FLANNELD,
        "-etcd-endpoints=http://127.0.0.1:1",
        &[("JOURNAL_STREAM", &stream)],
    )
    .stderr(file)
    .spawn()
    .unwrap();
    let written = || std::fs::read_to_string(path.path()).unwrap();
    for _ in 0..2000 {
        if written().contains('\n') || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().unwrap();
    assert!(written().starts_with("<6>INFO flanneld v"), "{}", written());
}

#[test]
fn rflannel_prints_completions_for_both_programs() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = output(rflannel(), &format!("completions {shell}"), &[]);
        assert!(code == 0 && stdout.contains("completions"), "{shell}");
        let (code, stdout, _) = output(rflannel(), &format!("completions {shell} flanneld"), &[]);
        assert!(code == 0 && stdout.contains("etcd-endpoints"), "{shell}");
    }
}

/// What bash offers for the last of these words, by the script of `rflannel`, while a lab of h1 and e1 is up.
fn offered(words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "source <({} completions bash)
        rflannel() {{ printf 'lab: up\\n  h1 up\\n  e1 up\\n'; }}
        COMP_WORDS=({}); COMP_CWORD={}
        $(complete -p rflannel | sed 's/.*-F \\([^ ]*\\).*/\\1/') rflannel \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
        printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        rflannel(),
        quoted.join(" "),
        words.len() - 1
    );
    let output = Command::new("bash")
        .args(["-c", &line])
        .current_dir("/etc")
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_what_the_documents_write() {
    let rows: &[(&str, &[&str])] = &[
        ("rflannel sta", &["status"]),
        ("rflannel node-setup roll", &["rollback"]),
        ("rflannel status --br", &["--brief"]),
        // Values of enums, in both spellings.
        ("rflannel check --output = j", &["json", "junit"]),
        ("rflannel check --output =", &["text", "json", "junit"]),
        ("rflannel check --output j", &["json", "junit"]),
        ("rflannel node-setup apply --restart = c", &["changed"]),
        ("rflannel node-setup --style = d", &["document"]),
        ("rflannel node-setup plan --pod-network = ", &["bip", "cni"]),
        (
            "rflannel node-setup plan --runtime = docker --proxy-mode = n",
            &["nftables"],
        ),
        ("rflannel node-setup plan --masquerade = f", &["false"]),
        ("rflannel completions z", &["zsh"]),
        ("rflannel completions bash f", &["flanneld"]),
        // Files.
        (
            "rflannel node-setup --config = /etc/hostn",
            &["/etc/hostname"],
        ),
        (
            "rflannel node-setup plan --etcd-cafile = /etc/hostn",
            &["/etc/hostname"],
        ),
        ("rflannel config set hostn", &["hostname"]),
        ("rflannel mk-docker-opts -f hostn", &["hostname"]),
        // Hosts, faults, and what follows two dashes.
        ("rflannel lab exec ", &["h1", "e1"]),
        ("rflannel lab exec --name x h", &["h1"]),
        ("rflannel lab break mt", &["mtu"]),
        ("rflannel lab break mtu h", &["h1"]),
        (
            "rflannel status -- -etcd-c",
            &["-etcd-cafile", "-etcd-certfile"],
        ),
        ("rflannel lab up -- -log-format = j", &["json"]),
        ("rflannel lab exec h1 -- cat hostn", &["hostname"]),
    ];
    for (line, want) in rows {
        assert_eq!(
            offered(&line.split(' ').collect::<Vec<_>>()),
            *want,
            "{line}"
        );
    }
}

#[test]
fn bash_offers_nothing_that_is_refused() {
    let rows: &[(&str, &[&str])] = &[
        // A value that only an equal sign joins.
        ("rflannel status --wait 6", &[]),
        ("rflannel node-setup --masquerade f", &[]),
        // Files where none is meant, a flag again, flags that exclude each other.
        ("rflannel node-setup plan --node-ip host", &[]),
        ("rflannel check --timeout = host", &[]),
        ("rflannel check hostn", &[]),
        ("rflannel status --json --js", &[]),
        ("rflannel status --json --br", &[]),
        ("rflannel lab down --all --na", &[]),
        // More operands than there are.
        ("rflannel lab break h", &["hung"]),
        ("rflannel lab break mtu h1 h", &[]),
        ("rflannel lab stop h1 h", &[]),
        ("rflannel completions r", &[]),
        ("rflannel completions bash rflannel f", &[]),
        ("rflannel version s", &[]),
        ("rflannel version --v", &[]),
    ];
    for (line, want) in rows {
        assert_eq!(
            offered(&line.split(' ').collect::<Vec<_>>()),
            *want,
            "{line}"
        );
    }
}

/// What a terminal of 80 columns gets.
fn on_terminal(line: &str, env: &[(&str, &str)]) -> String {
    let line = format!(
        "stty cols 80 rows 24; {rflannel} {line}",
        rflannel = rflannel()
    );
    let mut command = Command::new("script");
    command.args([
        "--quiet",
        "--echo",
        "never",
        "--command",
        &line,
        "/dev/null",
    ]);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// A daemon that does not answer makes a command take its time.
#[test]
fn progress_is_for_terminals_with_a_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _hung = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let line = format!("status --socket {}", socket.display());
    let shown = on_terminal(&line, &[("TERM", "xterm"), ("LANG", "C.UTF-8")]);
    assert!(
        shown.contains("asking the daemon") && shown.contains("\u{1b}["),
        "{shown:?}"
    );
    for env in [&[("TERM", "dumb")][..], &[("TERM", "dumb"), ("LANG", "C")]] {
        let shown = on_terminal(&line, env);
        assert!(
            shown.contains("does not answer") && !shown.contains('\u{1b}'),
            "{shown:?}"
        );
        assert!(!shown.contains("asking the daemon"), "{shown:?}");
        assert!(
            shown
                .lines()
                .all(|line| line.trim_end().chars().count() <= 80),
            "{shown:?}"
        );
    }
    let shown = on_terminal(
        &line,
        &[("TERM", "xterm"), ("LANG", "C"), ("NO_COLOR", "1")],
    );
    assert!(shown.is_ascii() && !shown.contains("\u{1b}[3"), "{shown:?}");
    let (code, piped, _) = output(rflannel(), &line, &[("TERM", "xterm")]);
    assert!(
        code == 2 && piped.contains("does not answer") && !piped.contains('\u{1b}'),
        "{piped:?}"
    );
}

#[test]
fn every_help_has_examples() {
    let (_, _, daemon) = output(FLANNELD, "-help", &[]);
    assert!(
        daemon.contains("\nExamples:\n  flanneld -etcd-endpoints=https://"),
        "{daemon}"
    );
    for line in [
        "--help",
        "status --help",
        "lab exec --help",
        "node-setup check --help",
        "mk-docker-opts --help",
    ] {
        let (_, help, _) = output(rflannel(), line, &[]);
        assert!(help.contains("Examples:\n  rflannel "), "{line}: {help}");
    }
}

/// Every command, by its words.
fn paths(command: &clap::Command, path: &str) -> Vec<String> {
    let below = command
        .get_subcommands()
        .flat_map(|one| paths(one, &format!("{path} {}", one.get_name())));
    std::iter::once(path.trim().to_owned())
        .chain(below)
        .collect()
}

/// A wrong value of a setting is as wrong as a wrong flag, and none of them looks like an answer.
#[test]
fn wrong_usage_of_every_command_ends_with_64() {
    let paths = paths(&rflannel::cli::rflannel::command(), "");
    assert!(paths.len() > 30, "{paths:?}");
    // Flannel's script ends with 1.
    for path in paths.iter().filter(|path| *path != "mk-docker-opts") {
        let (code, _, stderr) = output(rflannel(), &format!("{path} --no-such-flag"), &[]);
        assert_eq!(code, 64, "{path}: {stderr}");
    }
    for line in [
        "node-setup plan --node-ip=x --etcd-endpoints=https://10.64.3.7:2379",
        "node-setup check --node-ip=10.64.3.7",
        "node-setup apply --style=nice",
        "node-setup plan --config=/nonexistent",
        "node-setup apply --root=/nonexistent --start --node-ip=10.64.3.7 --etcd-endpoints=https://10.64.3.7:2379",
        "node-setup explain nonsense",
        "lab up --network={",
        "check --timeout=0",
        "lease list -- -nonsense",
    ] {
        let (code, stdout, stderr) = output(rflannel(), line, &[("HOME", "/root")]);
        assert_eq!((code, stdout.as_str()), (64, ""), "{line}: {stderr}");
    }
}

#[test]
fn rflannel_answers_as_usual() {
    let version = concat!("v", env!("CARGO_PKG_VERSION"), " (rflannel)\n");
    assert_eq!(
        output(rflannel(), "version", &[]),
        (0, version.to_owned(), String::new())
    );
    assert_eq!(output(rflannel(), "--help", &[]).0, 0);
    assert_eq!(output(rflannel(), "", &[]).0, 64);
    let (code, _, stderr) = output(rflannel(), "complete", &[]);
    assert!(code == 64 && stderr.contains("completions"), "{stderr}");
    let link = Command::new(rflannel())
        .arg0("flanneld")
        .arg("version")
        .output()
        .unwrap();
    assert_eq!(link.status.code(), Some(0));
}
