//! A report as people read it: pure.

use std::fmt::Write as _;

use super::report::{ByKind, Device, Etcd, Firewall, Overlay, Probes, Report};
use super::summary::plain;

use crate::util::table::count;

/// Width of the first column.
const NAME: usize = 10;

/// Lines of two columns.
#[derive(Default)]
struct Table(String);

/// The whole report, for a terminal. `settings` says which settings were used, `exists` whether there is a link of a name.
pub fn render(report: &Report, settings: &str, exists: impl Fn(&str) -> bool) -> String {
    let mut table = Table::default();
    table.row("flanneld", &headline(report));
    report
        .reasons
        .iter()
        .for_each(|reason| table.row("", &format!("- {reason}")));
    if let Some(overlay) = &report.overlay {
        lease(&mut table, overlay, report.etcd.as_ref(), &exists);
    }
    if let Some(etcd) = &report.etcd {
        table.row("etcd", &datastore(etcd));
    }
    if let Some(overlay) = &report.overlay {
        peers(&mut table, overlay, &exists);
    }
    report
        .probes
        .iter()
        .for_each(|found| probes(&mut table, found));
    if let Some(overlay) = &report.overlay {
        kernel(&mut table, overlay, &exists);
    }
    table.row("settings", settings);
    table.0
}

fn headline(report: &Report) -> String {
    let mut facts = vec![format!("v{}", report.version)];
    facts.extend(report.pid.map(|pid| format!("pid {pid}")));
    facts.extend(report.uptime.map(|uptime| format!("up {}", time(uptime))));
    format!("{} ({})", report.state, facts.join(", "))
}

fn lease(table: &mut Table, overlay: &Overlay, etcd: Option<&Etcd>, exists: &dyn Fn(&str) -> bool) {
    let mut facts = vec![overlay.subnet.clone()];
    facts.extend(overlay.held.map(|held| format!("held for {}", time(held))));
    if let Some(etcd) = etcd {
        facts.extend(
            etcd.renewed
                .map(|renewed| format!("renewed {} ago", time(renewed))),
        );
        facts.extend(match (etcd.renewed, etcd.expires) {
            (_, Some(expires)) => Some(format!("expires in {}", time(expires))),
            (Some(_), None) => Some("does not expire".into()),
            (None, None) => None,
        });
    }
    facts.extend(overlay.lost.clone());
    table.row("lease", &facts.join(", "));
    table.row("network", &overlay.network);
    let underlay = &overlay.underlay;
    let public = overlay.public_ips.join(" and ");
    let own = underlay.ips.join(" and ");
    let missing = if exists(&underlay.name) {
        ""
    } else {
        ", which does not exist now"
    };
    table.row(
        "address",
        &format!(
            "{public}, over {} ({own}, MTU {}){missing}",
            underlay.name, underlay.mtu
        ),
    );
}

fn datastore(etcd: &Etcd) -> String {
    let mut facts = vec![if etcd.endpoint.is_empty() {
        "no endpoint has answered".to_owned()
    } else {
        etcd.endpoint.clone()
    }];
    facts.push(match (&etcd.lost, etcd.watching) {
        (Some(lost), _) => format!("watch broken for {}", time(lost.since)),
        (None, true) => format!("watching, revision {}", etcd.revision),
        (None, false) => "not watching".into(),
    });
    facts.extend(
        etcd.silence
            .map(|silence| format!("last message {} ago", time(silence))),
    );
    facts.extend(
        etcd.backlog
            .map(|backlog| format!("changes unprocessed for {}", time(backlog))),
    );
    facts.push(format!(
        "watch broke {}",
        count(etcd.breaks, "time", "times")
    ));
    facts.join(", ")
}

/// Since when the numbers are no longer what the kernel holds: its devices are gone.
fn outdated(overlay: &Overlay, exists: &dyn Fn(&str) -> bool) -> Option<String> {
    let gone = overlay.devices.iter().any(|device| !exists(&device.name));
    let last = overlay.reconcile.last.map_or_else(
        || "earlier".to_owned(),
        |last| format!("{} ago", time(last)),
    );
    gone.then(|| format!(" (as of {last}; the device does not exist now)"))
}

fn peers(table: &mut Table, overlay: &Overlay, exists: &dyn Fn(&str) -> bool) {
    let peers = &overlay.peers;
    let failing = peers.desired.saturating_sub(peers.installed);
    table.row(
        "peers",
        &format!(
            "{} desired, {} installed, {failing} failing, {} refused, {} in conflict{}",
            peers.desired,
            peers.installed,
            peers.refused,
            peers.contested,
            outdated(overlay, exists).unwrap_or_default()
        ),
    );
    overlay
        .duplicates
        .iter()
        .for_each(|duplicate| table.row("", &format!("duplicate {duplicate}")));
    for (what, total, named) in [
        ("failing", failing, &peers.failing),
        ("refused", peers.refused, &peers.refusals),
        ("conflict", peers.contested, &peers.contests),
    ] {
        named
            .iter()
            .for_each(|named| table.row("", &format!("{what} {named}")));
        if total > named.len() && !named.is_empty() {
            table.row("", &format!("{what}: {} of {total} shown", named.len()));
        }
    }
}

fn probes(table: &mut Table, probes: &Probes) {
    let Probes {
        interval,
        answered,
        lost,
        reachable,
        unreachable,
        silent,
    } = probes;
    table.row(
        "probes",
        &format!(
            "every {}: {} reachable, {unreachable} not; {lost} of {} lost",
            time(*interval),
            count(*reachable, "peer", "peers"),
            answered + lost
        ),
    );
    silent.iter().for_each(|named| {
        table.row(
            "",
            &format!(
                "unreachable {named} (rflannel check {} says why)",
                named.subnet
            ),
        );
    });
    if *unreachable > silent.len() {
        table.row(
            "",
            &format!("unreachable: {} of {unreachable} shown", silent.len()),
        );
    }
}

fn kernel(table: &mut Table, overlay: &Overlay, exists: &dyn Fn(&str) -> bool) {
    let Overlay {
        entries, reconcile, ..
    } = overlay;
    overlay
        .devices
        .iter()
        .for_each(|device| table.row("device", &spelled(device, exists(&device.name))));
    let missing = entries.missing.total();
    table.row(
        "kernel",
        &format!(
            "{} desired, {missing} missing{}{}",
            count(entries.desired.total(), "entry", "entries"),
            kinds(&entries.missing),
            outdated(overlay, exists).unwrap_or_default()
        ),
    );
    overlay
        .firewall
        .iter()
        .for_each(|firewall| table.row("firewall", &rules(firewall)));
    let Some(last) = reconcile.last else { return };
    table.row(
        "resyncs",
        &format!(
            "last {} ago in {:.0} ms; {} without drift, {} with repairs, {} failed",
            time(last),
            reconcile.took * 1000.0,
            reconcile.clean,
            reconcile.repaired,
            reconcile.failed
        ),
    );
    let (repairs, failures) = (&reconcile.repairs, &reconcile.failures);
    table.row(
        "repairs",
        &format!(
            "{}{}, {}{}",
            repairs.total(),
            kinds(repairs),
            count(failures.total(), "failed write", "failed writes"),
            kinds(failures)
        ),
    );
    reconcile
        .flapping
        .iter()
        .for_each(|what| table.row("", &format!("another program keeps modifying {what}")));
}

fn spelled(device: &Device, exists: bool) -> String {
    let Device {
        name,
        mac,
        mtu,
        vni,
        port,
        local,
        amiss,
    } = device;
    if !exists {
        return format!("{name}: does not exist");
    }
    let amiss = amiss
        .as_ref()
        .map(|amiss| format!(": {amiss}"))
        .unwrap_or_default();
    format!("{name}: MAC {mac}, MTU {mtu}, VNI {vni}, UDP port {port}, from {local}{amiss}")
}

fn rules(firewall: &Firewall) -> String {
    let Firewall {
        mode,
        trouble,
        obstacle,
        repairs,
        flapping,
    } = firewall;
    let state = trouble
        .as_ref()
        .map_or_else(|| "in place".to_owned(), |why| format!("MISSING: {why}"));
    let flapping = if *flapping {
        ", another program keeps modifying them"
    } else {
        ""
    };
    let obstacle = if obstacle.is_some() {
        " WITHOUT EFFECT"
    } else {
        ""
    };
    format!(
        "{mode} rules {state}{obstacle}, {}{flapping}",
        count(*repairs, "repair", "repairs")
    )
}

fn kinds(numbers: &ByKind) -> String {
    let each = numbers.each().into_iter().filter(|(_, number)| *number > 0);
    let each: Vec<String> = each
        .map(|(kind, number)| format!("{number} {kind}"))
        .collect();
    if each.is_empty() {
        String::new()
    } else {
        format!(" ({})", each.join(", "))
    }
}

/// Two digits are enough for people.
pub fn time(seconds: f64) -> String {
    let scales = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    let scale = scales.iter().find(|(scale, _)| seconds >= 2.0 * scale);
    scale.map_or_else(
        || format!("{seconds:.0} s"),
        |(scale, unit)| format!("{:.0} {unit}", (seconds / scale).floor()),
    )
}

impl Table {
    fn row(&mut self, name: &str, text: &str) {
        // What etcd or the kernel say must not move a terminal's cursor.
        let _ = writeln!(self.0, "{name:NAME$} {}", plain(text));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::super::report::{Entries, Named, Peers, Reconcile, State, Trouble, Underlay};
    use super::*;

    const SETTINGS: &str =
        "running daemon (pid 4711): prefix /coreos.com/network at https://10.64.3.7:2379";

    fn overlay() -> Overlay {
        let named = |subnet: &str, why: &str| Named {
            subnet: subnet.into(),
            host: None,
            why: why.into(),
        };
        Overlay {
            subnet: "172.30.15.0/24".into(),
            held: Some(11_400.0),
            lease_status: "taken_over".into(),
            lost: Some("LEASE LOST to 10.64.0.9".into()),
            public_ips: vec!["203.0.113.7".into()],
            network: r#"{"Network":"172.30.0.0/16","Backend":{"Type":"vxlan"}}"#.into(),
            underlay: Underlay {
                name: "eth0".into(),
                ips: vec!["10.64.0.1".into()],
                mtu: 1500,
            },
            devices: vec![Device {
                name: "flannel.1".into(),
                mac: "0a:00:00:00:00:01".into(),
                mtu: 1450,
                vni: 1,
                port: 8472,
                local: "10.64.0.1".into(),
                amiss: None,
            }],
            listed: true,
            settled: true,
            peers: Peers {
                desired: 249,
                installed: 248,
                failing: vec![named(
                    "172.30.3.0/24",
                    "cannot set route 172.30.3.0/24: No buffer space",
                )],
                refused: 21,
                refusals: vec![named("172.30.9.0/24", "no public address\u{1b}[2J")],
                contested: 1,
                contests: vec![named(
                    "172.30.4.0/24",
                    "172.30.5.0/24 is newer and has fdb …",
                )],
            },
            entries: Entries {
                desired: ByKind {
                    address: 1,
                    neighbor: 249,
                    fdb: 249,
                    route: 249,
                    device: 0,
                },
                missing: ByKind {
                    route: 1,
                    ..ByKind::default()
                },
            },
            reconcile: Reconcile {
                clean: 240,
                repaired: 3,
                failed: 1,
                last: Some(12.2),
                took: 0.0031,
                events: 300,
                repairs: ByKind {
                    route: 9,
                    fdb: 5,
                    ..ByKind::default()
                },
                failures: ByKind {
                    route: 2,
                    ..ByKind::default()
                },
                flapping: vec!["routes on flannel.1".into()],
            },
            firewall: Some(Firewall {
                mode: "nftables".into(),
                repairs: 2,
                ..Firewall::default()
            }),
            ..Overlay::default()
        }
    }

    fn full() -> Report {
        let etcd = Etcd {
            endpoint: "https://10.64.3.7:2379".into(),
            lost: Some(Trouble {
                since: 130.0,
                why: "refused".into(),
            }),
            silence: Some(140.0),
            revision: 5123,
            breaks: 2,
            renewed: Some(720.0),
            expires: Some(85_680.0),
            ..Etcd::default()
        };
        Report {
            version: "0.1.0".into(),
            state: State::NotReady,
            reasons: vec![
                "LEASE LOST to 10.64.0.9".into(),
                "21 leases are not used".into(),
            ],
            pid: Some(4711),
            uptime: Some(11_520.0),
            etcd: Some(etcd),
            overlay: Some(overlay()),
            probes: Some(Probes {
                interval: 60.0,
                answered: 14_700,
                lost: 12,
                reachable: 248,
                unreachable: 2,
                silent: vec![Named {
                    subnet: "172.30.6.0/24".into(),
                    host: Some("h6".into()),
                    why: "no answer to the last 12 probes".into(),
                }],
            }),
            ..Report::default()
        }
    }

    #[test]
    fn everything_has_its_line() {
        let text = render(&full(), SETTINGS, |_| true);
        expect_file!["../../tests/golden/status.txt"].assert_eq(&text);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_waiting_daemon_has_few_lines() {
        let report = Report {
            state: State::NotReady,
            reasons: vec!["waiting: x".into()],
            ..Report::default()
        };
        let text = render(&report, "flags", |_| true);
        assert_eq!(
            text,
            "flanneld   not ready (v)\n           - waiting: x\nsettings   flags\n"
        );
    }

    #[test]
    fn what_is_gone_is_not_shown_as_if_it_were_there() {
        let text = render(&full(), SETTINGS, |_| false);
        for words in [
            "device     flannel.1: does not exist",
            "over eth0 (10.64.0.1, MTU 1500), which does not exist now",
            "248 installed, 1 failing, 21 refused, 1 in conflict (as of 12 s ago; the device does not exist now)",
            "1 missing (1 route) (as of 12 s ago",
        ] {
            assert!(text.contains(words), "{words:?}:\n{text}");
        }
    }

    #[test]
    fn times_are_short() {
        let rows = [
            (0.4, "0 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7_199.0, "119 min"),
            (86_000.0, "23 h"),
            (200_000.0, "2 d"),
        ];
        for (seconds, text) in rows {
            assert_eq!(time(seconds), text);
        }
    }
}
