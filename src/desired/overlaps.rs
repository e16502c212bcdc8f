//! Leases whose subnet covers another one's public address, where the hosts are inside the overlay network: pure.
//!
//! Packets to an address that a peer's subnet covers would enter the tunnel, so the two cannot both be used. Which of the two is
//! wrong no lease tells: the older one is used, and the younger one is refused, so that anyone who comes late takes no one's
//! connections away. What is used thus depends on the set of leases alone. A change is
//! followed from lease to lease, the older ones first, and costs as much as it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::backend::BadPeer;
use crate::subnet::{Range, Revision, Subnets, cidr};
use crate::util::family::Family;

/// One family's half of a lease, which could be used if there were no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) created: Revision,
    pub(super) subnets: Subnets,
    pub(super) subnet: IpNetwork,
    pub(super) ip: IpAddr,
}

/// The older a lease, the lower.
type Rank = (Revision, Subnets);

impl Claim {
    fn priority(&self) -> Rank {
        (self.created, self.subnets)
    }
}

/// Which leases cannot be used on account of others.
#[derive(Default)]
pub(super) struct Overlaps {
    found: BTreeMap<(Subnets, Family), BadPeer>,
    /// None while no host is inside the network: then nothing overlaps, and nothing is kept.
    halves: Option<BTreeMap<Family, Half>>,
}

/// All claims of one family.
#[derive(Default)]
struct Half {
    table: BTreeMap<Subnets, Claim>,
    by_subnet: BTreeSet<(IpNetwork, Subnets)>,
    by_ip: BTreeSet<(IpAddr, Subnets)>,
    /// To be judged again.
    open: BTreeSet<Rank>,
}

impl Overlaps {
    /// Whether claims are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.halves.is_some()
    }

    /// Begins to keep claims.
    pub(super) fn keep(&mut self) {
        self.halves.get_or_insert_default();
    }

    /// Keeps no claims any more. Returns the leases that could not be used.
    pub(super) fn clear(&mut self) -> BTreeSet<Subnets> {
        self.halves = None;
        std::mem::take(&mut self.found)
            .into_keys()
            .map(|(subnets, _)| subnets)
            .collect()
    }

    /// Why a lease cannot be used in this family.
    pub(super) fn of(&self, family: Family, subnets: &Subnets) -> Option<BadPeer> {
        self.found.get(&(*subnets, family)).cloned()
    }

    /// Takes what a lease claims in this network now, if anything.
    pub(super) fn set(&mut self, range: &Range, subnets: Subnets, claim: Option<Claim>) {
        let family = range.family();
        let Some(halves) = &mut self.halves else {
            return;
        };
        let half = halves.entry(family).or_default();
        if claim.is_none() {
            self.found.remove(&(subnets, family));
        }
        half.set(range, subnets, claim);
    }

    /// Takes it that a lease is gone.
    pub(super) fn remove(&mut self, range: &Range, subnets: Subnets) {
        self.set(range, subnets, None);
    }

    /// Judges what has changed. Returns the leases for which that makes a difference.
    pub(super) fn settle(&mut self, range: &Range) -> BTreeSet<Subnets> {
        let family = range.family();
        let mut changed = BTreeSet::new();
        let Some(half) = self
            .halves
            .as_mut()
            .and_then(|halves| halves.get_mut(&family))
        else {
            return changed;
        };
        // Oldest first: what is judged depends on older leases only.
        while let Some((_, subnets)) = half.open.pop_first() {
            let Some(claim) = half.table.get(&subnets).copied() else {
                continue;
            };
            let is_used = |other: &Claim| !self.found.contains_key(&(other.subnets, family));
            let why = half.judge(range, &claim, is_used);
            let before = match &why {
                Some(why) => self.found.insert((subnets, family), why.clone()),
                None => self.found.remove(&(subnets, family)),
            };
            if before.is_some() != why.is_some() {
                half.open_younger(range, &claim);
            }
            if before != why {
                changed.insert(subnets);
            }
        }
        changed
    }
}

impl Half {
    fn set(&mut self, range: &Range, subnets: Subnets, claim: Option<Claim>) {
        let known = self.table.get(&subnets).copied();
        if known == claim {
            return;
        }
        if let Some(old) = known {
            self.table.remove(&subnets);
            self.by_subnet.remove(&(old.subnet, subnets));
            self.by_ip.remove(&(old.ip, subnets));
            self.open_younger(range, &old);
        }
        if let Some(new) = claim {
            self.table.insert(subnets, new);
            self.by_subnet.insert((new.subnet, subnets));
            if range.network.contains(new.ip) {
                self.by_ip.insert((new.ip, subnets));
            }
            self.open.insert(new.priority());
            self.open_younger(range, &new);
        }
    }

    /// The claims whose address this subnet covers, by address.
    fn inside(&self, subnet: IpNetwork) -> impl Iterator<Item = &Claim> {
        let found = self.by_ip.range((subnet.network(), Subnets::default())..);
        let found = found.take_while(move |(ip, _)| subnet.contains(*ip));
        found.filter_map(|(_, subnets)| self.table.get(subnets))
    }

    /// The claims whose subnet covers this address.
    fn around(&self, range: &Range, ip: IpAddr) -> impl Iterator<Item = &Claim> {
        let net = cidr::masked(ip, range.subnet_len);
        let found = net.into_iter().flat_map(|net| {
            self.by_subnet
                .range((net, Subnets::default())..)
                .take_while(move |(other, _)| *other == net)
        });
        found.filter_map(|(_, subnets)| self.table.get(subnets))
    }

    fn open_younger(&mut self, range: &Range, claim: &Claim) {
        let others = self
            .inside(claim.subnet)
            .chain(self.around(range, claim.ip));
        let younger: Vec<Rank> = others
            .map(Claim::priority)
            .filter(|priority| *priority > claim.priority())
            .collect();
        self.open.extend(younger);
    }

    /// Why a claim cannot be used beside older ones that are.
    fn judge(
        &self,
        range: &Range,
        claim: &Claim,
        is_used: impl Fn(&Claim) -> bool,
    ) -> Option<BadPeer> {
        let Claim { subnet, ip, .. } = *claim;
        if subnet.contains(ip) {
            return Some(BadPeer(format!(
                "subnet {subnet} contains {ip}, the address of its own host"
            )));
        }
        let stands = |other: &&Claim| other.priority() < claim.priority() && is_used(other);
        // Of several at one address the oldest is named.
        let covered = self
            .inside(subnet)
            .filter(stands)
            .min_by_key(|other| (other.ip, other.priority()));
        if let Some(Claim { ip, subnets, .. }) = covered {
            return Some(BadPeer(format!(
                "subnet {subnet} contains {ip}, the public address of {subnets}"
            )));
        }
        let owner = self
            .around(range, ip)
            .filter(stands)
            .max_by_key(|other| other.priority())?;
        Some(BadPeer(format!(
            "public address {ip} is inside the subnet of {}",
            owner.subnets
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subnet::{NetworkConfig, key};

    fn range() -> Range {
        let json = br#"{"Network":"10.5.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
        let config = NetworkConfig::parse(json).unwrap();
        config.ranges.iter().copied().next().unwrap()
    }

    /// Everything at once: the claims in the order of their age, each beside those that are used before it.
    fn find(range: &Range, table: &BTreeMap<Subnets, Claim>) -> BTreeMap<Subnets, String> {
        let mut sorted: Vec<&Claim> = table.values().collect();
        sorted.sort_by_key(|claim| claim.priority());
        let (mut found, mut used) = (BTreeMap::new(), Vec::<&Claim>::new());
        for claim in sorted {
            let Claim { subnet, ip, .. } = claim;
            let covered = used
                .iter()
                .filter(|other| subnet.contains(other.ip))
                .min_by_key(|other| other.ip);
            let around = used.iter().rfind(|other| other.subnet.contains(*ip));
            let why = match (covered, around) {
                _ if subnet.contains(*ip) => {
                    format!("subnet {subnet} contains {ip}, the address of its own host")
                }
                (Some(Claim { ip, subnets, .. }), _) => {
                    format!("subnet {subnet} contains {ip}, the public address of {subnets}")
                }
                (_, Some(owner)) => {
                    format!(
                        "public address {ip} is inside the subnet of {}",
                        owner.subnets
                    )
                }
                (None, None) => {
                    used.push(claim);
                    continue;
                }
            };
            assert!(range.contains(*subnet));
            found.insert(claim.subnets, why);
        }
        found
    }

    fn claim(n: u8, v6: bool, ip: [u8; 4], created: Revision) -> Claim {
        // Two leases of one subnet differ in their other family.
        let key = if v6 {
            format!("10.5.{n}.0-24&fd05:0:0:{n}::-64")
        } else {
            format!("10.5.{n}.0-24")
        };
        let subnets = key::parse(&key).unwrap();
        Claim {
            created,
            subnets,
            subnet: subnets.of(Family::V4).unwrap(),
            ip: ip.into(),
        }
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let ip = prop_oneof![
            1 => (1..4_u8).prop_map(|n| [192, 0, 2, n]),
            4 => (1..8_u8, 1..3_u8).prop_map(|(net, n)| [10, 5, net, n]),
        ];
        (1..8_u8, any::<bool>(), ip, 1..9_i64)
            .prop_map(|(n, v6, ip, created)| claim(n, v6, ip, created))
    }

    proptest! {
        #[test]
        fn any_changes_lead_to_what_the_claims_say(
            steps in prop::collection::vec((any_claim(), any::<bool>(), prop::bool::weighted(0.3)), 0..60)
        ) {
            let (range, mut overlaps, mut table) = (range(), Overlaps::default(), BTreeMap::new());
            overlaps.keep();
            // What a reader knows that asks when it puts a lease, and again when it is told of a difference.
            let mut known: BTreeMap<Subnets, String> = BTreeMap::new();
            for (claim, is_there, is_settled) in steps {
                let subnets = claim.subnets;
                if is_there { table.insert(subnets, claim) } else { table.remove(&subnets) };
                overlaps.set(&range, subnets, is_there.then_some(claim));
                let changed = if is_settled { overlaps.settle(&range) } else { BTreeSet::new() };
                for subnets in changed.into_iter().chain([subnets]) {
                    match overlaps.of(Family::V4, &subnets) {
                        Some(why) => drop(known.insert(subnets, why.to_string())),
                        None => drop(known.remove(&subnets)),
                    }
                }
                if is_settled {
                    prop_assert_eq!(&known, &find(&range, &table));
                }
            }
        }
    }

    #[test]
    fn one_lease_costs_what_it_concerns() {
        let (range, mut overlaps) = (range(), Overlaps::default());
        overlaps.keep();
        let put = |overlaps: &mut Overlaps, claim: Claim| {
            overlaps.set(&range, claim.subnets, Some(claim))
        };
        for n in 1..200 {
            put(&mut overlaps, claim(n, false, [10, 5, 250, n], n.into()));
        }
        overlaps.settle(&range);
        let open = |overlaps: &Overlaps| {
            overlaps
                .halves
                .iter()
                .flatten()
                .map(|(_, half)| half.open.len())
                .sum::<usize>()
        };
        put(&mut overlaps, claim(201, false, [10, 5, 7, 9], 500));
        assert_eq!(open(&overlaps), 1, "itself");
        assert_eq!(overlaps.settle(&range).len(), 1);
        put(&mut overlaps, claim(7, false, [10, 5, 250, 7], 600));
        assert_eq!(
            open(&overlaps),
            2,
            "itself and the younger one in its subnet"
        );
    }
}
