//! `flanneld` from start to stop, as one straight line: configuration, interface, device, lease, files, and then the loop.
//!
//! What can pass is waited out: every step may fail, and the whole line is tried again. Only what cannot pass ends the
//! process. Stopping leaves data plane and lease as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::atomic_file;
use crate::backend::{self, Backend, Site};
use crate::config::Config;
use crate::files;
use crate::iface;
use crate::kernel::{Dev, Ensured, Kernel, KernelError};
use crate::peers::Desired;
use crate::reconcile::Reconciler;
use crate::retry::Backoff;
use crate::subnet::{self, Claim, Lease, NetworkConfig, Snapshot, SubnetManager};
use crate::systemd::Systemd;

/// Batches of lease events that may wait for the loop.
const EVENTS: usize = 16;
/// First and longest pause between attempts to start.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How often a lasting reason to wait is repeated.
const REMINDER: Duration = Duration::from_secs(300);

/// Why the daemon gave up; waiting cannot help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(String);

/// Why an attempt to start failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Datastore(#[from] subnet::Error),
    #[error(transparent)]
    Interface(#[from] iface::Error),
    #[error("network configuration: {0}")]
    Backend(#[from] backend::BadConfig),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    File(#[from] atomic_file::Error),
}

impl Trouble {
    fn is_permanent(&self) -> bool {
        matches!(self, Trouble::Kernel(error) if error.is_permanent())
    }
}

/// A host that has everything it needs to serve.
struct Start {
    network: NetworkConfig,
    backend: Box<dyn Backend>,
    lease: Lease,
    snapshot: Snapshot,
}

/// Runs until SIGTERM or SIGINT. `machine` is a text that stays this machine's own over reboots.
///
/// # Errors
/// [`Fatal`] when the daemon is not allowed to do its work.
pub async fn run<M: SubnetManager, K: Kernel>(
    config: &Config,
    manager: &M,
    kernel: K,
    machine: &str,
) -> Result<(), Fatal> {
    let mut systemd = Systemd::default();
    let mut host = Host { config, kernel, machine, made_device: false, said: BTreeSet::new() };
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let start = tokio::select! {
        start = host.start(manager, &mut systemd) => start,
        () = &mut stop => {
            host.undo();
            systemd.stopping();
            return Ok(());
        }
    };
    let start = start.inspect_err(|_| host.undo())?;
    tokio::select! {
        () = serve(start, host.kernel, manager, &mut systemd) => {}
        () = &mut stop => systemd.stopping(),
    }
    info!("Exiting cleanly: device, routes and lease stay as they are");
    Ok(())
}

async fn serve<M: SubnetManager, K: Kernel>(start: Start, kernel: K, manager: &M, systemd: &mut Systemd) {
    let Start { network, backend, lease, snapshot } = start;
    let (sender, events) = mpsc::channel(EVENTS);
    let check = Notify::new();
    let desired = Desired::new(network, lease.clone(), &*backend);
    let mut reconciler = Reconciler::new(kernel, backend, desired);
    tokio::join!(
        manager.watch(snapshot, sender),
        reconciler.run(events, manager.hold(lease, &check), &check, systemd)
    );
}

/// What start-up works with.
struct Host<'a, K> {
    config: &'a Config,
    kernel: K,
    machine: &'a str,
    /// The device was not there before: it goes again if there will be no lease for it.
    made_device: bool,
    /// What the attempts so far have announced.
    said: BTreeSet<String>,
}

impl<K: Kernel> Host<'_, K> {
    async fn start<M: SubnetManager>(&mut self, manager: &M, systemd: &mut Systemd) -> Result<Start, Fatal> {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut waiting = Waiting::default();
        loop {
            match self.attempt(manager, systemd).await {
                Ok(start) => return Ok(start),
                Err(trouble) if trouble.is_permanent() => return Err(Fatal(trouble.to_string())),
                Err(trouble) => waiting.say(&trouble.to_string(), systemd),
            }
            sleep(backoff.delay(rand::random())).await;
        }
    }

    async fn attempt<M: SubnetManager>(
        &mut self,
        manager: &M,
        systemd: &mut Systemd,
    ) -> Result<Start, Trouble> {
        let network = manager.network_config().await?;
        self.announce(format!("Found network config - Backend type: {}", network.backend_type));
        let snapshot = manager.snapshot().await?;
        let backend = self.backend(&network, &snapshot)?;
        files::probe(self.config)?;
        self.ensure_device(&*backend)?;
        let claim =
            Claim { attrs: backend.attrs(), previous: files::previous_subnet(&self.config.subnet_file) };
        systemd.status(format!("leasing a subnet of {}", network.network));
        let lease = manager.acquire(&network, &claim, &snapshot).await?;
        self.made_device = false;
        info!("Lease acquired: {}", lease.subnets);
        files::write(self.config, &network, &lease, backend.mtu())?;
        Ok(Start { network, backend, lease, snapshot })
    }

    fn backend(&mut self, network: &NetworkConfig, snapshot: &Snapshot) -> Result<Box<dyn Backend>, Trouble> {
        let facts = self.kernel.facts()?;
        let underlay = iface::choose(&facts, &self.config.ifaces, self.config.public_ip)?;
        let public_ip = self.config.public_ip.unwrap_or(underlay.ip);
        self.announce(format!("Using interface with name {} and address {}", underlay.name, underlay.ip));
        self.announce(match self.config.public_ip {
            Some(ip) => format!("Using {ip} as external address"),
            None => format!("Defaulting external address to interface address ({})", underlay.ip),
        });
        let mine = snapshot.leases.iter().find(|lease| lease.attrs.public_ip == Some(public_ip));
        let published = mine.map(|lease| &lease.attrs);
        let site = Site { underlay: &underlay, public_ip, facts: &facts, published, machine: self.machine };
        Ok(backend::new(network, &site)?)
    }

    fn ensure_device(&mut self, backend: &dyn Backend) -> Result<(), KernelError> {
        for (dev, spec) in backend.links() {
            let ensured = self.kernel.ensure_link(dev, &spec)?;
            self.made_device |= ensured == Ensured::Created;
            self.announce(format!("device {}: {ensured}, MAC {}, MTU {}", spec.name, spec.mac, spec.mtu));
        }
        Ok(())
    }

    /// Says a line about the way up, unless an earlier attempt has said it.
    fn announce(&mut self, line: String) {
        if self.said.insert(line.clone()) {
            info!("{line}");
        }
    }

    /// Leaves nothing half-made behind.
    fn undo(&mut self) {
        if std::mem::take(&mut self.made_device)
            && let Err(error) = self.kernel.remove_link(Dev::Overlay)
        {
            warn!("{error}");
        }
    }
}

/// Says what is waited for: once, when it changes, and rarely while it lasts.
#[derive(Default)]
struct Waiting {
    said: Option<(String, Instant)>,
}

impl Waiting {
    fn say(&mut self, reason: &str, systemd: &mut Systemd) {
        systemd.status(format!("waiting: {reason}"));
        let now = Instant::now();
        let fresh = |(said, at): &(String, Instant)| said == reason && now.duration_since(*at) < REMINDER;
        if !self.said.as_ref().is_some_and(fresh) {
            warn!("{reason}; trying again until it works");
            self.said = Some((reason.to_owned(), now));
        }
    }
}

/// Completes at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, Fatal> {
    let listen = |kind| signal(kind).map_err(|error| Fatal(format!("cannot listen for signals: {error}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM received"),
            _ = int.recv() => info!("SIGINT received"),
        }
    })
}
