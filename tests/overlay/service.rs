//! What the service manager is told, and when.

use lab::{Flanneld, Lab, Signal, wait_until};

use super::assertions::{Vtep, assert_peers, entries};
use super::support::PATIENCE;
use super::{FLANNELD, Test, eventually, options, prepared};

/// Half a second, as systemd says it: in microseconds.
const WATCHDOG: &str = "500000";

/// Starts the daemon of h1 with a watchdog and files for docker.
fn start(lab: &Lab) -> Result<Flanneld, lab::LabError> {
    let mut command = lab.host(1).command([FLANNELD]);
    command.args(lab.flanneld_args()?).args([
        "-docker-opts-file=/run/flannel/docker",
        "-docker-opts-key=OPTS",
    ]);
    command.env("WATCHDOG_USEC", WATCHDOG);
    Flanneld::start(lab.host(1), command)
}

fn heard(flanneld: &Flanneld, line: &str) -> usize {
    flanneld
        .notify()
        .lines()
        .iter()
        .filter(|heard| *heard == line)
        .count()
}

#[test]
fn ready_is_sent_once_after_files_and_peers() -> Test {
    let lab = prepared(options(), 1)?;
    let peers: Vec<Vtep> = (1..=100).map(Vtep::invented).collect();
    for peer in &peers {
        lab.etcd()?.put(&peer.key(), peer.value())?;
    }
    let mut flanneld = start(&lab)?;
    // Without a pause between looks: nothing may come after the word.
    while !flanneld.notify().ready() && flanneld.process().running() {
        std::hint::spin_loop();
    }
    flanneld.process().signal(Signal::STOP)?;
    assert_eq!(
        entries(lab.host(1)).len(),
        3 * peers.len(),
        "all peers of the first list"
    );
    let own = Vtep::of(lab.host(1))?;
    let gateway = format!("{}/24", own.subnet.nth(1).unwrap_or(own.ip));
    let subnet_env = format!(
        "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET={gateway}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    assert_eq!(lab.host(1).read("/run/flannel/subnet.env")?, subnet_env);
    let docker = format!(
        "DOCKER_OPT_BIP=\"--bip={gateway}\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n\
         OPTS=\" --bip={gateway} --ip-masq=true --mtu=1450\"\n"
    );
    assert_eq!(lab.host(1).read("/run/flannel/docker")?, docker);
    assert_eq!(lab.etcd()?.get(&own.key())?, Some(own.value()));
    assert!(
        lab.host(1)
            .sh("ip -4 -o addr show flannel.1")?
            .contains(&format!("{}/32", own.subnet.ip()))
    );

    let beats = heard(&flanneld, "WATCHDOG=1");
    flanneld.process().signal(Signal::CONT)?;
    eventually("the watchdog is fed", || {
        heard(&flanneld, "WATCHDOG=1") > beats + 1
    });
    assert_peers(lab.host(1), &peers);
    assert_eq!(heard(&flanneld, "READY=1"), 1);
    assert!(
        flanneld
            .notify()
            .status()
            .is_some_and(|status| status.ends_with(", 100 peers"))
    );
    stopped_it_feeds_no_watchdog(&mut flanneld)?;
    ends_well(&lab, flanneld, &own)
}

/// The watchdog is fed by the loop: a daemon that hangs says nothing.
fn stopped_it_feeds_no_watchdog(flanneld: &mut Flanneld) -> Test {
    flanneld.process().signal(Signal::STOP)?;
    let said = flanneld.notify().lines();
    assert!(!wait_until(std::time::Duration::from_secs(1), || flanneld
        .notify()
        .lines()
        != said));
    flanneld.process().signal(Signal::CONT)?;
    eventually("the watchdog is fed again", || {
        flanneld.notify().lines().len() > said.len()
    });
    Ok(())
}

fn ends_well(lab: &Lab, mut flanneld: Flanneld, own: &Vtep) -> Test {
    let before = entries(lab.host(1));
    flanneld.process().signal(Signal::TERM)?;
    assert_eq!(flanneld.process().wait(PATIENCE)?.code(), Some(0));
    eventually("STOPPING=1", || heard(&flanneld, "STOPPING=1") == 1);
    assert_eq!(
        flanneld.notify().lines().last().map(String::as_str),
        Some("STOPPING=1")
    );
    assert_eq!(entries(lab.host(1)), before, "the data plane stays");
    assert_eq!(
        lab.etcd()?.get(&own.key())?,
        Some(own.value()),
        "the lease stays"
    );
    Ok(())
}

/// From an empty cluster to a full start: the status at every stage, in an operator's words.
#[test]
fn status_names_each_stage_and_stop_works() -> Test {
    let mut lab = Lab::bare(options())?;
    lab.start_etcd()?;
    lab.add_hosts(1)?;
    lab.etcd()?.wait_healthy()?;
    let key = "/kubernetes/network/config";
    let says = |lab: &mut Lab, words: &str| -> Test {
        let flanneld = lab.start_flanneld(1, &[])?;
        eventually(words, || {
            flanneld
                .notify()
                .status()
                .is_some_and(|status| status.contains(words))
        });
        Ok(())
    };
    says(
        &mut lab,
        &format!("waiting: no network configuration at {key}"),
    )?;
    assert_eq!(
        lab.end_flanneld(1, Signal::INT)?.code(),
        Some(0),
        "waiting for a configuration"
    );

    lab.etcd_mut()?.kill(1)?;
    says(
        &mut lab,
        "waiting: cannot read the network configuration: https://10.64.255.1:2379: ",
    )?;
    assert_eq!(
        lab.end_flanneld(1, Signal::TERM)?.code(),
        Some(0),
        "waiting for etcd"
    );
    assert!(!lab.host(1).path("/sys/class/net/flannel.1").exists());

    says(
        &mut lab,
        "waiting: cannot read the network configuration: https://10.64.255.1:2379: ",
    )?;
    lab.etcd_mut()?.start_member(1)?;
    lab.configure()?;
    let flanneld = lab.flanneld(1)?;
    flanneld.wait_ready(PATIENCE)?;
    let lines = flanneld.notify().lines();
    let place = |words: &str| lines.iter().position(|line| line.contains(words));
    let stages = [
        "STATUS=waiting: ",
        "STATUS=acquiring a subnet of 172.30.0.0/16",
        ".0/24, 0 peers",
        "READY=1",
    ];
    let places: Vec<Option<usize>> = stages.into_iter().map(place).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{lines:?}"
    );
    Ok(())
}
