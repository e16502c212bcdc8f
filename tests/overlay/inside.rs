//! The hosts' own addresses lie inside the overlay network, as in the example of flannel's README.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use lab::{Lab, Signal};

use super::assertions::{Vtep, assert_mesh};
use super::support::PATIENCE;
use super::{Test, eventually, options};

/// Hosts and etcd are at 10.64.x.y.
const NETWORKS: [&str; 3] = [
    r#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.0.0.0/8","SubnetLen":20,"Backend":{"Type":"vxlan","DirectRouting":true}}"#,
];

/// Few enough subnets for routes as Go flannel writes them.
const SMALL: &str = r#"{"Network":"10.64.0.0/10","SubnetLen":20,"SubnetMin":"10.100.0.0","Backend":{"Type":"vxlan"}}"#;

fn covering(subnet: &str, n: u8) -> Vtep {
    let subnet: Ipv4Network = subnet
        .parse()
        .unwrap_or(Ipv4Network::from(Ipv4Addr::UNSPECIFIED));
    Vtep {
        subnet,
        ..Vtep::invented(n)
    }
}

#[test]
fn pods_reach_each_other_although_hosts_are_inside_the_network() -> Test {
    for network in NETWORKS {
        let mut lab = Lab::start(options().network(network))?;
        let matrix = lab.ping_all(PATIENCE)?;
        let log = lab.host(1).read("/run/flanneld.log")?;
        assert_eq!(
            (matrix.pairs(), matrix.missing().count()),
            (6, 0),
            "{network}: {matrix:?}\n{log}"
        );
        lab.end_flanneld(1, Signal::KILL)?;
        lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
        assert_eq!(
            lab.ping_all(PATIENCE)?.missing().count(),
            0,
            "{network}: after a restart"
        );
        let log = lab.host(1).read("/run/flanneld.log")?;
        assert!(!log.contains("is not used"), "{log}");
    }
    Ok(())
}

/// Hosts 10.64.0.1 and 10.64.0.2, etcd at 10.64.255.1.
#[test]
fn lease_covering_an_underlay_address_is_refused_by_all() -> Test {
    let mut lab = Lab::start(options().network(SMALL).hosts(2))?;
    for (vtep, why) in [
        (
            covering("10.64.0.0/20", 4),
            "subnet 10.64.0.0/20 contains 10.64.0.{n}, this host's own address",
        ),
        (
            covering("10.64.240.0/20", 5),
            "subnet 10.64.240.0/20 contains 10.64.255.1, the address of an etcd endpoint",
        ),
    ] {
        lab.etcd()?.put(&vtep.key(), vtep.value())?;
        for index in [1, 2] {
            let why = why.replace("{n}", &index.to_string());
            let process = lab.flanneld(index)?.process();
            eventually(&why, || process.log().contains(&why));
        }
    }
    assert_mesh(&lab, &[1, 2], &[])?;
    // A peer that exists as a lease only, and later a lease that covers its address.
    let peer = Vtep {
        ip: [10, 70, 0, 7].into(),
        ..covering("10.98.0.0/20", 6)
    };
    let cover = covering("10.70.0.0/20", 7);
    lab.etcd()?.put(&peer.key(), peer.value())?;
    lab.etcd()?.put(&cover.key(), cover.value())?;
    let why = "subnet 10.70.0.0/20 contains 10.70.0.7, the public address of 10.98.0.0/20";
    for index in [1, 2] {
        let process = lab.flanneld(index)?.process();
        eventually(why, || process.log().contains(why));
    }
    assert_mesh(&lab, &[1, 2], std::slice::from_ref(&peer))?;
    lab.etcd()?.delete(&peer.key())?;
    assert_mesh(&lab, &[1, 2], &[cover])?;
    Ok(())
}
