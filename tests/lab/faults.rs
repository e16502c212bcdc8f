//! `rflannel lab` as a newcomer uses it: faults by their names, and what `rflannel check` says of each.

use crate::tool::rflannel;
use std::process::{Command, Stdio};

use lab::{KeptLab, wait_until};

use super::{Down, SOON, Test};

/// Runs the tool: exit code and text.
fn tool(words: &[&str]) -> (i32, String) {
    let output = Command::new(rflannel())
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

/// What a newcomer does: break a host, see what `check` says, mend it; stop the daemon with a signal; end the lab.
#[test]
fn faults_are_made_seen_and_mended() -> Test {
    let name = format!("faults-{}", std::process::id());
    let lab = |words: &[&str]| {
        let split = words
            .iter()
            .position(|word| *word == "--")
            .unwrap_or(words.len());
        let (own, rest) = words.split_at(split);
        tool(&[&["lab"], own, &["--name", &name], rest].concat())
    };
    let (code, text) = lab(&["up", "--keep", "--hosts", "3", "--no-tls"]);
    assert_eq!(code, 0, "{text}");
    let _guard = Down(KeptLab::find(&name)?);
    let (code, text) = lab(&["exec", "h1", "--", "rflannel", "status", "--wait"]);
    assert!(code == 0 && text.contains("fine"), "{code} {text}");
    // The host that looks, and what it sees.
    for (fault, from, seen) in [
        ("port-blocked", "h1", "port-blocked"),
        ("local-firewall", "h1", "peer-firewall"),
        ("local-firewall", "h2", "local-firewall"),
        ("mtu", "h1", "mtu"),
        ("forward-blocked", "h2", "forward-blocked"),
        ("forwarding", "h2", "forwarding"),
        ("route-override", "h2", "route-override"),
        ("route", "h2", "route"),
        ("fdb", "h2", "fdb"),
        ("neighbor", "h2", "neighbor"),
        ("device-down", "h2", "device-down"),
        ("device-missing", "h2", "device-missing"),
        ("peer-mac-mismatch", "h1", "peer-mac-mismatch"),
        ("hung", "h2", "does not answer"),
        ("underlay-link", "h2", "underlay-link"),
    ] {
        let (code, text) = lab(&["break", fault, "h2"]);
        assert_eq!(code, 0, "{fault}: {text}");
        let flags = KeptLab::find(&name)?.flanneld()[1..].to_vec();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut check = vec!["exec", from, "--", "rflannel", "check"];
        if text.contains("kill")
            || KeptLab::find(&name)?
                .node(from)?
                .sh("pidof flanneld")
                .is_err()
        {
            check.push("--");
            check.extend(flags);
        }
        let (code, text) = lab(&check);
        assert!(
            code != 0 && text.contains(seen),
            "{fault} from {from}: {code}\n{text}"
        );
        let (code, text) = lab(&["mend", "h2"]);
        assert_eq!(code, 0, "{fault}: {text}");
        let is_healthy = || lab(&["exec", "h2", "--", "rflannel", "check"]).0 == 0;
        assert!(
            wait_until(SOON * 3, is_healthy),
            "{fault}: {}",
            lab(&["exec", "h2", "--", "rflannel", "check"]).1
        );
    }
    assert_eq!(lab(&["stop", "h3"]).0, 0);
    let (code, text) = lab(&["stop", "h3"]);
    assert!(
        code == 1 && text.contains("is not running there"),
        "{code} {text}"
    );
    assert_eq!(lab(&["start", "h3"]).0, 0);
    // A daemon that was stopped by a signal stops what started it, too.
    assert_eq!(lab(&["break", "hung", "h1"]).0, 0);
    let (code, text) = lab(&["down"]);
    assert_eq!((code, text.contains("ended lab")), (0, true), "{text}");
    Ok(())
}

#[test]
fn mistakes_are_told_at_once_with_one_code() {
    for words in [
        &["stauts"][..],
        &["lab", "up", "--hosts", "0"],
        &["lab", "up", "--etcd-members", "2"],
        &["lab", "up", "--network", "{\"Netwrk\":1}"],
        &[
            "lab",
            "up",
            "--network",
            "{\"Network\":\"172.30.0.0/16\",\"Backend\":{\"Type\":\"vxlam\"}}",
        ],
        &["lab", "break", "nonsense", "h1"],
        &["lab", "exec", "--name", "none", "h1"],
        &["status", "--nonsense"],
        &["node-setup", "nonsense"],
    ] {
        let (code, text) = tool(words);
        assert_eq!(code, 64, "{words:?}: {text}");
    }
}
