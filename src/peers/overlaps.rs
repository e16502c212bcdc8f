//! Leases whose subnet covers another one's public address, where the hosts are inside the overlay network: pure.
//!
//! Packets to an address that a peer's subnet covers would enter the tunnel, so the two cannot both be used. Which of the two is
//! wrong no lease tells: the older one is used, and the younger one is refused, so that whoever comes late takes nobody's
//! connections away. What is used thus depends on the set of leases alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::backend::BadPeer;
use crate::family::Family;
use crate::subnet::{Range, Revision, Subnets, cidr};

/// One family's half of a lease.
pub(super) struct Claim {
    pub(super) created: Revision,
    pub(super) subnets: Subnets,
    pub(super) subnet: IpNetwork,
    pub(super) ip: IpAddr,
}

/// Which leases cannot be used on account of others.
#[derive(Default)]
pub(super) struct Overlaps {
    found: Found,
}

type Found = BTreeMap<(Subnets, Family), BadPeer>;

impl Overlaps {
    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Why a lease cannot be used in this family.
    pub(super) fn of(&self, family: Family, subnets: &Subnets) -> Option<BadPeer> {
        self.found.get(&(*subnets, family)).cloned()
    }

    /// Takes what was found now. Returns the leases for which that makes a difference.
    pub(super) fn replace(&mut self, found: Found) -> BTreeSet<Subnets> {
        let before = std::mem::replace(&mut self.found, found);
        let differs = |key: &&(Subnets, Family)| before.get(*key) != self.found.get(*key);
        before.keys().chain(self.found.keys()).filter(differs).map(|(subnets, _)| *subnets).collect()
    }
}

/// Finds the leases that cannot be used beside older ones.
pub(super) fn find(range: &Range, mut claims: Vec<Claim>) -> Found {
    let family = range.family();
    let is_inside = |ip: IpAddr| range.network.contains(ip);
    if !claims.iter().any(|claim| is_inside(claim.ip)) {
        return Found::new();
    }
    claims.sort_unstable_by_key(|claim| (claim.created, claim.subnets));
    let (mut found, mut addresses, mut owners) = (Found::new(), BTreeMap::new(), BTreeMap::new());
    for Claim { subnets, subnet, ip, .. } in claims {
        let covered = addresses.range(subnet.network()..=subnet.broadcast()).next();
        let around = cidr::masked(ip, range.subnet_len).and_then(|net| owners.get(&net));
        let why = match (covered, around) {
            _ if subnet.contains(ip) => Some(format!("subnet {subnet} covers its own host's address {ip}")),
            (Some((ip, owner)), _) => {
                Some(format!("subnet {subnet} covers {ip}, the public address of {owner}"))
            }
            (None, Some(owner)) => Some(format!("public address {ip} lies inside the subnet of {owner}")),
            (None, None) => None,
        };
        match why {
            Some(why) => drop(found.insert((subnets, family), BadPeer(why))),
            None => {
                owners.insert(subnet, subnets);
                // Of several at one address the oldest is named.
                is_inside(ip).then(|| addresses.entry(ip).or_insert(subnets));
            }
        }
    }
    found
}
