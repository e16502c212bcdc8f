//! Owned routes that are on none of our devices, and what tells them from others': pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::entry::Entry;

/// Who makes routes to peers: `RTPROT_BOOT`, as Go flannel, or one of the numbers that large networks are spread over.
const OF_PEERS: [std::ops::RangeInclusive<u8>; 2] = [3..=3, 100..=163];
/// Who makes blackhole routes here.
pub const BLACKHOLE_PROTOCOL: u8 = 164;
/// Their metric in both families: a bridge's connected route is better, and so is a pod's own.
pub const BLACKHOLE_METRIC: u32 = 1024;
/// Go flannel's blackhole routes in IPv4. Whichever came first, theirs or the bridge's route to the same subnet, is used.
const GO_METRIC: u32 = 0;

/// What routes to one family's subnets look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub network: IpNetwork,
    /// Length of a host's subnet.
    pub subnet_len: u8,
    /// Metric of a route to a peer.
    pub metric: u32,
    /// The hosts' own addresses are inside the network, too.
    pub inside: bool,
}

impl Shape {
    /// Whether a route to `dst` may lead through a host at `via`.
    fn is_through_host(&self, dst: IpNetwork, via: IpAddr) -> bool {
        if self.inside {
            !dst.contains(via)
        } else {
            !self.network.contains(via)
        }
    }

    fn fits(&self, dst: IpNetwork) -> bool {
        let is_base = dst.ip() == dst.network();
        is_base && dst.prefix() == self.subnet_len && self.network.contains(dst.ip())
    }
}

/// Which of these routes belong to this daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffDeviceRoutes {
    /// In these networks.
    pub shapes: Vec<Shape>,
    /// Peers are routed to directly: what looks like it on the underlay is ours, or was Go flannel's.
    pub direct: bool,
    /// The own subnet is a blackhole: what looks like Go flannel's blackhole is in the way.
    pub blackhole: bool,
}

impl OffDeviceRoutes {
    /// Whether a route on the underlay is one to a peer: to a whole subnet, through a gateway that is none of the overlay's.
    pub fn claims_direct(&self, route: &Entry) -> bool {
        let Entry::Route {
            dst,
            metric,
            gateway: Some(via),
            onlink: false,
            protocol,
            ..
        } = *route
        else {
            return false;
        };
        let is_peer = OF_PEERS.iter().any(|range| range.contains(&protocol));
        let fits = |shape: &Shape| {
            shape.fits(dst) && shape.metric == metric && shape.is_through_host(dst, via)
        };
        self.direct && is_peer && self.shapes.iter().any(fits)
    }

    /// Whether a blackhole route is ours. What this daemon made it knows by its mark, also when it is no longer asked for.
    pub fn claims_blackhole(&self, route: &Entry) -> bool {
        let Entry::Route {
            dst,
            metric,
            protocol,
            ..
        } = *route
        else {
            return false;
        };
        let ours = protocol == BLACKHOLE_PROTOCOL && metric == BLACKHOLE_METRIC;
        let go = self.blackhole
            && dst.is_ipv4()
            && OF_PEERS[0].contains(&protocol)
            && metric == GO_METRIC;
        (ours || go) && self.shapes.iter().any(|shape| shape.fits(dst))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::LinkRole;
    use super::*;

    fn route(dst: &str, metric: u32, via: Option<&str>, onlink: bool, protocol: u8) -> Entry {
        let gateway = via.map(|ip| ip.parse().unwrap());
        Entry::Route {
            dst: dst.parse().unwrap(),
            metric,
            dev: LinkRole::Underlay,
            gateway,
            onlink,
            protocol,
        }
    }

    fn off_device(direct: bool, blackhole: bool) -> OffDeviceRoutes {
        let shape = |network: &str, subnet_len, metric| Shape {
            network: network.parse().unwrap(),
            subnet_len,
            metric,
            inside: false,
        };
        OffDeviceRoutes {
            shapes: vec![shape("10.5.0.0/16", 24, 0), shape("fd05::/48", 64, 1024)],
            direct,
            blackhole,
        }
    }

    #[test]
    fn only_what_looks_like_a_route_to_a_peer_is_ours() {
        let via = Some("192.0.2.7");
        let rows = [
            (
                route("10.5.7.0/24", 0, via, false, 3),
                true,
                "Go's and ours",
            ),
            (
                route("10.5.7.0/24", 0, via, false, 117),
                true,
                "ours in a large network",
            ),
            (
                route("fd05:0:0:7::/64", 1024, Some("fd10::7"), false, 3),
                true,
                "IPv6",
            ),
            (
                route("10.5.7.0/24", 0, via, false, 4),
                false,
                "of an administrator's configuration",
            ),
            (
                route("10.5.7.0/24", 0, via, false, 186),
                false,
                "of a routing daemon",
            ),
            (
                route("10.5.7.0/24", 50, via, false, 3),
                false,
                "another metric",
            ),
            (
                route("10.5.7.0/25", 0, via, false, 3),
                false,
                "part of a subnet",
            ),
            (
                route("10.5.0.0/16", 0, via, false, 3),
                false,
                "the whole network",
            ),
            (route("10.6.7.0/24", 0, via, false, 3), false, "outside"),
            (route("10.5.7.0/24", 0, None, false, 3), false, "no gateway"),
            (route("10.5.7.0/24", 0, via, true, 3), false, "onlink"),
            (
                route("10.5.7.0/24", 0, Some("10.5.7.0"), false, 3),
                false,
                "through the overlay",
            ),
        ];
        for (route, want, name) in rows {
            assert_eq!(
                off_device(true, false).claims_direct(&route),
                want,
                "{name}"
            );
            assert!(
                !off_device(false, true).claims_direct(&route),
                "{name}: not with DirectRouting off"
            );
        }
    }

    #[test]
    fn gateway_inside_the_network_is_a_peer_where_hosts_are_inside() {
        let mut off_device = off_device(true, false);
        off_device.shapes[0].inside = true;
        for (via, want) in [
            ("10.5.200.2", true),
            ("192.0.2.7", true),
            ("10.5.7.1", false),
        ] {
            assert_eq!(
                off_device.claims_direct(&route("10.5.7.0/24", 0, Some(via), false, 3)),
                want,
                "{via}"
            );
        }
    }

    #[test]
    fn blackhole_is_owned_by_mark_and_gos_while_desired() {
        let rows = [
            (route("10.5.1.0/24", 1024, None, false, 164), true, true),
            (route("fd05:0:0:1::/64", 1024, None, false, 164), true, true),
            (route("10.5.1.0/24", 0, None, false, 3), true, false),
            (route("10.5.1.0/24", 0, None, false, 164), false, false),
            (route("10.5.1.0/26", 0, None, false, 80), false, false),
            (route("10.6.1.0/24", 1024, None, false, 164), false, false),
            (route("fd05:0:0:1::/64", 1024, None, false, 3), false, false),
        ];
        for (route, on, off) in rows {
            assert_eq!(
                off_device(false, true).claims_blackhole(&route),
                on,
                "{route}"
            );
            assert_eq!(
                off_device(false, false).claims_blackhole(&route),
                off,
                "{route}"
            );
        }
    }
}
