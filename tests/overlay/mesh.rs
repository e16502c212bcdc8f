//! All hosts reach all others, few or as many as the network has subnets.

use std::collections::BTreeSet;

use lab::{Lab, Signal};

use super::assertions::assert_mesh;
use super::support::PATIENCE;
use super::{Test, eventually, options, prepared};

/// Bytes of the transfer between pods.
const TRANSFER: usize = 5_000_000;

#[test]
fn pods_of_three_hosts_connect_with_three_etcd_members_and_tls() -> Test {
    let lab = Lab::start(options().etcd_members(3))?;
    let matrix = lab.ping_all(PATIENCE)?;
    assert_eq!(
        (matrix.pairs(), matrix.missing().count()),
        (6, 0),
        "{matrix:?}"
    );
    let vteps = assert_mesh(&lab, &[1, 2, 3], &[])?;
    for vtep in vteps {
        let value = lab.etcd()?.get(&vtep.key())?;
        assert_eq!(
            value,
            Some(vtep.value()),
            "byte for byte as Go flannel writes it"
        );
    }
    transfer(&lab)
}

/// Sends random bytes from the pod of h1 to that of h3.
fn transfer(lab: &Lab) -> Test {
    let (sender, receiver) = (lab.host(1).pod(), lab.host(3).pod());
    lab.host(1)
        .sh(&format!("head -c {TRANSFER} /dev/urandom > /run/sent"))?;
    let _server = receiver.spawn(
        "server",
        [
            "socat",
            "-u",
            "TCP-LISTEN:5000,reuseaddr",
            "CREATE:/run/received",
        ],
    )?;
    let address = lab.hosts()[2]
        .pod()
        .map(|pod| pod.address.to_string())
        .unwrap_or_default();
    let send = format!("socat -u OPEN:/run/sent TCP:{address}:5000,retry=100,interval=0.05");
    sender.sh(&send)?;
    let sum = |index: usize, path: &str| lab.host(index).sh(&format!("sha256sum < {path}"));
    let sent = sum(1, "/run/sent")?;
    eventually("all bytes as they were sent", || {
        sum(3, "/run/received").is_ok_and(|sum| sum == sent)
    });
    Ok(())
}

#[test]
fn full_network_of_32_subnets_gives_each_freed_one_to_one_host() -> Test {
    let network = r#"{"Network":"10.5.0.0/19","SubnetLen":24,"SubnetMin":"10.5.0.0","Backend":{"Type":"vxlan"}}"#;
    let mut lab = prepared(options().network(network), 33)?;
    for index in 1..=32 {
        lab.start_flanneld(index, &[])?;
    }
    lab.wait_all_ready(PATIENCE)?;
    let hosts: Vec<usize> = (1..=32).collect();
    let vteps = assert_mesh(&lab, &hosts, &[])?;
    assert_eq!(
        vteps
            .iter()
            .map(|vtep| vtep.subnet)
            .collect::<BTreeSet<_>>()
            .len(),
        32
    );
    assert_eq!(
        vteps
            .iter()
            .map(|vtep| &vtep.mac)
            .collect::<BTreeSet<_>>()
            .len(),
        32
    );

    let late = lab.start_flanneld(33, &[])?;
    let full = "network 10.5.0.0/19 is full: all 32 subnets of /24 are leased";
    eventually("the 33rd says why it waits", || {
        late.notify()
            .status()
            .is_some_and(|status| status.contains(full))
    });
    assert!(late.process().log().contains(full));
    assert!(!late.notify().ready());

    lab.end_flanneld(32, Signal::TERM)?;
    let gone = &vteps[31];
    lab.etcd()?.delete(&gone.key())?;
    lab.flanneld(33)?.wait_ready(PATIENCE)?;
    let hosts: Vec<usize> = (1..=33).filter(|index| *index != 32).collect();
    let now = assert_mesh(&lab, &hosts, &[])?;
    assert_eq!(
        now.last().map(|vtep| vtep.subnet),
        Some(gone.subnet),
        "the subnet that became free"
    );
    Ok(())
}
