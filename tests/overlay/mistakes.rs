//! What waiting cannot cure: one message that names thing, cause and remedy, exit status 1, nothing left behind.

use lab::{Authority, Flanneld, Lab, LabError};

use super::support::PATIENCE;
use super::{FLANNELD, Test, options, prepared};

/// Runs a program, given as `$0` and its arguments, without a capability.
const WITHOUT: &str = r#"exec "$0" "$@""#;

/// Capabilities that the daemon does not get, more flags, and what it says.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const FATAL: &[Row] = &[
    (
        "",
        &["-etcd-cafile=/nonexistent.pem"],
        &["-etcd-cafile", "/nonexistent.pem", "No such file"],
    ),
    (
        "",
        &["-etcd-certfile=/nonexistent.pem"],
        &["-etcd-certfile", "/nonexistent.pem", "No such file"],
    ),
    (
        "",
        &["-etcd-keyfile=/nonexistent.pem"],
        &["-etcd-keyfile", "/nonexistent.pem", "No such file"],
    ),
    (
        "",
        &["-etcd-cafile=/run/pki"],
        &["-etcd-cafile", "/run/pki", "directory"],
    ),
    (
        "",
        &["-etcd-cafile=/run/garbage"],
        &["-etcd-cafile", "/run/garbage", "PEM"],
    ),
    (
        "",
        &["-etcd-certfile=/run/garbage"],
        &["-etcd-certfile", "/run/garbage", "PEM"],
    ),
    (
        "",
        &["-etcd-keyfile=/run/garbage"],
        &["-etcd-keyfile", "/run/garbage", "PEM"],
    ),
    (
        "",
        &["-etcd-keyfile=/run/stranger-key.pem"],
        &[
            "-etcd-keyfile",
            "/run/stranger-key.pem",
            "it is not the key of the certificate",
        ],
    ),
    (
        "",
        &["-etcd-cafile=", "-etcd-certfile=", "-etcd-keyfile="],
        &[
            "no CA to verify the certificate of https://10.64.255.1:2379",
            "-etcd-cafile",
        ],
    ),
    (
        "cap_dac_override,cap_dac_read_search",
        &["-etcd-keyfile=/run/secret.pem"],
        &["-etcd-keyfile", "/run/secret.pem", "Permission denied"],
    ),
    (
        "cap_net_admin",
        &[],
        &[
            "create device flannel.1",
            "Operation not permitted",
            "run as root or with CAP_NET_ADMIN",
        ],
    ),
];

fn start(lab: &Lab, drop: &str, extra: &[&str]) -> Result<Flanneld, LabError> {
    let dropped = format!("--drop={drop}");
    let wrapper = ["capsh", &dropped, "--", "-c", WITHOUT];
    let wrapper = if drop.is_empty() { &[] } else { &wrapper[..] };
    let mut command = lab.host(1).command(wrapper.iter().chain(&[FLANNELD]));
    command.args(lab.flanneld_args()?).args(extra);
    Flanneld::start(lab.host(1), command)
}

#[test]
fn permanent_errors_end_with_one_message_and_no_trace() -> Test {
    let lab = prepared(options(), 1)?;
    let host = lab.host(1);
    let stranger = Authority::new("other").and_then(|other| other.issue("stranger", &[]));
    let stranger = stranger.map_err(|error| LabError::failed("h1", "make certificates", error))?;
    host.write("/run/stranger-key.pem", stranger.key)?;
    host.write("/run/garbage", "garbage")?;
    host.sh("cp /run/pki/client-key.pem /run/secret.pem; chmod 0 /run/secret.pem; chown 1 /run/secret.pem")?;
    for (dropped, extra, words) in FATAL {
        host.sh("rm -f /run/flanneld.log")?;
        let mut flanneld = start(&lab, dropped, extra)?;
        let status = flanneld.process().wait(PATIENCE)?;
        let log = flanneld.process().log();
        assert_eq!(status.code(), Some(1), "{extra:?}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.contains(" ERROR ") && words.iter().all(|word| last.contains(word)),
            "{extra:?}: {log}"
        );
        assert!(!flanneld.notify().ready(), "{extra:?}");
        assert!(
            !host.path("/sys/class/net/flannel.1").exists(),
            "{extra:?}: no device"
        );
        assert_eq!(
            host.sh("ls -A /run/flannel | grep -v ^.lock- || true")?,
            "",
            "{extra:?}: no files"
        );
    }
    assert_eq!(
        lab.etcd()?.keys("/kubernetes/network/subnets")?,
        [""; 0],
        "no lease"
    );
    Ok(())
}
