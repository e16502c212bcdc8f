//! `rflannel lab`, as a newcomer would use it.

use crate::support::tool::rflannel;
use std::process::{Command, Output, Stdio};

use lab::LabError;

use super::{Test, eventually};

/// A variable that every process of a lab inherits, to find those that are left.
const MARK: &str = "RFLANNEL_TEST_MARK";

/// The command line for one test, with everything that it starts.
struct Tool {
    mark: String,
    name: String,
}

impl Tool {
    fn new(test: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        Self {
            mark: format!("{MARK}={name}"),
            name,
        }
    }

    /// Runs `rflannel lab …`; `NAME` stands for the lab's name.
    fn lab(&self, line: &str) -> Result<(i32, String, String), LabError> {
        let words = line.split_whitespace().map(|word| {
            if word == "NAME" {
                self.name.as_str()
            } else {
                word
            }
        });
        let mut command = Command::new(rflannel());
        command
            .arg("lab")
            .args(words)
            .env(MARK, &self.name)
            .stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|error| LabError::failed("this machine", "run rflannel", error));
        let Output {
            status,
            stdout,
            stderr,
        } = output?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((status.code().unwrap_or(-1), text(stdout), text(stderr)))
    }

    /// Processes that it has started, directly or not, and that live.
    fn survivors(&self) -> usize {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let environments = all.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
        let marked = |bytes: &Vec<u8>| {
            bytes
                .split(|byte| *byte == 0)
                .any(|one| one == self.mark.as_bytes())
        };
        environments.filter(marked).count()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Of a test that failed; an error means that there is nothing to end.
        let _ = self.lab("down --name NAME");
    }
}

#[test]
fn a_lab_comes_up_says_so_in_its_last_line_and_leaves_nothing() -> Test {
    let tool = Tool::new("up");
    let (code, stdout, stderr) = tool.lab("up --name NAME --hosts 3 --etcd-members 3 -- -v=1")?;
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert_eq!(
        stdout.lines().last(),
        Some("all 3×2 = 6 pod pairs reach each other")
    );
    for words in ["h3", "e3", "172.30.", "flannel.1", "ping, ms"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    eventually("no process is left", || tool.survivors() == 0);
    assert!(!tool.lab("ps")?.1.contains(&tool.name));
    Ok(())
}

#[test]
fn a_lab_that_is_kept_can_be_looked_at_and_ended() -> Test {
    let tool = Tool::new("keep");
    let network = r#"{"Network":"10.99.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#;
    let (code, stdout, _) = tool.lab(&format!(
        "up --name NAME --hosts 2 --no-tls --keep --network {network}"
    ))?;
    assert_eq!(
        (code, stdout.lines().last()),
        (0, Some("all 2×1 = 2 pod pairs reach each other")),
        "{stdout}"
    );
    assert!(
        tool.survivors() > 4,
        "etcd, two daemons and what holds the hosts"
    );

    let (code, stdout, _) = tool.lab("ps")?;
    let mine: Vec<&str> = stdout
        .lines()
        .skip_while(|line| !line.contains(&tool.name))
        .collect();
    assert!(
        code == 0 && mine.concat().contains("flanneld") && mine.concat().contains("etcd"),
        "{stdout}"
    );
    let (code, stdout, _) = tool.lab("exec --name NAME h2 -- cat /run/flannel/subnet.env")?;
    assert!(
        code == 0 && stdout.starts_with("FLANNEL_NETWORK=10.99.0.0/16\nFLANNEL_SUBNET=10.99."),
        "{stdout}"
    );
    assert_eq!(
        tool.lab("exec --name NAME 1 -- ip link show flannel.7")?.0,
        0
    );
    let (code, stdout, _) = tool.lab("exec --name NAME --pod 1 -- ip -br addr show eth0")?;
    assert!(code == 0 && stdout.contains(" 10.99."), "{stdout}");
    assert_eq!(
        tool.lab("exec --name NAME h1 -- sh -c false")?.0,
        1,
        "the command's own status"
    );
    let (code, _, stderr) = tool.lab("exec --name NAME h9 -- true")?;
    assert!(
        code == 64 && stderr.contains("has no host \"h9\"; it has h1, h2"),
        "{stderr}"
    );
    let (code, _, stderr) = tool.lab("up --name NAME --keep")?;
    assert!(
        code == 64 && stderr.contains("is already running"),
        "{stderr}"
    );

    let (code, stdout, _) = tool.lab("down --name NAME")?;
    assert_eq!((code, stdout), (0, format!("ended lab {}\n", tool.name)));
    eventually("no process is left", || tool.survivors() == 0);
    assert_eq!(tool.lab("down --name NAME")?.0, 64, "it is gone");
    Ok(())
}

#[test]
fn a_lab_that_cannot_work_says_why_and_leaves_nothing() -> Test {
    let tool = Tool::new("fail");
    // 64: the command line is wrong.
    let rows = [
        (
            "up --name NAME --flanneld /bin/false",
            1,
            "cannot start flanneld on h",
        ),
        ("up --name NAME --flanneld /nonexistent", 64, "/nonexistent"),
        (
            "up --name NAME --etcd-members 2",
            64,
            "etcd has 1 or 3 members, not 2",
        ),
        ("up --name ../x", 64, "is not a valid lab name"),
        (
            "up --name NAME -- -no-such-flag",
            1,
            "unknown flag -no-such-flag",
        ),
    ];
    for (line, status, why) in rows {
        let (code, _, stderr) = tool.lab(line)?;
        assert!(
            code == status && stderr.starts_with("rflannel: ") && stderr.contains(why),
            "{line}: {stderr}"
        );
    }
    eventually("no process is left", || tool.survivors() == 0);
    Ok(())
}
