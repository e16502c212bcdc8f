//! A report as Prometheus reads it: pure. The number of series does not grow with the cluster: each host names itself, in
//! `flannel_host_info`, and not its peers.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Timings;
use super::process::Process;
use super::report::{ByKind, Duplicate, Etcd, Overlay, Probes, Report, State};
use super::reporter::Findings;
use crate::subnet::telemetry::EtcdActivity;
use crate::util::histogram::Histogram;

/// What all names begin with, except those of the process.
const PREFIX: &str = "flannel";

/// Names and help texts of all metrics, in the order in which they are written.
const HELP: &str = "\
process_start_time_seconds: Start of the process, in seconds since 1970
process_cpu_seconds: Processor time used in user and system mode, in seconds
process_resident_memory_bytes: Resident memory, in bytes
process_virtual_memory_bytes: Virtual memory, in bytes
process_open_fds: Open file descriptors
process_max_fds: Limit of open file descriptors
build_info: Version of the daemon
ready: 1 if this host serves its subnet
degraded: 1 if something needs attention
stale: 1 if this host serves from its state file because etcd does not answer
etcd_requests: Requests to etcd, each attempt counted
etcd_request_seconds: Time until etcd answered a request, in seconds
watch_connected: 1 if the watch of the leases is connected
watch_lost_seconds: Time since the watch broke, in seconds; 0 if it is connected
watch_heard_timestamp_seconds: Last message of etcd on the watch, in seconds since 1970
watch_revision: Last known revision of the leases
watch_backlog_seconds: Age of the oldest lease change that the main loop has not processed, in seconds
watch_breaks: Times that the watch broke
watch_lists: Times that all leases were listed
lease_renewed_timestamp_seconds: Last renewal of the own lease, in seconds since 1970
lease_expiry_timestamp_seconds: Expiry of the own lease unless it is renewed, in seconds since 1970
lease_renewal_failing_seconds: Time since renewals of the own lease fail, in seconds; 0 if they succeed
lease_status: Status of the own lease: 1 for the current one, 0 for the others
lease_acquired_timestamp_seconds: Time at which this daemon got its lease, in seconds since 1970
duplicate_public_ips: Public addresses that more than one host announces
entries_desired: Entries that the kernel must contain
entries_missing: Desired entries that the kernel does not contain
netlink_batch_seconds: Time from a batch of writes to its last acknowledgement, in seconds
event_seconds: Time from the arrival of lease changes to the answer of the kernel, in seconds
duplicate_public_ip_info: 1 for each public address that several hosts announce; the labels contain their subnets and known names
peers: Leases of other hosts by state; contested leases also count as installed or incomplete
probed_peers: Peers by whether they answer probes through the overlay
probes: Probes of peers through the overlay by result
probe_seconds: Time until a peer answered a probe, in seconds
host_info: 1; the labels contain name, subnet, public addresses, underlay interface, and backend of this host
firewall_in_place: 1 if all firewall rules are in place
firewall_repairs: Repairs of the firewall rules
firewall_flapping: 1 if another program keeps modifying the firewall rules
resyncs: Resyncs (comparisons of the kernel with the desired state) by result
resync_timestamp_seconds: End of the last resync, in seconds since 1970
resync_duration_seconds: Duration of the last resync, in seconds
lease_events: Changes of leases received from etcd
repairs: Entries that another program changed and the daemon repaired, by kind
write_failures: Writes that the kernel refused or did not acknowledge, by kind
flapping_objects: Objects that another program keeps modifying, at most 20
";

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
        page.gauge("process_start_time_seconds", *started)?;
        if let Some(cpu) = process.cpu {
            page.begin("process_cpu_seconds", MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&cpu, None)?;
        }
        page.gauge("process_resident_memory_bytes", process.resident)?;
        page.gauge("process_virtual_memory_bytes", process.virtual_)?;
        page.gauge("process_open_fds", process.open_fds)?;
        page.gauge("process_max_fds", process.max_fds)
    }
}

/// Findings, and the time of the scrape in seconds since 1970.
#[derive(Debug)]
struct Scrape(Findings, f64);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Scrape(findings, now) = self;
        let report = &findings.report;
        let mut page = MetricsEncoder(encoder);
        daemon(&mut page, report)?;
        requests(&mut page, &findings.activity)?;
        if let Some(etcd) = &report.etcd {
            datastore(&mut page, etcd, *now)?;
        }
        if let Some(found) = &report.probes {
            probes(&mut page, found, &findings.round_trips)?;
        }
        match &report.overlay {
            Some(found) => overlay(&mut page, found, &report.host, &findings.timings, *now),
            None => Ok(()),
        }
    }
}

fn daemon(page: &mut MetricsEncoder<'_>, report: &Report) -> fmt::Result {
    let (version, state) = (report.version.clone(), report.state);
    let is_stale = |overlay: &Overlay| overlay.stale.is_some();
    page.info("build_info", &[("version", version)])?;
    page.gauge("ready", flag(state <= State::Degraded))?;
    page.gauge("degraded", flag(state != State::Fine))?;
    page.gauge("stale", flag(report.overlay.as_ref().is_some_and(is_stale)))
}

fn requests(page: &mut MetricsEncoder<'_>, activity: &EtcdActivity) -> fmt::Result {
    let result = |answered: bool| if answered { "ok" } else { "error" };
    let rows = activity
        .requests
        .iter()
        .map(|((name, answered), n)| ([*name, result(*answered)], *n));
    page.counters("etcd_requests", ["request", "result"], rows)?;
    page.histogram("etcd_request_seconds", &activity.latency)
}

fn datastore(page: &mut MetricsEncoder<'_>, etcd: &Etcd, now: f64) -> fmt::Result {
    let lost = etcd.lost.as_ref().map_or(0.0, |lost| lost.since);
    let failing = etcd.renewal.as_ref().map_or(0.0, |renewal| renewal.since);
    page.gauge("watch_connected", flag(etcd.watching))?;
    page.gauge("watch_lost_seconds", lost)?;
    page.timestamp("watch_heard", etcd.silence.map(|age| now - age))?;
    page.gauge("watch_revision", double(etcd.revision))?;
    page.gauge("watch_backlog_seconds", etcd.backlog.unwrap_or_default())?;
    page.counter("watch_breaks", etcd.breaks)?;
    page.counter("watch_lists", etcd.lists)?;
    page.timestamp("lease_renewed", etcd.renewed.map(|age| now - age))?;
    page.timestamp("lease_expiry", etcd.expires.map(|left| now + left))?;
    page.gauge("lease_renewal_failing_seconds", failing)
}

fn overlay(
    page: &mut MetricsEncoder<'_>,
    overlay: &Overlay,
    name: &str,
    timings: &Timings,
    now: f64,
) -> fmt::Result {
    let labels = [
        ("host", name.to_owned()),
        ("subnet", overlay.subnet.clone()),
        ("public_ip", overlay.public_ips.join(" ")),
        ("interface", overlay.underlay.name.clone()),
        ("backend", overlay.backend.clone()),
    ];
    page.info("host_info", &labels)?;
    firewall(page, overlay)?;
    let statuses = [
        "held",
        "taken_over",
        "duplicate_host",
        "config_changed",
        "moved",
    ];
    let rows = statuses.map(|name| (name, flag(name == overlay.lease_status)));
    page.gauges("lease_status", "status", rows)?;
    page.timestamp("lease_acquired", overlay.held.map(|age| now - age))?;
    let peers = &overlay.peers;
    let rows = [
        ("installed", double(peers.installed)),
        (
            "incomplete",
            double(peers.desired.saturating_sub(peers.installed)),
        ),
        ("refused", double(peers.refused)),
        ("contested", double(peers.contested)),
    ];
    page.gauges("peers", "state", rows)?;
    page.gauge("duplicate_public_ips", double(overlay.duplicate_count))?;
    duplicates_by_address(page, overlay)?;
    page.by_kind("entries_desired", &overlay.entries.desired)?;
    page.by_kind("entries_missing", &overlay.entries.missing)?;
    reconcile(page, overlay, now)?;
    page.histogram("netlink_batch_seconds", &timings.batches)?;
    page.histogram("event_seconds", &timings.delays)
}

/// A series for each address, at most [`NAMED`](super::report::NAMED), with the hosts that announce it.
fn duplicates_by_address(page: &mut MetricsEncoder<'_>, overlay: &Overlay) -> fmt::Result {
    let mut family = page.begin("duplicate_public_ip_info", MetricType::Gauge)?;
    for Duplicate { ip, subnets, hosts } in &overlay.duplicates {
        let hosts = subnets.iter().filter_map(|net| hosts.get(net).cloned());
        let labels = [
            ("public_ip", ip.clone()),
            ("subnets", subnets.join(" ")),
            ("hosts", hosts.collect::<Vec<_>>().join(" ")),
        ];
        family.encode_family(&labels)?.encode_gauge(&1.0_f64)?;
    }
    Ok(())
}

fn probes(page: &mut MetricsEncoder<'_>, probes: &Probes, times: &Histogram) -> fmt::Result {
    let rows = [
        ("reachable", double(probes.reachable)),
        ("unreachable", double(probes.unreachable)),
    ];
    page.gauges("probed_peers", "state", rows)?;
    let rows = [(["answered"], probes.answered), (["lost"], probes.lost)];
    page.counters("probes", ["result"], rows)?;
    page.histogram("probe_seconds", times)
}

fn firewall(page: &mut MetricsEncoder<'_>, overlay: &Overlay) -> fmt::Result {
    let Some(firewall) = &overlay.firewall else {
        return Ok(());
    };
    let rows = [(firewall.mode.as_str(), flag(firewall.trouble.is_none()))];
    page.gauges("firewall_in_place", "mode", rows)?;
    page.counter("firewall_repairs", firewall.repairs)?;
    page.gauge("firewall_flapping", flag(firewall.flapping))
}

fn reconcile(page: &mut MetricsEncoder<'_>, overlay: &Overlay, now: f64) -> fmt::Result {
    let work = &overlay.reconcile;
    let resyncs = [
        (["clean"], work.clean),
        (["repaired"], work.repaired),
        (["failed"], work.failed),
    ];
    let rows = |kinds: &ByKind| kinds.each().map(|(name, number)| ([name], number));
    page.counters("resyncs", ["result"], resyncs)?;
    page.timestamp("resync", work.last.map(|age| now - age))?;
    page.gauge("resync_duration_seconds", work.took)?;
    page.counter("lease_events", work.events)?;
    page.counters("repairs", ["kind"], rows(&work.repairs))?;
    page.counters("write_failures", ["kind"], rows(&work.failures))?;
    page.gauge("flapping_objects", double(work.flapping.len()))
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a double is what Prometheus has"
)]
fn double(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

fn help(name: &str) -> &'static str {
    let of = |line: &'static str| line.strip_prefix(name)?.strip_prefix(": ");
    HELP.lines().find_map(of).unwrap_or_default()
}

struct MetricsEncoder<'a>(DescriptorEncoder<'a>);

impl MetricsEncoder<'_> {
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help(name), None, kind)
    }

    fn gauge(&mut self, name: &str, value: impl Into<Option<f64>>) -> fmt::Result {
        match value.into() {
            Some(value) => self.begin(name, MetricType::Gauge)?.encode_gauge(&value),
            None => Ok(()),
        }
    }

    /// A moment, in seconds since 1970.
    fn timestamp(&mut self, name: &str, value: Option<f64>) -> fmt::Result {
        self.gauge(&format!("{name}_timestamp_seconds"), value)
    }

    /// One series, whose value is 1: labels by which others are joined.
    fn info(&mut self, name: &str, labels: &[(&str, String)]) -> fmt::Result {
        self.begin(name, MetricType::Gauge)?
            .encode_family(&labels)?
            .encode_gauge(&1.0_f64)
    }

    fn gauges<'v>(
        &mut self,
        name: &str,
        label: &str,
        rows: impl IntoIterator<Item = (&'v str, f64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(word, value)| {
            family.encode_family(&[(label, word)])?.encode_gauge(&value)
        })
    }

    fn by_kind(&mut self, name: &str, kinds: &ByKind) -> fmt::Result {
        let rows = kinds.each().map(|(kind, number)| (kind, double(number)));
        self.gauges(name, "kind", rows)
    }

    fn counter(&mut self, name: &str, value: u64) -> fmt::Result {
        self.begin(name, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        rows: impl IntoIterator<Item = ([&'static str; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(words, value)| {
            let set: Vec<_> = labels.into_iter().zip(words).collect();
            family
                .encode_family(&set)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) -> fmt::Result {
        self.begin(name, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(
                histogram.sum(),
                histogram.count(),
                &histogram.buckets(),
                None,
            )
    }
}
