//! Masquerade, forwarding, and who may send to the tunnel: the rules that the host's firewall must hold, and a task that
//! keeps them.
//!
//! Rules are data ([`rule`], [`desired`]). What has to be written is the difference between what is wanted and what the
//! programs print ([`diff`], in the words of [`iptables`] and [`nft`]), and it is written in one transaction. Setting up,
//! taking over from another flannel, following a move, repairing and clearing away are all this difference.
//!
//! The overlay works without: whatever fails here is said, tried again, and stops nothing else.

pub mod desired;
pub mod diff;
mod exec;
pub mod iptables;
mod monitor;
pub mod nft;
pub mod notification;
pub mod rule;
pub mod sources;
mod sync;
mod tables;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::config::FirewallConfig;
use crate::schedule::Schedule;
use crate::subnet::{Lease, NetworkConfig, Subnets};
use crate::util::backoff::Backoff;
use crate::util::family::Family;
use crate::util::flapping::{Flapping, Line};
use desired::DesiredRules;
use desired::Mode;
use exec::ExecError;
use monitor::Monitor;
pub use sources::Tunnel;
use sync::{Iptables, Nft};
use tables::Tables;

/// After a notification, so that what belongs together is seen together.
const SETTLE: Duration = Duration::from_millis(50);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// When there is nothing to look for.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a program has to be told, if anything; or why that is not known.
type Difference = Result<Option<String>, ExecError>;

/// Where a part of the rules is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RuleBackend {
    /// iptables for IPv4, or ip6tables.
    Iptables(Family),
    Nft,
}

impl fmt::Display for RuleBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleBackend::Iptables(Family::V4) => "iptables",
            RuleBackend::Iptables(Family::V6) => "ip6tables",
            RuleBackend::Nft => "nftables",
        })
    }
}

/// How the firewall stands, for those who watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where the rules are: `iptables`, `nftables`.
    pub mode: String,
    /// Why they are not as desired, with what to do. `None`: they are.
    pub trouble: Option<String>,
    /// Why they have no effect although they are in place, with what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    pub repairs: u64,
    /// Another program keeps modifying them.
    pub flapping: bool,
}

/// The end of a status line: nothing while all is well.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(trouble) = &self.trouble {
            write!(f, ", firewall rules missing: {trouble}")?;
        }
        if let Some(obstacle) = &self.obstacle {
            write!(f, ", {obstacle}")?;
        }
        if self.flapping {
            f.write_str(", another program keeps modifying the firewall rules (see log)")?;
        }
        Ok(())
    }
}

/// What the task follows.
pub struct Inputs {
    pub own: watch::Receiver<Lease>,
    /// Whom the source filter admits, once that is known. None without a source filter.
    pub peers: Option<watch::Receiver<Option<BTreeSet<IpAddr>>>>,
}

/// Owner of flannel's rules in this host's firewall.
pub struct Firewall {
    network: NetworkConfig,
    desired: DesiredRules,
    peers: Option<BTreeSet<IpAddr>>,
    iptables: [Iptables; 2],
    nft: Nft,
    monitor: Option<Monitor>,
    flapping: Flapping<RuleBackend>,
    schedule: Schedule,
    /// What is not needed in this mode has been cleared away.
    cleared: bool,
    /// The next difference is no surprise: the desired state has changed.
    expected: bool,
    repairs: u64,
    state: watch::Sender<Option<State>>,
}

impl Firewall {
    /// Listens from now on; does nothing yet. `former` are networks that this host was in before: their rules go.
    pub fn new(
        config: &FirewallConfig,
        network: &NetworkConfig,
        own: &Subnets,
        former: Vec<IpNetwork>,
        tunnel: Tunnel,
    ) -> Self {
        let now = Instant::now();
        let desired = DesiredRules {
            mode: if network.nftables {
                Mode::Nftables
            } else {
                Mode::Iptables
            },
            overlays: network.overlays(own).collect(),
            former,
            config: config.clone(),
            tunnel,
        };
        let monitor = Monitor::open().inspect_err(
            |error| debug!(err = %error, "cannot subscribe to nftables notifications: {error}"),
        );
        Self {
            network: network.clone(),
            desired,
            peers: None,
            iptables: Family::ALL.map(Iptables::new),
            nft: Nft::default(),
            monitor: monitor.ok(),
            flapping: Flapping::default(),
            schedule: Schedule::new(now, SETTLE, Backoff::new(PAUSE.0, PAUSE.1)),
            cleared: false,
            expected: true,
            repairs: 0,
            state: watch::Sender::new(None),
        }
    }

    /// How it stands, now and later. None before the first look.
    pub fn state(&self) -> watch::Receiver<Option<State>> {
        self.state.subscribe()
    }

    /// The first look. Who hears that the rules are there takes them for those of the lease and the peers at that moment.
    async fn establish(&mut self, Inputs { own, peers }: &mut Inputs) {
        let mode = self.desired.mode;
        info!(firewall = %mode, "using {mode} for firewall rules");
        if self.desired.needs_iptables()
            && !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
        {
            info!(
                "br_netfilter is not loaded: packets between pods on one bridge bypass iptables; kube-proxy needs the module for services (modprobe br_netfilter), the overlay does not"
            );
        }
        let trouble = loop {
            let trouble = self.look().await;
            let peers = peers.as_mut().filter(|_| self.peers.is_none());
            match (
                own.has_changed(),
                peers.and_then(|peers| peers.borrow_and_update().clone()),
            ) {
                (Ok(true), _) => self.move_to(&own.borrow_and_update().subnets),
                (_, Some(peers)) => self.admit(Some(peers)),
                _ => break trouble,
            }
        };
        self.set_trouble(trouble);
    }

    /// Keeps the rules until the future is dropped. Whatever fails is said and tried again.
    pub async fn run(mut self, mut inputs: Inputs) -> Infallible {
        self.establish(&mut inputs).await;
        let Inputs { mut own, mut peers } = inputs;
        loop {
            tokio::select! {
                Ok(()) = own.changed() => self.move_to(&own.borrow_and_update().subnets),
                now = next(&mut peers) => self.admit(now),
                () = changed(self.monitor.as_mut()) => self.schedule.soon(Instant::now()),
                () = sleep_until(self.schedule.next()) => {
                    let trouble = self.look().await;
                    self.set_trouble(trouble);
                }
            }
        }
    }

    fn move_to(&mut self, own: &Subnets) {
        self.desired.overlays = self.network.overlays(own).collect();
        self.follow();
    }

    fn admit(&mut self, peers: Option<BTreeSet<IpAddr>>) {
        self.peers = peers;
        self.follow();
    }

    fn follow(&mut self) {
        self.expected = true;
        self.schedule.soon(Instant::now());
    }

    /// Compares all that may have changed with the desired state, and writes the difference; what did not work.
    async fn look(&mut self) -> Option<String> {
        let begin = Instant::now();
        self.schedule.begin(begin, NEVER);
        let mut troubles = Vec::new();
        match Tables::read() {
            Ok(tables) => {
                for (backend, difference) in self.differences(&tables).await {
                    if let Err(error) = self.repair(backend, difference).await {
                        troubles.push(error.to_string());
                    }
                }
                if !self.cleared
                    && let Err(error) = self.clear_other_variant(&tables).await
                {
                    troubles.push(error.to_string());
                }
            }
            Err(error) => troubles.push(format!("cannot list the tables of nftables: {error}")),
        }
        let now = Instant::now();
        self.schedule.end(begin, now);
        self.expected &= !troubles.is_empty();
        self.cleared |= troubles.is_empty();
        if troubles.is_empty() {
            self.schedule.succeeded();
            self.schedule.by(now + self.period());
        } else {
            self.schedule.failed(now, rand::random())
        }
        Some(troubles.join("; ")).filter(|trouble| !trouble.is_empty())
    }

    /// What is looked at: what the rules are in, and at first what they may have been in.
    fn backends(&self) -> Vec<RuleBackend> {
        let DesiredRules { config, .. } = &self.desired;
        let iptables = self.desired.needs_iptables() || config.forward || !self.cleared;
        let families = self.desired.families().map(RuleBackend::Iptables);
        let nft = self.desired.needs_nft() || !self.cleared;
        families
            .filter(|_| iptables)
            .chain(nft.then_some(RuleBackend::Nft))
            .collect()
    }

    /// All at the same time: most of it is waiting for programs.
    async fn differences(&mut self, tables: &Tables) -> Vec<(RuleBackend, Difference)> {
        let backends = self.backends();
        let Self {
            desired,
            peers,
            iptables: [v4, v6],
            nft,
            ..
        } = self;
        let [ipv4, ipv6] = Family::ALL.map(RuleBackend::Iptables);
        let (v4, v6, nft) = tokio::join!(
            perhaps(backends.contains(&ipv4), v4.difference(desired, tables)),
            perhaps(backends.contains(&ipv6), v6.difference(desired, tables)),
            perhaps(
                backends.contains(&RuleBackend::Nft),
                nft.difference(desired, peers.as_ref(), tables)
            ),
        );
        [(ipv4, v4), (ipv6, v6), (RuleBackend::Nft, nft)]
            .into_iter()
            .filter_map(|(backend, difference)| Some((backend, difference?)))
            .collect()
    }

    async fn repair(
        &mut self,
        backend: RuleBackend,
        difference: Difference,
    ) -> Result<(), ExecError> {
        let needed = match backend {
            RuleBackend::Iptables(_) => self.desired.needs_iptables(),
            RuleBackend::Nft => self.desired.needs_nft(),
        };
        let commands = match difference {
            Err(error) if error.leaves_nothing() && !needed => None,
            difference => difference?,
        };
        let Some(commands) = commands else {
            return Ok(());
        };
        debug!(firewall = %backend, "writing {backend} rules:\n{commands}");
        match backend {
            RuleBackend::Iptables(family) => self.family(family).write(&commands).await,
            RuleBackend::Nft => self.nft.write(&commands).await,
        }?;
        self.written(backend);
        Ok(())
    }

    /// What an earlier life wrote into the other variant of iptables.
    async fn clear_other_variant(&self, tables: &Tables) -> Result<(), ExecError> {
        let nothing = self.desired.nothing();
        for mut other in self.iptables.iter().filter_map(Iptables::other) {
            match other.difference(&nothing, tables).await {
                Ok(Some(commands)) => other.write(&commands).await?,
                Err(error) if !error.leaves_nothing() => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn family(&self, family: Family) -> &Iptables {
        let [v4, v6] = &self.iptables;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    fn written(&mut self, backend: RuleBackend) {
        if self.expected {
            return info!(firewall = %backend, "firewall rules written: {backend}");
        }
        self.repairs += 1;
        let line = self.flapping.repaired(backend, true, Instant::now());
        if line != Line::Nothing {
            info!(firewall = %backend, "firewall rules repaired: {backend}");
        }
        if line == Line::Flapping {
            warn!(
                firewall = %backend,
                "another program keeps modifying flannel's rules in {backend}: flanneld repairs every change and logs one per minute; find the program (nft monitor shows when it acts) and exclude flannel's rules from its configuration"
            );
        }
    }

    /// When to look although no one has told of a change.
    fn period(&self) -> Duration {
        let resync = self.desired.config.resync;
        let of = |backend: RuleBackend| match backend {
            _ if self.monitor.is_none() => resync,
            RuleBackend::Nft => NEVER,
            RuleBackend::Iptables(family) => match self.family(family).sends_notifications() {
                Some(true) => NEVER,
                Some(false) => resync,
                // Nothing can be in it before it is installed.
                None => PAUSE.1,
            },
        };
        // What flaps is looked at until it does no more.
        let flapping = self.is_flapping().then_some(PAUSE.1);
        self.backends()
            .into_iter()
            .map(of)
            .chain(flapping)
            .min()
            .unwrap_or(NEVER)
    }

    fn is_flapping(&self) -> bool {
        self.flapping.objects(Instant::now()).next().is_some()
    }

    fn set_trouble(&mut self, trouble: Option<String>) {
        let mut backends = self.iptables.iter();
        let now = State {
            mode: self.desired.mode.to_string(),
            trouble,
            obstacle: backends.find_map(|backend| backend.obstacle.clone()),
            repairs: self.repairs,
            flapping: self.is_flapping(),
        };
        self.state.send_if_modified(|state| {
            let before = state.as_ref().and_then(|state| state.trouble.as_ref());
            match &now.trouble {
                Some(trouble) if before != Some(trouble) => {
                    warn!(
                        err = trouble,
                        "firewall: {trouble}; retrying, the overlay is not affected"
                    );
                }
                None if before.is_some() => info!("firewall: all rules are in place"),
                _ => {}
            }
            state.replace(now.clone()).as_ref() != Some(&now)
        });
    }
}

/// The next value; waits forever where none can come.
async fn next<T: Clone>(receiver: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(receiver) = receiver
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    pending().await
}

async fn perhaps<T>(wanted: bool, future: impl Future<Output = T>) -> Option<T> {
    if wanted { Some(future.await) } else { None }
}

/// Waits for a notification, forever where none can come.
async fn changed(monitor: Option<&mut Monitor>) {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => pending().await,
    }
}
