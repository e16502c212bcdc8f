//! A daemon on an in-memory kernel, with the world around it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::super::PERIOD;
use super::meddling::Meddling;
use crate::config::{
    Config, EtcdConfig, FirewallConfig, IfaceConfig, OnLeaseLost, StatusEndpoints, TxChecksum,
};
use crate::desired::DesiredState;
use crate::files::Keepers;
use crate::firewall;
use crate::host_setup::{NodeConfig, ResolvedHost};
use crate::iface::{Addresses, Announced};
use crate::kernel::fake::{FakeNetlink, Fault, Hearing, World};
use crate::kernel::plan::plan;
use crate::kernel::{Kernel, Query};
use crate::reconcile::{Channels, Reconciler, SavedState};
use crate::status::Names;
use crate::subnet::{
    Lease, LeaseAttrs, LeaseEvent, LeaseStatus, NetworkConfig, Subnets, Telemetry, cidr,
};
use crate::util::systemd::{Notifier, Systemd};

/// For the files that a daemon writes; nothing of it reaches a disk.
pub(super) fn home() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

pub(super) fn config(home: &Path) -> Config {
    Config {
        etcd: EtcdConfig {
            endpoints: Vec::new(),
            prefix: String::new(),
            ca_file: None,
            client_pair: None,
            login: None,
            renew_margin: Duration::ZERO,
        },
        iface: IfaceConfig {
            names: vec!["eth0".into()],
            ..IfaceConfig::default()
        },
        tx_checksum: TxChecksum::Auto,
        blackhole: false,
        subnet_file: home.join("subnet.env"),
        docker_opts: None,
        state_file: None,
        on_lease_lost: OnLeaseLost::Hold,
        firewall: FirewallConfig {
            ip_masq: false,
            fully_random: true,
            forward: true,
            resync: PERIOD,
            source_filter: false,
        },
        status_endpoints: StatusEndpoints::default(),
    }
}

/// The families of the overlay, and whether peers are reached directly where they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    V4,
    Both,
    Direct,
    HostGw,
}

impl Stack {
    pub(super) const ALL: [Stack; 4] = [Stack::V4, Stack::Both, Stack::Direct, Stack::HostGw];
}

impl Stack {
    fn setup(self) -> NodeConfig {
        let v6 = match self {
            Stack::V4 | Stack::Direct | Stack::HostGw => "",
            Stack::Both => r#""EnableIPv6":true,"IPv6Network":"fd05::/48","#,
        };
        let direct = self == Stack::Direct;
        let name = if self == Stack::HostGw {
            "host-gw"
        } else {
            "vxlan"
        };
        let json = format!(
            r#"{{"Network":"10.5.0.0/16",{v6}"Backend":{{"Type":"{name}","DirectRouting":{direct}}}}}"#
        );
        let network = NetworkConfig::parse(json.as_bytes()).unwrap();
        NodeConfig::new(network, &config(Path::new("/nowhere")), "me")
    }

    /// The lease with an IPv6 half, whose numbers are those of the IPv4 half.
    fn widen(self, lease: Lease) -> Lease {
        if self != Stack::Both {
            return lease;
        }
        let last = |ip: Option<Ipv4Addr>| ip.map(|ip| u16::from(ip.octets()[3]));
        let host = last(lease.attrs.public_ip).map(|n| Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, n));
        let attrs = LeaseAttrs {
            public_ipv6: host,
            backend_v6_data: lease.attrs.backend_data.clone(),
            ..lease.attrs
        };
        Lease {
            subnets: self.widen_key(lease.subnets),
            attrs,
            ..lease
        }
    }

    fn widen_key(self, key: Subnets) -> Subnets {
        let third = key
            .v4
            .map(|net| u16::from(net.ip().octets()[2]))
            .filter(|_| self == Stack::Both);
        let v6 =
            third.and_then(|n| cidr::masked_v6(Ipv6Addr::new(0xfd05, 0, 0, n, 0, 0, 0, 0), 64));
        Subnets { v6, ..key }
    }

    fn widen_event(self, event: LeaseEvent) -> LeaseEvent {
        match event {
            LeaseEvent::Put(lease) => LeaseEvent::Put(self.widen(lease)),
            LeaseEvent::Missing(subnets) => LeaseEvent::Missing(self.widen_key(subnets)),
            LeaseEvent::Delete(subnets) => LeaseEvent::Delete(self.widen_key(subnets)),
            LeaseEvent::ListStart | LeaseEvent::ListEnd => event,
        }
    }
}

pub(super) fn lease(subnet: u8, ip: u8, mac: u8, created: i64) -> Lease {
    let value = format!(
        r#"{{"PublicIP":"192.0.2.{ip}","BackendType":"vxlan","BackendData":{{"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    let subnets = ipnetwork::Ipv4Network::new([10, 5, subnet, 0].into(), 24)
        .unwrap()
        .into();
    Lease {
        subnets,
        attrs,
        created,
        modified: created,
        lease_id: None,
    }
}

pub(super) fn listed(leases: impl IntoIterator<Item = Lease>) -> Vec<LeaseEvent> {
    let puts = leases.into_iter().map(LeaseEvent::Put);
    std::iter::once(LeaseEvent::ListStart)
        .chain(puts)
        .chain([LeaseEvent::ListEnd])
        .collect()
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Leases(Vec<LeaseEvent>),
    Meddle(Meddling),
    Fail {
        spare: usize,
        count: usize,
        fault: Fault,
    },
    Notifications(Hearing),
    Wait(u64),
}

/// All is well with the firewall.
pub(super) fn well() -> firewall::State {
    firewall::State::default()
}

/// A running daemon with the world around it.
pub(super) struct Stage {
    /// What it tells others in.
    pub(super) subnet_file: PathBuf,
    pub(super) kernel: FakeNetlink,
    stack: Stack,
    resolved: ResolvedHost,
    /// The desired state, arrived at beside the loop.
    pub(super) oracle: DesiredState,
    leases: mpsc::Sender<Vec<LeaseEvent>>,
}

impl Stage {
    pub(super) async fn play(&mut self, step: Step) {
        match step {
            Step::Leases(events) => self.events(events).await,
            Step::Meddle(meddling) => self.kernel.with(|world| meddling.happen(world)),
            Step::Fail {
                spare,
                count,
                fault,
            } => self.kernel.with(|world| world.fail(spare, count, fault)),
            Step::Notifications(hearing) => self.kernel.with(|world| world.set_hearing(hearing)),
            Step::Wait(milliseconds) => {
                sleep(Duration::from_millis(milliseconds)).await;
                let desired_entries = self.oracle.entries().into_iter().collect();
                self.kernel.with(|world| world.sacred = desired_entries);
            }
        }
    }

    /// Until the loop has seen them, the desired state of before and of now both count.
    pub(super) async fn events(&mut self, events: Vec<LeaseEvent>) {
        let events: Vec<_> = events
            .into_iter()
            .map(|event| self.stack.widen_event(event))
            .collect();
        self.oracle.apply(events.clone(), &*self.resolved.backend);
        let (desired_entries, complete) = (self.oracle.entries(), self.oracle.is_complete());
        self.kernel.with(|world| {
            world.sacred.retain(|entry| desired_entries.contains(entry));
            world.may_delete |= complete;
        });
        self.leases.send(events).await.unwrap();
    }

    /// Everybody leaves the host alone from now on.
    pub(super) async fn calm(&mut self) {
        self.kernel.with(World::calm);
        if !self.oracle.is_complete() {
            self.events(vec![LeaseEvent::ListEnd]).await;
        }
    }

    pub(super) fn assert_right(&self) {
        self.kernel.with(|world| {
            let desired_entries = self.oracle.entries();
            assert_eq!(
                plan(
                    &desired_entries,
                    &world.ours(&self.resolved.backend.owned())
                ),
                [],
                "what is there: {:?}",
                world.entries()
            );
            for (dev, spec) in self.resolved.backend.links() {
                let device = world.device(dev);
                assert!(
                    device.is_some_and(|link| spec.is_fulfilled_by(link)),
                    "{device:?}"
                );
            }
            assert_eq!(world.offences, [""; 0]);
        });
    }

    /// Nothing is written, and hardly anything read, while all is as it should be.
    pub(super) async fn assert_quiet(&self) {
        let before = self.kernel.with(|world| (world.writes, world.dumps));
        sleep(PERIOD * 2).await;
        let (writes, dumps) = self.kernel.with(|world| (world.writes, world.dumps));
        assert_eq!(writes, before.0, "writes without need");
        assert!(
            dumps <= before.1 + 3,
            "{} resyncs in two periods",
            dumps - before.1
        );
        self.assert_right();
    }
}

/// A daemon that has just been started, what it is connected to, and the stage.
pub(super) struct Start<'a> {
    pub(super) reconciler: Reconciler<'a, FakeNetlink>,
    pub(super) keepers: Keepers,
    pub(super) channels: Channels,
    pub(super) stage: Stage,
}

/// As `app.rs` does it, on a host that gives no trouble just then.
pub(super) fn start<'a>(
    kernel: &FakeNetlink,
    stack: Stack,
    config: &'a Config,
    peers: Option<Vec<Lease>>,
) -> Start<'a> {
    let (node_config, mut shell) = (stack.setup(), kernel.clone());
    let peers = peers.map(|peers| {
        peers
            .into_iter()
            .map(|peer| stack.widen(peer))
            .collect::<Vec<_>>()
    });
    kernel.with(World::restart);
    let host_state = kernel.clone().host_state(&Query::default()).unwrap();
    let resolved = || {
        node_config
            .resolve(&host_state, Announced::by(Addresses::default()), |_| None)
            .unwrap()
    };
    let (resolved, theirs) = (resolved(), resolved());
    for (dev, spec) in resolved.backend.links() {
        shell.ensure_link(dev, &spec).unwrap();
    }
    let own = Lease {
        attrs: resolved.backend.attrs(),
        ..stack.widen(lease(1, 1, 1, 1))
    };
    let (sender, leases) = mpsc::channel(16);
    let channels = Channels {
        leases,
        lease_status: watch::channel(LeaseStatus::Held).1,
        own: watch::channel(own.clone()).1,
        wanted: watch::channel(own.attrs.clone()).0,
        sources: watch::channel(None).0,
        firewall: watch::channel(Some(well())).1,
        requests: mpsc::channel(1).1,
        telemetry: Telemetry::default(),
        names: Names::default(),
    };
    let mut oracle =
        DesiredState::new(node_config.network.clone(), own.clone(), &*resolved.backend);
    let puts = peers.iter().flatten().cloned().map(LeaseEvent::Put);
    oracle.apply(
        std::iter::once(LeaseEvent::ListStart).chain(puts).collect(),
        &*resolved.backend,
    );
    let saved_state = peers.map(|peers| SavedState {
        peers,
        saved: SystemTime::UNIX_EPOCH,
    });
    let (reconciler, keepers) = Reconciler::new(shell, config, node_config, theirs, own);
    let reconciler = reconciler.from_saved_state(saved_state);
    Start {
        reconciler,
        keepers,
        channels,
        stage: Stage {
            subnet_file: config.subnet_file.clone(),
            kernel: kernel.clone(),
            stack,
            resolved,
            oracle,
            leases: sender,
        },
    }
}

/// Plays `story` with a daemon that has just been started and is killed in the end.
pub(super) async fn with_daemon(
    kernel: &FakeNetlink,
    stack: Stack,
    peers: Option<Vec<Lease>>,
    story: impl AsyncFnOnce(&mut Stage),
) {
    let home = home();
    let config = config(home.path());
    let Start {
        reconciler,
        keepers,
        channels,
        mut stage,
    } = start(kernel, stack, &config, peers);
    let mut systemd = Systemd::default();
    tokio::select! {
        never = reconciler.run(channels, &mut systemd, Notifier::default()) => match never {},
        never = keepers.run() => match never {},
        () = story(&mut stage) => {}
    }
}

/// Runs on a clock that jumps to whatever is next.
pub(super) fn in_virtual_time(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(story);
}
