//! A report as people read it: pure.

use std::fmt::{Display, Write as _};

use super::report::{
    ByKind, Device, Etcd, Firewall, Overlay, Peers, Probes, Reconcile, Report, Underlay,
};
use super::summary::plain;

use crate::util::table::count;

/// Width of the first column.
const NAME: usize = 10;

/// Lines of two columns.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, text: &str) {
        // What etcd or the kernel say must not move a terminal's cursor.
        let _ = writeln!(self.0, "{name:NAME$} {}", plain(text));
    }

    /// Rows without a name, one for each item.
    fn rows(&mut self, title: &str, items: &[impl Display]) {
        for item in items {
            self.row("", &format!("{title} {item}"));
        }
    }
}

/// The whole report, for a terminal. `settings` says which settings were used, `exists` whether there is a link of a name.
pub fn render(report: &Report, settings: &str, exists: impl Fn(&str) -> bool) -> String {
    let mut table = Table::default();
    table.row("flanneld", &headline(report));
    table.rows("-", &report.reasons);
    if let Some(overlay) = &report.overlay {
        lease(&mut table, overlay, report.etcd.as_ref(), &exists);
    }
    if let Some(etcd) = &report.etcd {
        table.row("etcd", &datastore(etcd));
    }
    if let Some(overlay) = &report.overlay {
        peers(&mut table, overlay, &exists);
    }
    if let Some(found) = &report.probes {
        probes(&mut table, found);
    }
    if let Some(overlay) = &report.overlay {
        kernel(&mut table, overlay, &exists);
    }
    table.row("settings", settings);
    table.0
}

fn headline(report: &Report) -> String {
    let mut parts = vec![format!("v{}", report.version)];
    parts.extend(report.pid.map(|pid| format!("pid {pid}")));
    parts.extend(report.uptime.map(|uptime| format!("up {}", time(uptime))));
    format!("{} ({})", report.state, parts.join(", "))
}

fn lease(table: &mut Table, overlay: &Overlay, etcd: Option<&Etcd>, exists: &dyn Fn(&str) -> bool) {
    let mut parts = vec![overlay.subnet.clone()];
    parts.extend(overlay.held.map(|held| format!("held for {}", time(held))));
    if let Some(Etcd {
        renewed, expires, ..
    }) = etcd
    {
        parts.extend(renewed.map(|renewed| format!("renewed {} ago", time(renewed))));
        parts.extend(match (renewed, expires) {
            (_, Some(expires)) => Some(format!("expires in {}", time(*expires))),
            (Some(_), None) => Some("does not expire".into()),
            (None, None) => None,
        });
    }
    parts.extend(overlay.lost.clone());
    table.row("lease", &parts.join(", "));
    table.row("network", &overlay.network);
    let Underlay { name, ips, mtu } = &overlay.underlay;
    let (public, own) = (overlay.public_ips.join(" and "), ips.join(" and "));
    let mut text = format!("{public}, over {name} ({own}, MTU {mtu})");
    if !exists(name) {
        text += ", which does not exist now";
    }
    table.row("address", &text);
}

fn datastore(etcd: &Etcd) -> String {
    let mut parts = vec![match etcd.endpoint.as_str() {
        "" => "no endpoint has answered".to_owned(),
        endpoint => endpoint.to_owned(),
    }];
    parts.push(match (&etcd.lost, etcd.watching) {
        (Some(lost), _) => format!("watch broken for {}", time(lost.since)),
        (None, true) => format!("watching, revision {}", etcd.revision),
        (None, false) => "not watching".into(),
    });
    let (silence, backlog) = (etcd.silence.map(time), etcd.backlog.map(time));
    parts.extend(silence.map(|silence| format!("last message {silence} ago")));
    parts.extend(backlog.map(|backlog| format!("changes unprocessed for {backlog}")));
    let breaks = count(etcd.breaks, "time", "times");
    parts.push(format!("watch broke {breaks}"));
    parts.join(", ")
}

/// Since when the numbers are no longer what the kernel holds: its devices are gone.
fn outdated(overlay: &Overlay, exists: &dyn Fn(&str) -> bool) -> String {
    if overlay.devices.iter().all(|device| exists(&device.name)) {
        return String::new();
    }
    let last = match overlay.reconcile.last {
        Some(last) => format!("{} ago", time(last)),
        None => "earlier".into(),
    };
    format!(" (as of {last}; the device does not exist now)")
}

fn peers(table: &mut Table, overlay: &Overlay, exists: &dyn Fn(&str) -> bool) {
    let Peers {
        desired,
        installed,
        failing: failing_peers,
        refused,
        refusals,
        contested,
        contests,
    } = &overlay.peers;
    let failing = desired.saturating_sub(*installed);
    let outdated = outdated(overlay, exists);
    table.row(
        "peers",
        &format!("{desired} desired, {installed} installed, {failing} failing, {refused} refused, {contested} in conflict{outdated}"),
    );
    table.rows("duplicate", &overlay.duplicates);
    for (what, total, named) in [
        ("failing", failing, failing_peers),
        ("refused", *refused, refusals),
        ("conflict", *contested, contests),
    ] {
        table.rows(what, named);
        if total > named.len() && !named.is_empty() {
            table.row("", &format!("{what}: {} of {total} shown", named.len()));
        }
    }
}

fn probes(table: &mut Table, probes: &Probes) {
    let Probes {
        answered,
        lost,
        unreachable,
        silent,
        ..
    } = probes;
    let (interval, sent) = (time(probes.interval), answered + lost);
    let reachable = count(probes.reachable, "peer", "peers");
    table.row(
        "probes",
        &format!(
            "every {interval}: {reachable} reachable, {unreachable} not; {lost} of {sent} lost"
        ),
    );
    for named in silent {
        let subnet = &named.subnet;
        let text = format!("unreachable {named} (rflannel check {subnet} says why)");
        table.row("", &text);
    }
    if *unreachable > silent.len() {
        let text = format!("unreachable: {} of {unreachable} shown", silent.len());
        table.row("", &text);
    }
}

fn kernel(table: &mut Table, overlay: &Overlay, exists: &dyn Fn(&str) -> bool) {
    let Overlay {
        entries, reconcile, ..
    } = overlay;
    for device in &overlay.devices {
        table.row("device", &device_text(device, exists(&device.name)));
    }
    let desired = count(entries.desired.total(), "entry", "entries");
    let (missing, kinds) = (entries.missing.total(), by_kind(&entries.missing));
    let outdated = outdated(overlay, exists);
    let text = format!("{desired} desired, {missing} missing{kinds}{outdated}");
    table.row("kernel", &text);
    if let Some(firewall) = &overlay.firewall {
        table.row("firewall", &firewall_text(firewall));
    }
    let Reconcile {
        clean,
        repaired,
        failed,
        last: Some(last),
        took,
        repairs,
        failures,
        ..
    } = reconcile
    else {
        return;
    };
    let (last, took) = (time(*last), took * 1000.0);
    table.row(
        "resyncs",
        &format!("last {last} ago in {took:.0} ms; {clean} without drift, {repaired} with repairs, {failed} failed"),
    );
    let (total, kinds) = (repairs.total(), by_kind(repairs));
    let failed = count(failures.total(), "failed write", "failed writes");
    let text = format!("{total}{kinds}, {failed}{}", by_kind(failures));
    table.row("repairs", &text);
    table.rows("another program keeps modifying", &reconcile.flapping);
}

fn device_text(device: &Device, exists: bool) -> String {
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
    let mut text =
        format!("{name}: MAC {mac}, MTU {mtu}, VNI {vni}, UDP port {port}, from {local}");
    text.extend(amiss.iter().flat_map(|amiss| [": ", amiss]));
    text
}

fn firewall_text(firewall: &Firewall) -> String {
    let mut text = format!("{} rules ", firewall.mode);
    match &firewall.trouble {
        None => text += "in place",
        Some(why) => text.extend(["MISSING: ", why]),
    }
    if firewall.obstacle.is_some() {
        text += " WITHOUT EFFECT";
    }
    text += &format!(", {}", count(firewall.repairs, "repair", "repairs"));
    if firewall.flapping {
        text += ", another program keeps modifying them";
    }
    text
}

/// The kinds of which there are some, in parentheses.
fn by_kind(numbers: &ByKind) -> String {
    let each = numbers.each().into_iter().filter(|(_, number)| *number > 0);
    let each = each.map(|(kind, number)| format!("{number} {kind}"));
    match each.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        some => format!(" ({some})"),
    }
}

/// Two digits are enough for people.
pub fn time(seconds: f64) -> String {
    for (scale, unit) in [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")] {
        if seconds >= 2.0 * scale {
            return format!("{:.0} {unit}", (seconds / scale).floor());
        }
    }
    format!("{seconds:.0} s")
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::super::report::{Entries, Named, State, Trouble};
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
