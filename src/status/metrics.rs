//! A report as Prometheus reads it: pure. The number of series does not grow with the cluster: each host names itself, in
//! `flannel_host_info`, and not its peers.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Timings;
use super::process::Process;
use super::report::{ByKind, Duplicate, Etcd, Overlay, Probes, Report, State};
use super::reporter::Findings;
use crate::subnet::telemetry::Facts;
use crate::util::histogram::Histogram;

/// What all names begin with.
const PREFIX: &str = "flannel";

/// The text of a scrape.
pub(super) fn render(findings: Findings, process: Process, now: SystemTime) -> String {
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    let mut registry = Registry::default();
    let started = findings.report.uptime.map(|uptime| now - uptime);
    registry.register_collector(Box::new(Own { process, started }));
    registry
        .sub_registry_with_prefix(PREFIX)
        .register_collector(Box::new(Scrape(findings, now)));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to a string does not fail.
        Err(fmt::Error) => String::new(),
    }
}

/// What every process of a Prometheus setup says about itself.
#[derive(Debug)]
struct Own {
    process: Process,
    started: Option<f64>,
}

impl Collector for Own {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Own { process, started } = self;
        let mut page = MetricsEncoder(encoder);
        page.maybe(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            *started,
        )?;
        if let Some(cpu) = process.cpu {
            let mut metric = page.0.encode_descriptor(
                "process_cpu_seconds",
                "Processor time used in user and system mode, in seconds",
                None,
                MetricType::Counter,
            )?;
            metric.encode_counter::<NoLabelSet, _, f64>(&cpu, None)?;
        }
        page.maybe(
            "process_resident_memory_bytes",
            "Resident memory, in bytes",
            process.resident,
        )?;
        page.maybe(
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes",
            process.virtual_,
        )?;
        page.maybe(
            "process_open_fds",
            "Open file descriptors",
            process.open_fds,
        )?;
        page.maybe(
            "process_max_fds",
            "Limit of open file descriptors",
            process.max_fds,
        )
    }
}

/// Findings, and the time of the scrape in seconds since 1970.
#[derive(Debug)]
struct Scrape(Findings, f64);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Scrape(
            Findings {
                report,
                facts,
                timings,
                round_trips,
            },
            now,
        ) = self;
        let mut page = MetricsEncoder(encoder);
        daemon(&mut page, report)?;
        requests(&mut page, facts)?;
        report
            .etcd
            .iter()
            .try_for_each(|etcd| datastore(&mut page, etcd, *now))?;
        report
            .probes
            .iter()
            .try_for_each(|probes| self::probes(&mut page, probes, round_trips))?;
        match &report.overlay {
            Some(overlay) => self::overlay(&mut page, overlay, &report.host, timings, *now),
            None => Ok(()),
        }
    }
}

fn daemon(page: &mut MetricsEncoder<'_>, report: &Report) -> fmt::Result {
    let (state, flag) = (report.state, |is: bool| f64::from(u8::from(is)));
    page.gauges(
        "build_info",
        "Version of the daemon",
        "version",
        [(report.version.as_str(), 1.0)],
    )?;
    page.gauge(
        "ready",
        "1 if this host serves its subnet",
        flag(state <= State::Degraded),
    )?;
    page.gauge(
        "degraded",
        "1 if something needs attention",
        flag(state != State::Fine),
    )?;
    let stale = report
        .overlay
        .as_ref()
        .is_some_and(|overlay| overlay.stale.is_some());
    page.gauge(
        "stale",
        "1 if this host serves from its state file because etcd does not answer",
        flag(stale),
    )
}

fn requests(page: &mut MetricsEncoder<'_>, facts: &Facts) -> fmt::Result {
    let result = |answered: bool| if answered { "ok" } else { "error" };
    let rows = facts
        .requests
        .iter()
        .map(|((name, answered), n)| ([*name, result(*answered)], *n));
    page.counters(
        "etcd_requests",
        "Requests to etcd, each attempt counted",
        ["request", "result"],
        rows,
    )?;
    page.histogram(
        "etcd_request_seconds",
        "Time until etcd answered a request, in seconds",
        &facts.latency,
    )
}

fn datastore(page: &mut MetricsEncoder<'_>, etcd: &Etcd, now: f64) -> fmt::Result {
    let watching = f64::from(u8::from(etcd.watching));
    page.gauge(
        "watch_connected",
        "1 if the watch of the leases is connected",
        watching,
    )?;
    let lost = etcd.lost.as_ref().map_or(0.0, |lost| lost.since);
    page.gauge(
        "watch_lost_seconds",
        "Time since the watch broke, in seconds; 0 if it is connected",
        lost,
    )?;
    page.timestamp(
        "watch_heard",
        "Last message of etcd on the watch, in seconds since 1970",
        etcd.silence.map(|age| now - age),
    )?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is what Prometheus has"
    )]
    page.gauge(
        "watch_revision",
        "Last known revision of the leases",
        etcd.revision as f64,
    )?;
    let backlog = etcd.backlog.unwrap_or_default();
    page.gauge(
        "watch_backlog_seconds",
        "Age of the oldest lease change that the main loop has not processed, in seconds",
        backlog,
    )?;
    page.counter("watch_breaks", "Times that the watch broke", etcd.breaks)?;
    page.counter(
        "watch_lists",
        "Times that all leases were listed",
        etcd.lists,
    )?;
    page.timestamp(
        "lease_renewed",
        "Last renewal of the own lease, in seconds since 1970",
        etcd.renewed.map(|age| now - age),
    )?;
    page.timestamp(
        "lease_expiry",
        "Expiry of the own lease unless it is renewed, in seconds since 1970",
        etcd.expires.map(|left| now + left),
    )?;
    let failing = etcd.renewal.as_ref().map_or(0.0, |renewal| renewal.since);
    page.gauge(
        "lease_renewal_failing_seconds",
        "Time since renewals of the own lease fail, in seconds; 0 if they succeed",
        failing,
    )
}

fn overlay(
    page: &mut MetricsEncoder<'_>,
    overlay: &Overlay,
    name: &str,
    timings: &Timings,
    now: f64,
) -> fmt::Result {
    host(page, overlay, name)?;
    firewall(page, overlay)?;
    let statuses = [
        "held",
        "taken_over",
        "duplicate_host",
        "config_changed",
        "moved",
    ];
    let rows = statuses.map(|name| (name, f64::from(u8::from(name == overlay.lease_status))));
    page.gauges(
        "lease_status",
        "Status of the own lease: 1 for the current one, 0 for the others",
        "status",
        rows,
    )?;
    page.timestamp(
        "lease_acquired",
        "Time at which this daemon got its lease, in seconds since 1970",
        overlay.held.map(|age| now - age),
    )?;
    peers(page, overlay)?;
    let duplicates = u32::try_from(overlay.duplicate_count)
        .unwrap_or(u32::MAX)
        .into();
    page.gauge(
        "duplicate_public_ips",
        "Public addresses that more than one host announces",
        duplicates,
    )?;
    duplicates_by_address(page, overlay)?;
    page.by_kind(
        "entries_desired",
        "Entries that the kernel must contain",
        &overlay.entries.desired,
    )?;
    page.by_kind(
        "entries_missing",
        "Desired entries that the kernel does not contain",
        &overlay.entries.missing,
    )?;
    reconcile(page, overlay, now)?;
    page.histogram(
        "netlink_batch_seconds",
        "Time from a batch of writes to its last acknowledgement, in seconds",
        &timings.batches,
    )?;
    page.histogram(
        "event_seconds",
        "Time from the arrival of lease changes to the answer of the kernel, in seconds",
        &timings.delays,
    )
}

/// A series for each address, at most [`NAMED`](super::report::NAMED), with the hosts that announce it.
fn duplicates_by_address(page: &mut MetricsEncoder<'_>, overlay: &Overlay) -> fmt::Result {
    let help = "1 for each public address that several hosts announce; the labels contain their subnets and known names";
    let mut family =
        page.0
            .encode_descriptor("duplicate_public_ip_info", help, None, MetricType::Gauge)?;
    overlay
        .duplicates
        .iter()
        .try_for_each(|Duplicate { ip, subnets, hosts }| {
            let hosts: Vec<&str> = subnets
                .iter()
                .filter_map(|net| Some(hosts.get(net)?.as_str()))
                .collect();
            let labels = [
                ("public_ip", ip.clone()),
                ("subnets", subnets.join(" ")),
                ("hosts", hosts.join(" ")),
            ];
            family.encode_family(&labels)?.encode_gauge(&1.0_f64)
        })
}

fn peers(page: &mut MetricsEncoder<'_>, overlay: &Overlay) -> fmt::Result {
    let peers = &overlay.peers;
    let rows = [
        ("installed", peers.installed),
        ("incomplete", peers.desired.saturating_sub(peers.installed)),
        ("refused", peers.refused),
        ("contested", peers.contested),
    ];
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is what Prometheus has"
    )]
    let rows = rows.map(|(name, number)| (name, number as f64));
    page.gauges(
        "peers",
        "Leases of other hosts by state; contested leases also count as installed or incomplete",
        "state",
        rows,
    )
}

fn probes(page: &mut MetricsEncoder<'_>, probes: &Probes, times: &Histogram) -> fmt::Result {
    let rows = [
        ("reachable", probes.reachable),
        ("unreachable", probes.unreachable),
    ];
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is what Prometheus has"
    )]
    let rows = rows.map(|(name, number)| (name, number as f64));
    page.gauges(
        "probed_peers",
        "Peers by whether they answer probes through the overlay",
        "state",
        rows,
    )?;
    let rows = [(["answered"], probes.answered), (["lost"], probes.lost)];
    page.counters(
        "probes",
        "Probes of peers through the overlay by result",
        ["result"],
        rows,
    )?;
    page.histogram(
        "probe_seconds",
        "Time until a peer answered a probe, in seconds",
        times,
    )
}

/// One series, whose value is 1: labels by which others are joined with this host's name and addresses.
fn host(page: &mut MetricsEncoder<'_>, overlay: &Overlay, host: &str) -> fmt::Result {
    let labels = [
        ("host", host.to_owned()),
        ("subnet", overlay.subnet.clone()),
        ("public_ip", overlay.public_ips.join(" ")),
        ("interface", overlay.underlay.name.clone()),
        ("backend", overlay.backend.clone()),
    ];
    let help = "1; the labels contain name, subnet, public addresses, underlay interface, and backend of this host";
    let mut family = page
        .0
        .encode_descriptor("host_info", help, None, MetricType::Gauge)?;
    family.encode_family(&labels)?.encode_gauge(&1.0_f64)
}

fn firewall(page: &mut MetricsEncoder<'_>, overlay: &Overlay) -> fmt::Result {
    let Some(firewall) = &overlay.firewall else {
        return Ok(());
    };
    let flag = |is: bool| f64::from(u8::from(is));
    let rows = [(firewall.mode.as_str(), flag(firewall.trouble.is_none()))];
    page.gauges(
        "firewall_in_place",
        "1 if all firewall rules are in place",
        "mode",
        rows,
    )?;
    page.counter(
        "firewall_repairs",
        "Repairs of the firewall rules",
        firewall.repairs,
    )?;
    let flapping = flag(firewall.flapping);
    page.gauge(
        "firewall_flapping",
        "1 if another program keeps modifying the firewall rules",
        flapping,
    )
}

fn reconcile(page: &mut MetricsEncoder<'_>, overlay: &Overlay, now: f64) -> fmt::Result {
    let work = &overlay.reconcile;
    let resyncs = [
        ("clean", work.clean),
        ("repaired", work.repaired),
        ("failed", work.failed),
    ];
    let rows = resyncs.map(|(name, number)| ([name], number));
    page.counters(
        "resyncs",
        "Resyncs (comparisons of the kernel with the desired state) by result",
        ["result"],
        rows,
    )?;
    page.timestamp(
        "resync",
        "End of the last resync, in seconds since 1970",
        work.last.map(|age| now - age),
    )?;
    page.gauge(
        "resync_duration_seconds",
        "Duration of the last resync, in seconds",
        work.took,
    )?;
    page.counter(
        "lease_events",
        "Changes of leases received from etcd",
        work.events,
    )?;
    let rows = |kinds: &ByKind| kinds.each().map(|(name, number)| ([name], number));
    page.counters(
        "repairs",
        "Entries that another program changed and the daemon repaired, by kind",
        ["kind"],
        rows(&work.repairs),
    )?;
    let failures = rows(&work.failures);
    page.counters(
        "write_failures",
        "Writes that the kernel refused or did not acknowledge, by kind",
        ["kind"],
        failures,
    )?;
    let open = u32::try_from(work.flapping.len()).unwrap_or(u32::MAX);
    page.gauge(
        "flapping_objects",
        "Objects that another program keeps modifying, at most 20",
        f64::from(open),
    )
}

/// Where metrics are written down.
struct MetricsEncoder<'a>(DescriptorEncoder<'a>);

impl MetricsEncoder<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// A moment, in seconds since 1970.
    fn timestamp(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        self.maybe(&format!("{name}_timestamp_seconds"), help, value)
    }

    fn maybe(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }

    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        rows: impl IntoIterator<Item = (&'v str, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(word, value)| {
            family.encode_family(&[(label, word)])?.encode_gauge(&value)
        })
    }

    fn by_kind(&mut self, name: &str, help: &str, kinds: &ByKind) -> fmt::Result {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a double is what Prometheus has"
        )]
        let rows = kinds.each().map(|(kind, number)| (kind, number as f64));
        self.gauges(name, help, "kind", rows)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        rows: impl IntoIterator<Item = ([&'static str; N], u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(words, value)| {
            let set: Vec<_> = labels.into_iter().zip(words).collect();
            family
                .encode_family(&set)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(
            histogram.sum(),
            histogram.count(),
            &histogram.buckets(),
            None,
        )
    }
}
