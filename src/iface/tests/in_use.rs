//! What stays in use, and what takes its place.

use proptest::prelude::*;

use super::*;
use crate::subnet::Subnets;

/// The lease of another host, which announces 10.0.0.200.
fn other(ip: IpAddr) -> Option<Subnets> {
    let lease = ipnetwork::Ipv4Network::new([172, 30, 9, 0].into(), 24).unwrap();
    (ip == IpAddr::from([10, 0, 0, 200])).then_some(lease.into())
}

#[test]
fn address_of_another_lease_is_not_chosen() {
    let announced = Announced {
        own: Addresses::default(),
        by_others: &other,
    };
    let choose = |addrs, flags| {
        choose(&host(addrs), &config(flags), V4, announced)
            .map(|u| u.addresses.to_string())
            .map_err(|e| e.to_string())
    };
    let [virtual_ip, own] = [addr(2, "10.0.0.200"), dynamic(2, "10.0.0.1")];
    assert_eq!(
        choose(vec![virtual_ip.clone(), own], "").as_deref(),
        Ok("10.0.0.1")
    );
    let error = choose(vec![virtual_ip.clone()], "-iface=eth0").unwrap_err();
    assert!(
        error.contains("the lease of 172.30.9.0/24 announces 10.0.0.200"),
        "{error}"
    );
    assert_eq!(
        choose(vec![virtual_ip], "-public-ip=203.0.113.1").as_deref(),
        Ok("10.0.0.200")
    );
}

/// What a host that used `before` does when it is `now`, `waited` or not: `Ok` what it uses and whether as a substitute.
fn followed(
    in_use: &InUse,
    now: &HostState,
    flags: &str,
    families: Families,
    waited: bool,
) -> Result<InUse, String> {
    let announced = Announced {
        own: Addresses::default(),
        by_others: &other,
    };
    match in_use.follow(now, &config(flags), families, announced) {
        Follow::Use(in_use) => Ok(in_use),
        Follow::Wait(_) if waited => in_use
            .substituted(now, &config(flags), families, announced)
            .map_err(|error| error.to_string()),
        Follow::Wait(gone) => Err(format!("wait: {gone}")),
    }
}

fn start(host_state: &HostState, flags: &str, families: Families) -> InUse {
    let announced = Announced::by(Addresses::default());
    InUse::new(
        choose(host_state, &config(flags), families, announced).unwrap(),
        host_state,
    )
}

fn shown(in_use: &Result<InUse, String>) -> String {
    match in_use {
        Ok(in_use) => {
            let underlay = in_use.underlay();
            let substitute = if in_use.is_substitute() {
                " for now"
            } else {
                ""
            };
            format!("{}: {}{substitute}", underlay.name, underlay.addresses)
        }
        Err(error) => error.clone(),
    }
}

#[test]
fn address_in_use_stays_whatever_else_appears() {
    let before = host(vec![dynamic(2, "10.0.0.1"), dynamic(2, "fd00::1")]);
    let in_use = start(&before, "", DUAL);
    let mut now = host(vec![
        addr(3, "10.9.0.1"),
        single(2, "10.0.0.7"),
        addr(2, "10.0.0.8"),
        dynamic(2, "10.0.0.1"),
        addr(2, "fd00::8"),
        dynamic(2, "fd00::1"),
    ]);
    (now.default_links, now.default_links_v6) = (vec![3, 2], vec![3]);
    let next = followed(&in_use, &now, "", DUAL, false);
    assert_eq!(shown(&next), "eth0: 10.0.0.1 and fd00::1");
    assert_eq!(
        shown(&followed(&next.unwrap(), &before, "", DUAL, false)),
        "eth0: 10.0.0.1 and fd00::1"
    );
    // Also where it is announced by another host, which came later.
    let at_risk = start(&host(vec![addr(2, "10.0.0.200")]), "", V4);
    let next = followed(
        &at_risk,
        &host(vec![addr(2, "10.0.0.200"), addr(2, "10.0.0.1")]),
        "",
        V4,
        true,
    );
    assert_eq!(shown(&next), "eth0: 10.0.0.200");
}

#[test]
fn new_address_in_place_of_one_that_is_gone_is_followed_at_once() {
    let before = host(vec![
        dynamic(2, "10.0.0.1"),
        addr(2, "10.0.5.5"),
        addr(2, "fd00::1"),
    ]);
    let in_use = start(&before, "-iface=10.0.0.1 -iface=eth0", DUAL);
    let renumbered = host(vec![
        addr(2, "10.0.5.5"),
        dynamic(2, "10.0.0.77"),
        addr(2, "fd00::1"),
    ]);
    let next = followed(
        &in_use,
        &renumbered,
        "-iface=10.0.0.1 -iface=eth0",
        DUAL,
        false,
    );
    assert_eq!(shown(&next), "eth0: 10.0.0.77 and fd00::1");
    // That is home now.
    let both = host(vec![
        dynamic(2, "10.0.0.1"),
        dynamic(2, "10.0.0.77"),
        addr(2, "fd00::1"),
    ]);
    assert_eq!(
        shown(&followed(&next.unwrap(), &both, "-iface=eth0", DUAL, false)),
        "eth0: 10.0.0.77 and fd00::1"
    );
    for (name, now) in [
        (
            "a virtual address",
            host(vec![single(2, "10.0.0.77"), addr(2, "fd00::1")]),
        ),
        (
            "a link-local one",
            host(vec![addr(2, "169.254.0.9"), addr(2, "fd00::1")]),
        ),
        (
            "another host's",
            host(vec![addr(2, "10.0.0.200"), addr(2, "fd00::1")]),
        ),
    ] {
        let next = shown(&followed(&in_use, &now, "-iface=eth0", DUAL, false));
        assert!(
            next.starts_with("wait: address 10.0.0.1 disappeared from eth0"),
            "{name}: {next}"
        );
    }
    let only = host(vec![dynamic(2, "10.0.0.77"), addr(2, "fd00::1")]);
    let next = shown(&followed(&in_use, &only, "-iface=10.0.0.1", DUAL, false));
    assert!(
        next.starts_with("wait: "),
        "a flag names the address: {next}"
    );
    // A cloud's addresses are all single ones.
    let cloud = start(&host(vec![single(2, "10.0.0.1")]), "", V4);
    assert_eq!(
        shown(&followed(
            &cloud,
            &host(vec![single(2, "10.0.0.2")]),
            "",
            V4,
            false
        )),
        "eth0: 10.0.0.2"
    );
}

#[test]
fn address_that_is_gone_is_waited_for_and_returned_to() {
    let before = host(vec![dynamic(2, "10.0.0.1"), addr(2, "10.0.5.5")]);
    let in_use = InUse::new(
        Underlay::new(&link(2, "eth0"), addresses(Some("10.0.0.1"), None)),
        &before,
    );
    let without = host(vec![addr(2, "10.0.5.5")]);
    let wait = shown(&followed(&in_use, &without, "", V4, false));
    assert_eq!(
        wait,
        "wait: address 10.0.0.1 disappeared from eth0, waiting for it to return"
    );
    let away = followed(&in_use, &without, "", V4, true);
    assert_eq!(shown(&away), "eth0: 10.0.5.5 for now");
    let away = away.unwrap();
    assert_eq!(
        shown(&followed(&away, &without, "", V4, false)),
        "eth0: 10.0.5.5 for now"
    );
    let more = host(vec![addr(2, "10.0.5.5"), single(2, "10.0.0.3")]);
    assert_eq!(
        shown(&followed(&away, &more, "", V4, true)),
        "eth0: 10.0.5.5 for now"
    );
    assert_eq!(
        shown(&followed(&away, &before, "", V4, false)),
        "eth0: 10.0.0.1"
    );
    let late = host(vec![addr(2, "10.0.5.5"), dynamic(2, "10.0.0.77")]);
    assert_eq!(
        shown(&followed(&away, &late, "", V4, false)),
        "eth0: 10.0.0.77",
        "renumbered, but slowly"
    );
    let error = shown(&followed(&in_use, &host(vec![]), "", V4, true));
    assert!(error.contains("eth0 has no usable IPv4 address"), "{error}");
    let stolen = shown(&followed(
        &in_use,
        &host(vec![addr(2, "10.0.0.200")]),
        "",
        V4,
        true,
    ));
    assert!(
        stolen.contains("the lease of 172.30.9.0/24 announces 10.0.0.200"),
        "{stolen}"
    );
}

#[test]
fn address_that_moves_to_a_bridge_takes_the_overlay_along() {
    let before = host(vec![addr(2, "10.0.0.1")]);
    let mut now = host(vec![addr(9, "10.0.0.1")]);
    now.links.push(link(9, "br0"));
    now.default_links = vec![9];
    for flags in ["", "-iface=10.0.0.1", "-public-ip=10.0.0.1"] {
        let next = followed(&start(&before, flags, V4), &now, flags, V4, false);
        assert_eq!(shown(&next), "br0: 10.0.0.1", "{flags}");
    }
    let next = shown(&followed(
        &start(&before, "-iface=eth0", V4),
        &now,
        "-iface=eth0",
        V4,
        false,
    ));
    assert!(next.starts_with("wait: "), "{next}");
    let mut renewed = host(vec![addr(8, "10.0.0.1")]);
    renewed.links[1] = link(8, "eth0");
    let next = followed(
        &start(&before, "-iface=eth0", V4),
        &renewed,
        "-iface=eth0",
        V4,
        false,
    )
    .unwrap();
    assert_eq!(
        (next.underlay().index, next.underlay().addresses),
        (8, Addresses::from(before.addrs[0].ip))
    );
}

#[test]
fn address_that_a_flag_names_is_used_as_soon_as_it_is_there() {
    let flags = "-public-ip=10.0.0.9";
    let before = host(vec![addr(2, "10.0.0.1")]);
    let in_use = start(&before, flags, V4);
    let with = host(vec![addr(2, "10.0.0.1"), single(1, "10.0.0.9")]);
    let next = followed(&in_use, &with, flags, V4, false);
    assert_eq!(shown(&next), "eth0: 10.0.0.9");
    let next = next.unwrap();
    assert!(
        shown(&followed(&next, &before, flags, V4, false))
            .starts_with("wait: address 10.0.0.9 disappeared")
    );
    assert_eq!(
        shown(&followed(&next, &before, flags, V4, true)),
        "eth0: 10.0.0.1 for now"
    );
}

proptest! {
    /// What is in use is in use as long as it is there, whatever comes or goes beside it.
    #[test]
    fn nothing_but_its_loss_changes_what_is_in_use(
        addrs in proptest::collection::vec(any_addr(), 1..8),
        more in proptest::collection::vec(any_addr(), 0..8),
        stays in any::<[bool; 8]>(),
        defaults in proptest::collection::vec(2..5u32, 0..3),
        flags in prop_oneof![Just(""), Just("-iface-regex=eth"), Just("-iface=eth3"), Just("-iface-can-reach=10.0.1.1")],
    ) {
        let links = || (2..5).map(|n| link(n, &format!("eth{n}"))).collect();
        let reach = |link| Some(Reachability { link, source: None, gateway: None });
        let then = HostState { links: links(), addrs: addrs.clone(), default_links: vec![3], reach: reach(3), ..HostState::default() };
        let announced = Announced::by(Addresses::default());
        let Ok(chosen) = choose(&then, &config(flags), V4, announced) else { return Ok(()) };
        let is_chosen = |addr: &AddrFact| addr.link == chosen.index && chosen.addresses.contains(addr.ip);
        let kept = addrs.iter().zip(stays).filter(|(addr, stays)| *stays || is_chosen(addr));
        let kept: Vec<AddrFact> = more.into_iter().filter(|addr| !is_chosen(addr)).chain(kept.map(|(addr, _)| addr.clone())).collect();
        let now = HostState { links: links(), addrs: kept, default_links: defaults, reach: reach(2), ..HostState::default() };
        let next = InUse::new(chosen.clone(), &then).follow(&now, &config(flags), V4, announced);
        let Follow::Use(next) = next else { return Err(TestCaseError::fail(format!("{next:?}"))) };
        prop_assert_eq!((next.underlay(), next.is_substitute()), (&chosen, false));
    }
}
