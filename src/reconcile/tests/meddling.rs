//! What other programs do to our device and to the host.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::kernel::fake::World;
use crate::kernel::{Entry, LinkRole, Mac, Op};

/// What another program does. Numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meddling {
    Delete(usize),
    Usurp(usize),
    /// A write of another value into an entry key that is there.
    Overwrite(usize),
    Add(u8),
    Down(LinkRole),
    Flap(LinkRole),
    Mac(LinkRole),
    Mtu(LinkRole),
    Learning(LinkRole),
    DeleteDevice(LinkRole),
    ForeignDevice(LinkRole),
    FlapUnderlay,
    Address(Option<u8>),
    /// Whether anybody is directly connected.
    Near(bool),
}

impl Meddling {
    pub(super) fn happen(self, world: &mut World) {
        match self {
            Meddling::Delete(n) => nth(world, n)
                .into_iter()
                .for_each(|entry| write(world, Op::Delete(entry))),
            Meddling::Usurp(n) => nth(world, n).iter().for_each(|entry| world.usurp(entry)),
            Meddling::Overwrite(n) => nth(world, n)
                .into_iter()
                .for_each(|entry| write(world, Op::Set(other(entry)))),
            Meddling::Add(n) => write(world, Op::Set(foreign(n))),
            Meddling::Down(dev) => world.change_device(dev, |link| link.up = false),
            Meddling::Flap(dev) => [false, true]
                .into_iter()
                .for_each(|up| world.change_device(dev, |link| link.up = up)),
            Meddling::Mac(dev) => world.change_device(dev, |link| link.mac = Some(Mac([2; 6]))),
            Meddling::Mtu(dev) => world.change_device(dev, |link| link.mtu = 1300),
            Meddling::Learning(dev) => world.change_device(dev, |link| {
                link.vxlan
                    .iter_mut()
                    .for_each(|vxlan| vxlan.learning = true)
            }),
            Meddling::DeleteDevice(dev) => world.delete_device(dev),
            Meddling::ForeignDevice(dev) => world.change_device(dev, |link| link.vxlan = None),
            Meddling::FlapUnderlay => world.flap_underlay(),
            Meddling::Near(near) => world.set_near(near),
            Meddling::Address(last) => {
                world.set_addresses(last.map(|last| [192, 0, 2, last].into()).as_slice());
            }
        }
    }
}

fn nth(world: &World, n: usize) -> Option<Entry> {
    world
        .entries()
        .iter()
        .nth(n % world.entries().len().max(1))
        .copied()
}

/// By another program. What the kernel refuses does not happen.
fn write(world: &mut World, op: Op) {
    let _ = world.write(&op);
}

/// Another value in the same entry key; where there is none, another entry.
fn other(entry: Entry) -> Entry {
    match entry {
        Entry::Addr { dev, net } if net.is_ipv4() => Entry::Addr {
            dev,
            net: "10.5.77.0/24".parse().unwrap(),
        },
        Entry::Addr { dev, .. } => Entry::Addr {
            dev,
            net: "fd05:0:0:77::/64".parse().unwrap(),
        },
        Entry::Neigh { dev, ip, .. } => Entry::Neigh {
            dev,
            ip,
            mac: Mac([6; 6]),
        },
        Entry::Fdb {
            dev,
            mac,
            port,
            vni,
            ..
        } => Entry::Fdb {
            dev,
            mac,
            dst: [192, 0, 2, 99].into(),
            port,
            vni,
        },
        Entry::Route {
            dst,
            metric,
            dev,
            onlink,
            protocol,
            ..
        } => Entry::Route {
            dst,
            metric,
            dev,
            gateway: Some([10, 5, 99, 0].into()),
            onlink,
            protocol,
        },
    }
}

fn foreign(n: u8) -> Entry {
    let (dev, ip) = if n % 8 < 4 {
        (LinkRole::Overlay, IpAddr::from([10, 5, n, 0]))
    } else {
        (
            LinkRole::Overlay6,
            IpAddr::from([0xfd05, 0, 0, n.into(), 0, 0, 0, 0]),
        )
    };
    match n % 4 {
        0 => Entry::Addr {
            dev,
            net: ip.into(),
        },
        1 => Entry::Neigh {
            dev,
            ip,
            mac: Mac([6; 6]),
        },
        2 => Entry::Fdb {
            dev,
            mac: Mac([6, 6, 6, 6, 6, n]),
            dst: ip,
            port: 0,
            vni: 0,
        },
        _ => Entry::Route {
            dst: ip.into(),
            metric: 7,
            dev,
            gateway: Some(ip),
            onlink: true,
            protocol: 3,
        },
    }
}

pub(super) fn any_meddling() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        (0..20_usize).prop_map(Meddling::Delete),
        (0..20_usize).prop_map(Meddling::Usurp),
        (0..20_usize).prop_map(Meddling::Overwrite),
        (0..16_u8).prop_map(Meddling::Add),
        prop::sample::select(stateless()),
        // None that a peer has: that would be a second host at its address.
        prop::option::of(prop::sample::select(vec![1, 9])).prop_map(Meddling::Address),
        any::<bool>().prop_map(Meddling::Near),
    ]
}

/// What can be done to each device.
pub(super) fn stateless() -> Vec<Meddling> {
    const KINDS: [fn(LinkRole) -> Meddling; 7] = [
        Meddling::Down,
        Meddling::Flap,
        Meddling::Mac,
        Meddling::Mtu,
        Meddling::Learning,
        Meddling::DeleteDevice,
        Meddling::ForeignDevice,
    ];
    [LinkRole::Overlay, LinkRole::Overlay6]
        .into_iter()
        .flat_map(|dev| KINDS.map(|kind| kind(dev)))
        .collect()
}
