//! `-probe-interval`: peers are probed through the overlay, and metrics and status tell of it.

use flanneld::status::report::State;
use lab::{Lab, LabOptions, wait_until};

use super::ask::{PORT, get};
use super::host::{Host, NETWORK, PEERS};
use super::scrape::Scrape;
use super::status::json;
use super::{SOON, Test};

const EVERY_SECOND: &str = "-probe-interval=1";

#[test]
fn answering_and_silent_peers_are_counted_and_named() -> Test {
    let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
        .no_tls()
        .network(NETWORK);
    let lab = Lab::start(options.hosts(3).flanneld_args([PORT, EVERY_SECOND]))?;
    let (node, peer) = (lab.host(1), lab.host(2));
    let scrape = || Scrape::parse(&get(node, "/metrics").2);
    let becomes = |reachable: f64, unreachable: f64| {
        let is = |scrape: &Scrape| {
            scrape.has("flannel_probed_peers", None)
                && scrape.get("flannel_probed_peers{state=\"reachable\"}") == reachable
                && scrape.get("flannel_probed_peers{state=\"unreachable\"}") == unreachable
        };
        assert!(
            wait_until(SOON, || is(&scrape())),
            "{:#?}",
            scrape().samples
        );
        scrape()
    };
    let first = becomes(2.0, 0.0);
    assert!(first.get("flannel_probes_total{result=\"answered\"}") >= 2.0);
    assert!(first.get("flannel_probe_seconds_count") >= 2.0);

    peer.sh("iptables -I INPUT -p udp --dport 8472 -j DROP")?;
    let broken = becomes(1.0, 1.0);
    assert!(broken.get("flannel_probes_total{result=\"lost\"}") >= 3.0);
    assert_eq!(
        broken.get("flannel_ready"),
        1.0,
        "a peer is no fault of this host"
    );
    let (code, report) = json(node, &[]);
    let probes = report.probes.unwrap_or_default();
    let subnet = lab.hosts()[1]
        .pod()
        .map(|pod| pod.subnet.to_string())
        .unwrap_or_default();
    assert_eq!(
        (code, report.state, probes.unreachable),
        (0, State::Fine, 1)
    );
    assert_eq!(
        probes.silent.first().map(|named| named.subnet.clone()),
        Some(subnet)
    );

    peer.sh("iptables -D INPUT -p udp --dport 8472 -j DROP")?;
    becomes(2.0, 0.0);
    Ok(())
}

/// No one is probed unless someone asks for it; then who leaves is forgotten.
#[test]
fn no_probes_without_the_flag() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    let page = Scrape::parse(&get(host.node(), "/metrics").2);
    assert!(!page.has("flannel_probed_peers", None) && json(host.node(), &[]).1.probes.is_none());
    host.lab
        .start_flanneld(1, &[EVERY_SECOND])?
        .wait_ready(SOON)?;
    let node = host.node().clone();
    let unreachable = || json(&node, &[]).1.probes.unwrap_or_default().unreachable;
    assert!(
        wait_until(SOON, || unreachable() == PEERS),
        "peers that exist in etcd only do not answer"
    );
    host.lab.etcd()?.delete(&super::host::lease_key(1))?;
    assert!(
        wait_until(SOON, || unreachable() == PEERS - 1),
        "one has left"
    );
    Ok(())
}
