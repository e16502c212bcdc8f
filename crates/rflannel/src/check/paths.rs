//! Derives the paths to the peers from leases and kernel state. Sends nothing. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::evidence::{Broken, DeviceFact, Evidence, LeaseFact, Neighbor, PathNames, Probes};
use flanneld::backend::Backend;
use flanneld::backend::endpoint::Endpoint;
use flanneld::desired::{DesiredState, LostEntry};
use flanneld::kernel::entry::EntryKey;
use flanneld::kernel::host_state::VxlanFact;
use flanneld::kernel::link::{Fit, Repair};
use flanneld::kernel::{Entry, HostState, LinkRole, LinkSpec, Mac};
use flanneld::status::offline::Machines;
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Lease, Subnets};
use flanneld::util::family::Family;

/// This host's end of the overlay, for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEnd {
    pub family: Family,
    /// The device through which packets to peers leave: the backend's own, or the underlay interface.
    pub name: String,
    pub mtu: u32,
    /// The desired overlay device, if the backend has one.
    pub tunnel: Option<LinkSpec>,
    pub device: DeviceFact,
    /// Overlay address that probes are sent from; the underlay address if the host has none.
    pub address: IpAddr,
    /// Underlay address that packets are sent from.
    pub local: IpAddr,
    pub public: IpAddr,
    /// Bytes that the tunnel adds to a packet.
    pub overhead: u32,
}

/// A router on the path to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub ip: IpAddr,
    /// Interface of this host towards the router.
    pub device: String,
    /// Whether the kernel resolves its MAC by ARP.
    pub has_arp: bool,
}

/// The path to one address family of a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerPath {
    pub names: PathNames,
    pub end: LocalEnd,
    pub evidence: Evidence,
    /// Whether the peer is on a link of the underlay interface.
    pub on_link: bool,
    /// Whether the kernel would choose another source address than the tunnel's.
    pub other_source: bool,
    pub gateway: Option<Gateway>,
}

pub fn local_ends(
    backend: &dyn Backend,
    own: &Lease,
    host_state: &HostState,
    underlay: &str,
    taken: &BTreeSet<u16>,
) -> Vec<LocalEnd> {
    let links = backend.links();
    let end = |endpoint: &Endpoint| {
        let family = endpoint.family();
        let tunnel = links
            .iter()
            .find(|(dev, _)| *dev == LinkRole::overlay(family))
            .map(|(_, spec)| spec.clone());
        let inside = backend.inside(own.subnets.of(family)?);
        Some(LocalEnd {
            family,
            name: tunnel
                .as_ref()
                .map_or_else(|| underlay.to_owned(), |spec| spec.name.clone()),
            mtu: tunnel
                .as_ref()
                .map_or_else(|| backend.mtu(), |spec| spec.mtu),
            device: tunnel
                .as_ref()
                .map_or(DeviceFact::Right, |spec| device(spec, host_state, taken)),
            address: if tunnel.is_some() || host_state.owner(inside).is_some() {
                inside
            } else {
                endpoint.local
            },
            local: endpoint.local,
            public: endpoint.public,
            overhead: backend.overhead(family),
            tunnel,
        })
    };
    backend.endpoints().iter().filter_map(end).collect()
}

/// Compares a device with the desired one. `taken` are UDP ports that programs have open.
pub fn device(spec: &LinkSpec, host_state: &HostState, taken: &BTreeSet<u16>) -> DeviceFact {
    let fit = host_state.link(&spec.name).map(|found| spec.fit(found));
    let works = matches!(&fit, Some(Fit::Adopt(repairs)) if !repairs.contains(&Repair::Up));
    if let Some(by) = displaced(spec, host_state, taken).filter(|_| !works) {
        return DeviceFact::Displaced(by);
    }
    match fit {
        None => DeviceFact::Missing,
        Some(Fit::Rebuild(why)) => DeviceFact::Differs(format!("cannot be used: {why}")),
        Some(Fit::Adopt(repairs)) if repairs.is_empty() => DeviceFact::Right,
        Some(Fit::Adopt(repairs)) if repairs.contains(&Repair::Up) => DeviceFact::Down,
        Some(Fit::Adopt(repairs)) => {
            let each: Vec<String> = repairs.iter().map(ToString::to_string).collect();
            DeviceFact::Differs(format!("should have {}", each.join(", ")))
        }
    }
}

fn displaced(spec: &LinkSpec, host_state: &HostState, taken: &BTreeSet<u16>) -> Option<String> {
    let LinkSpec { vni, port, .. } = *spec;
    let family = Family::of(spec.local);
    let is_conflicting =
        |vxlan: &VxlanFact| (vxlan.vni, vxlan.port, vxlan.underlay()) == (vni, port, family);
    let others = host_state
        .links
        .iter()
        .filter(|link| link.name != spec.name);
    let conflicting = others
        .into_iter()
        .find(|link| link.vxlan.as_ref().is_some_and(is_conflicting));
    let conflicting =
        conflicting.map(|link| format!("device {} uses VNI {vni} and UDP port {port}", link.name));
    let program = || format!("a program uses UDP port {port} (ss -ulpn sport = {port} names it)");
    conflicting.or_else(|| taken.contains(&port).then(program))
}

/// Conflicts between leases.
struct LeaseIndex {
    /// Leases by the public IP that they announce, including this host's.
    claims: BTreeMap<IpAddr, Vec<Subnets>>,
    /// Leases that lost an entry to another lease, and to which one.
    contests: BTreeMap<Subnets, String>,
    /// Rejected leases, and why.
    refusals: BTreeMap<Subnets, String>,
}

/// Input from which the paths are made.
pub struct Sources<'a> {
    pub backend: &'a dyn Backend,
    /// The desired state that follows from the leases.
    pub desired: &'a DesiredState,
    /// Entries in the kernel.
    pub have: &'a [Entry],
    /// Interfaces and addresses of this host.
    pub host_state: &'a HostState,
    /// This host's lease, and what is wrong with it.
    pub own: (&'a Lease, Option<String>),
    pub peers: &'a [Lease],
    pub underlay: &'a str,
    /// Owners of the leases, as recorded in etcd.
    pub machines: &'a Machines,
}

impl Sources<'_> {
    /// Returns the paths to all peers, one for each address family.
    pub fn peer_paths(&self, ends: &[LocalEnd]) -> Vec<PeerPath> {
        let register = self.register();
        let peer_paths = self.peers.iter().flat_map(|lease| {
            let register = &register;
            ends.iter().filter_map(move |end| {
                let subnet = lease.subnets.of(end.family)?;
                Some(self.peer_path(lease, subnet, end, register))
            })
        });
        peer_paths.collect()
    }

    /// Returns the path to a subnet without a lease.
    pub fn nowhere(&self, subnet: IpNetwork, end: &LocalEnd, why: String) -> PeerPath {
        let names = self.names(None, subnet, subnet.ip(), end);
        self.path(names, LeaseFact::Missing(why), end, &[])
    }

    fn peer_path(
        &self,
        lease: &Lease,
        subnet: IpNetwork,
        end: &LocalEnd,
        register: &LeaseIndex,
    ) -> PeerPath {
        // A lease without a public IP is rejected, and nothing is sent.
        let public = lease.attrs.public(end.family).unwrap_or(subnet.ip());
        let entries = self.backend.peer(lease, end.family).unwrap_or_default();
        let fact = self.fact(lease, end.family, &entries, register);
        let host = self.host(lease.subnets);
        let names = self.names(host, subnet, public, end);
        self.path(names, fact, end, &entries)
    }

    /// Returns the host name in the owner record of a lease.
    fn host(&self, subnets: Subnets) -> Option<String> {
        let host = self
            .machines
            .get(&subnets)
            .map(MachineId::host)
            .filter(|host| !host.is_empty());
        host.map(str::to_owned)
    }

    fn names(
        &self,
        host: Option<String>,
        subnet: IpNetwork,
        public: IpAddr,
        end: &LocalEnd,
    ) -> PathNames {
        let LocalEnd {
            name, mtu, local, ..
        } = end;
        PathNames {
            host,
            subnet: subnet.to_string(),
            address: self.backend.inside(subnet),
            public,
            pod: None,
            device: name.clone(),
            mtu: *mtu,
            port: end.tunnel.as_ref().map_or(0, |spec| spec.port),
            overhead: end.overhead,
            underlay: self.underlay.to_owned(),
            local: *local,
        }
    }

    fn path(
        &self,
        names: PathNames,
        lease: LeaseFact,
        end: &LocalEnd,
        entries: &[Entry],
    ) -> PeerPath {
        let direct = entries.iter().any(|entry| {
            matches!(
                entry,
                Entry::Route {
                    dev: LinkRole::Underlay,
                    ..
                }
            )
        });
        let evidence = Evidence {
            lease,
            own: self.own.1.clone(),
            device: DeviceFact::Right,
            broken: entries
                .iter()
                .filter_map(|wanted| self.broken(wanted))
                .collect(),
            shadow: None,
            strict: None,
            next_hop: None,
            neighbor: Neighbor::Unknown,
            direct,
            mac: entries.iter().find_map(mac),
            required: required(end),
            rules: Vec::new(),
            probes: Probes::default(),
        };
        PeerPath {
            names,
            end: end.clone(),
            evidence,
            on_link: false,
            other_source: false,
            gateway: None,
        }
    }

    fn broken(&self, wanted: &Entry) -> Option<Broken> {
        let start = self
            .have
            .partition_point(|entry| entry.key() < wanted.key());
        let same = self
            .have
            .iter()
            .skip(start)
            .take_while(|entry| entry.key() == wanted.key());
        let found: Vec<Entry> = same.copied().collect();
        let is_right = !found.is_empty() && found.iter().all(|entry| wanted.fulfilled_by(entry));
        (!is_right).then_some(Broken {
            wanted: *wanted,
            found,
        })
    }

    fn fact(
        &self,
        lease: &Lease,
        family: Family,
        entries: &[Entry],
        register: &LeaseIndex,
    ) -> LeaseFact {
        let public = lease.attrs.public(family);
        let claimants = public.and_then(|ip| Some((ip, register.claims.get(&ip)?)));
        if let Some((ip, claimants)) =
            claimants.filter(|(_, claimants)| self.are_of_several(claimants))
        {
            let each: Vec<String> = claimants
                .iter()
                .map(|subnets| self.title(*subnets))
                .collect();
            return LeaseFact::Duplicate(format!(
                "the leases of {} announce {ip}",
                each.join(" and ")
            ));
        }
        if let Some(ip) = public.filter(|ip| self.is_address_of_this_host(*ip, family)) {
            let title = self.title(lease.subnets);
            let why = format!(
                "the lease of {title} announces {ip}, which is also an address of this host"
            );
            return LeaseFact::Duplicate(why);
        }
        let holds = |entry: &Entry| self.desired.holder(entry.key()) == Some(lease.subnets);
        if !entries.is_empty() && entries.iter().all(holds) {
            return LeaseFact::Usable;
        }
        let why = register
            .refusals
            .get(&lease.subnets)
            .or_else(|| register.contests.get(&lease.subnets));
        let has_no_tunnel = self.backend.links().is_empty();
        let is_far = |ip| {
            self.backend
                .connected_subnets()
                .is_some_and(|near| !near.may_have(ip))
        };
        if let (Some(why), true) = (why, has_no_tunnel && public.is_some_and(is_far)) {
            return LeaseFact::NotConnected(why.clone());
        }
        LeaseFact::Unusable(why.cloned().unwrap_or_else(|| "unknown reason".into()))
    }

    /// Returns whether this host has the address and does not announce it itself. Loopback addresses, which every host has, do not count.
    fn is_address_of_this_host(&self, ip: IpAddr, family: Family) -> bool {
        !ip.is_loopback()
            && self.own.0.attrs.public(family) != Some(ip)
            && self.host_state.addrs.iter().any(|addr| addr.ip == ip)
    }

    /// Returns whether leases belong to different hosts, as far as known. A host that got another subnet leaves its old lease behind.
    fn are_of_several(&self, leases: &[Subnets]) -> bool {
        let mut machines = leases.iter().map(|subnets| self.machines.get(subnets));
        match machines.next() {
            Some(Some(first)) => machines.any(|other| other.is_none_or(|other| !first.is(other))),
            Some(None) => leases.len() > 1,
            None => false,
        }
    }

    /// Formats subnets with the host that leased them.
    fn title(&self, subnets: Subnets) -> String {
        self.host(subnets)
            .map_or_else(|| subnets.to_string(), |host| format!("{subnets} ({host})"))
    }

    fn register(&self) -> LeaseIndex {
        let mut claims: BTreeMap<IpAddr, Vec<Subnets>> = BTreeMap::new();
        for lease in std::iter::once(self.own.0).chain(self.peers) {
            for ip in Family::ALL
                .into_iter()
                .filter_map(|family| lease.attrs.public(family))
            {
                claims.entry(ip).or_default().push(lease.subnets);
            }
        }
        let told = |(subnets, contest): (Subnets, LostEntry)| {
            (
                subnets,
                format!("{} is newer and has {}", contest.winner, contest.entry),
            )
        };
        LeaseIndex {
            claims,
            contests: self.desired.contests().into_iter().map(told).collect(),
            refusals: self
                .desired
                .refusals()
                .map(|(subnets, why)| (*subnets, why.to_string()))
                .collect(),
        }
    }

    /// Returns whether an address is on a link of the underlay interface.
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        let Some(link) = self.host_state.link(self.underlay) else {
            return false;
        };
        let nets = self
            .host_state
            .addrs
            .iter()
            .filter(|addr| addr.link == link.index);
        nets.into_iter()
            .any(|addr| IpNetwork::new(addr.ip, addr.prefix_len).is_ok_and(|net| net.contains(ip)))
    }
}

/// Returns the smallest overlay packet that fits through a link of the minimum MTU of its address family.
fn required(end: &LocalEnd) -> u32 {
    let link: u32 = match end.family {
        Family::V4 => 576,
        Family::V6 => 1280,
    };
    link.saturating_sub(end.overhead)
}

fn mac(entry: &Entry) -> Option<Mac> {
    match entry.key() {
        EntryKey::Fdb(_, mac) => Some(mac),
        EntryKey::Addr(..) | EntryKey::Neigh(..) | EntryKey::Route(..) => None,
    }
}
