//! Which interface and addresses are chosen, for each way of asking.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::kernel::HostState;
use crate::kernel::host_state::{AddrFact, Reachability, VxlanFact};

mod in_use;

const V4: Families = Families::V4;
const V6: Families = Families {
    v4: false,
    v6: true,
};
const DUAL: Families = Families { v4: true, v6: true };

fn link(index: u32, name: &str) -> LinkFact {
    LinkFact {
        index,
        name: name.into(),
        mtu: 1500,
        up: true,
        ..LinkFact::default()
    }
}

fn addr(link: u32, ip: &str) -> AddrFact {
    let ip: IpAddr = ip.parse().unwrap();
    AddrFact {
        link,
        ip,
        prefix_len: if ip.is_ipv4() { 24 } else { 64 },
        link_local: matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()),
        deprecated: false,
        unconfirmed: false,
        permanent: true,
        temporary: false,
    }
}

/// An address whose prefix is the address alone, as virtual ones have.
fn single(link: u32, ip: &str) -> AddrFact {
    AddrFact {
        prefix_len: if ip.contains(':') { 128 } else { 32 },
        ..addr(link, ip)
    }
}

/// An address as DHCP or a router advertisement gives it.
fn dynamic(link: u32, ip: &str) -> AddrFact {
    AddrFact {
        permanent: false,
        ..addr(link, ip)
    }
}

/// eth0 has addresses of every kind, eth1 one of each family and both default routes, eth2 none, lo what a router would
/// announce for this host.
fn host_state() -> HostState {
    let overlay = LinkFact {
        vxlan: Some(VxlanFact::default()),
        ..link(5, "flannel.1")
    };
    HostState {
        links: vec![
            link(1, "lo"),
            overlay,
            link(2, "eth0"),
            link(3, "eth1"),
            link(4, "eth2"),
        ],
        addrs: vec![
            addr(1, "127.0.0.1"),
            addr(1, "::1"),
            addr(1, "10.9.9.9"),
            addr(5, "172.30.1.0"),
            AddrFact {
                permanent: false,
                ..addr(2, "10.0.0.9")
            },
            AddrFact {
                deprecated: true,
                ..addr(2, "10.0.0.8")
            },
            addr(2, "169.254.0.1"),
            addr(2, "10.0.0.1"),
            addr(2, "fe80::2"),
            AddrFact {
                temporary: true,
                ..addr(2, "fd00::2")
            },
            addr(2, "fd00::1"),
            AddrFact {
                permanent: false,
                ..addr(2, "fd00::3")
            },
            AddrFact {
                deprecated: true,
                ..addr(2, "fd00::4")
            },
            addr(3, "10.1.0.1"),
            addr(3, "fe80::3"),
            addr(3, "fd01::1"),
        ],
        default_links: vec![3],
        default_links_v6: vec![2, 3],
        vxlan_port: 8472,
        reach: Some(Reachability {
            link: 2,
            source: Some([10, 0, 0, 9].into()),
            gateway: None,
        }),
        routes: vec![],
    }
}

/// Flags, with a blank between two.
fn config(flags: &str) -> IfaceConfig {
    let mut config = IfaceConfig::default();
    for (name, value) in flags
        .split_whitespace()
        .filter_map(|flag| flag.split_once('='))
    {
        match name {
            "-iface" => config.names.push(value.into()),
            "-iface-regex" => config.patterns.push(value.parse().unwrap()),
            "-iface-can-reach" => config.can_reach = Some(value.parse().unwrap()),
            "-public-ip" => config.public_ip = Some(value.parse().unwrap()),
            "-public-ipv6" => config.public_ipv6 = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    config
}

fn chosen(host_state: &HostState, flags: &str, families: Families) -> Result<String, String> {
    chosen_by(host_state, flags, families, Addresses::default())
}

fn addresses(v4: Option<&str>, v6: Option<&str>) -> Addresses {
    Addresses {
        v4: v4.map(|ip| ip.parse().unwrap()),
        v6: v6.map(|ip| ip.parse().unwrap()),
    }
}

/// With what the own lease announces.
fn chosen_by(
    host_state: &HostState,
    flags: &str,
    families: Families,
    own: Addresses,
) -> Result<String, String> {
    let underlay = choose(host_state, &config(flags), families, Announced::by(own));
    underlay
        .map(|u| format!("{}: {}", u.name, u.addresses))
        .map_err(|error| error.to_string())
}

#[test]
fn each_way_of_asking() {
    let rows = [
        // -iface
        ("-iface=eth0", V4, "eth0: 10.0.0.1"),
        ("-iface=eth0", V6, "eth0: fd00::1"),
        ("-iface=eth0", DUAL, "eth0: 10.0.0.1 and fd00::1"),
        ("-iface=10.0.0.9", V4, "eth0: 10.0.0.9"),
        ("-iface=10.0.0.9", DUAL, "eth0: 10.0.0.9 and fd00::1"),
        ("-iface=fd00::3", DUAL, "eth0: 10.0.0.1 and fd00::3"),
        ("-iface=fd00::3", V4, "eth0: 10.0.0.1"),
        ("-iface=nope -iface=eth1", V4, "eth1: 10.1.0.1"),
        ("-iface=eth2 -iface=eth1", V4, "eth1: 10.1.0.1"),
        ("-iface=eth1 -iface=eth0", V4, "eth1: 10.1.0.1"),
        ("-iface=flannel.1", V4, "flannel.1: 172.30.1.0"),
        // -iface-regex: addresses before names, anywhere in the text, in kernel order
        ("-iface-regex=^eth", V4, "eth0: 10.0.0.1"),
        ("-iface-regex=eth[1-9]", V4, "eth1: 10.1.0.1"),
        (r"-iface-regex=^10\.1\.", V4, "eth1: 10.1.0.1"),
        (r"-iface-regex=0\.9", V4, "eth0: 10.0.0.9"),
        (
            r"-iface-regex=\.0\.1|fd0",
            DUAL,
            "eth0: 10.0.0.1 and fd00::1",
        ),
        (
            r"-iface-regex=^10\.1\.|^fd01:",
            DUAL,
            "eth1: 10.1.0.1 and fd01::1",
        ),
        ("-iface-regex=^wlan -iface-regex=eth1", V4, "eth1: 10.1.0.1"),
        ("-iface=nope -iface-regex=eth1", V4, "eth1: 10.1.0.1"),
        ("-iface=eth1 -iface-regex=eth0", V4, "eth1: 10.1.0.1"),
        // -iface-can-reach
        ("-iface-can-reach=10.8.0.1", V4, "eth0: 10.0.0.9"),
        (
            "-iface-can-reach=10.8.0.1",
            DUAL,
            "eth0: 10.0.0.9 and fd00::1",
        ),
        ("-iface-can-reach=10.1.0.1", V4, "eth1: 10.1.0.1"),
        (
            "-iface=nope -iface-regex=nope -iface-can-reach=10.8.0.1",
            V4,
            "eth0: 10.0.0.9",
        ),
        (
            "-iface-regex=eth1 -iface-can-reach=10.8.0.1",
            V4,
            "eth1: 10.1.0.1",
        ),
        // a public address that this host has
        ("-public-ip=10.0.0.9", V4, "eth0: 10.0.0.9"),
        ("-public-ip=10.0.0.9", DUAL, "eth0: 10.0.0.9 and fd00::1"),
        ("-public-ipv6=fd00::3", DUAL, "eth0: 10.0.0.1 and fd00::3"),
        (
            "-public-ip=10.0.0.9 -public-ipv6=fd00::2",
            DUAL,
            "eth0: 10.0.0.9 and fd00::2",
        ),
        ("-iface=eth0 -public-ip=10.0.0.9", V4, "eth0: 10.0.0.9"),
        ("-iface=eth0 -public-ip=10.9.9.9", V4, "eth0: 10.9.9.9"),
        ("-public-ip=10.9.9.9", V4, "eth1: 10.9.9.9"),
        // one of a family that the overlay has not
        ("-public-ipv6=fd00::3", V4, "eth1: 10.1.0.1"),
        // one of a router's
        ("-public-ip=203.0.113.9", V4, "eth1: 10.1.0.1"),
        (
            "-public-ip=203.0.113.9 -public-ipv6=fd00::3",
            DUAL,
            "eth0: 10.0.0.1 and fd00::3",
        ),
        ("-iface=eth0 -public-ip=203.0.113.9", V4, "eth0: 10.0.0.1"),
        // nothing
        ("", V4, "eth1: 10.1.0.1"),
        ("", V6, "eth0: fd00::1"),
        ("", DUAL, "eth1: 10.1.0.1 and fd01::1"),
    ];
    for (flags, families, want) in rows {
        assert_eq!(
            chosen(&host_state(), flags, families).as_deref(),
            Ok(want),
            "{flags} {families:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let no_reach = HostState {
        reach: None,
        ..host_state()
    };
    let no_default = HostState {
        default_links: vec![],
        default_links_v6: vec![],
        ..host_state()
    };
    let apart = HostState {
        default_links_v6: vec![2],
        ..host_state()
    };
    let through_overlay = HostState {
        reach: Some(Reachability {
            link: 5,
            source: None,
            gateway: None,
        }),
        ..host_state()
    };
    let rows: [(&HostState, &str, Families, &str); 11] = [
        (
            &no_reach,
            "-iface=nope",
            V4,
            "-iface=nope: no interface has this name or address",
        ),
        (
            &no_reach,
            "-iface=10.7.7.7",
            V4,
            "-iface=10.7.7.7: no interface has this name or address",
        ),
        (
            &no_reach,
            "-iface=eth2",
            V4,
            "interface eth2 has no usable IPv4 address",
        ),
        (
            &no_reach,
            "-iface=a -iface-regex=^b",
            V4,
            "-iface=a: no interface has this name",
        ),
        (
            &no_reach,
            "-iface=a -iface-regex=^b",
            V4,
            "; -iface-regex=^b: no interface has a matching address or name",
        ),
        (
            &no_reach,
            "-iface-regex=^172|flannel",
            V4,
            "-iface-regex=^172|flannel: no interface has a matching address or name",
        ),
        (
            &no_reach,
            "-iface-regex=eth2",
            DUAL,
            "interface eth2 has no usable IPv4 address",
        ),
        (
            &no_reach,
            "-iface-can-reach=8.8.8.8",
            V4,
            "-iface-can-reach=8.8.8.8: there is no route to this address",
        ),
        (
            &through_overlay,
            "-iface-can-reach=8.8.8.8",
            V4,
            "-iface-can-reach=8.8.8.8: there is no route to this address",
        ),
        (
            &no_default,
            "-public-ip=203.0.113.9",
            V4,
            "there is no IPv4 default route",
        ),
        (
            &apart,
            "",
            DUAL,
            "v6 default route interface eth0 must be the same with v4 default route interface eth1",
        ),
    ];
    for (host_state, flags, families, want) in rows {
        let error = chosen(host_state, flags, families).unwrap_err();
        assert!(error.contains(want), "{flags}: {error}");
    }
    assert_eq!(
        chosen(&host_state(), "-iface=nope", V4).unwrap_err(),
        "-iface=nope: no interface has this name or address; this host has eth0 (10.0.0.9, 169.254.0.1, 10.0.0.1), eth1 (10.1.0.1)"
    );
    assert!(
        chosen(&HostState::default(), "", V4)
            .unwrap_err()
            .ends_with("this host has no interface with an address")
    );
}

#[test]
fn a_host_with_many_interfaces_lists_a_few() {
    let links = (1..=20).map(|n| link(n, &format!("eth{n}"))).collect();
    let addrs = (1..=20).map(|n| addr(n, &format!("10.0.0.{n}"))).collect();
    let error = chosen(
        &HostState {
            links,
            addrs,
            ..HostState::default()
        },
        "-iface=x",
        V4,
    )
    .unwrap_err();
    assert!(error.ends_with("eth16 (10.0.0.16), 4 more"), "{error}");
}

/// eth0 with these addresses and the default routes.
fn host(addrs: Vec<AddrFact>) -> HostState {
    HostState {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        addrs,
        default_links: vec![2],
        default_links_v6: vec![2],
        ..HostState::default()
    }
}

#[test]
fn start_prefers_an_address_that_is_likely_to_stay() {
    let check = |addrs, families, want: &str| {
        assert_eq!(chosen(&host(addrs), "", families).as_deref(), Ok(want));
    };
    check(
        vec![single(2, "10.0.0.200"), dynamic(2, "10.0.0.1")],
        V4,
        "eth0: 10.0.0.1",
    );
    check(vec![single(2, "10.0.0.200")], V4, "eth0: 10.0.0.200");
    // The kernel lists the newest IPv6 address first.
    check(
        vec![addr(2, "fd00::200"), addr(2, "fd00::1")],
        V6,
        "eth0: fd00::1",
    );
    check(
        vec![single(2, "fd00::200"), dynamic(2, "fd00::1")],
        V6,
        "eth0: fd00::1",
    );
    let temporary = AddrFact {
        temporary: true,
        ..dynamic(2, "fd00::7")
    };
    check(vec![temporary, single(2, "fd00::1")], V6, "eth0: fd00::1");
    let unconfirmed = AddrFact {
        unconfirmed: true,
        ..addr(2, "fd00::1")
    };
    check(
        vec![unconfirmed.clone(), dynamic(2, "fd00::2")],
        V6,
        "eth0: fd00::2",
    );
    let error = chosen(&host(vec![unconfirmed]), "", V6).unwrap_err();
    assert!(error.contains("eth0 has no usable IPv6 address"), "{error}");
}

#[test]
fn start_prefers_what_the_own_lease_announces() {
    let host_state = host_state();
    for (flags, families, own, want) in [
        (
            "-iface=eth0",
            V4,
            (Some("10.0.0.9"), None),
            "eth0: 10.0.0.9",
        ),
        ("", V4, (Some("10.0.0.9"), None), "eth0: 10.0.0.9"),
        (
            "",
            DUAL,
            (Some("10.0.0.9"), Some("fd00::3")),
            "eth0: 10.0.0.9 and fd00::3",
        ),
        (
            "-iface=eth1 -iface=eth0",
            V4,
            (Some("10.0.0.9"), None),
            "eth0: 10.0.0.9",
        ),
        (
            "-iface-regex=^eth",
            V4,
            (Some("10.1.0.1"), None),
            "eth1: 10.1.0.1",
        ),
        (
            "-iface-can-reach=10.8.0.1",
            V4,
            (Some("10.0.0.1"), None),
            "eth0: 10.0.0.1",
        ),
        // what the flags do not allow, and what this host does not have
        (
            "-iface=eth0",
            V4,
            (Some("10.1.0.1"), None),
            "eth0: 10.0.0.1",
        ),
        (
            "-iface=10.0.0.1",
            V4,
            (Some("10.0.0.9"), None),
            "eth0: 10.0.0.1",
        ),
        (
            "-iface=10.0.0.9",
            DUAL,
            (None, Some("fd00::3")),
            "eth0: 10.0.0.9 and fd00::3",
        ),
        (
            r"-iface-regex=^10\.1\.",
            V4,
            (Some("10.0.0.9"), None),
            "eth1: 10.1.0.1",
        ),
        (
            "-iface-can-reach=10.8.0.1",
            V4,
            (Some("10.1.0.1"), None),
            "eth0: 10.0.0.9",
        ),
        (
            "-public-ip=10.0.0.1",
            V4,
            (Some("10.0.0.9"), None),
            "eth0: 10.0.0.1",
        ),
        ("", V4, (Some("10.0.0.77"), None), "eth1: 10.1.0.1"),
        ("", V4, (Some("10.0.0.8"), None), "eth1: 10.1.0.1"),
        ("", V4, (Some("172.30.1.0"), None), "eth1: 10.1.0.1"),
    ] {
        let own = addresses(own.0, own.1);
        assert_eq!(
            chosen_by(&host_state, flags, families, own).as_deref(),
            Ok(want),
            "{flags} {own}"
        );
    }
}

fn any_addr() -> impl Strategy<Value = AddrFact> {
    let ip = prop_oneof![
        (0..4u8, 0..4u8).prop_map(|(a, b)| IpAddr::from([10, 0, a, b])),
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        (0..3u16, 0..4u16).prop_map(|(a, b)| IpAddr::from([0xfd00, a, 0, 0, 0, 0, 0, b])),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ];
    (0..5u32, ip, any::<[bool; 4]>()).prop_map(
        |(link, ip, [link_local, deprecated, permanent, temporary])| AddrFact {
            link,
            ip,
            prefix_len: 24,
            link_local,
            deprecated,
            unconfirmed: false,
            permanent,
            temporary,
        },
    )
}

fn any_flag() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..5u8).prop_map(|n| format!("-iface=eth{n}")),
        (0..4u8).prop_map(|n| format!("-iface=10.0.0.{n}")),
        "-iface-regex=(eth[0-4]|\\^10|fd|0|f)",
        (0..4u8).prop_map(|n| format!("-iface-can-reach=10.0.1.{n}")),
        (0..4u8).prop_map(|n| format!("-public-ip=10.0.0.{n}")),
        (0..4u8).prop_map(|n| format!("-public-ipv6=fd00::{n:x}")),
    ]
}

proptest! {
    /// Whatever a host is like, there is an answer; what is chosen is there, and complete.
    #[test]
    fn any_host_and_any_flags_have_an_answer(
        names in proptest::collection::vec(0..6u32, 0..5),
        addrs in proptest::collection::vec(any_addr(), 0..12),
        defaults in proptest::collection::vec(0..6u32, 0..3),
        defaults_v6 in proptest::collection::vec(0..6u32, 0..3),
        reach in proptest::option::of((0..6u32, proptest::option::of(any_addr()))),
        flags in proptest::collection::vec(any_flag(), 0..4),
        (v4, v6) in any::<(bool, bool)>(),
    ) {
        let host_state = HostState {
            links: names.iter().map(|n| link(*n, &format!("eth{n}"))).collect(),
            addrs,
            vxlan_port: 8472,
            default_links: defaults,
            default_links_v6: defaults_v6,
            routes: vec![],
            reach: reach.map(|(link, addr)| Reachability { link, source: addr.map(|addr| addr.ip), gateway: None }),
        };
        match choose(&host_state, &config(&flags.join(" ")), Families { v4, v6 }, Announced::by(Addresses::default())) {
            Ok(chosen) => {
                prop_assert!(host_state.links.iter().any(|l| (l.index, &l.name) == (chosen.index, &chosen.name)));
                prop_assert_eq!((chosen.addresses.v4.is_some(), chosen.addresses.v6.is_some()), (v4, v6));
            }
            Err(error) => prop_assert!(!error.reasons.is_empty() && !error.to_string().contains('\n')),
        }
    }
}
