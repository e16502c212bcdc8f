//! Who is directly connected to the underlay: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::family::overlap;
use crate::kernel::facts::Way;

/// The part of the routing table that tells it. The kernel takes the longest prefix, of equal ones the least metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbourhood {
    underlay: u32,
    /// The networks that are reached without a gateway, and what is cut out of them; the kernel's choice first.
    ways: Vec<Way>,
    /// Hosts to which the kernel refused a direct route all the same.
    refused: BTreeSet<IpAddr>,
}

impl Neighbourhood {
    /// What `ways` say about the link `underlay`. Routes into the overlay networks lead to no host of the underlay.
    pub fn of(underlay: u32, ways: &[Way], overlay: &[IpNetwork]) -> Self {
        let is_direct = |way: &&Way| way.is_direct && way.link == Some(underlay);
        let outside = |way: &&Way| !overlay.iter().any(|net| is_part(way.net, *net));
        let direct: Vec<&Way> = ways.iter().filter(is_direct).filter(outside).collect();
        let concerns = |way: &&Way| direct.iter().any(|near| overlap(near.net, way.net));
        let mut ways: Vec<Way> = ways.iter().filter(outside).filter(concerns).copied().collect();
        ways.sort_by_key(|way| (std::cmp::Reverse(way.net.prefix()), way.metric, way.net, way.link));
        Self { underlay, ways, refused: BTreeSet::new() }
    }

    /// Whether a route of this link decides about a peer.
    pub fn depends_on(&self, link: u32) -> bool {
        self.ways.iter().any(|way| way.link == Some(link))
    }

    /// Whether packets to `ip` go straight to it.
    pub fn has(&self, ip: IpAddr) -> bool {
        let way = self.ways.iter().find(|way| way.net.contains(ip));
        way.is_some_and(|way| way.is_direct && way.link == Some(self.underlay)) && !self.refused.contains(&ip)
    }

    /// The kernel has refused a direct route to `ip`.
    pub fn refuse(&mut self, ip: IpAddr) {
        self.refused.insert(ip);
    }

    /// Keeps what was refused `before`, if the routes are the same.
    pub fn inherit(&mut self, before: &Self) {
        if (self.underlay, &self.ways) == (before.underlay, &before.ways) {
            self.refused.clone_from(&before.refused);
        }
    }
}

fn is_part(net: IpNetwork, of: IpNetwork) -> bool {
    of.contains(net.ip()) && net.prefix() >= of.prefix()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(net: &str, metric: u32, link: Option<u32>, is_direct: bool) -> Way {
        Way { net: net.parse().unwrap(), metric, link, is_direct }
    }

    #[test]
    fn the_longest_prefix_then_the_least_metric_decides() {
        let ways = [
            way("0.0.0.0/0", 0, Some(2), false),
            way("192.0.2.0/24", 0, Some(2), true),
            way("192.0.2.64/26", 0, Some(2), false),
            way("192.0.2.66/32", 0, Some(2), true),
            way("192.0.2.128/26", 0, Some(3), true),
            way("192.0.2.192/26", 0, None, false),
            way("198.51.100.0/24", 100, Some(2), true),
            way("198.51.100.0/24", 50, Some(3), true),
            way("203.0.113.0/24", 0, Some(3), true),
            way("10.5.7.0/24", 0, Some(2), true),
            way("fd10::/64", 256, Some(2), true),
        ];
        let near = Neighbourhood::of(2, &ways, &["10.5.0.0/16".parse().unwrap()]);
        let rows = [
            ("192.0.2.7", true, "connected"),
            ("192.0.2.65", false, "cut out by a route through a gateway"),
            ("192.0.2.66", true, "connected again"),
            ("192.0.2.130", false, "on another link"),
            ("192.0.2.200", false, "refused"),
            ("198.51.100.1", false, "better through another link"),
            ("203.0.113.1", false, "on another link"),
            ("8.8.8.8", false, "default route"),
            ("10.5.7.7", false, "in the overlay"),
            ("fd10::7", true, "IPv6"),
            ("fd11::7", false, "no route"),
        ];
        for (ip, want, name) in rows {
            assert_eq!(near.has(ip.parse().unwrap()), want, "{name}");
        }
        assert_eq!([2, 3, 4].map(|link| near.depends_on(link)), [true, true, false]);
    }

    #[test]
    fn refused_host_is_not_connected_until_the_routes_change() {
        let ways = [way("192.0.2.0/24", 0, Some(2), true), way("198.51.100.0/24", 0, Some(2), true)];
        let [ip, other] = ["192.0.2.7", "192.0.2.8"].map(|ip| ip.parse().unwrap());
        let mut before = Neighbourhood::of(2, &ways, &[]);
        before.refuse(ip);
        for (ways, kept) in [(&ways[..], true), (&ways[..1], false)] {
            let mut now = Neighbourhood::of(2, ways, &[]);
            now.inherit(&before);
            assert_eq!((now.has(ip), now.has(other)), (!kept, true));
        }
    }

    #[test]
    fn what_leads_elsewhere_does_not_matter() {
        let connected = [way("192.0.2.0/24", 0, Some(2), true)];
        let more =
            [connected[0], way("10.5.9.0/24", 0, Some(2), false), way("172.17.0.0/16", 0, Some(4), true)];
        let overlay = ["10.5.0.0/16".parse().unwrap()];
        assert_eq!(Neighbourhood::of(2, &connected, &overlay), Neighbourhood::of(2, &more, &overlay));
    }
}
