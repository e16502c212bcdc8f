//! Which interface and addresses are chosen, for each way of asking.

use super::*;

fn link(index: u32, name: &str) -> LinkFact {
    LinkFact { index, name: name.into(), mtu: 1500, up: true, ..LinkFact::default() }
}

fn addr(link: u32, ip: [u8; 4]) -> AddrFact {
    AddrFact {
        link,
        ip: ip.into(),
        prefix_len: 24,
        link_local: false,
        deprecated: false,
        permanent: true,
        temporary: false,
    }
}

fn facts() -> Facts {
    Facts {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "eth2")],
        addrs: vec![
            addr(1, [127, 0, 0, 1]),
            AddrFact { permanent: false, ..addr(2, [10, 0, 0, 9]) },
            AddrFact { deprecated: true, ..addr(2, [10, 0, 0, 8]) },
            addr(2, [169, 254, 0, 1]),
            addr(2, [10, 0, 0, 1]),
            addr(3, [10, 1, 0, 1]),
        ],
        default_links: vec![3],
        ..Facts::default()
    }
}

fn chosen(wanted: &[&str], public_ip: Option<[u8; 4]>) -> Result<(String, Ipv4Addr), Error> {
    let names = wanted.iter().map(ToString::to_string).collect();
    let wish = IfaceConfig { names, public_ip: public_ip.map(Into::into), public_ipv6: None };
    choose(&facts(), &wish, Families::V4).map(|u| (u.name, u.v4.unwrap()))
}

#[test]
fn by_name_takes_the_best_address() {
    assert_eq!(chosen(&["eth0"], None), Ok(("eth0".into(), [10, 0, 0, 1].into())));
}

#[test]
fn by_address_takes_that_address() {
    assert_eq!(chosen(&["10.0.0.9"], None), Ok(("eth0".into(), [10, 0, 0, 9].into())));
}

#[test]
fn the_first_that_is_there_wins_and_the_first_is_complained_about() {
    assert_eq!(chosen(&["nope", "eth1"], None), Ok(("eth1".into(), [10, 1, 0, 1].into())));
    assert_eq!(
        chosen(&["nope"], None),
        Err(Error::NoSuch { wanted: "nope".into(), present: "lo, eth0, eth1, eth2".into() })
    );
    assert_eq!(chosen(&["eth2"], None), Err(Error::NoAddress { name: "eth2".into(), family: "IPv4" }));
}

#[test]
fn without_a_name_the_public_address_or_the_default_route_decides() {
    assert_eq!(chosen(&[], Some([10, 0, 0, 9])), Ok(("eth0".into(), [10, 0, 0, 9].into())));
    assert_eq!(
        chosen(&[], Some([1, 2, 3, 4])),
        Err(Error::ForeignPublicIp { wanted: IpAddr::from([1, 2, 3, 4]) })
    );
    assert_eq!(chosen(&[], None), Ok(("eth1".into(), [10, 1, 0, 1].into())));
    assert_eq!(
        choose(&Facts::default(), &IfaceConfig::default(), Families::V4),
        Err(Error::NoDefault { family: "IPv4" })
    );
}

#[test]
fn a_public_address_of_a_router_goes_with_a_named_interface() {
    assert_eq!(chosen(&["eth0"], Some([203, 0, 113, 9])), Ok(("eth0".into(), [10, 0, 0, 1].into())));
}

const DUAL: Families = Families { v4: true, v6: true };
const V6: Families = Families { v4: false, v6: true };

fn v6(link: u32, ip: &str) -> AddrFact {
    let ip: Ipv6Addr = ip.parse().unwrap();
    AddrFact { ip: ip.into(), prefix_len: 64, link_local: ip.is_unicast_link_local(), ..addr(link, [0; 4]) }
}

/// As [`facts`], with IPv6 on eth0 and eth1, and both default routes on eth1.
fn dual_facts() -> Facts {
    let mut facts = facts();
    facts.addrs.extend([
        v6(2, "fe80::2"),
        AddrFact { temporary: true, ..v6(2, "fd00::2") },
        v6(2, "fd00::1"),
        AddrFact { permanent: false, ..v6(2, "fd00::3") },
        v6(3, "fe80::3"),
        v6(3, "fd01::1"),
    ]);
    facts.default_links_v6 = vec![2, 3];
    facts
}

fn addresses(facts: &Facts, wish: &IfaceConfig, families: Families) -> Result<String, Error> {
    choose(facts, wish, families).map(|u| format!("{}: {}", u.name, u.addresses()))
}

#[test]
fn only_the_families_of_the_overlay_count() {
    let name = |name: &str| IfaceConfig { names: vec![name.into()], ..IfaceConfig::default() };
    let public = |v4: Option<[u8; 4]>, v6: Option<&str>| IfaceConfig {
        public_ip: v4.map(Into::into),
        public_ipv6: v6.map(|ip| ip.parse().unwrap()),
        ..IfaceConfig::default()
    };
    let rows = [
        (name("eth0"), DUAL, "eth0: 10.0.0.1 and fd00::1"),
        (name("eth0"), V6, "eth0: fd00::1"),
        (name("eth0"), Families::V4, "eth0: 10.0.0.1"),
        (name("10.0.0.9"), DUAL, "eth0: 10.0.0.9 and fd00::1"),
        (name("fd00::3"), DUAL, "eth0: 10.0.0.1 and fd00::3"),
        (name("fd00::3"), Families::V4, "eth0: 10.0.0.1"),
        (public(Some([10, 0, 0, 9]), None), DUAL, "eth0: 10.0.0.9 and fd00::1"),
        (public(None, Some("fd00::3")), DUAL, "eth0: 10.0.0.1 and fd00::3"),
        (public(None, Some("fd00::3")), Families::V4, "eth1: 10.1.0.1"),
        (public(None, None), DUAL, "eth1: 10.1.0.1 and fd01::1"),
        (public(None, None), V6, "eth0: fd00::1"),
    ];
    for (wish, families, want) in rows {
        assert_eq!(addresses(&dual_facts(), &wish, families).as_deref(), Ok(want), "{wish}");
    }
}

#[test]
fn every_family_needs_an_address_and_both_default_routes_one_interface() {
    let none = IfaceConfig::default();
    let only_v4 = Facts { default_links_v6: vec![3], ..facts() };
    assert_eq!(
        addresses(&only_v4, &none, DUAL),
        Err(Error::NoAddress { name: "eth1".into(), family: "IPv6" })
    );
    let apart = Facts { default_links_v6: vec![2], ..dual_facts() };
    assert_eq!(
        addresses(&apart, &none, DUAL),
        Err(Error::TwoDefaults { v4: "eth1".into(), v6: "eth0".into() })
    );
    let no_v6 = Facts { default_links_v6: vec![], ..dual_facts() };
    assert_eq!(addresses(&no_v6, &none, DUAL), Err(Error::NoDefault { family: "IPv6" }));
}
