//! `/metrics`: well-formed, bounded, and moving when something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use lab::{Node, wait_until};

use super::ask::{PORT, get};
use super::host::{Host, NETWORK, PEERS, lease_key, lease_value};
use super::scrape::Scrape;
use super::{SOON, Test};

fn scrape(node: &Node) -> Scrape {
    let (code, kind, body) = get(node, "/metrics");
    assert_eq!(
        (code, kind.as_str()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    Scrape::parse(&body)
}

#[track_caller]
fn until(node: &Node, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let mut seen = Scrape::default();
    let came = wait_until(SOON, || {
        seen = scrape(node);
        holds(&seen)
    });
    assert!(came, "waited in vain: {what}: {:#?}", seen.samples);
    seen
}

/// A value that a test can wait for.
fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

/// Asserts that a scrape names the lease, its host, and what the process needs.
fn describes_host_and_process(host: &Host, first: &Scrape) -> Test {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let left = first.get("flannel_lease_expiry_timestamp_seconds") - now;
    assert!((80_000.0..=86_400.0).contains(&left), "{left}");
    let (key, _) = host.lease()?;
    let subnet = key.rsplit('/').next().unwrap_or_default().replace('-', "/");
    let name = host.sh("cat /proc/sys/kernel/hostname")?;
    let name = name.trim();
    let info = format!(
        "flannel_host_info{{host=\"{name}\",subnet=\"{subnet}\",public_ip=\"10.64.0.1\",interface=\"eth0\",backend=\"vxlan\"}}"
    );
    assert_eq!(first.get(&info), 1.0);
    assert!(
        first.has("flannel_firewall_in_place", None)
            && first.get("flannel_firewall_repairs_total") == 0.0
    );
    for (series, least) in [
        ("process_start_time_seconds", now - 3600.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("process_max_fds", 3.0),
        ("process_cpu_seconds_total", 0.0),
    ] {
        assert!(
            first.get(series) >= least,
            "{series}: {}",
            first.get(series)
        );
    }
    Ok(())
}

#[test]
fn numbers_move_when_something_happens() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    let (node, etcd) = (host.node(), host.lab.etcd()?);
    let installed = "flannel_peers{state=\"installed\"}";
    let first = until(node, "all is well", |s| {
        s.get(installed) == number(PEERS)
            && s.get("flannel_watch_connected") == 1.0
            && s.has("flannel_lease_expiry_timestamp_seconds", None)
    });
    for (series, value) in [
        ("flannel_ready", 1.0),
        ("flannel_degraded", 0.0),
        ("flannel_stale", 0.0),
        ("flannel_lease_status{status=\"held\"}", 1.0),
        ("flannel_entries_desired{kind=\"route\"}", number(PEERS)),
        ("flannel_entries_desired{kind=\"address\"}", 1.0),
        ("flannel_entries_missing{kind=\"route\"}", 0.0),
        ("flannel_repairs_total{kind=\"route\"}", 0.0),
        ("flannel_flapping_objects", 0.0),
        ("flannel_watch_lists_total", 1.0),
    ] {
        assert_eq!(first.get(series), value, "{series}");
    }
    describes_host_and_process(&host, &first)?;
    assert!(first.get("flannel_etcd_requests_total{request=\"list\",result=\"ok\"}") >= 1.0);

    etcd.put(&lease_key(9), lease_value(9))?;
    let joined = until(node, "a peer has joined", |s| {
        s.get(installed) == number(PEERS + 1)
    });
    for series in [
        "flannel_watch_revision",
        "flannel_event_seconds_count",
        "flannel_netlink_batch_seconds_count",
        "flannel_lease_events_total",
    ] {
        assert!(joined.get(series) > first.get(series), "{series}");
    }

    etcd.put(
        &lease_key(10),
        lease_value(10).replace("10.64.9.10", "127.0.0.1"),
    )?;
    until(node, "a lease is refused", |s| {
        s.get("flannel_peers{state=\"refused\"}") == 1.0
            && s.get("flannel_degraded") == 1.0
            && s.get("flannel_ready") == 1.0
    });
    etcd.put(
        &lease_key(10),
        lease_value(9).replace("10.64.9.9", "10.64.9.10"),
    )?;
    until(node, "a lease is contested", |s| {
        s.get("flannel_peers{state=\"contested\"}") == 1.0
    });
    etcd.delete(&lease_key(10))?;

    node.sh("ip link set flannel.1 mtu 1400; ip neigh flush dev flannel.1 nud permanent; ip route del 172.30.201.0/24")?;
    let repaired = until(node, "all is repaired", |s| {
        s.get("flannel_repairs_total{kind=\"device\"}") == 1.0
            && s.get("flannel_repairs_total{kind=\"route\"}") >= 1.0
            && s.get("flannel_repairs_total{kind=\"neighbor\"}") >= number(PEERS)
            && s.get("flannel_degraded") == 0.0
    });
    assert!(repaired.get("flannel_resyncs_total{result=\"repaired\"}") >= 1.0);

    Ok(())
}

#[test]
fn flapping_object_and_lost_lease_are_seen() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    let node = host.node();
    node.sh(
        "for i in $(seq 100); do ip route del 172.30.201.0/24 2>/dev/null || true; sleep .05; done",
    )?;
    until(node, "a flapping object", |s| {
        s.get("flannel_flapping_objects") == 1.0 && s.get("flannel_degraded") == 1.0
    });

    let (key, _) = host.lease()?;
    host.lab.etcd()?.put(&key, lease_value(77))?;
    until(node, "the lease is lost", |s| {
        s.get("flannel_lease_status{status=\"taken_over\"}") == 1.0
            && s.get("flannel_lease_status{status=\"held\"}") == 0.0
            && s.get("flannel_ready") == 0.0
    });
    Ok(())
}

/// Refused writes count, and what is missing is named by kind.
#[test]
fn what_the_kernel_refuses_is_missing() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    // A unicast route whose gateway is an address of this host itself is refused.
    host.sh(
        "ip link add blocker type bridge; ip link set blocker up; ip addr add 172.30.209.0/32 dev blocker",
    )?;
    host.lab.etcd()?.put(&lease_key(9), lease_value(9))?;
    let series = "flannel_entries_missing{kind=\"route\"}";
    let seen = until(host.node(), "a route is missing", |s| s.get(series) == 1.0);
    assert!(seen.get("flannel_write_failures_total{kind=\"route\"}") >= 1.0);
    assert_eq!(seen.get("flannel_peers{state=\"incomplete\"}"), 1.0);
    assert_eq!(
        seen.get("flannel_peers{state=\"installed\"}"),
        number(PEERS)
    );
    host.sh("ip link del blocker")?;
    until(host.node(), "it is there", |s| {
        s.get(series) == 0.0 && s.get("flannel_degraded") == 0.0
    });
    Ok(())
}

#[test]
fn an_outage_of_etcd_is_seen() -> Test {
    let mut host = Host::start_with(NETWORK, &[PORT])?;
    let node = host.node().clone();
    host.lab.etcd_mut()?.kill(1)?;
    let away = until(&node, "the watch is lost", |s| {
        s.get("flannel_watch_connected") == 0.0
            && s.get("flannel_watch_lost_seconds") > 0.0
            && s.has(
                "flannel_etcd_requests_total",
                Some("request=\"watch\",result=\"error\""),
            )
    });
    assert_eq!(
        (
            away.get("flannel_ready"),
            away.get("flannel_watch_breaks_total")
        ),
        (1.0, 1.0)
    );
    host.lab.etcd_mut()?.start_member(1)?;
    until(&node, "the watch is back", |s| {
        s.get("flannel_watch_connected") == 1.0 && s.get("flannel_watch_lists_total") == 2.0
    });
    Ok(())
}

/// Names and labels of dashboards and rules exist.
#[test]
fn what_is_shipped_for_grafana_and_prometheus_fits() -> Test {
    let host = Host::start_with(NETWORK, &[PORT, "-probe-interval=1"])?;
    let scrape = until(host.node(), "the lease was renewed", |s| {
        s.has("flannel_lease_expiry_timestamp_seconds", None)
            && s.has("flannel_watch_heard_timestamp_seconds", None)
    });
    let read = |name: &str| {
        fs::read_to_string(format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (rules, board) = (read("alerts.yml"), read("grafana-flannel.json"));
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let mut expressions: Vec<String> = rules
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned()))
        .collect();
    assert!(expressions.len() >= 12, "{expressions:?}");
    let panels = board["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    expressions.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    assert!(expressions.len() >= 40, "{}", expressions.len());
    let mut used = 0;
    for (expression, name, labels) in expressions.iter().flat_map(|expression| names(expression)) {
        assert!(
            scrape.has(&name, None),
            "{name} of {expression} is not served"
        );
        for label in labels
            .split(',')
            .filter(|label| !label.is_empty() && !label.starts_with("instance"))
        {
            assert!(
                scrape.has(&name, Some(label)),
                "{name} with {label} of {expression} is not served"
            );
        }
        used += 1;
    }
    assert!(used >= 40, "{used}");
    for family in scrape.families.keys() {
        let shown = expressions
            .iter()
            .any(|expression| expression.contains(family.as_str()));
        assert!(
            shown
                || [
                    "flannel_duplicate_public_ip_info",
                    "flannel_lease_acquired_timestamp_seconds",
                    "flannel_lease_renewed_timestamp_seconds",
                    "process_max_fds",
                    "process_start_time_seconds",
                ]
                .contains(&family.as_str()),
            "{family} is served and not shown"
        );
    }
    documents_describe(&scrape, &rules);
    // Every panel says what it shows.
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(
            panel["description"].is_string()
                && panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{panel}"
        );
    }
    Ok(())
}

/// Asserts that the reference lists exactly the metrics that are served, with their types, and has a section for each alert.
fn documents_describe(scrape: &Scrape, rules: &str) {
    let read = |name: &str| {
        fs::read_to_string(format!(
            "{}/docs/reference/{name}.md",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap()
    };
    let (metrics, alerts) = (read("metrics"), read("alerts"));
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((
            cells.next()?.trim_end_matches('`').to_owned(),
            cells.next()?.to_owned(),
        ))
    };
    let listed: BTreeMap<String, String> = metrics.lines().filter_map(row).collect();
    assert_eq!(listed, scrape.families);
    let named: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let sections: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(
        named.iter().collect::<BTreeSet<_>>(),
        sections.iter().collect::<BTreeSet<_>>()
    );
    for name in named {
        let link = format!("/docs/reference/alerts.md#{}\"", name.to_lowercase());
        assert!(rules.contains(&link), "{name} does not link to its section");
        assert!(
            name == "FlannelDown"
                || metrics.contains(&format!("[{name}](alerts.md#{})", name.to_lowercase())),
            "{name}"
        );
    }
}

/// Prometheus' own tool reads the rules and a scrape.
#[test]
fn promtool_accepts_rules_and_scrape() -> Test {
    let host = Host::start_with(NETWORK, &[PORT, "-probe-interval=1"])?;
    until(host.node(), "the lease was renewed", |s| {
        s.has("flannel_lease_expiry_timestamp_seconds", None)
    });
    let rules = format!("{}/contrib/alerts.yml", env!("CARGO_MANIFEST_DIR"));
    host.sh(&format!(
        "promtool check rules {rules} 2>&1 || {{ promtool check rules {rules} >&2; false; }}"
    ))?;
    let (_, _, body) = get(host.node(), "/metrics");
    let said = host.node().feed(
        ["sh", "-c", "promtool check metrics 2>&1 || true"],
        body.as_bytes(),
    )?;
    assert_eq!(said.trim(), "", "{body}");
    Ok(())
}

/// The metrics that an expression names, each with its labels.
fn names(expression: &str) -> Vec<(&str, String, String)> {
    let starts = expression
        .match_indices("flannel_")
        .map(|(at, _)| &expression[at..]);
    starts
        .map(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let labels = rest[end..]
                .strip_prefix('{')
                .and_then(|rest| rest.split_once('}'));
            (
                expression,
                rest[..end].to_owned(),
                labels.map_or("", |(labels, _)| labels).to_owned(),
            )
        })
        .collect()
}

/// The number of series does not depend on the number of peers.
#[test]
fn a_large_cluster_has_no_more_series() -> Test {
    let host = Host::start_with(NETWORK, &[PORT])?;
    let few = until(host.node(), "ready", |s| {
        s.has("flannel_lease_expiry_timestamp_seconds", None)
            && s.has("flannel_watch_heard_timestamp_seconds", None)
    });
    for n in PEERS + 1..=50 {
        host.lab.etcd()?.put(&lease_key(n), lease_value(n))?;
    }
    let many = until(host.node(), "50 peers", |s| {
        s.get("flannel_peers{state=\"installed\"}") == 50.0
    });
    let names = |scrape: &Scrape| {
        scrape
            .samples
            .keys()
            .filter(|s| !s.starts_with("flannel_etcd_requests"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&few), names(&many));
    assert!(many.samples.len() < 200, "{}", many.samples.len());
    Ok(())
}
