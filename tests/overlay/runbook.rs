//! What scripts and runbooks do with flannel: they look for its lines, and send it signals.

use lab::{Lab, Signal};

use super::assertions::{Vtep, assert_mesh};
use super::support::PATIENCE;
use super::{Test, options, prepared};

/// Starts the daemon, stops it, and wants these lines in its log, in this order.
fn says(lab: &mut Lab, flags: &[&str], lines: &[String]) -> Test {
    lab.host(1).sh("rm -f /run/flanneld.log")?;
    lab.start_flanneld(1, flags)?.wait_ready(PATIENCE)?;
    assert_eq!(lab.end_flanneld(1, Signal::TERM)?.code(), Some(0));
    let log = lab.host(1).read("/run/flanneld.log")?;
    let mut rest = log.as_str();
    for line in lines {
        let found = rest.split_once(line.as_str());
        assert!(found.is_some(), "{line:?} is not in its place: {log}");
        rest = found.map_or("", |(_, rest)| rest);
    }
    Ok(())
}

#[test]
fn lines_that_runbooks_look_for() -> Test {
    let mut lab = prepared(options(), 1)?;
    let start = |external: &str, lease: String| {
        [
            "Found network config - Backend type: vxlan".into(),
            "Using interface with name eth0 and address 10.64.0.1".into(),
            external.to_owned(),
            lease,
            "Lease acquired: 172.30.".into(),
            "Wrote subnet file to /run/flannel/subnet.env".into(),
            "Running backend.\n".into(),
            "watching for new subnet leases\n".into(),
            "bootstrap done\n".into(),
            "flannel is ready\n".into(),
            "Exiting cleanly...\n".into(),
        ]
    };
    let own = "Defaulting external address to interface address (10.64.0.1)";
    says(
        &mut lab,
        &[],
        &start(
            own,
            "Picking subnet in range 172.30.240.0 ... 172.30.255.0".into(),
        ),
    )?;
    let subnet = Vtep::of(lab.host(1))?.subnet;
    says(
        &mut lab,
        &[],
        &start(
            own,
            format!("Found lease ({subnet}) for current IP (10.64.0.1), reusing"),
        ),
    )?;
    let router = "Using 192.0.2.7 as external address";
    says(
        &mut lab,
        &["-public-ip=192.0.2.7"],
        &start(router, String::new())[..3],
    )
}

#[test]
fn a_hangup_ends_it_and_leaves_everything() -> Test {
    let mut lab = Lab::start(options().hosts(2))?;
    let before = assert_mesh(&lab, &[1, 2], &[])?;
    assert_eq!(
        lab.end_flanneld(1, Signal::HUP)?.code(),
        None,
        "by the signal"
    );
    assert_eq!(assert_mesh(&lab, &[1, 2], &[])?, before);
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    assert_eq!(assert_mesh(&lab, &[1, 2], &[])?, before);
    Ok(())
}
