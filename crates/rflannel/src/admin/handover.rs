//! Prepares the return of a host to Go flannel: what that daemon will do, and what it would not clean up. Pure.
//!
//! Go means Go flannel v0.28. docs/internals/compatibility.md lists the differences of older releases.

use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::{Expiry, InventoryEntry};
use flanneld::config::Config;
use flanneld::subnet::{NetworkConfig, Revision, Subnets};
use flanneld::util::family::Family;

/// In networks with more subnets, routes have other protocol numbers than those of Go flannel.
const SPREAD_ABOVE: u128 = 1024;

/// Flags that Go flannel does not know, and what replaces them. Go flannel exits with status 0 at the first unknown flag.
const NOT_GOS: &str = "\
on-lease-lost: Go flannel exits if another host takes its lease
tx-checksum: the device keeps its setting until it is created again
vxlan-source-filter: the filter is removed, because Go flannel would not add new peers to it
docker-opts-file: mk-docker-opts.sh writes it; see ExecStartPost below
docker-opts-key: mk-docker-opts.sh writes it; see ExecStartPost below
state-file: Go flannel waits for etcd when it starts
status-socket: Go flannel has no status socket
probe-interval: Go flannel does not probe peers
log-format: Go flannel logs in glog's format
";

/// Flags that Go flannel knows. Its `-help` comes from its flag parser.
const GOS: &str = "\
etcd-endpoints etcd-prefix etcd-cafile etcd-certfile etcd-keyfile etcd-username etcd-password
subnet-lease-renew-margin iface iface-regex iface-can-reach public-ip public-ipv6 ip-blackhole-route
ip-masq ip-masq-fully-random-disable iptables-forward-rules iptables-resync subnet-file v vmodule
log_backtrace_at version help healthz-port healthz-ip kube-subnet-mgr kube-api-url kubeconfig-file
kube-annotation-prefix net-config-path set-node-network-unavailable";

#[derive(Debug, Clone)]
pub struct Facts {
    pub config: Config,
    /// The daemon's flags: name and value.
    pub flags: Vec<(String, Option<String>)>,
    pub running: bool,
    /// The network configuration, or why it is unknown.
    pub network: Result<NetworkConfig, String>,
    /// The subnets in `subnet.env`.
    pub subnets: Subnets,
    /// The lease of these subnets.
    pub lease: Option<InventoryEntry>,
    /// A public address that no interface has, because a router translates it.
    pub translated: Option<std::net::IpAddr>,
    /// Whether `br_netfilter` is loaded.
    pub bridge_filter: bool,
    /// Programs that Go flannel runs and that are not installed.
    pub missing: Vec<&'static str>,
    /// What Go flannel would not remove.
    pub leftovers: Vec<Leftover>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// The table of the source filter, which would drop packets of later peers.
    SourceFilter(String),
    /// This daemon's blackhole route for the host's own subnet.
    Blackhole(IpNetwork),
    /// The state file, which a later start without etcd would use.
    StateFile(PathBuf),
    /// A socket that no process listens at.
    Socket(PathBuf),
    /// The owner record in etcd, at this revision.
    Owner(String, Revision),
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Leftover::SourceFilter(table) => write!(f, "nft table inet {table}"),
            Leftover::Blackhole(subnet) => {
                write!(f, "blackhole route {subnet} (metric 1024, protocol 164)")
            }
            Leftover::StateFile(path) => write!(f, "state file {}", path.display()),
            Leftover::Socket(path) => write!(f, "status socket {}", path.display()),
            Leftover::Owner(key, _) => write!(f, "etcd key {key}"),
        }
    }
}

/// Something to know before Go flannel starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing changes.
    Fine(String),
    Note(String),
    /// Go flannel will not start, or will not serve as this daemon does.
    Stop(String),
}

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![lease(facts)];
    match &facts.network {
        Ok(network) => found.extend(of_network(network, facts)),
        Err(why) => found.push(Finding::Stop(format!("no network configuration: {why}"))),
    }
    found.extend(of_etcd(&facts.config));
    found.extend(of_host(facts));
    found.extend(facts.flags.iter().filter_map(|(name, _)| {
        let (_, instead) = not_gos().find(|(known, _)| known == name)?;
        Some(Finding::Note(format!(
            "Go flannel does not know -{name}: {instead}"
        )))
    }));
    found
}

fn lease(facts: &Facts) -> Finding {
    let subnets = facts.subnets;
    match &facts.lease {
        None if facts.network.is_err() => Finding::Stop(
            "this host's lease is unknown because the network configuration could not be read"
                .into(),
        ),
        None if subnets == Subnets::default() => Finding::Stop(
            "subnet.env names no subnet of this network: Go flannel leases any free subnet".into(),
        ),
        None => Finding::Stop(format!(
            "etcd has no lease of {subnets}, which subnet.env names: Go flannel leases it if it is still free, otherwise another one"
        )),
        Some(entry) if entry.expiry == Expiry::Never => Finding::Note(format!(
            "the lease of {subnets} is a reservation: Go flannel keeps the subnet but turns it into a lease of 24 hours (after the way \
             back, run `rflannel lease reserve` again)"
        )),
        Some(entry) => Finding::Fine(format!(
            "the lease of {subnets} exists: Go flannel finds it by the address {}",
            entry.public().join(" and ")
        )),
    }
}

fn of_network(network: &NetworkConfig, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let (v4, v6) = (
        network.ranges.get(Family::V4),
        network.ranges.get(Family::V6),
    );
    if v4.is_none() {
        found.push(Finding::Stop(
            "the network has no IPv4: Go flannel cannot tell its hosts apart; they share one lease and reach no other host"
                .into(),
        ));
    }
    if v4.is_some() && v6.is_some() {
        found.push(Finding::Note(
            "FLANNEL_MTU grows by 20, which is too large for IPv6: Go flannel subtracts the overhead of IPv4 only".into(),
        ));
    }
    if v4.is_some_and(|range| range.subnet_count() > SPREAD_ABOVE) {
        found.push(Finding::Note(
            "routes have protocols 100 to 163: Go flannel replaces each route when it programs the peer".into(),
        ));
    }
    if network.nftables {
        found.push(Finding::Note(
            "FLANNEL-FWD stays in iptables if docker's policy required it: the accept rule of Go flannel does not override a drop".into(),
        ));
    }
    let rules = facts.config.firewall.ip_masq || facts.config.firewall.forward;
    if !facts.missing.is_empty() && rules {
        found.push(Finding::Stop(format!(
            "Go flannel does not start without {}: install it",
            facts.missing.join(", ")
        )));
    }
    found
}

fn of_etcd(config: &Config) -> Vec<Finding> {
    let etcd = &config.etcd;
    let mut found = Vec::new();
    if etcd.ca_file.is_some() && etcd.client_pair.is_none() {
        found.push(Finding::Stop(
            "-etcd-cafile without -etcd-certfile and -etcd-keyfile: Go flannel ignores it and trusts the system's CAs".into(),
        ));
    }
    if etcd
        .endpoints
        .iter()
        .any(|endpoint| !endpoint.contains("://"))
        && etcd.ca_file.is_some()
    {
        found.push(Finding::Stop(
            "an endpoint has no https://: Go flannel connects to it without TLS; write the scheme"
                .into(),
        ));
    }
    found
}

fn of_host(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if !facts.bridge_filter {
        found.push(Finding::Stop(
            "Go flannel does not start without br_netfilter: run modprobe br_netfilter".into(),
        ));
    }
    if let Some(ip) = facts.translated {
        found.push(Finding::Stop(format!(
            "no interface has the public address {ip}: Go flannel since v0.27.4 creates the device again with that local address and \
             another MAC, and the device cannot send"
        )));
    }
    found
}

/// Returns the flags for Go flannel, without those that it does not know and without the program.
pub fn gos_flags(flags: &[(String, Option<String>)]) -> Vec<String> {
    let known = flags.iter().filter(|(name, _)| is_gos(name));
    known
        .map(|(name, value)| spelled(name, value.as_deref()))
        .collect()
}

fn is_gos(name: &str) -> bool {
    GOS.split_whitespace().any(|known| known == name)
}

fn not_gos() -> impl Iterator<Item = (&'static str, &'static str)> {
    NOT_GOS.lines().filter_map(|line| line.split_once(": "))
}

/// Spells a flag as on a command line, without a password.
pub fn spelled(name: &str, value: Option<&str>) -> String {
    match value {
        Some(_) if name == "etcd-password" => format!("-{name}=***"),
        Some(value) => format!("-{name}={value}"),
        None => format!("-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::entry;
    use super::*;
    use flanneld::cli::flag_table::{self, Support};
    use flanneld::cli::flanneld::{Parsed, parse};
    use std::ffi::OsString;

    const PAIR: &[&str] = &["-etcd-certfile=/cert", "-etcd-keyfile=/key"];
    const LEASE: &str = r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan"}"#;

    /// What the daemon makes of these flags.
    fn config(more: &[&str]) -> Config {
        let endpoints = ["-etcd-endpoints=https://10.0.0.1:2379", "-etcd-cafile=/ca"];
        let flags = endpoints.iter().chain(more).map(OsString::from);
        match parse(flags, []) {
            Parsed::Run(run) => run.config,
            other @ (Parsed::Show(_) | Parsed::Wrong(_)) => panic!("{other:?}"),
        }
    }

    fn facts(config: &Config) -> Facts {
        let lease = entry("10.5.1.0-24", LEASE, Some("h1"));
        Facts {
            config: config.clone(),
            flags: vec![
                ("iface".into(), Some("eth0".into())),
                ("ip-masq".into(), None),
            ],
            running: false,
            network: NetworkConfig::parse(
                br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
            )
            .map_err(|e| e.0),
            subnets: lease.subnets(),
            lease: Some(lease),
            translated: None,
            bridge_filter: true,
            missing: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    fn stops(facts: &Facts) -> String {
        let stop = |finding| match finding {
            Finding::Stop(why) => Some(why),
            Finding::Fine(_) | Finding::Note(_) => None,
        };
        findings(facts)
            .into_iter()
            .filter_map(stop)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn an_ordinary_host_is_fine() {
        let config = config(PAIR);
        assert_eq!(
            findings(&facts(&config)),
            [Finding::Fine(
                "the lease of 10.5.1.0/24 exists: Go flannel finds it by the address 192.0.2.1"
                    .into()
            )]
        );
    }

    #[test]
    fn what_go_cannot_do_stops_it() {
        let (plain, lone) = (config(PAIR), config(&[]));
        let bare = config(&["-etcd-endpoints=10.0.0.1:2379"]);
        let six = NetworkConfig::parse(
            br#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#,
        );
        for (facts, words) in [
            (
                Facts {
                    lease: None,
                    ..facts(&plain)
                },
                "etcd has no lease of 10.5.1.0/24",
            ),
            (facts(&lone), "Go flannel ignores it"),
            (facts(&bare), "has no https://"),
            (
                Facts {
                    bridge_filter: false,
                    ..facts(&plain)
                },
                "modprobe br_netfilter",
            ),
            (
                Facts {
                    missing: vec!["iptables"],
                    ..facts(&plain)
                },
                "Go flannel does not start without iptables",
            ),
            (
                Facts {
                    translated: Some([192, 0, 2, 7].into()),
                    ..facts(&plain)
                },
                "192.0.2.7",
            ),
            (
                Facts {
                    network: six.map_err(|e| e.0),
                    ..facts(&plain)
                },
                "cannot tell its hosts apart",
            ),
            (
                Facts {
                    network: Err("no answer".into()),
                    ..facts(&plain)
                },
                "no answer",
            ),
        ] {
            assert!(stops(&facts).contains(words), "{words}: {}", stops(&facts));
        }
    }

    #[test]
    fn own_flags_are_named_and_left_out() {
        let config = config(PAIR);
        let flags = [
            ("iface", Some("eth0")),
            ("ip-masq", None),
            ("state-file", Some("none")),
            ("etcd-password", Some("x")),
        ];
        let flags: Vec<_> = flags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        assert_eq!(
            gos_flags(&flags),
            ["-iface=eth0", "-ip-masq", "-etcd-password=***"]
        );
        let facts = Facts {
            flags,
            ..facts(&config)
        };
        let note = Finding::Note(
            "Go flannel does not know -state-file: Go flannel waits for etcd when it starts".into(),
        );
        assert!(findings(&facts).contains(&note));
    }

    /// A flag that no one has decided about would be passed on to a daemon that ends because of it.
    #[test]
    fn of_every_flag_it_is_known_whether_go_knows_it() {
        for flag in flag_table::flags() {
            let gone = matches!(
                flag.support,
                Support::Gone(_) | Support::NoEffect(_) | Support::OnlyTrue(_)
            );
            let is_gos = is_gos(flag.name);
            let is_ours = not_gos().any(|(name, _)| name == flag.name);
            assert!(
                is_gos || is_ours || gone || flag.name == "use-multi-cluster-cidr",
                "-{}: put it into one of the two lists of this module",
                flag.name
            );
            assert!(!(is_gos && is_ours), "-{}", flag.name);
        }
    }
}
