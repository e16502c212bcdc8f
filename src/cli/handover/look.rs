//! What there is on this host and in etcd that Go flannel would find.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ArgMatches;

use crate::admin::handover::{Facts, Leftover};
use crate::admin::{Entry, Roll, bystander};
use crate::cli::datastore::{Desk, Stop};
use crate::cli::flanneld::{self, Parsed};
use crate::cli::{flag_table, go_flags};
use crate::config::Config;
use crate::files;
use crate::kernel::netlink::Netlink;
use crate::kernel::{Asked, Dev, Item, Kernel};
use crate::observe::client;
use crate::subnet::{Lease, NetworkConfig, Subnets};

/// All that was seen.
pub(super) struct Scene {
    config: Config,
    flags: Vec<(String, Option<String>)>,
    running: bool,
    pub(super) desk: Option<Desk>,
    roll: Result<Roll, String>,
    subnets: Subnets,
}

type Variables = Vec<(OsString, OsString)>;

impl Scene {
    /// The flags behind `--`; without any, those of the daemon that runs.
    pub(super) fn look(matches: &ArgMatches) -> Result<Self, Stop> {
        let given: Vec<OsString> =
            matches.get_many::<OsString>("flags").into_iter().flatten().cloned().collect();
        let mut told = (given, env::vars_os().collect::<Variables>());
        let mut config = parse(&told)?;
        let pid = pid(&config);
        if let Some(pid) = pid.filter(|_| told.0.is_empty()) {
            told = of_process(pid);
            config = parse(&told)?;
        }
        let desk = Desk::of(&config);
        let roll = desk
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|desk| desk.roll().map_err(|stop| stop.to_string()));
        let network = roll.as_ref().ok().and_then(|roll| roll.network.as_ref().ok());
        let subnets = network
            .map(|(network, _)| files::previous_subnets(&config.subnet_file, network))
            .unwrap_or_default();
        Ok(Self { flags: by_name(told.0)?, running: pid.is_some(), desk: desk.ok(), config, roll, subnets })
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
            missing: ["iptables", "ip6tables"].into_iter().filter(|program| !is_installed(program)).collect(),
            leftovers: self.leftovers(),
        }
    }

    fn network(&self) -> Result<NetworkConfig, String> {
        self.roll.as_ref().map_err(Clone::clone)?.network.clone().map(|(network, _)| network)
    }

    fn entry(&self) -> Option<&Entry> {
        let entries = &self.roll.as_ref().ok()?.entries;
        entries.iter().find(|entry| entry.lease.is_some() && entry.subnets() == self.subnets)
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.entry()?.lease.as_ref()
    }

    /// A public address that a router translates.
    fn translated(&self) -> Option<std::net::IpAddr> {
        let facts = Netlink::open().ok()?.facts(&Asked::default()).ok()?;
        let public = self.config.iface.public_ip.map(std::net::IpAddr::V4);
        public.filter(|ip| facts.owner(*ip).is_none())
    }

    fn leftovers(&self) -> Vec<Leftover> {
        let files = [
            self.config.state_file.iter().map(|path| Leftover::StateFile(path.clone())).next(),
            self.config.windows.status.iter().map(|path| Leftover::Socket(path.clone())).next(),
        ];
        let there = |leftover: &Leftover| match leftover {
            Leftover::StateFile(path) | Leftover::Socket(path) => path.exists(),
            Leftover::SourceFilter(_) | Leftover::Blackhole(_) | Leftover::Owner(..) => true,
        };
        let files = files.into_iter().flatten().filter(there);
        self.filter().into_iter().chain(self.blackholes()).chain(files).chain(self.owner()).collect()
    }

    fn filter(&self) -> Option<Leftover> {
        let backend = bystander::backend(&self.network().ok()?).ok()?;
        let (_, link) = backend.links().into_iter().next()?;
        let table = format!("flannel-sources-{}", link.vni);
        let mut nft = Command::new("nft");
        nft.args(["list", "table", "inet", &table])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        nft.status().is_ok_and(|status| status.success()).then_some(Leftover::SourceFilter(table))
    }

    fn blackholes(&self) -> Vec<Leftover> {
        let ours = || {
            let mut owned = bystander::backend(&self.network().ok()?).ok()?.owned();
            // Go's own stays Go's.
            (owned.elsewhere.blackhole, owned.elsewhere.direct) = (false, false);
            Netlink::open().ok()?.dump(&owned).ok()
        };
        let blackhole = |item: Item| match item {
            Item::Route { dst, dev: Dev::Nowhere, .. } => Some(Leftover::Blackhole(dst)),
            Item::Route { .. } | Item::Addr { .. } | Item::Neigh { .. } | Item::Fdb { .. } => None,
        };
        ours().unwrap_or_default().into_iter().filter_map(blackhole).collect()
    }

    fn owner(&self) -> Option<Leftover> {
        let (roll, entry) = (self.roll.as_ref().ok()?, self.entry()?);
        Some(Leftover::Owner(roll.owners_key(&entry.subnets()), entry.recorded?))
    }
}

fn parse((flags, variables): &(Vec<OsString>, Variables)) -> Result<Config, Stop> {
    match flanneld::parse(flags.clone(), variables.clone()) {
        Parsed::Run(run) => Ok(run.config),
        Parsed::Show { text, .. } => Err(Stop::Usage { text: text.trim_end().to_owned() }),
    }
}

fn pid(config: &Config) -> Option<u32> {
    client::ask(config.windows.status.as_ref()?).ok()?.pid
}

/// Flags and variables of a process.
fn of_process(pid: u32) -> (Vec<OsString>, Variables) {
    let words = |file: &str| -> Vec<Vec<u8>> {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let ended = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if ended.is_empty() {
            Vec::new()
        } else {
            ended.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
        }
    };
    let flags = words("cmdline").into_iter().skip(1).map(OsString::from_vec).collect();
    let pair = |line: Vec<u8>| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (line.get(..at)?.to_vec(), line.get(at + 1..)?.to_vec());
        Some((OsString::from_vec(name), OsString::from_vec(value)))
    };
    (flags, words("environ").into_iter().filter_map(pair).collect())
}

fn by_name(flags: Vec<OsString>) -> Result<Vec<(String, Option<String>)>, Stop> {
    let given = go_flags::read(&flag_table::command(), flags)
        .map_err(|error| Stop::Usage { text: error.to_string() })?;
    let text = |value: OsString| value.to_string_lossy().into_owned();
    Ok(given.into_iter().map(|one| (one.name, one.value.map(text))).collect())
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    env::split_paths(&path).chain(usual).any(|dir| dir.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::handover::{is_gos, is_ours};
    use crate::cli::flag_table::Standing;

    /// A flag that nobody has decided about would be passed on to a daemon that ends because of it.
    #[test]
    fn of_every_flag_it_is_known_whether_go_knows_it() {
        for flag in flag_table::flags() {
            let gone =
                matches!(flag.standing, Standing::Gone(_) | Standing::NoEffect(_) | Standing::OnlyTrue(_));
            let known =
                is_gos(flag.name) || is_ours(flag.name) || gone || flag.name == "use-multi-cluster-cidr";
            assert!(known, "-{}: put it into one of the two lists of admin::handover", flag.name);
            assert!(!(is_gos(flag.name) && is_ours(flag.name)), "-{}", flag.name);
        }
    }
}
