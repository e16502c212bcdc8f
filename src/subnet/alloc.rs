//! Which subnets this host should lease: pure. One of each family that the overlay has, chosen independently.
//!
//! Leases block what they overlap, also those of another length: after a change of `SubnetLen` hosts still live in the
//! old ones. Ignored is a lease that lies outside the network, or covers all of it: no configuration allows it, and
//! one such key would otherwise keep every new host out. Not chosen either is a subnet that covers an address of the underlay:
//! packets to it would enter the tunnel.

use ipnetwork::IpNetwork;

use super::{Claim, Lease, NetworkConfig, PublicAddrs, Range, Subnets};

/// What to do, decided from one consistent list of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This host holds a lease that fits the configuration: keep it (and write the value if it differs).
    Reuse(Lease),
    /// Create the key for these subnets. `replaces`: leases of this host that do not fit the configuration any more and
    /// are deleted in the same transaction.
    Create {
        subnets: Subnets,
        replaces: Vec<Lease>,
    },
    /// Nothing is free in this family.
    Full(Range),
}

/// What there is of this host's, by its public address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// A lease to keep.
    Fits(Lease),
    /// Leases that do not fit the configuration any more; perhaps none.
    Misfits(Vec<Lease>),
}

pub fn existing(config: &NetworkConfig, leases: &[Lease], claim: &Claim) -> Existing {
    let (mine, others): (Vec<&Lease>, Vec<&Lease>) =
        leases.iter().partition(|lease| is_mine(lease, claim));
    let fits = |lease: &&Lease| {
        config.fits(&lease.subnets)
            && !is_claimed_earlier(lease, &others)
            && !covers_underlay(lease, &others, claim)
    };
    let (fitting, misfits): (Vec<_>, Vec<_>) = mine.into_iter().partition(fits);
    match best(&fitting, claim) {
        Some(lease) => Existing::Fits(lease.clone()),
        None => Existing::Misfits(misfits.into_iter().cloned().collect()),
    }
}

/// Decides: this host's own lease; else in each family the subnet it had in an earlier life, or that of a lease of its own
/// that no longer fits; else any free one with equal chance.
///
/// `random(n)` yields a number below `n`.
pub fn choose(
    config: &NetworkConfig,
    leases: &[Lease],
    claim: &Claim,
    random: &mut dyn FnMut(u128) -> u128,
) -> Choice {
    let misfits = match existing(config, leases, claim) {
        Existing::Fits(lease) => return Choice::Reuse(lease),
        Existing::Misfits(misfits) => misfits,
    };
    let mut others: Vec<&Lease> = leases.iter().collect();
    others.retain(|lease| !is_mine(lease, claim));
    let known =
        || std::iter::once(&claim.previous).chain(misfits.iter().map(|lease| &lease.subnets));
    let pick = |range: &Range| {
        let known = known().filter_map(|subnets| subnets.of(range.family()));
        Taken::new(range, &others, claim)
            .choose(range, known, random)
            .ok_or(*range)
    };
    match config.ranges.iter().map(pick).collect() {
        Ok(subnets) => Choice::Create {
            subnets,
            replaces: misfits,
        },
        Err(range) => Choice::Full(range),
    }
}

fn is_mine(lease: &Lease, claim: &Claim) -> bool {
    let (me, holder) = (PublicAddrs::of(&claim.attrs), PublicAddrs::of(&lease.attrs));
    me.zip(holder).is_some_and(|(me, holder)| me.is(&holder))
}

/// Whether another host had one of its subnets before, under another key. With two families two hosts that choose at the
/// same moment can have one subnet in common and the other one not, so that both keys are made.
fn is_claimed_earlier(lease: &Lease, others: &[&Lease]) -> bool {
    others
        .iter()
        .any(|other| other.created < lease.created && other.subnets.meets(&lease.subnets))
}

/// Whether a lease covers an address of the underlay: the host's own, etcd's, or that of a host that leased earlier. (One that came
/// later is told that its address is taken.)
fn covers_underlay(lease: &Lease, others: &[&Lease], claim: &Claim) -> bool {
    let older = others.iter().filter(|other| other.created < lease.created);
    let mut addresses = claim
        .underlay()
        .chain(older.flat_map(|other| other.attrs.publics()));
    addresses.any(|ip| lease.subnets.iter().any(|net| net.contains(ip)))
}

/// The remembered one of several, else the lowest.
fn best<'a>(fitting: &[&'a Lease], claim: &Claim) -> Option<&'a Lease> {
    let rank = |lease: &&Lease| (lease.subnets != claim.previous, lease.subnets);
    fitting.iter().copied().min_by_key(rank)
}

/// Which of a range's subnets are not free: disjoint, rising spans of indexes, both ends included.
struct Taken(Vec<(u128, u128)>);

impl Taken {
    fn new(range: &Range, leases: &[&Lease], claim: &Claim) -> Self {
        let nets = leases
            .iter()
            .filter_map(|lease| lease.subnets.of(range.family()));
        let publics = leases.iter().flat_map(|lease| lease.attrs.publics());
        let underlay = publics.chain(claim.underlay());
        let underlay = underlay.filter(|ip| range.network.contains(*ip));
        let nets = nets.chain(underlay.map(IpNetwork::from));
        let respected = nets.filter(|net| plausible(range, *net));
        let mut spans: Vec<_> = respected.filter_map(|net| range.span(net)).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, kept| {
            let overlap = next.0 <= kept.1;
            kept.1 = if overlap { kept.1.max(next.1) } else { kept.1 };
            overlap
        });
        Self(spans)
    }

    /// The first of `known` that may be leased and is free, else any free one.
    fn choose(
        &self,
        range: &Range,
        mut known: impl Iterator<Item = IpNetwork>,
        random: &mut dyn FnMut(u128) -> u128,
    ) -> Option<IpNetwork> {
        let known = known.find(|net| range.fits(*net) && !self.overlaps(range, *net));
        known.or_else(|| self.pick(range, random))
    }

    fn overlaps(&self, range: &Range, subnet: IpNetwork) -> bool {
        range.span(subnet).is_some_and(|(first, last)| {
            self.0.iter().any(|span| span.0 <= last && first <= span.1)
        })
    }

    /// The free subnet at a random rank, found without listing the free ones.
    fn pick(&self, range: &Range, random: &mut dyn FnMut(u128) -> u128) -> Option<IpNetwork> {
        let taken: u128 = self.0.iter().map(|(first, last)| last - first + 1).sum();
        let free = range.subnet_count().checked_sub(taken);
        let free = free.filter(|free| *free > 0)?;
        let rank = random(free).min(free - 1);
        let before = |index, (first, last): &(u128, u128)| {
            if *first <= index {
                index + last - first + 1
            } else {
                index
            }
        };
        range.subnet(self.0.iter().fold(rank, before))
    }
}

/// Whether a lease can be what it says: inside the network, and not all of it.
fn plausible(range: &Range, subnet: IpNetwork) -> bool {
    subnet.prefix() > range.network.prefix() && range.network.contains(subnet.ip())
}

#[cfg(test)]
mod tests;
