//! The real binaries: arguments and environment -> exit code, standard output, standard error.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");
const RFLANNEL: &str = env!("CARGO_BIN_EXE_rflannel");

/// Arguments, environment, what the answer contains.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);

fn command(program: &str, line: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command
}

fn output(program: &str, line: &str, env: &[(&str, &str)]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(program, line, env).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Starts the daemon, whose etcd answers to nothing, and stops it once it has said how it is configured.
fn started(line: &str, env: &[(&str, &str)]) -> Vec<String> {
    let mut child = command(FLANNELD, &format!("-etcd-endpoints=http://127.0.0.1:1 {line}"), env)
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
    ("-ip-masq false -iface=x", &[], "a boolean takes its value with =: -ip-masq=false"),
    ("-ip-masq=yes", &[], "invalid value \"yes\" for -ip-masq: must be true or false"),
    ("-ip-masq=", &[], "invalid value \"\" for -ip-masq"),
    ("-v=abc", &[], "invalid value \"abc\" for -v: must be a whole number"),
    ("-v 08", &[], "invalid value \"08\" for -v"),
    ("eth0", &[], "unexpected argument \"eth0\""),
    ("-", &[], "unexpected argument \"-\""),
    ("-- -iface=x", &[], "unexpected argument \"-iface=x\""),
    ("-version stray", &[], "unexpected argument \"stray\""),
    // names
    ("-ifce eth0", &[], "unknown flag -ifce: did you mean -iface?"),
    ("-IFACE=x", &[], "unknown flag -IFACE"),
    ("-etcd-pasword=s3cret", &[], "unknown flag -etcd-pasword: did you mean -etcd-password?"),
    ("-log-format=xml", &[], "invalid value \"xml\" for -log-format: must be text or json"),
    // what is not there
    ("-kube-subnet-mgr", &[], "Kubernetes mode is not supported yet: remove it and give -etcd-endpoints"),
    ("-kubeconfig-file=/k", &[], "Kubernetes mode is not supported yet: remove it and give -etcd-endpoints"),
    ("-networks=a,b", &[], "-networks is gone since flannel v0.8.0: run one flanneld for each network"),
    ("-watch-networks", &[], "-watch-networks is gone"),
    ("-subnet-dir=/d", &[], "-subnet-dir is gone"),
    ("-listen=:8888", &[], "-listen is gone since flannel v0.8.0: let every flanneld reach etcd"),
    ("-remote=a:8888", &[], "-remote is gone"),
    ("-log_dir=/var/log", &[], "-log_dir is gone"),
    ("-logtostderr=false", &[], "everything goes to stderr"),
    // values that do not fit
    ("-etcd-endpoints=", &[], "-etcd-endpoints: names no endpoint"),
    ("-etcd-endpoints=,", &[], "-etcd-endpoints: names no endpoint"),
    ("-etcd-endpoints=http://a:1;http://b:1", &[], "separated by commas, not semicolons"),
    ("-etcd-endpoints=http://a", &[], "has no port"),
    ("-etcd-endpoints=http://fd00::1:2379", &[], "write [fd00::1]:2379"),
    ("-etcd-prefix=", &[], "-etcd-prefix: must not be empty"),
    ("-etcd-certfile=/c", &[], "-etcd-certfile: has no -etcd-keyfile beside it"),
    ("-etcd-keyfile=/k", &[], "-etcd-keyfile: has no -etcd-certfile beside it"),
    ("-etcd-username=u", &[], "-etcd-username: has no -etcd-password beside it"),
    (
        "-subnet-lease-renew-margin=0",
        &[],
        "Invalid subnet-lease-renew-margin option, out of acceptable range",
    ),
    ("-subnet-lease-renew-margin=1440", &[], "Invalid subnet-lease-renew-margin option"),
    ("-public-ip=224.0.0.1", &[], "-public-ip: \"224.0.0.1\" must be the IPv4 unicast address"),
    ("-iface-regex=eth(", &[], "-iface-regex: \"eth(\" is not a regular expression"),
    ("-iface-can-reach=gw", &[], "-iface-can-reach: \"gw\" must be the address of a host"),
    ("-public-ipv6=fe80::1", &[], "-public-ipv6: \"fe80::1\" must be the IPv6 unicast address"),
    ("-iptables-resync=0", &[], "-iptables-resync: 0 must be a number of seconds above zero"),
    ("-healthz-port=65536", &[], "-healthz-port: 65536 is no port"),
    ("-docker-opts-key=OPTS", &[], "-docker-opts-key: has no effect without -docker-opts-file"),
    // environment
    ("", &[("FLANNELD_IP_MASQ", "maybe")], "invalid value \"maybe\" for FLANNELD_IP_MASQ"),
    ("", &[("FLANNELD_PUBLIC_IP", "x")], "FLANNELD_PUBLIC_IP: \"x\" must be the IPv4 unicast address"),
    ("", &[("FLANNELD_V", "loud")], "invalid value \"loud\" for FLANNELD_V: must be a whole number"),
    ("", &[("FLANNELD_ETCD_PASSWORD", "s3cret")], "FLANNELD_ETCD_PASSWORD: has no -etcd-username"),
];

#[test]
fn mistakes_are_one_clear_line_and_exit_2() {
    for (line, env, want) in MISTAKES {
        let (code, stdout, stderr) = output(FLANNELD, line, env);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line} {env:?}: {stderr}");
        assert!(stderr.starts_with("flanneld: ") && stderr.contains(want), "{line} {env:?}: {stderr}");
        assert!(stderr.ends_with("(flanneld -help lists all flags)\n"), "{line} {env:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{line} {env:?}: {stderr}");
        assert!(!stderr.contains("s3cret"), "{line} {env:?}: {stderr}");
    }
}

#[test]
fn an_unset_variable_of_the_unit_is_explained() {
    let output = Command::new(FLANNELD).arg("").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("unexpected empty argument"));
}

#[test]
fn help_and_version_go_to_stderr_and_exit_0() {
    let broken = [("FLANNELD_V", "loud"), ("FLANNELD_ETCD_PASSWORD", "s3cret")];
    let version = concat!("v", env!("CARGO_PKG_VERSION"), " (rflannel)\n");
    for line in ["-version", "--version", "-version=true", "-iface eth0 -version", "-version --"] {
        assert_eq!(output(FLANNELD, line, &broken), (0, String::new(), version.to_owned()), "{line}");
    }
    for line in ["-help", "--help", "-h", "-help=1", "-version -help"] {
        let (code, stdout, stderr) = output(FLANNELD, line, &broken);
        assert_eq!((code, stdout.as_str()), (0, ""), "{line}");
        assert!(stderr.starts_with("Usage: flanneld [OPTION]...\n"), "{line}: {stderr}");
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
        ("-etcd-prefix=/flag", &[("FLANNELD_ETCD_PREFIX", "/env")], "prefix=/flag "),
        ("", &[("FLANNELD_ETCD_PREFIX", "")], "prefix=/coreos.com/network "),
        ("", &[("FLANNELD_HELP", "true"), ("FLANNELD_VERSION", "true")], "endpoints=http://127.0.0.1:1 "),
        ("-etcd-username u", &[("FLANNELD_ETCD_PASSWORD", "s3cret")], "user=u password=*** "),
    ];
    for (line, env, want) in rows {
        let lines = started(line, env);
        assert!(lines.last().is_some_and(|last| last.contains(want)), "{line} {env:?}: {lines:?}");
        assert!(!lines.concat().contains("s3cret"), "{line} {env:?}: {lines:?}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of_once() {
    let rows: &[Row] = &[
        ("-logtostderr", &[], "-logtostderr has no effect: everything goes to stderr"),
        ("-alsologtostderr=false", &[], "-alsologtostderr has no effect: everything goes to stderr"),
        ("-stderrthreshold=2", &[], "-stderrthreshold has no effect: everything goes to stderr"),
        ("-vmodule a=2", &[], "-vmodule has no effect"),
        ("-log_backtrace_at a:1", &[], "-log_backtrace_at has no effect"),
        ("", &[("FLANNELD_LOGTOSTDERR", "true")], "FLANNELD_LOGTOSTDERR has no effect"),
        ("", &[("FLANNELD_VERSION", "true")], "FLANNELD_VERSION has no effect: only the flag -version does"),
        (
            "",
            &[("FLANNELD_ETCD_PREFX", "/x")],
            "FLANNELD_ETCD_PREFX is not known and has no effect: did you mean FLANNELD_ETCD_PREFIX?",
        ),
        ("", &[("FLANNELD_SUBNET_DIR", "/run/flannel/networks")], "FLANNELD_SUBNET_DIR has no effect"),
        ("", &[("FLANNELD_ZZZ", "s3cret")], "FLANNELD_ZZZ is not known and has no effect: remove it"),
    ];
    for (line, env, want) in rows {
        let lines = started(line, env);
        let warnings: Vec<&String> = lines.iter().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), 1, "{line} {env:?}: {lines:?}");
        assert!(warnings[0].contains(want) && !warnings[0].contains("s3cret"), "{line} {env:?}: {lines:?}");
    }
}

#[test]
fn the_format_of_lines_follows_flag_and_journal() {
    let json = started("-log-format=json", &[]);
    assert!(json.iter().all(|line| line.starts_with("{\"timestamp\":")), "{json:?}");

    let inherited = started("", &[("JOURNAL_STREAM", "1:2")]);
    assert!(inherited.iter().all(|line| line.starts_with("20") && line.contains("Z INFO ")), "{inherited:?}");

    let path = tempfile::NamedTempFile::new().unwrap();
    let file = File::create(path.path()).unwrap();
    let meta = file.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let mut child = command(FLANNELD, "-etcd-endpoints=http://127.0.0.1:1", &[("JOURNAL_STREAM", &stream)])
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
        let (code, stdout, _) = output(RFLANNEL, &format!("completions {shell}"), &[]);
        assert!(code == 0 && stdout.contains("completions"), "{shell}");
        let (code, stdout, _) = output(RFLANNEL, &format!("completions {shell} flanneld"), &[]);
        assert!(code == 0 && stdout.contains("etcd-endpoints"), "{shell}");
    }
}

#[test]
fn rflannel_answers_as_usual() {
    let version = concat!("v", env!("CARGO_PKG_VERSION"), " (rflannel)\n");
    assert_eq!(output(RFLANNEL, "version", &[]), (0, version.to_owned(), String::new()));
    assert_eq!(output(RFLANNEL, "--help", &[]).0, 0);
    assert_eq!(output(RFLANNEL, "", &[]).0, 64);
    let (code, _, stderr) = output(RFLANNEL, "complete", &[]);
    assert!(code == 64 && stderr.contains("completions"), "{stderr}");
    let link = Command::new(RFLANNEL).arg0("flanneld").arg("version").output().unwrap();
    assert_eq!(link.status.code(), Some(0));
}
