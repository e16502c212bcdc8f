//! `/healthz` and `/readyz`.

use lab::{Lab, LabOptions, Signal, wait_until};

use super::Test;
use super::ask::{PORT, becomes, get};
use super::host::{Host, NETWORK, lease_value};

const TEXT: &str = "text/plain; charset=utf-8";

fn page(code: u16, body: &str) -> (u16, String, String) {
    (code, TEXT.into(), body.into())
}

#[test]
fn port_opens_before_configuration_and_readiness_after() -> Test {
    let options = LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
        .no_tls()
        .network(NETWORK);
    let mut lab = Lab::bare(options)?;
    lab.start_etcd()?;
    lab.etcd()?.wait_healthy()?;
    lab.add_hosts(1)?;
    lab.start_flanneld(1, &[PORT])?;
    let node = lab.host(1).clone();
    let body = becomes(&node, "/readyz", 503, "no network configuration");
    assert!(
        body.starts_with("flanneld is not ready yet\nwaiting: no network configuration at /"),
        "{body}"
    );
    assert_eq!(get(&node, "/healthz"), page(200, "flanneld is running"));
    assert_eq!(get(&node, "/other"), page(404, "404 page not found\n"));
    assert!(!lab.flanneld(1)?.notify().ready());
    lab.configure()?;
    becomes(&node, "/readyz", 200, "");
    assert_eq!(get(&node, "/readyz"), page(200, "flanneld is ready"));
    assert!(lab.flanneld(1)?.notify().ready(), "as systemd is told");
    Ok(())
}

#[test]
fn a_lost_lease_is_not_ready_and_says_why() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    becomes(host.node(), "/readyz", 200, "flanneld is ready");
    let (key, _) = host.lease()?;
    host.lab.etcd()?.put(&key, lease_value(77))?;
    becomes(
        host.node(),
        "/readyz",
        503,
        "flanneld is not ready yet\nLEASE LOST to 10.64.9.77",
    );
    assert_eq!(
        get(host.node(), "/healthz"),
        page(200, "flanneld is running"),
        "nothing that a restart cures"
    );
    host.lab.etcd()?.delete(&key)?;
    becomes(host.node(), "/readyz", 200, "flanneld is ready");
    Ok(())
}

/// No one is taken out of service by an outage that hits all hosts at once; anyone who wants to know asks for it.
#[test]
fn without_etcd_a_host_is_ready_and_says_what_is_wrong() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    let node = host.node().clone();
    let saved = || node.sh("test -s /run/flannel/state.json").is_ok();
    assert!(wait_until(super::SOON, saved), "the state file is written");
    host.lab.etcd_mut()?.kill(1)?;
    becomes(
        &node,
        "/readyz",
        200,
        "flanneld is ready\nthe watch of the leases has been broken for",
    );
    becomes(
        &node,
        "/readyz?strict",
        503,
        "flanneld is not ready yet\nthe watch of the leases has been broken for",
    );

    host.lab.end_flanneld(1, Signal::KILL)?;
    host.lab.start_flanneld(1, &[])?.wait_ready(super::SOON)?;
    becomes(
        &node,
        "/readyz",
        200,
        "flanneld is ready\nSTALE: etcd has not answered",
    );
    assert_eq!(get(&node, "/healthz"), page(200, "flanneld is running"));

    host.lab.etcd_mut()?.start_member(1)?;
    becomes(&node, "/readyz?strict", 200, "flanneld is ready");
    assert_eq!(get(&node, "/readyz"), page(200, "flanneld is ready"));
    Ok(())
}

/// Another program has the port: the overlay comes up all the same, and the health port once it is free.
#[test]
fn a_port_in_use_is_waited_for() -> Test {
    let mut lab = Lab::bare(
        LabOptions::new(env!("CARGO_BIN_EXE_flanneld"))
            .no_tls()
            .network(NETWORK),
    )?;
    lab.start_etcd()?;
    lab.configure()?;
    lab.add_hosts(1)?;
    let node = lab.host(1).clone();
    let squatter = node.spawn("squatter", ["socat", "TCP-LISTEN:8471,fork,reuseaddr", "-"])?;
    node.sh("until ss -tln | grep -q :8471; do sleep 0.02; done")?;
    lab.start_flanneld(1, &[PORT])?.wait_ready(super::SOON)?;
    let log = lab.flanneld(1)?.process().log();
    assert!(
        log.contains("cannot open the health port 0.0.0.0:8471: Address already in use"),
        "{log}"
    );
    drop(squatter);
    becomes(&node, "/healthz", 200, "flanneld is running");
    Ok(())
}
