//! The part of the overlay network that one family has, and its subnets: pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::cidr;
use crate::util::family::{Family, value};

/// One family's network, divided into subnets of equal size. Checked: the bounds are inside, aligned and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The whole overlay network, canonical.
    pub network: IpNetwork,
    /// Prefix length of one host's subnet.
    pub subnet_len: u8,
    /// First subnet that may be leased (its base address).
    pub subnet_min: IpAddr,
    /// Last subnet that may be leased (its base address).
    pub subnet_max: IpAddr,
}

impl Range {
    pub fn family(&self) -> Family {
        Family::of(self.network.ip())
    }

    /// How many subnets may be leased. Fewer than 2^127: no network has length 0.
    pub fn subnet_count(&self) -> u128 {
        (value(self.subnet_max).saturating_sub(value(self.subnet_min)) >> self.host_bits()) + 1
    }

    /// The subnets that may be leased, in order.
    pub fn subnets(&self) -> impl Iterator<Item = IpNetwork> {
        (0..self.subnet_count()).filter_map(|index| self.subnet(index))
    }

    /// The subnet at `index` of those that may be leased, counted from 0.
    pub fn subnet(&self, index: u128) -> Option<IpNetwork> {
        let index = Some(index).filter(|index| *index < self.subnet_count())?;
        let base = value(self.subnet_min) + (index << self.host_bits());
        cidr::masked(self.family().address(base)?, self.subnet_len)
    }

    /// The indexes of the subnets that may be leased and overlap `net`, which is of this family: first and last.
    pub fn span(&self, net: IpNetwork) -> Option<(u128, u128)> {
        let min = value(self.subnet_min);
        let end = value(net.broadcast()).checked_sub(min)? >> self.host_bits();
        let first = value(net.network()).saturating_sub(min) >> self.host_bits();
        let top = self.subnet_count() - 1;
        (first <= top).then_some((first, end.min(top)))
    }

    /// Whether `subnet` is one that a host may lease: [`contains`](Self::contains) it, and from `subnet_min` to
    /// `subnet_max`.
    pub fn fits(&self, subnet: IpNetwork) -> bool {
        self.contains(subnet) && (self.subnet_min..=self.subnet_max).contains(&subnet.ip())
    }

    /// Whether `subnet` is one of this network's: inside it, of the right length, without host bits. The bounds do not
    /// matter: reservations and leases of other times may lie outside.
    pub fn contains(&self, subnet: IpNetwork) -> bool {
        subnet.prefix() == self.subnet_len
            && subnet.ip() == subnet.network()
            && self.network.contains(subnet.ip())
    }

    /// Number of address bits inside a subnet.
    pub fn host_bits(&self) -> u8 {
        self.family().bits() - self.subnet_len
    }
}
