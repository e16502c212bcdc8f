//! Every command of docs/operations.md, in a lab as it has them: two hosts, a daemon on each, etcd with TLS.

use std::fs;

use rflannel::lab::{Lab, LabOptions};

use super::{RFLANNEL, SOON, Test};

/// The lines of its blocks for a shell.
fn commands(document: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("{}/{document}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_commands_of_the_document_do_what_they_say() -> Test {
    let mut lab = Lab::bare(LabOptions::new(env!("CARGO_BIN_EXE_flanneld")))?;
    lab.start_etcd()?;
    lab.add_hosts(2)?;
    lab.configure()?;
    for n in [1, 2] {
        lab.start_flanneld(n, &[])?.wait_ready(SOON)?;
    }
    let lines = commands("docs/operations.md");
    assert!(lines.iter().filter(|line| line.contains("rflannel ")).count() >= 13, "{lines:?}");
    let directory = RFLANNEL.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut script = format!("set -e; PATH={directory}:$PATH\n");
    for line in &lines {
        // Refused: the host is alive.
        let may_fail = if line.contains("lease move") { " || test $? = 1" } else { "" };
        let command = line.split(" # ").next().unwrap_or(line).trim_end();
        script += &format!("{command}{may_fail}\n");
    }
    let said = lab.host(2).sh(&script)?;
    for words in [
        "172.30.",
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
