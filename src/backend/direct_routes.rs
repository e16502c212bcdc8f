//! Who is directly connected to the underlay: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::iface::{Addresses, Underlay};
use crate::kernel::host_state::Route;
use crate::subnet::Range;
use crate::util::family::overlap;

/// The part of the routing table that tells it. The kernel takes the longest prefix, of equal ones the least metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectedSubnets {
    underlay: u32,
    /// The networks that are reached without a gateway, and what is cut out of them; the kernel's choice first.
    routes: Vec<Route>,
    /// Hosts to which the kernel refused a direct route all the same.
    refused: BTreeSet<IpAddr>,
}

impl ConnectedSubnets {
    /// What `routes` say about the interface `underlay`. Routes of the overlay lead to no host of the underlay.
    pub fn of(underlay: &Underlay, routes: &[Route], overlay: &[Range]) -> Self {
        let is_direct = |route: &&Route| route.is_direct && route.link == Some(underlay.index);
        let outside = |route: &&Route| !is_of_overlay(route.net, overlay, underlay.addresses);
        let direct: Vec<&Route> = routes.iter().filter(is_direct).filter(outside).collect();
        let concerns = |route: &&Route| direct.iter().any(|near| overlap(near.net, route.net));
        let mut routes: Vec<Route> = routes
            .iter()
            .filter(outside)
            .filter(concerns)
            .copied()
            .collect();
        routes.sort_by_key(|route| {
            (
                std::cmp::Reverse(route.net.prefix()),
                route.metric,
                route.net,
                route.link,
            )
        });
        Self {
            underlay: underlay.index,
            routes,
            refused: BTreeSet::new(),
        }
    }

    /// Whether a route of this link decides about a peer.
    pub fn depends_on(&self, link: u32) -> bool {
        self.routes.iter().any(|route| route.link == Some(link))
    }

    /// Whether packets to `ip` go straight to it.
    pub fn has(&self, ip: IpAddr) -> bool {
        let route = self.routes.iter().find(|route| route.net.contains(ip));
        route.is_some_and(|route| route.is_direct && route.link == Some(self.underlay))
            && !self.refused.contains(&ip)
    }

    /// Whether no network is connected, as while the link is down.
    pub fn is_blind(&self) -> bool {
        !self
            .routes
            .iter()
            .any(|route| route.is_direct && route.link == Some(self.underlay))
    }

    /// Whether packets to `ip` may go straight to it. That is not known while no network is connected.
    pub fn may_have(&self, ip: IpAddr) -> bool {
        self.has(ip) || self.is_blind()
    }

    /// The kernel has refused a direct route to `ip`.
    pub fn refuse(&mut self, ip: IpAddr) {
        self.refused.insert(ip);
    }

    /// Keeps what was refused `before`, if the routes are the same.
    pub fn inherit(&mut self, before: &Self) {
        if (self.underlay, &self.routes) == (before.underlay, &before.routes) {
            self.refused.clone_from(&before.refused);
        }
    }
}

/// Whether a route to `net` is one of the overlay's: inside it; where the underlay is inside as well, to a whole subnet, and not
/// the underlay's own network.
pub fn is_of_overlay(net: IpNetwork, overlay: &[Range], underlay: Addresses) -> bool {
    let is_part =
        |range: &&Range| range.network.contains(net.ip()) && net.prefix() >= range.network.prefix();
    overlay.iter().filter(is_part).any(|range| {
        let own = underlay
            .get(range.family())
            .filter(|own| range.network.contains(*own));
        own.is_none_or(|own| range.contains(net) && !net.contains(own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(net: &str, metric: u32, link: Option<u32>, is_direct: bool) -> Route {
        Route {
            net: net.parse().unwrap(),
            metric,
            link,
            is_direct,
        }
    }

    fn underlay(ip: &str) -> Underlay {
        Underlay {
            index: 2,
            name: "eth0".into(),
            mtu: 1500,
            addresses: ip.parse::<IpAddr>().unwrap().into(),
        }
    }

    /// A network of /24.
    fn range(network: &str) -> Range {
        let network: IpNetwork = network.parse().unwrap();
        Range {
            network,
            subnet_len: 24,
            subnet_min: network.network(),
            subnet_max: network.network(),
        }
    }

    #[test]
    fn hosts_inside_the_overlay_are_connected_and_subnets_are_not() {
        let routes = [
            route("10.77.0.0/16", 0, Some(2), true),
            route("10.77.9.0/24", 0, Some(2), true),
            route("10.77.8.64/26", 0, Some(2), false),
            route("10.5.7.0/24", 0, Some(2), true),
        ];
        let near = ConnectedSubnets::of(&underlay("10.77.0.1"), &routes, &[range("10.0.0.0/8")]);
        for (ip, want, name) in [
            ("10.77.0.2", true, "connected"),
            (
                "10.77.9.9",
                true,
                "connected, whatever another program made of the route to a peer",
            ),
            ("10.77.8.65", false, "cut out by a route through a gateway"),
            ("10.5.7.7", false, "a pod"),
        ] {
            assert_eq!(near.has(ip.parse().unwrap()), want, "{name}");
        }
        let routes = [route("10.77.0.0/24", 0, Some(2), true)];
        let near = ConnectedSubnets::of(&underlay("10.77.0.1"), &routes, &[range("10.0.0.0/8")]);
        assert!(
            near.has([10, 77, 0, 2].into()),
            "the underlay's network is as long as a subnet"
        );
    }

    #[test]
    fn the_longest_prefix_then_the_least_metric_decides() {
        let routes = [
            route("0.0.0.0/0", 0, Some(2), false),
            route("192.0.2.0/24", 0, Some(2), true),
            route("192.0.2.64/26", 0, Some(2), false),
            route("192.0.2.66/32", 0, Some(2), true),
            route("192.0.2.128/26", 0, Some(3), true),
            route("192.0.2.192/26", 0, None, false),
            route("198.51.100.0/24", 100, Some(2), true),
            route("198.51.100.0/24", 50, Some(3), true),
            route("203.0.113.0/24", 0, Some(3), true),
            route("10.5.7.0/24", 0, Some(2), true),
            route("fd10::/64", 256, Some(2), true),
        ];
        let near = ConnectedSubnets::of(&underlay("192.0.2.1"), &routes, &[range("10.5.0.0/16")]);
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
        assert_eq!(
            [2, 3, 4].map(|link| near.depends_on(link)),
            [true, true, false]
        );
    }

    #[test]
    fn refused_host_is_not_connected_until_the_routes_change() {
        let routes = [
            route("192.0.2.0/24", 0, Some(2), true),
            route("198.51.100.0/24", 0, Some(2), true),
        ];
        let [ip, other] = ["192.0.2.7", "192.0.2.8"].map(|ip| ip.parse().unwrap());
        let mut before = ConnectedSubnets::of(&underlay("192.0.2.1"), &routes, &[]);
        before.refuse(ip);
        for (routes, kept) in [(&routes[..], true), (&routes[..1], false)] {
            let mut now = ConnectedSubnets::of(&underlay("192.0.2.1"), routes, &[]);
            now.inherit(&before);
            assert_eq!((now.has(ip), now.has(other)), (!kept, true));
        }
    }

    #[test]
    fn what_leads_elsewhere_does_not_matter() {
        let connected = [route("192.0.2.0/24", 0, Some(2), true)];
        let more = [
            connected[0],
            route("10.5.9.0/24", 0, Some(2), false),
            route("172.17.0.0/16", 0, Some(4), true),
        ];
        let (underlay, overlay) = (underlay("192.0.2.1"), [range("10.5.0.0/16")]);
        let near = |routes| ConnectedSubnets::of(&underlay, routes, &overlay);
        assert_eq!(near(&connected), near(&more));
    }
}
