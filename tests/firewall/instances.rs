//! Two daemons on one host share the chains and leave each other's rules alone.

use lab::{Lab, LabError, Node, Process};

use super::Test;
use super::host::{KINDS, Kind, becomes, host, restart};

/// A second daemon on host 1: another prefix, network, VNI and set of files.
fn second(lab: &Lab, kind: Kind, flags: &[&str]) -> Result<Process, LabError> {
    let network = kind
        .network()
        .replace("172.30.", "10.99.")
        .replace("\"vxlan\"", "\"vxlan\",\"VNI\":2");
    lab.etcd()?.put("/other/config", &network)?;
    let node = lab.host(1);
    let mut command = node.command([env!("CARGO_BIN_EXE_flanneld")]);
    command.args(lab.flanneld_args()?).args(flags).args([
        "-etcd-prefix=/other",
        "-subnet-file=/run/other/subnet.env",
        "-state-file=none",
        "-status-socket=none",
    ]);
    node.start("other", command)
}

/// Lines that are about a network.
fn about(node: &Node, kind: Kind, network: &str) -> Result<String, LabError> {
    let rules = kind.rules(node)?;
    Ok(rules
        .lines()
        .filter(|line| line.contains(network))
        .map(|line| format!("{line}\n"))
        .collect())
}

#[test]
fn each_daemon_has_its_own_rules() -> Test {
    for kind in KINDS {
        let mut lab = host(kind, &["-ip-masq", "-iptables-resync=1"])?;
        let first = about(lab.host(1), kind, "172.30.")?;
        assert_eq!(first.lines().count(), 7, "{kind:?}: {first}");
        let mut other = second(&lab, kind, &["-ip-masq", "-iptables-resync=1"])?;
        let count = |lab: &Lab, network: &str| {
            Ok(about(lab.host(1), kind, network)?
                .lines()
                .count()
                .to_string())
        };
        becomes(
            &format!("{kind:?}: the other one has its rules"),
            "7",
            || count(&lab, "10.99."),
        );
        assert_eq!(
            about(lab.host(1), kind, "172.30.")?,
            first,
            "{kind:?}: and the first one its own"
        );

        restart(&mut lab, 1, &["-iptables-forward-rules=false"])?;
        becomes(&format!("{kind:?}: the first one's go"), "0", || {
            count(&lab, "172.30.")
        });
        assert_eq!(
            count(&lab, "10.99.")?,
            "7",
            "{kind:?}: the other one's stay"
        );
        let rules = kind.rules(lab.host(1))?;
        assert!(rules.contains("4000"), "{kind:?}: with the guard: {rules}");

        restart(&mut lab, 1, &["-ip-masq", "-iptables-resync=1"])?;
        assert_eq!(
            about(lab.host(1), kind, "172.30.")?,
            first,
            "{kind:?}: and come back"
        );
        lab.host(1).sh("sleep 3")?;
        let log = other.log();
        assert!(
            other.running() && !log.contains("repaired") && !log.contains("WARN"),
            "{kind:?}: {log}"
        );
    }
    Ok(())
}
