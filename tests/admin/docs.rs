//! Every command of the guides about leases, the network configuration, support, and handover, and of the README's part about
//! them, in a lab: two hosts, a daemon on each, etcd with TLS.

use crate::support::tool::rflannel;
use std::fs;

use lab::{Lab, LabOptions};

use super::markdown::{self, How};
use super::{NETWORK, SOON, Test};

/// Pages with commands that these tests run, in this order.
const GUIDES: [&str; 4] = [
    "docs/guides/manage-subnets.md",
    "docs/guides/change-the-network.md",
    "docs/guides/report-a-problem.md",
    "docs/guides/move-a-cluster.md",
];

/// The lines of the blocks that a page says this file runs, without comments.
fn commands(text: &str) -> Vec<String> {
    let steps = markdown::steps(text).unwrap().into_iter();
    let here =
        steps.filter(|step| matches!(&step.how, How::By(file, _) if file == "tests/admin/docs.rs"));
    let scripts: String = here.map(|step| step.script).collect();
    let lines = scripts.lines().map(|line| {
        line.split(" # ")
            .next()
            .unwrap_or(line)
            .trim_end()
            .to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect()
}

fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Who runs them is root, and what they refuse is refused.
fn script(lines: &[String]) -> String {
    let line = |line: &String| {
        let may_fail = if line.contains("lease move") {
            " || test $? = 1"
        } else {
            ""
        };
        format!("{}{may_fail}\n", line.trim_start_matches("sudo "))
    };
    lines.iter().map(line).collect()
}

fn lab() -> Result<Lab, lab::LabError> {
    let mut lab = Lab::bare(LabOptions::new(env!("CARGO_BIN_EXE_flanneld")))?;
    lab.start_etcd()?;
    lab.add_hosts(2)?;
    lab.configure()?;
    for n in [1, 2] {
        // A subnet that none of the documents' commands names.
        let former = format!("FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.{n}.1/24\n");
        lab.host(n).write("/run/flannel/subnet.env", former)?;
        lab.start_flanneld(n, &[])?.wait_ready(SOON)?;
    }
    Ok(lab)
}

/// Runs a script where the tool is found; all that it says.
fn said(lab: &Lab, script: &str) -> Result<String, lab::LabError> {
    let directory = rflannel()
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    lab.host(2)
        .sh(&format!("PATH={directory}:$PATH; cd /run\n{script}"))
}

#[test]
fn the_commands_of_the_guides_do_what_they_say() -> Test {
    let lines: Vec<String> = GUIDES
        .iter()
        .flat_map(|path| commands(&document(path)))
        .collect();
    assert!(
        lines
            .iter()
            .filter(|line| line.contains("rflannel "))
            .count()
            >= 13,
        "{lines:?}"
    );
    let said = said(&lab()?, &script(&lines))?;
    for words in [
        "172.30.2.0/24",
        "owner    h2",
        "wrote /kubernetes/network/subnets/172.30.200.0-24",
        "deleted /kubernetes/network/subnets/172.30.200.0-24",
        "would write /kubernetes/network/subnets/172.30.77.0-24",
        "network   172.30.0.0/16, 255 subnets of /24",
        "the MTU changes with the next start",
        "/run/bundle.tar.gz: ",
        "ok    the lease of 172.30.",
    ] {
        assert!(said.contains(words), "{words:?} is missing:\n{said}");
    }
    Ok(())
}

#[test]
fn the_commands_of_the_readme_do_what_they_say() -> Test {
    let lines = commands(&document("README.md"));
    assert_eq!(lines.len(), 5, "{lines:?}");
    let exports: Vec<String> = commands(&document(GUIDES[0]))
        .into_iter()
        .filter(|line| line.starts_with("export "))
        .collect();
    let lab = lab()?;
    lab.host(2).write(
        "/run/network.json",
        NETWORK.replace("\"Type\"", "\"MTU\":1400,\"Type\""),
    )?;
    let said = said(&lab, &(script(&exports) + &script(&lines)))?;
    for words in [
        "0 with problems",
        "would write /kubernetes/network/subnets/172.30.77.0-24",
        "the MTU changes with the next start",
        "rflannel-h2.tar.gz: ",
        "ok    the lease of 172.30.",
    ] {
        assert!(said.contains(words), "{words:?} is missing:\n{said}");
    }
    Ok(())
}
