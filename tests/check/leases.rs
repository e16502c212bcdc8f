//! Faults of the leases in etcd.

use lab::{Signal, wait_until};

use super::fixture::Bench;
use super::{PATIENCE, Test};

fn value(ip: &str, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    )
}

#[test]
fn the_peers_lease_is_gone() -> Test {
    let mut bench = Bench::start(2)?;
    bench.lab.end_flanneld(2, Signal::TERM)?;
    bench.lab.etcd()?.delete(&bench.key(2))?;
    for name in [bench.subnet(2), bench.base(2).replace(".0", ".7")] {
        let said = bench.check(1, &name);
        said.names(3, &bench.subnet(2), "lease-missing");
        said.says(&["no lease of", "in etcd (leases of other hosts: 0)"]);
    }
    bench.check(1, "10.64.0.2").finds(3, "lease-missing");
    Ok(())
}

/// Without a daemon no one makes the own key again; peers have dropped their entries.
#[test]
fn the_own_lease_is_gone() -> Test {
    let mut bench = Bench::start(2)?;
    let saved = || {
        bench
            .sh(
                1,
                &format!("grep -q {} /run/flannel/state.json", bench.base(2)),
            )
            .is_ok()
    };
    assert!(wait_until(PATIENCE, saved), "the state file is written");
    bench.kill(1)?;
    bench.lab.etcd()?.delete(&bench.key(1))?;
    let gone = format!("ip route show {} | grep -q flannel.1", bench.subnet(1));
    assert!(
        wait_until(PATIENCE, || bench.sh(2, &gone).is_err()),
        "the peer drops its entries"
    );
    let said = bench.check_alone(1, "");
    said.finds(3, "own-lease");
    said.names(3, &bench.subnet(2), "own-lease");
    Ok(())
}

#[test]
fn two_leases_announce_one_address() -> Test {
    let bench = Bench::start(2)?;
    bench.lab.etcd()?.put(
        "/kubernetes/network/subnets/172.30.9.0-24",
        value("10.64.0.2", "0a:00:00:00:00:09"),
    )?;
    let known = || {
        bench
            .sh(1, "ip route show 172.30.9.0/24 | grep -q flannel.1")
            .is_ok()
    };
    assert!(wait_until(PATIENCE, known), "the lease is used");
    let neighbors = || bench.sh(1, "ip neigh show 10.64.0.2 dev eth0 | cut -d' ' -f1-3");
    let before = neighbors()?;
    for target in ["172.30.9.0/24", "", "10.64.0.2"] {
        let said = bench.check(1, target);
        said.says(&["announce 10.64.0.2", "(h2)"]);
        said.names(3, "172.30.9.0/24", "duplicate-public-ip");
        if target.is_empty() {
            said.names(3, &bench.subnet(2), "duplicate-public-ip");
        }
        // It is certain before any packet is sent.
        assert!(
            !said.document.to_string().contains("overlay, to"),
            "{:#}",
            said.document
        );
    }
    assert_eq!(neighbors()?, before);
    Ok(())
}

/// A second host that is told to use the first one's address gets no lease, and learns why.
#[test]
fn two_hosts_claim_one_address() -> Test {
    let mut bench = Bench::prepared(2)?;
    bench.lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    bench.lab.start_flanneld(2, &["-public-ip=10.64.0.1"])?;
    let waits = || {
        bench
            .run(2, std::iter::empty())
            .1
            .contains("is alive and also announces the public address")
    };
    assert!(
        wait_until(PATIENCE, waits),
        "{}",
        bench.run(2, std::iter::empty()).1
    );
    let said = bench.check(2, "");
    said.finds(3, "duplicate-public-ip");
    said.says(&["announces 10.64.0.1, this host's address"]);
    Ok(())
}

#[test]
fn a_lease_that_cannot_be_used() -> Test {
    let bench = Bench::start(1)?;
    bench.lab.etcd()?.put(
        "/kubernetes/network/subnets/172.30.9.0-24",
        value("127.0.0.1", "0a:00:00:00:00:09"),
    )?;
    let said = bench.check(1, "172.30.9.0/24");
    said.names(3, "172.30.9.0/24", "lease-unusable");
    said.says(&["public address 127.0.0.1 is not the address of a host"]);
    Ok(())
}
