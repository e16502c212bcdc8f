//! `flanneld` from start to stop, as one straight line: configuration, interface, device, lease, and then the loop.
//!
//! What can pass is waited out: every step may fail, and the whole line is tried again. Only what cannot pass ends the
//! process. Stopping leaves data plane and lease as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod lease_loss;
mod offline_start;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::backend::Backend;
use crate::config::Config;
use crate::files::{self, Previous, Reading};
use crate::firewall::{Firewall, Inputs, Tunnel};
use crate::host_setup::{self, NodeConfig, ResolvedHost};
use crate::iface::{Addresses, Announced, Underlay};
use crate::kernel::{Ensured, Entry, HostState, Kernel, KernelError, LinkRole, LinkSpec};
use crate::reconcile::{Channels, Reconciler, SavedState};
use crate::status::{self, Names, Reporter, StatusRequest};
use crate::subnet::{
    self, Claim, Lease, LeaseAttrs, LeaseStatus, NetworkConfig, Snapshot, SubnetManager,
};
use crate::util::atomic_file;
use crate::util::backoff::Backoff;
use crate::util::device_lock::{self, DeviceLock};
use crate::util::go_lines::GoLine;
use crate::util::logging::causes;
use crate::util::retry_log::RetryLog;
use crate::util::systemd::{Notifier, Systemd};
use lease_loss::LeaseKeeper;
use offline_start::{Answers, owners};

/// Batches of lease events that may wait for the loop.
const EVENTS: usize = 16;
/// First and longest pause between attempts to start.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// Why the daemon ends; waiting cannot help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(String);

/// Why an attempt to start failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The network configuration or the list of leases could not be read. Only then the state file may stand in for etcd.
    #[error(transparent)]
    Unread(subnet::Error),
    /// There is no state file that could stand in for etcd.
    #[error("{0}; not using the state file {1}")]
    Unusable(subnet::Error, Box<str>),
    /// etcd was read, and there is no lease yet.
    #[error(transparent)]
    Datastore(#[from] subnet::Error),
    #[error(transparent)]
    Host(#[from] host_setup::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    File(#[from] atomic_file::Error),
    #[error(transparent)]
    Lock(#[from] device_lock::Error),
}

impl Trouble {
    fn is_permanent(&self) -> bool {
        match self {
            Trouble::Kernel(error) => error.is_permanent(),
            Trouble::Lock(_) => true,
            Trouble::Unread(_) | Trouble::Unusable(..) | Trouble::Datastore(_) => false,
            Trouble::Host(_) | Trouble::File(_) => false,
        }
    }
}

/// What etcd holds, and this host beside it.
struct EtcdReading {
    node_config: NodeConfig,
    host_state: HostState,
    snapshot: Snapshot,
    /// What is in the kernel.
    found: Option<Vec<Entry>>,
}

/// A host that has everything it needs to serve.
struct Start {
    node_config: NodeConfig,
    resolved: ResolvedHost,
    lease: Lease,
    firewall: Firewall,
    /// What was in the kernel a moment ago.
    found: Option<Vec<Entry>>,
    origin: Origin,
}

/// Where the peers are known from.
enum Origin {
    Etcd(Snapshot),
    SavedState(SavedState),
}

/// Runs until `stop` completes. `machine` is a text that stays this machine's own over reboots.
///
/// # Errors
/// [`Fatal`] when the daemon is not allowed to do its work, or must not go on without its lease.
pub async fn run<M: SubnetManager, K: Kernel>(
    config: &Config,
    manager: &M,
    kernel: K,
    machine: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    let (mut systemd, notifier) = (Systemd::default(), Notifier::from_env());
    let service_state = systemd.listen();
    let (names, reader) = Names::new();
    let (reporter, requests) = Reporter::new(
        manager.telemetry(),
        names.clone(),
        systemd.listen(),
        config.status_endpoints.probe,
    );
    tokio::select! {
        end = live(config, manager, kernel, machine, (&mut systemd, &notifier, requests, names, stop)) => end,
        never = notifier.follow(service_state) => match never {},
        never = status::serve(&config.status_endpoints, reporter) => match never {},
        never = reader.run(async || manager.host_names().await) => match never {},
    }
}

async fn live<M: SubnetManager, K: Kernel>(
    config: &Config,
    manager: &M,
    kernel: K,
    machine: &str,
    (systemd, notifier, mut requests, names, stop): (
        &mut Systemd,
        &Notifier,
        mpsc::Receiver<StatusRequest>,
        Names,
        impl Future<Output = ()>,
    ),
) -> Result<(), Fatal> {
    let mut host = Host {
        config,
        kernel,
        machine,
        made: BTreeSet::new(),
        locks: BTreeMap::new(),
        reading: Reading::default(),
        logged: BTreeSet::new(),
        answers: Answers::default(),
    };
    let stop = async {
        stop.await;
        // Before anything is put away: that may take its time.
        notifier.stopping();
    };
    tokio::pin!(stop);
    let start = tokio::select! {
        start = host.start(manager, systemd) => start,
        never = status::not_yet(&mut requests) => match never {},
        never = notifier.feed_watchdog() => match never {},
        () = &mut stop => {
            host.undo();
            GoLine::Exiting.log();
            return Ok(());
        }
    };
    let start = start.inspect_err(|_| host.undo())?;
    tokio::select! {
        fatal = serve(start, host, manager, (systemd, notifier, requests, names)) => return Err(fatal),
        () = &mut stop => {}
    }
    GoLine::Exiting.log();
    Ok(())
}

async fn serve<M: SubnetManager, K: Kernel>(
    start: Start,
    host: Host<'_, K>,
    manager: &M,
    (systemd, notifier, requests, names): (
        &mut Systemd,
        &Notifier,
        mpsc::Receiver<StatusRequest>,
        Names,
    ),
) -> Fatal {
    let Start {
        node_config,
        resolved,
        lease,
        firewall,
        found,
        origin,
    } = start;
    let (known, saved_state) = match origin {
        Origin::Etcd(snapshot) => (Some(snapshot), None),
        Origin::SavedState(saved_state) => (None, Some(saved_state)),
    };
    let (sender, leases) = mpsc::channel(EVENTS);
    let (wanted, hints) = watch::channel(resolved.backend.attrs());
    let (findings, lease_status) = watch::channel(LeaseStatus::Held);
    let (owned, own) = watch::channel(lease.clone());
    let (sources, peers) = watch::channel(None);
    // Who is not listened to does not count the peers.
    let peers = host.config.firewall.source_filter.then_some(peers);
    let inputs = Inputs {
        own: own.clone(),
        peers,
    };
    let on_lost = host.config.on_lease_lost;
    let (network, locals) = (
        node_config.network.clone(),
        resolved.underlay.addresses.iter().collect(),
    );
    let keeper = LeaseKeeper {
        manager,
        on_lost,
        network,
        locals,
        wanted: hints,
        findings,
        owned,
    };
    let (telemetry, state) = (manager.telemetry(), firewall.state());
    let channels = Channels {
        leases,
        lease_status,
        own,
        wanted,
        sources,
        firewall: state,
        requests,
        telemetry,
        names,
    };
    let (reconciler, mut keepers) =
        Reconciler::new(host.kernel, host.config, node_config, resolved, lease);
    let reconciler = reconciler
        .from_saved_state(saved_state)
        .with_prefetched(found);
    let discard = keepers.discard();
    let kept_files = keepers.run();
    tokio::pin!(kept_files);
    let end = tokio::select! {
        // First: a lease whose loss ends the daemon is told of once.
        biased;
        end = keeper.run(known, sender) => end,
        // Before the loop: while its programs run, the loop has work of its own.
        never = firewall.run(inputs) => match never {},
        never = reconciler.run(channels, systemd, notifier.clone()) => match never {},
        never = &mut kept_files => match never {},
    };
    // Without etcd the next start would serve the subnet again that is another host's now.
    tokio::select! {
        () = discard.run() => Fatal(end.to_string()),
        never = &mut kept_files => match never {},
    }
}

/// What start-up works with.
struct Host<'a, K> {
    config: &'a Config,
    kernel: K,
    machine: &'a str,
    /// Devices that were not there before: they go again if there will be no lease for them.
    made: BTreeSet<LinkRole>,
    /// The devices that are this process's to drive.
    locks: BTreeMap<String, DeviceLock>,
    reading: Reading,
    /// Lines that the attempts so far have logged.
    logged: BTreeSet<String>,
    answers: Answers,
}

impl<K: Kernel> Host<'_, K> {
    async fn start<M: SubnetManager>(
        &mut self,
        manager: &M,
        systemd: &mut Systemd,
    ) -> Result<Start, Fatal> {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut retry_log = RetryLog::default();
        loop {
            match self.attempt(manager, systemd).await {
                Ok(start) => return Ok(start),
                Err(trouble) if trouble.is_permanent() => return Err(Fatal(trouble.to_string())),
                Err(trouble) => {
                    systemd.status(format!("waiting: {trouble}"));
                    retry_log.log(&trouble.to_string());
                }
            }
            sleep(backoff.delay(rand::random())).await;
        }
    }

    /// From etcd; where it cannot be read, from the state file.
    async fn attempt<M: SubnetManager>(
        &mut self,
        manager: &M,
        systemd: &mut Systemd,
    ) -> Result<Start, Trouble> {
        match self.read(manager).await {
            Ok(reading) => self.lease(reading, manager, systemd).await,
            Err(Trouble::Unread(error)) if error.is_silence() => self.load_state(error).await,
            Err(trouble) => Err(trouble),
        }
    }

    /// Reads everything from etcd that decides what this host may serve.
    async fn read<M: SubnetManager>(&mut self, manager: &M) -> Result<EtcdReading, Trouble> {
        let network = manager.network_config().await;
        match &network {
            Ok(network) => self.answers.network = Some(Some(network.clone())),
            Err(error) if error.is_silence() => {}
            Err(_) => self.answers.network = Some(None),
        }
        let network = network.map_err(Trouble::Unread)?;
        self.announce(GoLine::NetworkConfig(&network.backend_type));
        let node_config = self.setup(network);
        let host_state = self.kernel.host_state(&node_config.query())?;
        let (snapshot, found) =
            tokio::join!(manager.snapshot(), self.prefetch(&node_config, &host_state));
        let snapshot = snapshot.map_err(Trouble::Unread)?;
        (self.answers.leases, self.answers.is_settled) = (Some(owners(&snapshot)), false);
        Ok(EtcdReading {
            snapshot,
            node_config,
            host_state,
            found,
        })
    }

    /// Gets a lease. What was read is the truth: whatever goes wrong from here on is waited out.
    async fn lease<M: SubnetManager>(
        &mut self,
        EtcdReading {
            node_config,
            host_state,
            snapshot,
            found,
        }: EtcdReading,
        manager: &M,
        systemd: &mut Systemd,
    ) -> Result<Start, Trouble> {
        let network = &node_config.network;
        let hangs = || {
            systemd.status(format!(
                "waiting: the file system of {} does not answer",
                self.config.subnet_file.display()
            ))
        };
        let previous = files::prepare(self.config, hangs).await?;
        let subnets = previous.subnets(network);
        let leased = self.leased(&snapshot, &subnets).await;
        let by_others = |ip| snapshot.announcer(ip, |own| host_state.owner(own).is_some());
        let leased = Announced {
            own: leased,
            by_others: &by_others,
        };
        let resolved = self.resolve(&node_config, &host_state, leased, None)?;
        let underlay = resolved
            .underlay
            .addresses
            .iter()
            .chain(manager.telemetry().members())
            .collect();
        let claim = Claim {
            attrs: resolved.backend.attrs(),
            previous: subnets,
            underlay,
        };
        systemd.status(format!("acquiring a subnet of {}", network.networks()));
        // The MAC that peers know comes from a lease that is this machine's, and from no other.
        let proven = manager.prove(network, &claim, &snapshot).await;
        self.answers.is_settled = proven.is_ok();
        let resolved = match proven?.first() {
            Some(lease) => self.resolve(&node_config, &host_state, leased, Some(&lease.attrs))?,
            None => resolved,
        };
        let is_as_it_was = self.ensure_device(&resolved)?;
        let claim = Claim {
            attrs: resolved.backend.attrs(),
            ..claim
        };
        let lease = manager.acquire(network, &claim, &snapshot).await;
        self.answers.is_settled &= !matches!(lease, Err(subnet::Error::Duplicate { .. }));
        let lease = lease?;
        self.made.clear();
        // They are as many as the leases, and no start follows.
        self.answers = Answers::default();
        GoLine::LeaseAcquired(&lease.subnets).log();
        let firewall = self.firewall(network, &lease, &*resolved.backend, &previous);
        let found = found.filter(|_| is_as_it_was);
        Ok(Start {
            node_config,
            resolved,
            lease,
            firewall,
            found,
            origin: Origin::Etcd(snapshot),
        })
    }

    fn setup(&self, network: NetworkConfig) -> NodeConfig {
        NodeConfig::new(network, self.config, self.machine)
    }

    /// What is in the kernel, read while etcd answers. None if there is nothing to adopt.
    async fn prefetch(
        &mut self,
        node_config: &NodeConfig,
        host_state: &HostState,
    ) -> Option<Vec<Entry>> {
        let ResolvedHost {
            underlay, backend, ..
        } = node_config
            .resolve(host_state, Announced::by(Addresses::default()), |_| None)
            .ok()?;
        self.kernel.use_underlay(underlay.index);
        self.kernel
            .prefetch(&backend.links(), &backend.owned())
            .await
    }

    fn resolve(
        &mut self,
        node_config: &NodeConfig,
        host_state: &HostState,
        leased: Announced<'_>,
        published: Option<&LeaseAttrs>,
    ) -> Result<ResolvedHost, Trouble> {
        let resolved = node_config.resolve(host_state, leased, |_| published)?;
        let Underlay {
            name, addresses, ..
        } = &resolved.underlay;
        self.announce(GoLine::Interface(name, addresses));
        match node_config.public() {
            public if public == Addresses::default() => {
                self.announce(GoLine::DefaultExternalAddress(addresses));
            }
            public => self.announce(GoLine::ExternalAddress(&public.or(*addresses))),
        }
        for remark in node_config.remarks(host_state) {
            if self.is_new(&remark) {
                info!("{remark}");
            }
        }
        Ok(resolved)
    }

    /// Makes sure that no other daemon drives a device.
    fn lock(&mut self, name: &str) -> Result<(), device_lock::Error> {
        if !self.locks.contains_key(name) {
            self.locks.insert(name.to_owned(), DeviceLock::take(name)?);
        }
        Ok(())
    }

    /// Whether all devices were as desired, with what is on them.
    fn ensure_device(&mut self, resolved: &ResolvedHost) -> Result<bool, Trouble> {
        let mut is_as_it_was = true;
        self.kernel.use_underlay(resolved.underlay.index);
        let links = resolved.backend.links();
        if links.is_empty() && resolved.backend.carries_packets() {
            let networks = resolved
                .backend
                .endpoints()
                .iter()
                .map(|endpoint| endpoint.range.network);
            networks
                .into_iter()
                .try_for_each(|network| self.lock(&device_lock::of_routes(network)))?;
        }
        for (dev, spec) in links {
            self.lock(&spec.name)?;
            let ensured = self.kernel.ensure_link(dev, &spec)?;
            self.made
                .extend((ensured == Ensured::Created).then_some(dev));
            is_as_it_was &= ensured == Ensured::Adopted;
            let LinkSpec { name, mac, mtu, .. } = &spec;
            let line = format!("device {name}: {ensured}, MAC {mac}, MTU {mtu}");
            if self.is_new(&line) {
                info!(dev = %name, %mac, mtu, "{line}");
            }
        }
        Ok(is_as_it_was)
    }

    fn firewall(
        &mut self,
        network: &NetworkConfig,
        lease: &Lease,
        backend: &dyn Backend,
        previous: &Previous,
    ) -> Firewall {
        let former = previous.networks();
        let links = backend.links();
        let tunnel = links
            .first()
            .map_or_else(Tunnel::default, |(_, spec)| Tunnel {
                port: spec.port,
                vni: spec.vni,
            });
        let mut config = self.config.firewall.clone();
        if links.is_empty() && std::mem::take(&mut config.source_filter) {
            let backend = &network.backend_type;
            let line =
                format!("-vxlan-source-filter has no effect: backend {backend} has no tunnel");
            if self.is_new(&line) {
                info!(%backend, "{line}");
            }
        }
        Firewall::new(&config, network, &lease.subnets, former, tunnel)
    }

    /// Logs a line about the start, unless an earlier attempt has logged it.
    fn announce(&mut self, line: GoLine<'_>) {
        if self.is_new(&line.to_string()) {
            line.log();
        }
    }

    /// Returns whether no attempt has logged this line, and records it.
    fn is_new(&mut self, line: &str) -> bool {
        self.logged.insert(line.to_owned())
    }

    /// Leaves nothing half-made behind.
    fn undo(&mut self) {
        for dev in std::mem::take(&mut self.made) {
            if let Err(error) = self.kernel.remove_link(dev) {
                warn!(err = %causes(&error), "{error}");
            }
        }
    }
}
