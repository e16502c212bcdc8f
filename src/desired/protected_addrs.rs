//! This host's addresses and etcd's, which leases they allow, and leases that are read again when these or others change: pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::entry_table::{Known, Priority};
use super::overlaps::Claim;
use super::{Change, DesiredState, PeerEvent, Touched};
use crate::backend::{Backend, BadPeer};
use crate::iface::Addresses;
use crate::subnet::{LeaseAttrs, Range, Revision, Subnets};
use crate::util::family::Family;

/// Addresses of the underlay that matter whichever peers there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProtectedAddrs {
    /// What this host announces.
    pub(super) public: Addresses,
    /// Where its packets to peers leave from.
    locals: BTreeSet<IpAddr>,
    etcd: BTreeSet<IpAddr>,
}

impl ProtectedAddrs {
    pub(super) fn new(backend: &dyn Backend, etcd: BTreeSet<IpAddr>) -> Self {
        let locals = backend
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.local)
            .collect();
        Self {
            public: Addresses::announced_by(&backend.attrs()),
            locals,
            etcd,
        }
    }

    /// The address that makes `subnet` unusable for a peer, and what it is.
    pub(super) fn covered_by(&self, subnet: IpNetwork) -> Option<(IpAddr, &'static str)> {
        let own = self
            .public
            .iter()
            .chain(self.locals.iter().copied())
            .map(|ip| (ip, "this host's own address"));
        let etcd = self
            .etcd
            .iter()
            .map(|ip| (*ip, "the address of an etcd endpoint"));
        own.chain(etcd).find(|(ip, _)| subnet.contains(*ip))
    }
}

impl DesiredState {
    /// Whether this host's addresses or etcd's are others than when leases were last read.
    pub fn has_moved(&self, backend: &dyn Backend, etcd: &BTreeSet<IpAddr>) -> bool {
        self.protected != ProtectedAddrs::new(backend, etcd.clone())
    }

    /// The backend sees this host otherwise than before, or etcd listens elsewhere: every lease is read again. What that
    /// changes in the kernel is found by a comparison with all that is there.
    pub fn reconsider(&mut self, backend: &dyn Backend, etcd: BTreeSet<IpAddr>) -> Vec<PeerEvent> {
        self.protected = ProtectedAddrs::new(backend, etcd);
        self.local = backend.local(&self.own.subnets);
        let all: Vec<Subnets> = self.leases.keys().copied().collect();
        let mut change = Change::default();
        all.into_iter()
            .for_each(|subnets| self.read_again(subnets, backend, &mut change, &mut None));
        self.resolve_overlaps(backend, &mut change, &mut None);
        change.events.extend(self.resolve_duplicates());
        change.events
    }

    /// Reads a known lease again. A list that is being read has not seen it by that.
    fn read_again(
        &mut self,
        subnets: Subnets,
        backend: &dyn Backend,
        change: &mut Change,
        touched: &mut Touched,
    ) {
        let unseen = self.unseen.take();
        let known = self.known_as(&subnets);
        let known = known.map(|known| (known.lease(), known.priority.is_certain));
        if let Some((lease, is_certain)) = known {
            self.put(lease, backend, change, touched);
            if !is_certain {
                self.mark_missing(subnets, touched);
            }
        }
        self.unseen = unseen;
    }

    /// Reads again those leases that other leases stood in the way of, or do now.
    pub(super) fn resolve_overlaps(
        &mut self,
        backend: &dyn Backend,
        change: &mut Change,
        touched: &mut Touched,
    ) {
        let ranges: Vec<Range> = self.config.ranges.iter().copied().collect();
        let changed = if self.announced.is_any_inside() {
            if !self.overlaps.is_kept() {
                self.keep_claims(&ranges, backend);
            }
            ranges
                .iter()
                .flat_map(|range| self.overlaps.settle(range))
                .collect()
        } else {
            self.overlaps.clear()
        };
        if changed.is_empty() {
            return;
        }
        for subnets in changed {
            self.read_again(subnets, backend, change, touched);
        }
        // What came and was refused in one batch was never there.
        let of = |is_meant: fn(&PeerEvent) -> bool| {
            change
                .events
                .iter()
                .filter(|event| is_meant(event))
                .filter_map(PeerEvent::subject)
                .collect::<BTreeSet<_>>()
        };
        let joined = of(|event| matches!(event, PeerEvent::Joined(..)));
        let left = of(|event| matches!(event, PeerEvent::Left(_)));
        let is_both = |subnets: Subnets| joined.contains(&subnets) && left.contains(&subnets);
        change
            .events
            .retain(|event| !event.subject().is_some_and(is_both));
    }

    /// Begins to keep what the leases claim: a host is inside the network now.
    fn keep_claims(&mut self, ranges: &[Range], backend: &dyn Backend) {
        self.overlaps.keep();
        for range in ranges {
            let family = range.family();
            let is_usable = |known: &&Known| {
                let Priority { subnets, .. } = known.priority;
                let is_usable =
                    |subnet| self.usable(range, subnet, &known.lease(), backend).is_ok();
                !self.refused.contains_key(&subnets) || subnets.of(family).is_some_and(is_usable)
            };
            let claims = self.known().filter(is_usable).filter_map(|known| {
                let Priority {
                    subnets, created, ..
                } = known.priority;
                claim(family, subnets, &known.attrs, created)
            });
            let table: Vec<Claim> = claims.collect();
            table
                .into_iter()
                .for_each(|claim| self.overlaps.set(range, claim.subnets, Some(claim)));
        }
    }

    /// A subnet of this network that is not ours and covers nothing of the underlay, at an address where a host can be.
    pub(super) fn accept(
        &self,
        range: &Range,
        subnet: IpNetwork,
        attrs: &LeaseAttrs,
    ) -> Result<(), BadPeer> {
        let Range {
            network,
            subnet_len,
            ..
        } = *range;
        let no = |why: String| Err(BadPeer(why));
        if !range.contains(subnet) {
            return no(format!("its subnet is not a /{subnet_len} of {network}"));
        }
        if self.own.subnets.of(range.family()) == Some(subnet) {
            return no(format!("subnet {subnet} is this host's own"));
        }
        let Some(ip) = attrs.public(range.family()) else {
            return no("no public address".into());
        };
        if self.protected.public.get(range.family()) == Some(ip) {
            return no(format!("public address {ip} is this host's own"));
        }
        if !can_be_a_host(ip) {
            return no(format!("public address {ip} is not the address of a host"));
        }
        if let Some((ip, what)) = self.protected.covered_by(subnet) {
            return no(format!("subnet {subnet} contains {ip}, {what}"));
        }
        if let Some(own) = self
            .own
            .subnets
            .of(range.family())
            .filter(|own| own.contains(ip))
        {
            return no(format!(
                "public address {ip} is inside this host's own subnet {own}"
            ));
        }
        Ok(())
    }
}

/// What a lease that can be used in this family claims there.
pub(super) fn claim(
    family: Family,
    subnets: Subnets,
    attrs: &LeaseAttrs,
    created: Revision,
) -> Option<Claim> {
    let (subnet, ip) = subnets.of(family).zip(attrs.public(family))?;
    Some(Claim {
        created,
        subnets,
        subnet,
        ip,
    })
}

/// Unicast, and not this host or "this network". Of IPv6 nothing that stands for IPv4 or is valid on one link only: the
/// kernel does not know on which.
fn can_be_a_host(ip: IpAddr) -> bool {
    let this_network = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 8);
    let is_useless = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || this_network.is_ok_and(|net| net.contains(ip)),
        IpAddr::V6(ip) => {
            ip.is_unspecified() || ip.is_unicast_link_local() || ip.to_ipv4().is_some()
        }
    };
    !(is_useless || ip.is_loopback() || ip.is_multicast())
}
