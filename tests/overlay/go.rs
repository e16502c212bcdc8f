//! Hosts that a Go flanneld has left, as they were recorded: taken over as they are, under traffic.

use crate::support::tool::rflannel;
use lab::{Lab, LabError, Signal};

use super::assertions::{Monitor, Vtep};
use super::support::PATIENCE;
use super::support::go::Recorded;
use super::support::steady_ping::SteadyPing;
use super::{Test, eventually, options, prepared};

/// Gives the host `{n}` the IPv6 underlay that was recorded, and no other.
pub(super) const IPV6: &str = "ip -6 addr flush dev eth0 scope global
    ip -6 addr add fd10::{n}/64 dev eth0 nodad; ip -6 route replace default via fd10::ff dev eth0";

fn take_over(name: &str) -> Test {
    let recorded = Recorded::new(name);
    let mut lab = prepared(options().network(recorded.text("config.json")), 2)?;
    recorded.lease_all(&lab)?;
    for n in [1, 2] {
        lab.host(n).sh(&IPV6.replace("{n}", &n.to_string()))?;
    }
    recorded.start_peer(&mut lab)?;
    lab.host(2).sh(&recorded.by_hand())?;
    recorded.load_rules(lab.host(2))?;
    lab.host(2)
        .write("/run/flannel/subnet.env", recorded.text("subnet.env"))?;
    recorded.assert_as_recorded(lab.host(2), &recorded.text("subnet.env"))?;
    let pod = lab.wire_pod(2)?;
    let ping = SteadyPing::start(lab.host(1), pod.address)?;
    let monitor = Monitor::start(lab.host(2))?;

    let flags = recorded.text("flags");
    lab.start_flanneld(2, &flags.split_whitespace().collect::<Vec<_>>())?
        .wait_ready(PATIENCE)?;
    recorded.assert_rules(lab.host(2))?;
    ping.assert_nothing_lost();
    assert_eq!(
        monitor.changes()?,
        [""; 0],
        "{name}: not one change in the kernel"
    );
    recorded.assert_as_recorded(lab.host(2), &recorded.wanted_env())?;
    recorded.assert_leases(&lab)?;
    give_back(&mut lab, &recorded)?;
    ping.assert_nothing_lost();
    Ok(())
}

/// What a swap must not change, and what it must do again.
struct Swapped {
    subnet: String,
    mac: String,
    lease: Option<String>,
    file: String,
}

impl Swapped {
    fn of(lab: &Lab, recorded: &Recorded) -> Result<Self, LabError> {
        let host = lab.host(2);
        let key = format!("/kubernetes/network/subnets/{}", recorded.own_key());
        Ok(Self {
            subnet: host.sh("grep SUBNET /run/flannel/subnet.env")?,
            mac: host.sh("cat /sys/class/net/flannel.1/address")?,
            lease: lab.etcd()?.get(&key)?,
            file: host.sh("stat -c '%i %z' /run/flannel/subnet.env")?,
        })
    }
}

/// The pings of the other tests would go on if the daemon did nothing at all: here it has to take part.
#[test]
fn swapped_daemon_follows_peers_that_join_during_and_after() -> Test {
    let recorded = Recorded::new("v0.28.9-vxlan");
    let mut lab = prepared(options().network(recorded.text("config.json")), 2)?;
    recorded.lease_all(&lab)?;
    lab.host(2).sh(&recorded.by_hand())?;
    recorded.load_rules(lab.host(2))?;
    lab.host(2)
        .write("/run/flannel/subnet.env", recorded.text("subnet.env"))?;
    let before = Swapped::of(&lab, &recorded)?;
    let flags = recorded.text("flags");
    let [during, after] = [Vtep::invented(101), Vtep::invented(102)];

    lab.start_flanneld(2, &flags.split_whitespace().collect::<Vec<_>>())?;
    lab.etcd()?.put(&during.key(), during.value())?;
    lab.flanneld(2)?.wait_ready(PATIENCE)?;
    let now = Swapped::of(&lab, &recorded)?;
    assert_eq!(
        (&now.subnet, &now.mac, &now.lease),
        (&before.subnet, &before.mac, &before.lease)
    );
    assert!(now.lease.is_some());
    assert_ne!(now.file, before.file, "subnet.env is written again");

    lab.etcd()?.put(&after.key(), after.value())?;
    for peer in [during, after] {
        eventually("a peer is programmed", || peer.is_programmed(lab.host(2)));
    }
    Ok(())
}

/// After `rflannel handover` a Go daemon finds what one had left, and nothing else.
fn give_back(lab: &mut Lab, recorded: &Recorded) -> Test {
    lab.end_flanneld(2, Signal::TERM)?;
    let mut flags = lab.flanneld_args()?;
    flags.extend(recorded.text("flags").split_whitespace().map(str::to_owned));
    let said = lab.host(2).sh(&format!(
        "{} handover --yes -- {}",
        rflannel(),
        flags.join(" ")
    ))?;
    assert!(
        said.contains("ok    the lease of ") && said.contains("ready for Go flannel"),
        "{said}"
    );
    recorded.assert_as_recorded(lab.host(2), &recorded.wanted_env())?;
    recorded.assert_rules(lab.host(2))?;
    let own = format!("/kubernetes/network/owners/{}", recorded.own_key());
    assert_eq!(lab.etcd()?.get(&own)?, None);
    recorded.assert_leases(lab)
}

#[test]
fn a_host_of_v0_28_is_taken_over_as_it_is() -> Test {
    take_over("v0.28.9-vxlan")
}

#[test]
fn a_host_of_v0_20_is_taken_over_as_it_is() -> Test {
    take_over("v0.20.2-vxlan")
}

#[test]
fn host_with_other_vni_port_mtu_and_gbp_is_adopted_unchanged() -> Test {
    take_over("v0.28.9-tuned")
}

#[test]
fn a_host_with_both_families_is_taken_over_as_it_is() -> Test {
    take_over("v0.28.9-dual")
}

#[test]
fn a_host_with_direct_routes_is_taken_over_as_it_is() -> Test {
    take_over("v0.28.9-direct")
}

#[test]
fn a_host_in_nftables_mode_is_taken_over_as_it_is() -> Test {
    take_over("v0.28.9-nftables")
}
