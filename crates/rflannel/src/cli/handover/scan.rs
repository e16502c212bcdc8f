//! Collects what Go flannel would find on this host and in etcd.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ArgMatches;

use crate::admin::handover::{Facts, Leftover};
use crate::admin::{Inventory, InventoryEntry, validate};
use crate::cli::etcd_session::{CommandError, EtcdSession};
use crate::cli::settings;
use flanneld::config::Config;
use flanneld::files::Previous;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::{Entry, Kernel, LinkRole, Query};
use flanneld::subnet::{Lease, NetworkConfig, Subnets};

pub(super) struct Scene {
    config: Config,
    flags: Vec<(String, Option<String>)>,
    running: bool,
    pub(super) session: Option<EtcdSession>,
    inventory: Result<Inventory, String>,
    subnets: Subnets,
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
        let network = inventory
            .as_ref()
            .ok()
            .and_then(|inventory| inventory.network.as_ref().ok());
        let subnets = network
            .map(|(network, _)| Previous::read(&config.subnet_file).subnets(network))
            .unwrap_or_default();
        Ok(Self {
            flags,
            running,
            session: session.ok(),
            config,
            inventory,
            subnets,
        })
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            config: &self.config,
            flags: self.flags.clone(),
            running: self.running,
            network: self.network(),
            subnets: self.subnets,
            lease: self.entry().cloned(),
            translated: self.translated(),
            bridge_filter: Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
            missing: ["iptables", "ip6tables"]
                .into_iter()
                .filter(|program| !is_installed(program))
                .collect(),
            leftovers: self.leftovers(),
        }
    }

    fn network(&self) -> Result<NetworkConfig, String> {
        self.inventory
            .as_ref()
            .map_err(Clone::clone)?
            .network
            .clone()
            .map(|(network, _)| network)
    }

    fn entry(&self) -> Option<&InventoryEntry> {
        let entries = &self.inventory.as_ref().ok()?.entries;
        entries
            .iter()
            .find(|entry| entry.lease.is_some() && entry.subnets() == self.subnets)
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.entry()?.lease.as_ref()
    }

    /// Returns a public address that a router translates.
    fn translated(&self) -> Option<std::net::IpAddr> {
        let facts = Netlink::open().ok()?.facts(&Query::default()).ok()?;
        let public = self.config.iface.public_ip.map(std::net::IpAddr::V4);
        public.filter(|ip| facts.owner(*ip).is_none())
    }

    fn leftovers(&self) -> Vec<Leftover> {
        let files = [
            self.config
                .state_file
                .iter()
                .map(|path| Leftover::StateFile(path.clone()))
                .next(),
            self.config
                .status_endpoints
                .status
                .iter()
                .map(|path| Leftover::Socket(path.clone()))
                .next(),
        ];
        let there = |leftover: &Leftover| match leftover {
            Leftover::StateFile(path) | Leftover::Socket(path) => path.exists(),
            Leftover::SourceFilter(_) | Leftover::Blackhole(_) | Leftover::Owner(..) => true,
        };
        let files = files.into_iter().flatten().filter(there);
        self.filter()
            .into_iter()
            .chain(self.blackholes())
            .chain(files)
            .chain(self.owner())
            .collect()
    }

    fn filter(&self) -> Option<Leftover> {
        let backend = validate::backend(&self.network().ok()?).ok()?;
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

    fn blackholes(&self) -> Vec<Leftover> {
        let ours = || {
            let mut owned = validate::backend(&self.network().ok()?).ok()?.owned();
            // Routes of Go flannel are left to Go flannel.
            (owned.off_device.blackhole, owned.off_device.direct) = (false, false);
            Netlink::open().ok()?.dump(&owned).ok()
        };
        let blackhole = |entry: Entry| match entry {
            Entry::Route {
                dst,
                dev: LinkRole::Blackhole,
                ..
            } => Some(Leftover::Blackhole(dst)),
            Entry::Route { .. } | Entry::Addr { .. } | Entry::Neigh { .. } | Entry::Fdb { .. } => {
                None
            }
        };
        ours()
            .unwrap_or_default()
            .into_iter()
            .filter_map(blackhole)
            .collect()
    }

    fn owner(&self) -> Option<Leftover> {
        let (inventory, entry) = (self.inventory.as_ref().ok()?, self.entry()?);
        Some(Leftover::Owner(
            inventory.owners_key(&entry.subnets()),
            entry.recorded?,
        ))
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .any(|dir| dir.join(program).exists())
}

#[cfg(test)]
mod tests {
    use crate::admin::handover::{GOS, is_ours};
    use flanneld::cli::flag_table::{self, Support};

    /// A flag that no one has decided about would be passed on to a daemon that ends because of it.
    #[test]
    fn of_every_flag_it_is_known_whether_go_knows_it() {
        for flag in flag_table::flags() {
            let gone = matches!(
                flag.support,
                Support::Gone(_) | Support::NoEffect(_) | Support::OnlyTrue(_)
            );
            let known = GOS.contains(&flag.name)
                || is_ours(flag.name)
                || gone
                || flag.name == "use-multi-cluster-cidr";
            assert!(
                known,
                "-{}: put it into one of the two lists of admin::handover",
                flag.name
            );
            assert!(
                !(GOS.contains(&flag.name) && is_ours(flag.name)),
                "-{}",
                flag.name
            );
        }
    }
}
