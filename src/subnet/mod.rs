//! Leases: what they are, how they look in the datastore, how one is chosen.
//!
//! [`SubnetManager`] is the boundary to the datastore; [`etcd`] implements it. Everything else in this module is
//! pure: [`key`] and [`lease_value`] are the bytes that Go flannel and this daemon share, [`net_config`] the cluster's
//! network, [`alloc`] the choice of a subnet.

pub mod alloc;
pub mod cidr;
pub mod etcd;
pub mod go_json;
mod host_names;
pub mod key;
pub mod lease_value;
pub mod net_config;
pub mod owner;
pub mod pool;
pub mod public_addrs;
pub mod telemetry;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use tokio::sync::{mpsc, watch};

use crate::util::family::Family;
pub use host_names::HostNames;
pub use lease_value::LeaseAttrs;
pub use net_config::{Error as BadConfig, NetworkConfig, Overlay};
pub use pool::Range;
pub use public_addrs::PublicAddrs;
pub use telemetry::Telemetry;

/// The subnets of one lease, which are also its identity: its key in the datastore is made of them.
///
/// Networks are canonical: no host bits. A lease has at least one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnets {
    /// IPv4 subnet; absent on an IPv6-only host.
    pub v4: Option<Ipv4Network>,
    /// IPv6 subnet; absent on an IPv4-only host.
    pub v6: Option<Ipv6Network>,
}

impl Subnets {
    pub fn of(&self, family: Family) -> Option<IpNetwork> {
        match family {
            Family::V4 => self.v4.map(IpNetwork::V4),
            Family::V6 => self.v6.map(IpNetwork::V6),
        }
    }

    /// Those that there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> + use<> {
        let Self { v4, v6 } = *self;
        let v4 = v4.map(IpNetwork::V4).into_iter();
        v4.chain(v6.map(IpNetwork::V6))
    }

    /// Whether both have the same subnet in some family.
    pub fn meets(&self, other: &Self) -> bool {
        let has = |subnet: IpNetwork| other.iter().any(|theirs| theirs == subnet);
        self.iter().any(has)
    }

    /// As Go flannel's log has them: `10.5.80.0/24`, with IPv6 `ip: 10.5.80.0/24 ipv6: fd05:0:0:1c::/64`.
    pub fn in_log(&self) -> String {
        match (self.v4, self.v6) {
            (Some(v4), None) => v4.to_string(),
            (Some(v4), Some(v6)) => format!("ip: {v4} ipv6: {v6}"),
            (None, Some(v6)) => format!("ip: 0.0.0.0/0 ipv6: {v6}"),
            (None, None) => "ip: 0.0.0.0/0 ipv6: ::/0".into(),
        }
    }
}

impl From<Ipv4Network> for Subnets {
    fn from(v4: Ipv4Network) -> Self {
        Self {
            v4: Some(v4),
            v6: None,
        }
    }
}

/// Of several of one family the last counts.
impl FromIterator<IpNetwork> for Subnets {
    fn from_iter<I: IntoIterator<Item = IpNetwork>>(nets: I) -> Self {
        let mut subnets = Self::default();
        for net in nets {
            match net {
                IpNetwork::V4(net) => subnets.v4 = Some(net),
                IpNetwork::V6(net) => subnets.v6 = Some(net),
            }
        }
        subnets
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4} {v6}"),
            (Some(v4), None) => write!(f, "{v4}"),
            (None, Some(v6)) => write!(f, "{v6}"),
            (None, None) => f.write_str("none"),
        }
    }
}

/// How long a lease outlives its daemon: what Go flannel uses.
pub const LEASE_TTL: Duration = Duration::from_secs(86_400);

/// Position of a write in the datastore's history; later writes have higher revisions.
pub type Revision = i64;

/// A host's claim on its subnets, as read from the datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub subnets: Subnets,
    /// Who holds it, and what peers need in order to reach it.
    pub attrs: LeaseAttrs,
    /// When the key was created. Decides between two leases: of two that announce one MAC the newer wins, of two that share a
    /// subnet the older wins.
    pub created: Revision,
    /// When the key was last written; what a compare-and-swap compares.
    pub modified: Revision,
    /// The etcd lease that keeps the key alive. `None`: the key does not expire, it is a reservation.
    pub lease_id: Option<LeaseId>,
}

impl Lease {
    /// A reservation for a host that has not come yet: it announces an address and nothing of a backend.
    pub fn is_reservation_for_absent_host(&self) -> bool {
        let attrs = &self.attrs;
        let has_data = attrs.backend_data.is_some() || attrs.backend_v6_data.is_some();
        let nothing = attrs.backend_type.is_empty() && !has_data;
        nothing && self.lease_id.is_none() && PublicAddrs::of(&self.attrs).is_some()
    }
}

/// Id of an etcd lease object (never zero).
pub type LeaseId = std::num::NonZeroI64;

/// What a watch says. A batch of these is applied as one change.
///
/// The first event of every watch is `ListStart`. Between `ListStart` and `ListEnd` come the leases that exist, as `Put`s;
/// a lease that was known before and was not put in between is gone. So a watcher that lost its place in the
/// history simply starts again, and no one deletes anything before a complete list has been seen.
///
/// A key that goes is `Missing` first. A live holder puts it again within a moment; if no one has after a while, `Delete`
/// follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEvent {
    /// A complete list of the leases starts here.
    ListStart,
    /// The list is complete.
    ListEnd,
    /// A lease exists, with these attributes. It may be unchanged.
    Put(Lease),
    /// The key is gone, or its value cannot be read as a lease. That may pass.
    Missing(Subnets),
    /// It has been so for a while: the lease is gone.
    Delete(Subnets),
}

/// All leases at one moment of the datastore's history.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The leases. One whose value cannot be read has empty attributes: no host uses it, and it occupies its subnet.
    pub leases: Vec<Lease>,
    /// The moment. A watch goes on from here.
    pub revision: Revision,
    /// Whose history it is: another store, or one restored from a backup, has another one.
    pub cluster_id: u64,
}

impl Snapshot {
    /// Returns the lease of another host that announces `ip`. A host that is known by an address that `is_here` may be this one.
    pub fn announcer(&self, ip: IpAddr, is_here: impl Fn(IpAddr) -> bool) -> Option<Subnets> {
        let is_others = |attrs| PublicAddrs::of(attrs).is_some_and(|host| !is_here(host.ip()));
        let announces = |lease: &&Lease| lease.attrs.publics().any(|public| public == ip);
        let mut announcers = self.leases.iter().filter(announces);
        Some(announcers.find(|lease| is_others(&lease.attrs))?.subnets)
    }
}

/// Who this host is when it asks for a lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The value to publish. Its public addresses identify this host among the leases.
    pub attrs: LeaseAttrs,
    /// The subnets that `subnet.env` remembers from an earlier life; perhaps none.
    pub previous: Subnets,
    /// Addresses of the underlay beside the published ones, which no subnet may cover: where this host's packets leave from, and
    /// where etcd listens.
    pub underlay: BTreeSet<IpAddr>,
}

impl Claim {
    /// Addresses that no subnet of this host may cover.
    pub fn underlay(&self) -> impl Iterator<Item = IpAddr> {
        self.attrs.publics().chain(self.underlay.iter().copied())
    }
}

/// How this host's claim on its subnet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The key is this host's, as far as is known.
    Held,
    /// The key announces another host. It is never overwritten, and taken back once it is gone.
    TakenOver { by: IpAddr },
    /// Another live host announces this host's public address and has the key. It is left alone until that host is gone.
    DuplicateHost { ip: IpAddr },
    /// The key is gone, and the network configuration no longer allows it: making it again could overlap another lease.
    ConfigChanged,
    /// The key is gone, and there is another one of this host's: an administrator has moved it.
    Moved { to: Subnets },
}

/// Why the datastore could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request may succeed later, on its own: no endpoint answers, no leader, a timeout.
    #[error("{0}")]
    Unavailable(String),
    /// The datastore refuses: credentials, permissions, certificates. Waiting helps only once someone acts.
    #[error("{0}")]
    Refused(String),
    /// The datastore does not give this user the right to do it.
    #[error("{0}")]
    Denied(String),
    #[error(
        "no network configuration at {key}; {}",
        advice(key, misplaced.as_ref())
    )]
    NoConfig {
        key: String,
        /// One at a key that is not read.
        misplaced: Option<MisplacedConfig>,
    },
    #[error("the network configuration at {key} is invalid: {why}")]
    BadConfig {
        key: String,
        #[source]
        why: net_config::Error,
    },
    #[error(
        "the lease of {subnets} is in use: host {host:?} is alive and also announces the public address {ip}; give each host its own address (-iface or -public-ip){clone}"
    )]
    Duplicate {
        subnets: Subnets,
        ip: IpAddr,
        host: String,
        /// More advice, where both have one machine id.
        clone: &'static str,
    },
    #[error(
        "network {} is full: all {} subnets of /{} are leased; delete an unused lease, widen Network, or wait until a lease expires",
        .0.network, .0.subnet_count(), .0.subnet_len
    )]
    Full(Range),
}

fn how_to_write(key: &str) -> String {
    format!(
        r#"write it with: etcdctl put {key} '{{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{{"Type":"vxlan"}}}}' (values written with etcd's v2 API, such as by etcdctl set or ETCDCTL_API=2, are not visible in v3: write them again)"#
    )
}

/// A network configuration at the prefix itself, where no daemon reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisplacedConfig {
    pub key: String,
    /// What it must be, where its quotes are escaped.
    pub unescaped: Option<String>,
}

impl MisplacedConfig {
    /// `None`: the value is no network configuration.
    pub fn read(key: &str, value: &[u8]) -> Option<Self> {
        let found = |unescaped| {
            Some(Self {
                key: key.to_owned(),
                unescaped,
            })
        };
        if NetworkConfig::parse(value).is_ok() {
            return found(None);
        }
        let text = std::str::from_utf8(value).ok()?.trim();
        let unescaped =
            serde_json::from_str::<String>(text).unwrap_or_else(|_| text.replace("\\\"", "\""));
        NetworkConfig::parse(unescaped.as_bytes())
            .is_ok()
            .then_some(())?;
        // One line, whatever it was written as.
        found(Some(
            unescaped.split_whitespace().collect::<Vec<_>>().join(" "),
        ))
    }
}

/// How the network configuration gets to `key`.
fn advice(key: &str, misplaced: Option<&MisplacedConfig>) -> String {
    if let Some(prefix) = key.strip_suffix("/config/config") {
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        return format!(
            "-etcd-prefix must not end in /config, because flanneld appends it; use -etcd-prefix={prefix}"
        );
    }
    match misplaced {
        None => how_to_write(key),
        Some(MisplacedConfig {
            key: from,
            unescaped: None,
        }) => format!(
            r#"a configuration is at {from}, where no daemon reads it; move it with: etcdctl put {key} "$(etcdctl get --print-value-only {from})""#
        ),
        Some(MisplacedConfig {
            key: from,
            unescaped: Some(json),
        }) => format!(
            "a configuration with escaped quotes is at {from}, where no daemon reads it; move it with: etcdctl put {key} '{json}'"
        ),
    }
}

impl Error {
    /// The datastore gave no answer about its content, so that what was known before still counts.
    pub fn is_silence(&self) -> bool {
        matches!(self, Error::Unavailable(_)) || self.is_refusal()
    }

    /// The datastore answered, and does not do what was asked: it is full, or this user may not.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Refused(_) | Error::Denied(_))
    }
}

/// The datastore, as the daemon sees it. Every method may be cancelled by dropping its future.
pub trait SubnetManager: Send + Sync + 'static {
    /// What is known about the datastore, kept up to date by what the other methods do.
    fn telemetry(&self) -> Telemetry;

    /// Reads and validates the network configuration, once.
    fn network_config(&self) -> impl Future<Output = Result<NetworkConfig, Error>> + Send;

    /// All leases that can be read, in one consistent list.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;

    /// Returns the names of all hosts, as far as they are recorded and may be read.
    fn host_names(&self) -> impl Future<Output = Result<HostNames, Error>> + Send;

    /// Returns the leases of `known` that [`SubnetManager::acquire`] would keep or replace for `claim`, as they are now. Each of
    /// them is this machine's: no other live machine holds it.
    fn prove(
        &self,
        config: &NetworkConfig,
        claim: &Claim,
        known: &Snapshot,
    ) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Gets a lease for `claim`: the host's own earlier one, else a free one chosen at random. Chooses from `known` first;
    /// every write compares what it believes, and a lost race chooses again from a fresh list. Returns after one success or
    /// one error; it is the caller that retries. Where the datastore refuses to write, the host's own lease is returned as it is.
    fn acquire(
        &self,
        config: &NetworkConfig,
        claim: &Claim,
        known: &Snapshot,
    ) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Sends the leases of `known` (without it those there are; with `had_list` the receiver has had a complete list before, and keys
    /// that are missing from the new one have their grace period) and then every change of every lease (this host's too),
    /// without end, reconnecting by itself. Ends only when the receiver is dropped. Bounded: a slow receiver slows the stream,
    /// nothing is lost.
    fn watch(
        &self,
        known: Option<Snapshot>,
        had_list: bool,
        events: mpsc::Sender<Vec<LeaseEvent>>,
    ) -> impl Future<Output = ()> + Send;

    /// Keeps `lease` alive and its key in place, forever. The value follows `wanted`; each time that is marked as changed,
    /// also with the same value, the key is looked at at once (a watch saw it change). What is found goes to `lease_status`: the first
    /// time in any case, then when it changes.
    fn hold(
        &self,
        lease: Lease,
        wanted: watch::Receiver<LeaseAttrs>,
        lease_status: &watch::Sender<LeaseStatus>,
    ) -> impl Future<Output = Infallible> + Send;
}
