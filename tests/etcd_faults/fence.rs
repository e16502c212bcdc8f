//! Fencing, with everything real: four daemons, an etcd of three members with mutual TLS, one subnet more than there are
//! hosts. Things go wrong two at a time; then every revision that etcd ever had is read and checked.
//!
//! `RFLANNEL_TEST_SEED=n` runs one seed; what happens in one is the same each time, when it happens is not.

mod history;
mod trouble;

use std::time::Duration;

use lab::{Lab, LabError, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::outage::RECOVERED;
use crate::{PATIENCE, Test, connected, log, options, peers};
use trouble::Trouble;

const HOSTS: u8 = 4;
const SUBNETS: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"SubnetMin":"172.30.1.0","SubnetMax":"172.30.5.0","Backend":{"Type":"vxlan"}}"#;
const SEED: &str = "RFLANNEL_TEST_SEED";
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(25);

#[test]
fn no_shared_subnet_and_no_needless_move() -> Test {
    let seed = std::env::var(SEED)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let mut lab = Lab::start(options(HOSTS).network(SUBNETS))?;
    let lab = &mut lab;
    let story = troubles(lab, &mut StdRng::seed_from_u64(seed))?;
    let told = format!("{SEED}={seed}: {story:?}");
    println!("{told}");
    lab.etcd()?.wait_healthy()?;
    recovers(lab, &told)?;
    let broken = history::broken_promises(lab)?;
    assert!(broken.is_empty(), "{told}\n{broken:#?}");
    Ok(())
}

/// Two things at once, again and again. What was done to whom.
fn troubles(lab: &mut Lab, random: &mut StdRng) -> Result<Vec<Trouble>, LabError> {
    let (mut story, end) = (Vec::new(), Instant::now() + TROUBLE);
    let mut pair = trouble::THEFT;
    while Instant::now() < end {
        pair.iter().try_for_each(|trouble| trouble.begin(lab))?;
        std::thread::sleep(Duration::from_millis(random.random_range(100..2500)));
        pair.iter().rev().try_for_each(|trouble| trouble.end(lab))?;
        history::settle(lab);
        std::thread::sleep(Duration::from_millis(
            [0, 0, 300, 1500][random.random_range(0..4)],
        ));
        story.extend(std::mem::replace(&mut pair, trouble::pair(random)));
    }
    Ok(story)
}

/// What is due when all faults are over: every host has one lease, all kernels hold what the leases say, and who lost a
/// subnet knows it and has another one after the restart that an operator gives it.
fn recovers(lab: &mut Lab, told: &str) -> Test {
    lab.wait_all_ready(PATIENCE)?;
    let lost = |lab: &mut Lab, host| {
        let status = lab
            .flanneld(host)
            .ok()
            .and_then(|flanneld| flanneld.notify().status());
        status.is_some_and(|status| status.contains("LEASE LOST"))
    };
    let right = wait_until(PATIENCE, || {
        (1..=HOSTS.into()).all(|host| holds_own(lab, host) != lost(lab, host))
    });
    assert!(
        right,
        "who has a subnet and who says so differ: {told}\n{:?}\n{}",
        peers::leases(lab.etcd()?)?,
        logs(lab)
    );
    for host in 1..=HOSTS.into() {
        if lost(lab, host) {
            lab.start_flanneld(host, &[])?.wait_ready(PATIENCE)?;
        }
    }
    peers::all_converged(lab, RECOVERED)?;
    let each = wait_until(PATIENCE, || {
        (1..=HOSTS.into()).all(|host| holds_own(lab, host))
    });
    let leases = peers::leases(lab.etcd()?)?;
    assert!(
        each && leases.len() == usize::from(HOSTS),
        "one lease a host: {told}\n{leases:?}\n{}",
        logs(lab)
    );
    lab.wire_all()?;
    connected(lab)
}

/// Whether the lease of the subnet that a host serves announces this host.
fn holds_own(lab: &Lab, host: usize) -> bool {
    let node = lab.host(host);
    let subnet = node
        .sh("sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env")
        .unwrap_or_default();
    let name = subnet.trim().replace(".1/", ".0-");
    let leases = lab.etcd().and_then(peers::leases).unwrap_or_default();
    leases
        .get(&name)
        .is_some_and(|lease| lease["PublicIP"] == node.address().to_string().as_str())
}

fn logs(lab: &Lab) -> String {
    lab.hosts()
        .iter()
        .map(|host| format!("{}:\n{}\n", host.node().name(), log(host.node())))
        .collect()
}
