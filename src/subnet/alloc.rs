//! Which subnet this host should lease: pure.
//!
//! Leases block what they overlap, also those of another length: after a change of `SubnetLen` hosts still live in the
//! old ones. Ignored is a lease that lies outside the network, or covers all of it: no configuration allows it, and
//! one such key would otherwise keep every new host out.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::{Claim, Lease, NetworkConfig, Subnets};

/// What to do, decided from one consistent list of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This host holds a lease that fits the configuration: keep it (and write the value if it differs).
    Reuse(Lease),
    /// Create the key for these subnets. `replaces`: leases of this host that do not fit the configuration any more and
    /// are deleted in the same transaction.
    Create {
        /// The subnets to lease.
        subnets: Subnets,
        /// Leases of this host to delete with it.
        replaces: Vec<Lease>,
    },
    /// Nothing is free.
    Full,
}

/// Decides: this host's own lease, else the subnet it had in an earlier life, else any free one with equal chance.
///
/// `random(n)` yields a number below `n`.
pub fn choose(
    config: &NetworkConfig,
    leases: &[Lease],
    claim: &Claim,
    random: &mut dyn FnMut(u64) -> u64,
) -> Choice {
    let (mine, others): (Vec<&Lease>, Vec<&Lease>) = leases.iter().partition(|lease| is_mine(lease, claim));
    let (fitting, misfits): (Vec<_>, Vec<_>) = mine.into_iter().partition(|lease| fits(config, lease));
    if let Some(lease) = best(&fitting, claim) {
        return Choice::Reuse(lease.clone());
    }
    let taken = Taken::new(config, &others);
    let previous = claim.previous.filter(|subnet| config.fits(*subnet) && !taken.overlaps(config, *subnet));
    match previous.or_else(|| taken.pick(config, random)) {
        Some(subnet) => {
            Choice::Create { subnets: subnet.into(), replaces: misfits.into_iter().cloned().collect() }
        }
        None => Choice::Full,
    }
}

/// A host is known by its public address.
fn is_mine(lease: &Lease, claim: &Claim) -> bool {
    let known = |ip: Option<Ipv4Addr>| ip.filter(|ip| !ip.is_unspecified());
    known(claim.attrs.public_ip).is_some_and(|ip| lease.attrs.public_ip == Some(ip))
}

fn fits(config: &NetworkConfig, lease: &Lease) -> bool {
    lease.subnets.v6.is_none() && lease.subnets.v4.is_some_and(|subnet| config.fits(subnet))
}

/// The remembered one of several, else the lowest.
fn best<'a>(fitting: &[&'a Lease], claim: &Claim) -> Option<&'a Lease> {
    fitting.iter().copied().min_by_key(|lease| (lease.subnets.v4 != claim.previous, lease.subnets))
}

/// Which of the configured range's subnets are not free: disjoint, rising spans of indexes, both ends included.
struct Taken(Vec<(u64, u64)>);

impl Taken {
    fn new(config: &NetworkConfig, leases: &[&Lease]) -> Self {
        let respected =
            leases.iter().filter_map(|lease| lease.subnets.v4).filter(|net| plausible(config, *net));
        let mut spans: Vec<_> = respected.filter_map(|net| span(config, net)).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, kept| {
            let overlap = next.0 <= kept.1;
            kept.1 = if overlap { kept.1.max(next.1) } else { kept.1 };
            overlap
        });
        Self(spans)
    }

    fn overlaps(&self, config: &NetworkConfig, subnet: Ipv4Network) -> bool {
        span(config, subnet)
            .is_some_and(|(first, last)| self.0.iter().any(|span| span.0 <= last && first <= span.1))
    }

    /// The free subnet at a random rank, found without listing the free ones.
    fn pick(&self, config: &NetworkConfig, random: &mut dyn FnMut(u64) -> u64) -> Option<Ipv4Network> {
        let taken: u64 = self.0.iter().map(|(first, last)| last - first + 1).sum();
        let free = config.subnet_count().checked_sub(taken).filter(|free| *free > 0)?;
        let rank = random(free).min(free - 1);
        let before = |index, (first, last): &(u64, u64)| {
            if *first <= index { index + last - first + 1 } else { index }
        };
        config.subnet(self.0.iter().fold(rank, before))
    }
}

/// Whether a lease can be what it says: inside the network, and not all of it.
fn plausible(config: &NetworkConfig, subnet: Ipv4Network) -> bool {
    subnet.prefix() > config.network.prefix() && config.network.contains(subnet.ip())
}

/// The indexes of the range's subnets that `net` overlaps.
fn span(config: &NetworkConfig, net: Ipv4Network) -> Option<(u64, u64)> {
    let min = u32::from(config.subnet_min);
    let end = u32::from(net.broadcast()).checked_sub(min)?;
    let index = |offset: u32| u64::from(offset >> config.host_bits());
    let (first, last) = (index(u32::from(net.network()).saturating_sub(min)), index(end));
    let top = config.subnet_count() - 1;
    (first <= top).then_some((first, last.min(top)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::subnet::{LeaseAttrs, cidr};

    const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn net(text: &str) -> Ipv4Network {
        text.parse().unwrap()
    }

    fn config(rest: &str) -> NetworkConfig {
        NetworkConfig::parse(format!(r#"{{"Network":"10.3.0.0/16"{rest}}}"#).as_bytes()).unwrap()
    }

    fn lease(subnet: Ipv4Network, owner: Ipv4Addr) -> Lease {
        let attrs = LeaseAttrs { public_ip: Some(owner), ..LeaseAttrs::default() };
        Lease { subnets: subnet.into(), attrs, created: 1, modified: 1, grant: None }
    }

    fn claim(previous: Option<&str>) -> Claim {
        let attrs = LeaseAttrs { public_ip: Some(ME), ..LeaseAttrs::default() };
        Claim { attrs, previous: previous.map(net) }
    }

    fn first(config: &NetworkConfig, leases: &[Lease], previous: Option<&str>) -> Choice {
        choose(config, leases, &claim(previous), &mut |_| 0)
    }

    fn create(subnet: &str, replaces: &[Lease]) -> Choice {
        Choice::Create { subnets: net(subnet).into(), replaces: replaces.to_vec() }
    }

    #[test]
    fn own_lease_first_the_remembered_one_preferred() {
        let mine =
            [lease(net("10.3.7.0/24"), ME), lease(net("10.3.5.0/24"), ME), lease(net("10.4.1.0/24"), ME)];
        assert_eq!(first(&config(""), &mine, None), Choice::Reuse(mine[1].clone()));
        assert_eq!(first(&config(""), &mine, Some("10.3.7.0/24")), Choice::Reuse(mine[0].clone()));
    }

    #[test]
    fn own_leases_that_do_not_fit_are_replaced_and_do_not_block() {
        let dual = Lease {
            subnets: Subnets { v4: Some(net("10.3.2.0/24")), v6: cidr::v6("fd00::/64") },
            ..lease(net("10.3.2.0/24"), ME)
        };
        let mine = [lease(net("10.3.0.0/23"), ME), lease(net("10.9.0.0/24"), ME), dual];
        assert_eq!(first(&config(""), &mine, None), create("10.3.1.0/24", &mine));
    }

    #[test]
    fn a_lease_without_address_is_nobodys() {
        let unknown = Lease { attrs: LeaseAttrs::default(), ..lease(net("10.3.1.0/24"), ME) };
        let nameless = Claim { attrs: LeaseAttrs::default(), previous: None };
        let choice = choose(&config(""), &[unknown], &nameless, &mut |_| 0);
        assert_eq!(choice, create("10.3.2.0/24", &[]));
    }

    #[test]
    fn the_remembered_subnet_when_free() {
        let other = [lease(net("10.3.6.0/24"), OTHER), lease(net("10.3.9.0/25"), OTHER)];
        for (previous, want) in [
            ("10.3.5.0/24", "10.3.5.0/24"),
            ("10.3.6.0/24", "10.3.1.0/24"),
            ("10.3.9.0/24", "10.3.1.0/24"),
            ("10.4.1.0/24", "10.3.1.0/24"),
            ("10.3.0.0/24", "10.3.1.0/24"),
            ("10.3.4.0/23", "10.3.1.0/24"),
        ] {
            assert_eq!(first(&config(""), &other, Some(previous)), create(want, &[]), "{previous}");
        }
    }

    #[test]
    fn other_lengths_block_absurd_leases_do_not() {
        let absurd =
            ["0.0.0.0/0", "10.0.0.0/8", "10.3.0.0/16", "11.0.0.0/24"].map(|text| lease(net(text), OTHER));
        assert_eq!(first(&config(""), &absurd, None), create("10.3.1.0/24", &[]));
        let old = ["10.3.0.0/22", "10.3.4.128/25", "10.3.4.0/24"].map(|text| lease(net(text), OTHER));
        assert_eq!(first(&config(""), &old, None), create("10.3.5.0/24", &[]));
        assert_eq!(first(&config(r#","SubnetLen":25"#), &old[1..2], None), create("10.3.0.128/25", &[]));
    }

    #[test]
    fn the_last_free_subnet_of_a_large_network_is_found() {
        let config = NetworkConfig::parse(br#"{"Network":"10.0.0.0/8"}"#).unwrap();
        let leases: Vec<_> = config.subnets().filter(|net| *net != self::net("10.77.1.0/24")).collect();
        let mut leases: Vec<_> = leases.into_iter().map(|net| lease(net, OTHER)).collect();
        assert_eq!(first(&config, &leases, None), create("10.77.1.0/24", &[]));
        leases.push(lease(net("10.77.1.0/24"), OTHER));
        assert_eq!(first(&config, &leases, None), Choice::Full);
    }

    proptest! {
        #[test]
        fn exactly_the_free_subnets_are_chosen(
            nets in proptest::collection::vec((0..4096u32, 17..=30u8), 0..12), min in 0..8u8, max in 8..16u8,
        ) {
            let config = config(&format!(r#","SubnetLen":24,"SubnetMin":"10.3.{min}.0","SubnetMax":"10.3.{max}.0""#));
            let at = |offset: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 3, 0, 0)) + offset);
            let taken: Vec<_> = nets.iter().filter_map(|(offset, len)| cidr::masked_v4(at(*offset), *len)).collect();
            let leases: Vec<_> = taken.iter().map(|net| lease(*net, OTHER)).collect();
            let is_free = |subnet: &Ipv4Network| !taken.iter().any(|net| net.overlaps(*subnet));
            let free: BTreeSet<_> = config.subnets().filter(is_free).collect();
            let ask = |rank| match choose(&config, &leases, &claim(None), &mut |_| rank) {
                Choice::Create { subnets, .. } => subnets.v4,
                Choice::Reuse(_) | Choice::Full => None,
            };
            // Each rank is another free subnet, so a uniform rank is a uniform choice.
            let chosen: BTreeSet<_> = (0..u64::try_from(free.len()).unwrap()).filter_map(ask).collect();
            prop_assert_eq!(&chosen, &free);
            prop_assert_eq!(ask(0).is_none(), free.is_empty());
        }
    }
}
