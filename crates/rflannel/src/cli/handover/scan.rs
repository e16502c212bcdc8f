//! Collects what Go flannel would find on this host and in etcd.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ArgMatches;

use crate::admin::handover::{Facts, Leftover};
use crate::admin::{Inventory, InventoryEntry, validate};
use crate::cli::etcd_session::{CommandError, EtcdSession};
use crate::cli::settings;
use flanneld::backend::Backend;
use flanneld::config::Config;
use flanneld::files::Previous;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::{Entry, Kernel, LinkRole, Query};
use flanneld::subnet::Subnets;

pub(super) struct Scene {
    pub(super) facts: Facts,
    pub(super) session: Option<EtcdSession>,
}

impl Scene {
    /// Scans this host with the settings that are found.
    pub(super) fn look(matches: &ArgMatches) -> Result<Self, CommandError> {
        let settings = settings::announced(matches)?;
        let running = settings.pid().is_some();
        let flags = settings.flags()?;
        let config = settings.config;
        let session = EtcdSession::of(&config);
        let inventory = session
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|session| session.inventory().map_err(|stop| stop.to_string()));
        let network = match &inventory {
            Ok(inventory) => inventory.network.clone().map(|(network, _)| network),
            Err(why) => Err(why.clone()),
        };
        let subnets = match &network {
            Ok(network) => Previous::read(&config.subnet_file).subnets(network),
            Err(_) => Subnets::default(),
        };
        let inventory = inventory.ok();
        let lease = inventory
            .as_ref()
            .and_then(|inventory| inventory.entry_of(&subnets));
        let backend = network
            .as_ref()
            .ok()
            .and_then(|network| validate::backend(network).ok());
        let leftovers = backend
            .as_deref()
            .and_then(filter)
            .into_iter()
            .chain(backend.as_deref().map(blackholes).unwrap_or_default())
            .chain(files(&config))
            .chain(inventory.as_ref().zip(lease).and_then(owner))
            .collect();
        let facts = Facts {
            flags,
            running,
            network,
            subnets,
            lease: lease.cloned(),
            translated: translated(&config),
            bridge_filter: Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
            missing: ["iptables", "ip6tables"]
                .into_iter()
                .filter(|program| !is_installed(program))
                .collect(),
            leftovers,
            config,
        };
        Ok(Self {
            facts,
            session: session.ok(),
        })
    }
}

/// Returns a public address that a router translates.
fn translated(config: &Config) -> Option<IpAddr> {
    let host_state = Netlink::open().ok()?.host_state(&Query::default()).ok()?;
    let public = config.iface.public_ip.map(IpAddr::V4);
    public.filter(|ip| host_state.owner(*ip).is_none())
}

fn filter(backend: &dyn Backend) -> Option<Leftover> {
    let (_, link) = backend.links().into_iter().next()?;
    let table = format!("flannel-sources-{}", link.vni);
    let mut nft = Command::new("nft");
    nft.args(["list", "table", "inet", &table])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    nft.status()
        .is_ok_and(|status| status.success())
        .then_some(Leftover::SourceFilter(table))
}

fn blackholes(backend: &dyn Backend) -> Vec<Leftover> {
    let mut owned = backend.owned();
    // Routes of Go flannel are left to Go flannel.
    (owned.off_device.blackhole, owned.off_device.direct) = (false, false);
    let entries = Netlink::open().and_then(|mut kernel| kernel.dump(&owned));
    let blackhole = |entry: Entry| match entry {
        Entry::Route {
            dst,
            dev: LinkRole::Blackhole,
            ..
        } => Some(Leftover::Blackhole(dst)),
        Entry::Route { .. } | Entry::Addr { .. } | Entry::Neigh { .. } | Entry::Fdb { .. } => None,
    };
    entries
        .unwrap_or_default()
        .into_iter()
        .filter_map(blackhole)
        .collect()
}

fn files(config: &Config) -> impl Iterator<Item = Leftover> {
    let there = |path: &Option<PathBuf>| path.clone().filter(|path| path.exists());
    let state_file = there(&config.state_file).map(Leftover::StateFile);
    let socket = there(&config.status_endpoints.status).map(Leftover::Socket);
    state_file.into_iter().chain(socket)
}

fn owner((inventory, entry): (&Inventory, &InventoryEntry)) -> Option<Leftover> {
    Some(Leftover::Owner(
        inventory.owners_key(&entry.subnets()),
        entry.recorded?,
    ))
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .any(|dir| dir.join(program).exists())
}
