//! Choices among leases of all kinds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::subnet::{LeaseAttrs, cidr, key};
use crate::util::family::Family;

const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Added to a configuration: both families, and IPv6 alone.
const SIX: &str = r#","EnableIPv6":true,"IPv6Network":"fd00::/48""#;
const ONLY_SIX: &str = r#","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48""#;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn only(subnet: IpNetwork) -> Subnets {
    std::iter::once(subnet).collect()
}

fn config(rest: &str) -> NetworkConfig {
    NetworkConfig::parse(format!(r#"{{"Network":"10.3.0.0/16"{rest}}}"#).as_bytes()).unwrap()
}

fn lease(subnet: IpNetwork, owner: Ipv4Addr) -> Lease {
    let attrs = LeaseAttrs {
        public_ip: Some(owner),
        ..LeaseAttrs::default()
    };
    Lease {
        subnets: only(subnet),
        attrs,
        created: 1,
        modified: 1,
        lease_id: None,
    }
}

fn claim(previous: Option<&str>) -> Claim {
    let attrs = LeaseAttrs {
        public_ip: Some(ME),
        ..LeaseAttrs::default()
    };
    Claim {
        attrs,
        previous: previous.map(net).into_iter().collect(),
        underlay: BTreeSet::new(),
    }
}

fn first(config: &NetworkConfig, leases: &[Lease], previous: Option<&str>) -> Choice {
    choose(config, leases, &claim(previous), &mut |_| 0)
}

fn create(subnet: &str, replaces: &[Lease]) -> Choice {
    Choice::Create {
        subnets: only(net(subnet)),
        replaces: replaces.to_vec(),
    }
}

#[test]
fn own_lease_first_previous_subnet_preferred() {
    let mine = [
        lease(net("10.3.7.0/24"), ME),
        lease(net("10.3.5.0/24"), ME),
        lease(net("10.4.1.0/24"), ME),
    ];
    assert_eq!(
        first(&config(""), &mine, None),
        Choice::Reuse(mine[1].clone())
    );
    assert_eq!(
        first(&config(""), &mine, Some("10.3.7.0/24")),
        Choice::Reuse(mine[0].clone())
    );
}

#[test]
fn own_leases_that_do_not_fit_are_replaced_and_do_not_block() {
    let mine = [lease(net("10.3.0.0/23"), ME), lease(net("10.9.0.0/24"), ME)];
    assert_eq!(
        first(&config(""), &mine, None),
        create("10.3.1.0/24", &mine)
    );
}

#[test]
fn a_family_more_or_less_leaves_the_other_ones_subnet_as_it_is() {
    let dual = Lease {
        subnets: key::parse("10.3.2.0-24&fd00:0:0:7::-64").unwrap(),
        ..lease(net("10.3.2.0/24"), ME)
    };
    let mine = [dual.clone()];
    assert_eq!(
        first(&config(""), &mine, None),
        create("10.3.2.0/24", &mine)
    );
    assert_eq!(first(&config(SIX), &mine, None), Choice::Reuse(dual));
    let old = [lease(net("10.3.2.0/24"), ME)];
    let both = Choice::Create {
        subnets: key::parse("10.3.2.0-24&fd00:0:0:1::-64").unwrap(),
        replaces: old.to_vec(),
    };
    assert_eq!(first(&config(SIX), &old, None), both);
}

#[test]
fn each_family_is_chosen_and_remembered_on_its_own() {
    let others = [
        "10.3.6.0-24&fd00:0:0:6::-64",
        "10.3.7.0-24&fd00:0:0:7::-64",
        "0.0.0.0-0&fd00:0:0:1::-64",
    ]
    .map(|text| Lease {
        subnets: key::parse(text).unwrap(),
        ..lease(net("10.3.0.0/24"), OTHER)
    });
    for (previous, want) in [
        ("10.3.5.0-24&fd00:0:0:5::-64", "10.3.5.0-24&fd00:0:0:5::-64"),
        ("10.3.6.0-24&fd00:0:0:5::-64", "10.3.1.0-24&fd00:0:0:5::-64"),
        ("10.3.5.0-24&fd00:0:0:7::-64", "10.3.5.0-24&fd00:0:0:2::-64"),
        ("10.3.5.0-24", "10.3.5.0-24&fd00:0:0:2::-64"),
    ] {
        let claim = Claim {
            previous: key::parse(previous).unwrap(),
            ..claim(None)
        };
        let subnets = key::parse(want).unwrap();
        let choice = choose(&config(SIX), &others, &claim, &mut |_| 0);
        assert_eq!(
            choice,
            Choice::Create {
                subnets,
                replaces: Vec::new()
            },
            "{previous}"
        );
    }
}

#[test]
fn a_lease_of_the_wrong_families_is_not_reused() {
    let six = lease(net("fd00:0:0:7::/64"), ME);
    for (config, lease, fits) in [
        (config(SIX), six.clone(), false),
        (config(""), six.clone(), false),
        (config(ONLY_SIX), six, true),
        (config(SIX), lease(net("10.3.7.0/24"), ME), false),
    ] {
        let choice = first(&config, &[lease], None);
        assert_eq!(matches!(choice, Choice::Reuse(_)), fits, "{choice:?}");
    }
}

/// Go flannel gives all of them the one lease of 0.0.0.0.
#[test]
fn hosts_without_ipv4_are_told_apart() {
    let held = |n: u16, owner: u16| Lease {
        attrs: six(owner),
        ..lease(net(&format!("fd00:0:0:{n}::/64")), OTHER)
    };
    let leases = [held(5, 2), held(7, 1)];
    let ask = |owner| {
        let claim = Claim {
            attrs: six(owner),
            previous: Subnets::default(),
            underlay: BTreeSet::new(),
        };
        choose(&config(ONLY_SIX), &leases, &claim, &mut |_| 0)
    };
    assert_eq!(ask(1), Choice::Reuse(leases[1].clone()));
    assert_eq!(ask(2), Choice::Reuse(leases[0].clone()));
    assert_eq!(ask(3), create("fd00:0:0:1::/64", &[]));
}

fn six(n: u16) -> LeaseAttrs {
    LeaseAttrs {
        public_ipv6: Some([0xfd10, 0, 0, 0, 0, 0, 0, n].into()),
        ..LeaseAttrs::default()
    }
}

/// Two hosts have chosen at the same moment: the younger key goes.
#[test]
fn a_lease_of_which_another_host_had_a_part_first_is_given_up() {
    let subnets = |text| key::parse(text).unwrap();
    let mine = |created| Lease {
        subnets: subnets("10.3.5.0-24&fd00:0:0:5::-64"),
        created,
        ..lease(net("10.3.5.0/24"), ME)
    };
    let theirs = Lease {
        subnets: subnets("10.3.5.0-24&fd00:0:0:6::-64"),
        created: 5,
        ..lease(net("10.3.5.0/24"), OTHER)
    };
    let ask = |created| first(&config(SIX), &[mine(created), theirs.clone()], None);
    assert_eq!(ask(4), Choice::Reuse(mine(4)));
    let want = Choice::Create {
        subnets: subnets("10.3.1.0-24&fd00:0:0:5::-64"),
        replaces: vec![mine(6)],
    };
    assert_eq!(ask(6), want);
}

#[test]
fn the_family_that_is_full_is_named() {
    let small = r#","EnableIPv6":true,"IPv6Network":"fd00::/62""#;
    let others: Vec<Lease> = (1..=3)
        .map(|n| lease(net(&format!("fd00:0:0:{n}::/64")), OTHER))
        .collect();
    let config = config(small);
    assert_eq!(
        first(&config, &others, None),
        Choice::Full(config.ranges.v6.unwrap())
    );
    assert!(matches!(
        first(&config, &others[1..], None),
        Choice::Create { .. }
    ));
}

#[test]
fn all_of_the_largest_network_is_within_reach() {
    let wide =
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/7","IPv6SubnetLen":126}"#;
    let config = NetworkConfig::parse(wide.as_bytes()).unwrap();
    let range = config.ranges.v6.unwrap();
    let taken = [lease(net("fc00::4/126"), OTHER)];
    for (rank, want) in [
        (0, "fc00::8/126"),
        (u128::MAX, "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"),
    ] {
        let choice = choose(&config, &taken, &claim(None), &mut |below| {
            assert_eq!(below, range.subnet_count() - 1);
            rank
        });
        assert_eq!(choice, create(want, &[]));
    }
}

#[test]
fn a_lease_without_address_is_nobodys() {
    let unknown = Lease {
        attrs: LeaseAttrs::default(),
        ..lease(net("10.3.1.0/24"), ME)
    };
    let nameless = Claim {
        attrs: LeaseAttrs::default(),
        previous: Subnets::default(),
        underlay: BTreeSet::new(),
    };
    let choice = choose(&config(""), &[unknown], &nameless, &mut |_| 0);
    assert_eq!(choice, create("10.3.2.0/24", &[]));
}

#[test]
fn previous_subnet_is_reused_when_free() {
    let other = [
        lease(net("10.3.6.0/24"), OTHER),
        lease(net("10.3.9.0/25"), OTHER),
    ];
    for (previous, want) in [
        ("10.3.5.0/24", "10.3.5.0/24"),
        ("10.3.6.0/24", "10.3.1.0/24"),
        ("10.3.9.0/24", "10.3.1.0/24"),
        ("10.4.1.0/24", "10.3.1.0/24"),
        ("10.3.0.0/24", "10.3.1.0/24"),
        ("10.3.4.0/23", "10.3.1.0/24"),
    ] {
        assert_eq!(
            first(&config(""), &other, Some(previous)),
            create(want, &[]),
            "{previous}"
        );
    }
}

#[test]
fn other_lengths_block_absurd_leases_do_not() {
    let absurd = ["0.0.0.0/0", "10.0.0.0/8", "10.3.0.0/16", "11.0.0.0/24"]
        .map(|text| lease(net(text), OTHER));
    assert_eq!(
        first(&config(""), &absurd, None),
        create("10.3.1.0/24", &[])
    );
    let old = ["10.3.0.0/22", "10.3.4.128/25", "10.3.4.0/24"].map(|text| lease(net(text), OTHER));
    assert_eq!(first(&config(""), &old, None), create("10.3.5.0/24", &[]));
    assert_eq!(
        first(&config(r#","SubnetLen":25"#), &old[1..2], None),
        create("10.3.0.128/25", &[])
    );
}

#[test]
fn the_last_free_subnet_of_a_large_network_is_found() {
    let config = NetworkConfig::parse(br#"{"Network":"10.0.0.0/8"}"#).unwrap();
    let range = config.ranges.v4.unwrap();
    let leases: Vec<_> = range
        .subnets()
        .filter(|net| *net != self::net("10.77.1.0/24"))
        .collect();
    let mut leases: Vec<_> = leases.into_iter().map(|net| lease(net, OTHER)).collect();
    assert_eq!(first(&config, &leases, None), create("10.77.1.0/24", &[]));
    leases.push(lease(net("10.77.1.0/24"), OTHER));
    assert_eq!(first(&config, &leases, None), Choice::Full(range));
}

proptest! {
    #[test]
    fn exactly_the_free_subnets_are_chosen(
        six in any::<bool>(), nets in proptest::collection::vec((0..4096u32, 17..=30u8), 0..12),
        min in 0..8u8, max in 8..16u8,
    ) {
        // The same numbers in both families: bits 17 to 32 of an IPv4 network, 49 to 64 of an IPv6 network.
        let (family, config) = if !six { (Family::V4, config(&format!(
            r#","SubnetLen":24,"SubnetMin":"10.3.{min}.0","SubnetMax":"10.3.{max}.0""#
        ))) } else { (Family::V6, config(&format!(
            r#","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetLen":56,
            "IPv6SubnetMin":"fd00:0:0:{min:x}00::","IPv6SubnetMax":"fd00:0:0:{max:x}00::""#
        ))) };
        let (range, shift) = (*config.ranges.get(family).unwrap(), if six { 64 } else { 0 });
        let base = crate::util::family::value(range.network.ip());
        let at = |offset: u32| family.address(base + (u128::from(offset) << shift)).unwrap();
        let longer = if six { 32 } else { 0 };
        let taken: Vec<_> =
            nets.iter().filter_map(|(offset, len)| cidr::masked(at(*offset), len + longer)).collect();
        let leases: Vec<_> = taken.iter().map(|net| lease(*net, OTHER)).collect();
        let is_free = |subnet: &IpNetwork| !taken.iter().any(|net| crate::util::family::overlap(*net, *subnet));
        let free: BTreeSet<_> = range.subnets().filter(is_free).collect();
        let ask = |rank| match choose(&config, &leases, &claim(None), &mut |_| rank) {
            Choice::Create { subnets, .. } => subnets.of(family),
            Choice::Reuse(_) | Choice::Full(_) => None,
        };
        // Each rank is another free subnet, so a uniform rank is a uniform choice.
        let chosen: BTreeSet<_> = (0..u128::try_from(free.len()).unwrap()).filter_map(ask).collect();
        prop_assert_eq!(&chosen, &free);
        prop_assert_eq!(ask(0).is_none(), free.is_empty());
    }
}

/// A claim of a host at `ip` whose etcd listens at 10.3.9.1.
fn claim_at(ip: [u8; 4]) -> Claim {
    let attrs = LeaseAttrs {
        public_ip: Some(ip.into()),
        ..LeaseAttrs::default()
    };
    Claim {
        attrs,
        previous: only(net("10.3.9.0/24")),
        underlay: [[10, 3, 9, 1].into(), [10, 3, 1, 5].into()].into(),
    }
}

#[test]
fn subnets_that_cover_the_underlay_are_never_picked() {
    let config = config(r#","SubnetMin":"10.3.1.0","SubnetMax":"10.3.9.0""#);
    let others = [
        lease(net("10.3.3.0/24"), [10, 3, 4, 7].into()),
        lease(net("10.3.5.0/24"), OTHER),
    ];
    let claim = claim_at([10, 3, 2, 1]);
    let picked: BTreeSet<Subnets> = (0..4_u128)
        .map(
            |rank| match choose(&config, &others, &claim, &mut |_| rank) {
                Choice::Create { subnets, .. } => subnets,
                other @ (Choice::Reuse(_) | Choice::Full(_)) => panic!("{other:?}"),
            },
        )
        .collect();
    assert_eq!(
        picked,
        ["10.3.6.0/24", "10.3.7.0/24", "10.3.8.0/24"]
            .map(|text| only(net(text)))
            .into()
    );
}

/// An older lease of this host stays: the other one is refused by all.
#[test]
fn own_lease_that_covers_the_underlay_is_replaced() {
    let mine = |subnet: &str, created| Lease {
        created,
        ..lease(net(subnet), [10, 3, 2, 1].into())
    };
    let config = config("");
    let claim = claim_at([10, 3, 2, 1]);
    for subnet in ["10.3.2.0/24", "10.3.1.0/24", "10.3.9.0/24"] {
        let choice = choose(&config, &[mine(subnet, 5)], &claim, &mut |_| 0);
        assert!(
            matches!(&choice, Choice::Create { replaces, .. } if replaces.len() == 1),
            "{subnet}: {choice:?}"
        );
    }
    for (created, reused) in [(2, true), (9, false)] {
        let other = Lease {
            created: 5,
            ..lease(net("10.3.3.0/24"), [10, 3, 7, 7].into())
        };
        let choice = choose(
            &config,
            &[mine("10.3.7.0/24", created), other],
            &claim,
            &mut |_| 0,
        );
        assert_eq!(
            matches!(choice, Choice::Reuse(_)),
            reused,
            "{created}: {choice:?}"
        );
    }
}
