//! How it is, and why not better: pure. Health, metrics, the status and its exit code all follow this one judgement.

use super::report::{Etcd, Overlay, Report, State, Trouble};
use crate::util::table::count;

/// How the daemon that wrote this report is.
///
/// Ready is a host that serves: its own address, device and files are in place, and the others send its traffic here. An
/// outage of etcd does not change readiness: it affects all hosts at once, and packets keep flowing.
pub fn judge(report: &Report) -> (State, Vec<String>) {
    let (serious, mild) = match &report.overlay {
        None if report.status.is_empty() => (vec!["starting".to_owned()], Vec::new()),
        None => (vec![report.status.clone()], Vec::new()),
        Some(overlay) => (obstacles(overlay), defects(overlay)),
    };
    let is_serious = !serious.is_empty();
    let mut reasons = serious;
    reasons.extend(mild);
    reasons.extend(report.socket.clone());
    reasons.extend(report.etcd.iter().flat_map(troubles));
    let state = match (is_serious, reasons.is_empty()) {
        (true, _) => State::NotReady,
        (false, false) => State::Degraded,
        (false, true) => State::Fine,
    };
    (state, reasons)
}

/// What keeps a host from serving.
fn obstacles(overlay: &Overlay) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(overlay.lost.clone());
    found.extend(overlay.kernel.clone());
    found.extend(overlay.trouble.clone());
    if !overlay.settled && overlay.stale.is_none() {
        found.push("reading the leases for the first time".into());
    }
    if overlay.firewall.is_none() {
        found.push("checking the firewall rules for the first time".into());
    }
    if overlay.entries.missing.address > 0 {
        found.push("the overlay device lacks the address of this host".into());
    }
    found
}

/// What a host that serves has to complain of.
fn defects(overlay: &Overlay) -> Vec<String> {
    let Overlay {
        peers, reconcile, ..
    } = overlay;
    let mut found = Vec::new();
    if let Some(age) = overlay.stale {
        found.push(format!(
            "STALE: etcd has not answered since the start, the peers are {age:.0} s old"
        ));
    }
    let failing = peers.desired - peers.installed.min(peers.desired);
    let counts = [
        (
            failing,
            "peer has entries missing in the kernel",
            "peers have entries missing in the kernel",
        ),
        (peers.refused, "lease is not used", "leases are not used"),
        (
            peers.contested,
            "lease conflicts with a newer one",
            "leases conflict with newer ones",
        ),
        (
            reconcile.flapping.len(),
            "object is flapping: another program keeps modifying it",
            "objects are flapping: another program keeps modifying them",
        ),
    ];
    for (number, one, several) in counts.into_iter().filter(|(number, ..)| *number > 0) {
        found.push(count(number, one, several));
    }
    found.extend(overlay.files.clone());
    if overlay.duplicate_count > 0 {
        let named: Vec<String> = overlay.duplicates.iter().map(ToString::to_string).collect();
        found.push(format!(
            "duplicate public addresses: {} ({}); give each host its own address",
            overlay.duplicate_count,
            named.join("; ")
        ));
    }
    found.extend(overlay.leftovers.iter().cloned());
    if let Some(firewall) = &overlay.firewall {
        let missing = |why| format!("firewall rules are missing: {why}");
        found.extend(firewall.trouble.as_ref().map(missing));
        found.extend(firewall.obstacle.clone());
        if firewall.flapping {
            found.push("another program keeps modifying the firewall rules".into());
        }
    }
    found
}

fn troubles(etcd: &Etcd) -> Vec<String> {
    let mut found = Vec::new();
    for (what, trouble) in [
        ("the watch of the leases has been broken", &etcd.lost),
        ("renewing the lease of this host has failed", &etcd.renewal),
    ] {
        if let Some(Trouble { since, why }) = trouble {
            found.push(format!("{what} for {since:.0} s: {why}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::report::{ByKind, Duplicate, Firewall, Peers, Reconcile, Trouble};
    use super::*;

    fn serving() -> Report {
        let peers = Peers {
            desired: 3,
            installed: 3,
            ..Peers::default()
        };
        let firewall = Some(Firewall::default());
        let overlay = Overlay {
            listed: true,
            settled: true,
            peers,
            firewall,
            ..Overlay::default()
        };
        let etcd = Etcd {
            watching: true,
            ..Etcd::default()
        };
        Report {
            overlay: Some(overlay),
            etcd: Some(etcd),
            ..Report::default()
        }
    }

    type Row = (
        &'static str,
        fn(&mut Report, &mut Overlay, &mut Etcd),
        State,
        &'static str,
    );

    /// A fault each, the state that it leads to, and words of the reason.
    fn rows() -> [Row; 17] {
        [
            (
                "bridge",
                |_, o, _| o.leftovers = vec!["cni0 has x".into()],
                State::Degraded,
                "cni0 has x",
            ),
            (
                "duplicate",
                |_, o, _| {
                    let subnets = vec!["10.5.1.0/24".into(), "10.5.2.0/24".into()];
                    let hosts = [("10.5.2.0/24".to_owned(), "h2".to_owned())].into();
                    o.duplicates = vec![Duplicate {
                        ip: "192.0.2.1".into(),
                        subnets,
                        hosts,
                    }];
                    o.duplicate_count = 1;
                },
                State::Degraded,
                "duplicate public addresses: 1 (192.0.2.1 by 10.5.1.0/24, 10.5.2.0/24 (h2)",
            ),
            ("nothing", |_, _, _| (), State::Fine, ""),
            (
                "lost",
                |_, o, _| o.lost = Some("lost to x".into()),
                State::NotReady,
                "lost to x",
            ),
            (
                "kernel",
                |_, o, _| o.kernel = Some("no device".into()),
                State::NotReady,
                "no device",
            ),
            (
                "trouble",
                |_, o, _| o.trouble = Some("no eth0".into()),
                State::NotReady,
                "no eth0",
            ),
            (
                "firewall",
                |_, o, _| o.firewall = None,
                State::NotReady,
                "firewall rules for the first time",
            ),
            (
                "listing",
                |_, o, _| o.settled = false,
                State::NotReady,
                "first time",
            ),
            (
                "address",
                |_, o, _| {
                    o.entries.missing = ByKind {
                        address: 1,
                        ..ByKind::default()
                    }
                },
                State::NotReady,
                "lacks the address of this host",
            ),
            (
                "stale",
                |_, o, _| (o.settled, o.stale) = (false, Some(90.0)),
                State::Degraded,
                "STALE: etcd has not answered since the start, the peers are 90 s old",
            ),
            (
                "failing",
                |_, o, _| o.peers.installed = 1,
                State::Degraded,
                "2 peers",
            ),
            (
                "refused",
                |_, o, _| o.peers.refused = 4,
                State::Degraded,
                "4 leases are not used",
            ),
            (
                "contested",
                |_, o, _| o.peers.contested = 5,
                State::Degraded,
                "5 leases conflict",
            ),
            (
                "flapping",
                |_, o, _| {
                    o.reconcile = Reconcile {
                        flapping: vec!["x".into()],
                        ..Reconcile::default()
                    }
                },
                State::Degraded,
                "1 object is flapping",
            ),
            (
                "obstacle",
                |_, o, _| {
                    let obstacle = Some("the rule x".into());
                    o.firewall = Some(Firewall {
                        obstacle,
                        ..Firewall::default()
                    });
                },
                State::Degraded,
                "the rule x",
            ),
            (
                "file",
                |_, o, _| o.files = vec!["x was changed".into()],
                State::Degraded,
                "x was changed",
            ),
            (
                "etcd away",
                |_, _, e| {
                    e.lost = Some(Trouble {
                        since: 7.0,
                        why: "refused".into(),
                    })
                },
                State::Degraded,
                "been broken for 7 s: refused",
            ),
        ]
    }

    #[test]
    fn each_fault_has_its_state_and_its_words() {
        for (name, fault, state, words) in rows() {
            let mut report = serving();
            let (mut overlay, mut etcd) =
                (report.overlay.take().unwrap(), report.etcd.take().unwrap());
            fault(&mut report, &mut overlay, &mut etcd);
            (report.overlay, report.etcd) = (Some(overlay), Some(etcd));
            let (found, reasons) = judge(&report);
            assert_eq!(found, state, "{name}: {reasons:?}");
            assert_eq!(
                reasons.len(),
                usize::from(!words.is_empty()),
                "{name}: {reasons:?}"
            );
            assert!(reasons.concat().contains(words), "{name}: {reasons:?}");
        }
    }

    #[test]
    fn before_there_is_a_lease_the_status_is_the_reason() {
        let waiting = Report {
            status: "waiting: no config".into(),
            ..Report::default()
        };
        assert_eq!(
            judge(&waiting),
            (State::NotReady, vec!["waiting: no config".into()])
        );
        assert_eq!(
            judge(&Report::default()),
            (State::NotReady, vec!["starting".into()])
        );
    }

    #[test]
    fn obstacles_come_first() {
        let mut report = serving();
        if let Some(overlay) = &mut report.overlay {
            (overlay.peers.refused, overlay.lost) = (1, Some("lost".into()));
        }
        let (state, reasons) = judge(&report);
        assert_eq!(
            (state, reasons[0].as_str(), reasons.len()),
            (State::NotReady, "lost", 2)
        );
    }
}
