//! The interface that carries the overlay, and who is directly connected to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::World;
use crate::kernel::entry::Entry;
use crate::kernel::host_state::{AddrFact, LinkFact, Route};
use crate::kernel::notification::Notification;
use crate::kernel::{HostState, LinkRole};

pub(super) const UNDERLAY: u32 = 2;
/// The underlay's address while no one changes it.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1);

impl World {
    /// Sets the addresses of the underlay, in the kernel's order.
    pub(crate) fn set_addresses(&mut self, addresses: &[Ipv4Addr]) {
        self.addresses = addresses.to_vec();
        let ip = addresses.first().copied().unwrap_or(ADDRESS).into();
        self.notify(Notification::Address { link: UNDERLAY, ip });
    }

    /// The route to those who are directly connected comes or goes.
    pub(crate) fn set_near(&mut self, near: bool) {
        self.near = near;
        let Route {
            net: dst, metric, ..
        } = near_by();
        let (dev, gateway, onlink, protocol) = (LinkRole::Underlay, None, false, 2);
        let entry = Entry::Route {
            dst,
            metric,
            dev,
            gateway,
            onlink,
            protocol,
        };
        self.notify(Notification::Entry {
            key: entry.key(),
            entry: Some(entry),
            gone: !near,
        });
    }

    /// The underlay goes down and up. The kernel drops the routes on it, and only tells of the connected one when that is back.
    pub(crate) fn flap_underlay(&mut self) {
        self.flush_routes(LinkRole::Underlay);
        for up in [false, true] {
            self.notify(Notification::Link {
                fact: LinkFact {
                    up,
                    ..self.underlay()
                },
                gone: false,
            });
        }
        self.set_near(true);
    }

    /// The link of a container goes.
    pub(crate) fn remove_foreign_link(&mut self, index: u32) {
        let fact = LinkFact {
            index,
            name: format!("veth{index}"),
            mtu: 1500,
            ..LinkFact::default()
        };
        self.notify(Notification::Link { fact, gone: true });
    }

    pub(crate) fn set_underlay_mtu(&mut self, mtu: u32) {
        self.mtu = mtu;
        self.notify(Notification::Link {
            fact: self.underlay(),
            gone: false,
        });
    }

    fn underlay(&self) -> LinkFact {
        LinkFact {
            index: UNDERLAY,
            name: "eth0".into(),
            mtu: self.mtu,
            up: true,
            ..LinkFact::default()
        }
    }

    pub(in super::super) fn host_state(&self) -> HostState {
        let addr = |ip: IpAddr| AddrFact {
            link: UNDERLAY,
            ip,
            prefix_len: 24,
            link_local: false,
            deprecated: false,
            unconfirmed: false,
            permanent: true,
            temporary: false,
        };
        HostState {
            links: std::iter::once(self.underlay())
                .chain(self.devices.values().cloned())
                .collect(),
            addrs: self
                .addresses
                .iter()
                .copied()
                .map(IpAddr::V4)
                .chain([ADDRESS_V6.into()])
                .map(addr)
                .chain(self.entries().iter().filter_map(|entry| self.addr(entry)))
                .collect(),
            vxlan_port: 8472,
            default_links: vec![UNDERLAY],
            default_links_v6: Vec::new(),
            reach: None,
            routes: self.near.then(near_by).into_iter().collect(),
        }
    }
}

impl World {
    /// An address of one of the devices.
    fn addr(&self, entry: &Entry) -> Option<AddrFact> {
        let Entry::Addr { dev, net } = *entry else {
            return None;
        };
        Some(AddrFact {
            link: self.device(dev)?.index,
            ip: net.ip(),
            prefix_len: net.prefix(),
            link_local: false,
            deprecated: false,
            unconfirmed: false,
            permanent: true,
            temporary: false,
        })
    }
}

/// The route to hosts 1 to 3; any other host is behind a router.
fn near_by() -> Route {
    Route {
        net: "192.0.2.0/30".parse().unwrap(),
        metric: 0,
        link: Some(UNDERLAY),
        is_direct: true,
    }
}
