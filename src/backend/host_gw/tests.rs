//! The lease, the routes, and the refusals of host-gw and of alloc.

use ipnetwork::IpNetwork;

use super::*;
use crate::iface::{Addresses, Underlay};
use crate::kernel::host_state::{Route, VxlanFact};
use crate::kernel::{LinkRole, Mac};

const V4: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
const BOTH: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"Host-GW"}}"#;
const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"host-gw"}}"#;

fn underlay() -> Underlay {
    let (v4, v6) = (Some([192, 0, 2, 1].into()), "fd10::1".parse().ok());
    Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 9000,
        addresses: Addresses { v4, v6 },
    }
}

fn route(net: &str, link: u32, is_direct: bool) -> Route {
    Route {
        net: net.parse().unwrap(),
        metric: 0,
        link: Some(link),
        is_direct,
    }
}

fn host_state() -> HostState {
    let routes = vec![
        route("0.0.0.0/0", 2, false),
        route("192.0.2.0/24", 2, true),
        route("203.0.113.0/24", 3, true),
        route("fd10::/64", 2, true),
    ];
    HostState {
        routes,
        ..HostState::default()
    }
}

fn make(
    json: &str,
    public: Addresses,
    host_state: &HostState,
) -> Result<Box<dyn Backend>, BadConfig> {
    let config = NetworkConfig::parse(json.as_bytes()).unwrap();
    let underlay = underlay();
    let public = public.or(underlay.addresses);
    let host = HostContext {
        underlay: &underlay,
        public,
        host_state,
        published: None,
        machine: "m",
        blackhole: false,
    };
    crate::backend::new(&config, &host)
}

fn made(json: &str) -> Box<dyn Backend> {
    make(json, Addresses::default(), &host_state()).unwrap()
}

fn lease(value: &str) -> Lease {
    let subnets = ["10.5.7.0/24", "fd05:0:0:7::/64"]
        .iter()
        .map(|net| net.parse::<IpNetwork>().unwrap());
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    Lease {
        subnets: subnets.collect(),
        attrs,
        created: 1,
        modified: 1,
        lease_id: None,
    }
}

fn of(ip: &str, backend_type: &str) -> Lease {
    lease(&format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":"fd10::7","BackendType":"{backend_type}","BackendData":null}}"#
    ))
}

/// As `hostgw.go` and `alloc.go` fill the value, and Go's encoder writes it.
#[test]
fn lease_values_are_those_of_go() {
    let alloc = V4.replace("host-gw", "alloc");
    for (json, want) in [
        (
            V4,
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
        ),
        (
            BOTH,
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"fd10::1","BackendType":"host-gw"}"#,
        ),
        (
            V6,
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd10::1","BackendType":"host-gw"}"#,
        ),
        (&alloc, r#"{"PublicIP":"192.0.2.1","PublicIPv6":null}"#),
    ] {
        let backend = made(json);
        assert_eq!(backend.attrs().encode(), want);
        assert_eq!(
            LeaseAttrs::decode(want.as_bytes()).unwrap(),
            backend.attrs()
        );
        assert_eq!((backend.mtu(), backend.links().len()), (9000, 0));
    }
}

#[test]
fn connected_peer_is_one_route_in_each_family() {
    let backend = made(BOTH);
    let route = |dst: &str, metric, via: &str| Entry::Route {
        dst: dst.parse().unwrap(),
        metric,
        dev: LinkRole::Underlay,
        gateway: via.parse().ok(),
        onlink: false,
        protocol: 3,
    };
    for backend_type in ["host-gw", "vxlan"] {
        let peer = of("192.0.2.7", backend_type);
        assert_eq!(
            backend.peer(&peer, Family::V4).unwrap(),
            [route("10.5.7.0/24", 0, "192.0.2.7")]
        );
        assert_eq!(
            backend.peer(&peer, Family::V6).unwrap(),
            [route("fd05:0:0:7::/64", 1024, "fd10::7")]
        );
    }
    for entry in backend
        .peer(&of("192.0.2.7", "host-gw"), Family::V4)
        .unwrap()
    {
        assert!(backend.owned().off_device.claims_direct(&entry), "{entry}");
    }
}

#[test]
fn peer_that_is_not_connected_has_no_route_and_the_reason() {
    let backend = made(V4);
    for (ip, name) in [
        ("198.51.100.7", "behind a router"),
        ("203.0.113.7", "on another interface"),
    ] {
        let why = backend
            .peer(&of(ip, "host-gw"), Family::V4)
            .unwrap_err()
            .to_string();
        assert!(
            why.contains(&format!("{ip} is not directly connected to eth0")),
            "{name}: {why}"
        );
    }
    let why = backend
        .peer(&of("192.0.2.7", "wireguard"), Family::V4)
        .unwrap_err()
        .to_string();
    assert_eq!(
        why, "its backend type is \"wireguard\", this host uses host-gw",
        "it would get in clear what it encrypts"
    );
}

#[test]
fn vxlan_with_direct_routing_routes_to_hosts_of_host_gw() {
    let vxlan = |direct| {
        made(&V4.replace(
            "\"host-gw\"",
            &format!("\"vxlan\",\"DirectRouting\":{direct}"),
        ))
    };
    let peer = of("192.0.2.7", "host-gw");
    let entries = made(V4).peer(&peer, Family::V4).unwrap();
    assert_eq!(vxlan(true).peer(&peer, Family::V4).unwrap(), entries);
    let refused = "its backend type is \"host-gw\", this host uses vxlan";
    assert_eq!(
        vxlan(false)
            .peer(&peer, Family::V4)
            .unwrap_err()
            .to_string(),
        refused
    );
    let far = of("198.51.100.7", "host-gw");
    assert_eq!(
        vxlan(true).peer(&far, Family::V4).unwrap_err().to_string(),
        refused
    );
}

#[test]
fn public_address_must_be_one_of_the_underlay() {
    let public = Addresses {
        v4: Some([192, 0, 2, 9].into()),
        v6: None,
    };
    let why = make(V4, public, &host_state()).err().unwrap().to_string();
    assert!(
        why.contains("192.0.2.9 is not an address of eth0: host-gw does not work behind"),
        "{why}"
    );
    let second = AddrFact {
        link: 2,
        ip: [192, 0, 2, 9].into(),
        prefix_len: 24,
        link_local: false,
        deprecated: false,
        unconfirmed: false,
        permanent: true,
        temporary: false,
    };
    let host_state = HostState {
        addrs: vec![second],
        ..host_state()
    };
    assert!(
        make(V4, public, &host_state).is_ok(),
        "another address of the interface"
    );
    assert!(
        make(&V4.replace("host-gw", "alloc"), public, &self::host_state()).is_ok(),
        "alloc sends nothing"
    );
}

#[test]
fn device_of_an_earlier_vxlan_life_is_known_by_name_and_address() {
    let link = |index, name: &str, vni| LinkFact {
        index,
        name: name.into(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        vxlan: Some(VxlanFact {
            vni,
            ..VxlanFact::default()
        }),
        ..LinkFact::default()
    };
    let addr = |link, ip: &str, prefix_len| AddrFact {
        link,
        ip: ip.parse().unwrap(),
        prefix_len,
        link_local: false,
        deprecated: false,
        unconfirmed: false,
        permanent: true,
        temporary: false,
    };
    let no_vxlan = LinkFact {
        vxlan: None,
        ..link(7, "flannel.6", 6)
    };
    let host_state = HostState {
        links: vec![
            link(3, "flannel.1", 1),
            link(4, "flannel-v6.1", 1),
            link(5, "flannel.2", 2),
            link(6, "flannel.3", 9),
            no_vxlan,
            link(8, "vxlan1", 1),
        ],
        addrs: vec![
            addr(3, "10.5.1.0", 32),
            addr(4, "fd05:0:0:1::", 128),
            addr(5, "10.9.1.0", 32),
            addr(6, "10.5.1.0", 32),
            addr(7, "10.5.1.0", 32),
            addr(8, "10.5.1.0", 32),
        ],
        ..host_state()
    };
    let own: Subnets = ["10.5.1.0/24", "fd05:0:0:1::/64"]
        .iter()
        .map(|net| net.parse::<IpNetwork>().unwrap())
        .collect();
    let names = |backend: &dyn Backend| -> Vec<String> {
        backend
            .former_links(&host_state, &own)
            .into_iter()
            .map(|former| former.link.name)
            .collect()
    };
    assert_eq!(names(&*made(BOTH)), ["flannel.1", "flannel-v6.1"]);
    assert_eq!(
        names(&*made(&V4.replace("host-gw", "alloc"))),
        [""; 0],
        "alloc touches nothing"
    );
    assert_eq!(names(&*made(&V4.replace("host-gw", "vxlan"))), [""; 0]);
}

#[test]
fn alloc_owns_and_wants_nothing() {
    let backend = made(&V4.replace("host-gw", "alloc"));
    let own = lease(r#"{"PublicIP":"192.0.2.1"}"#).subnets;
    assert_eq!(
        backend.peer(&of("198.51.100.7", ""), Family::V4),
        Ok(Vec::new())
    );
    assert_eq!(
        (backend.local(&own), backend.owned()),
        (Vec::new(), Owned::default())
    );
}

#[test]
fn other_types_are_refused_with_what_to_use_instead() {
    for (name, words) in [
        (
            "udp",
            "use vxlan, which does the same in the kernel (without Backend, the type is udp)",
        ),
        (
            "extension",
            "alloc with your own program that follows the leases",
        ),
        (
            "ipip",
            "use host-gw if all hosts share a network, otherwise vxlan",
        ),
        ("wireguard", "use vxlan over an encrypted underlay"),
        (
            "aws-vpc",
            "alloc with your own program that writes the route table of the cloud",
        ),
        (
            "nope",
            "unknown backend type: nope; supported: vxlan, host-gw, alloc",
        ),
    ] {
        let json = V4.replace("host-gw", name);
        let why = make(&json, Addresses::default(), &host_state())
            .err()
            .unwrap()
            .to_string();
        assert!(
            why.contains(words) && why.contains(&format!("type {name}")) || name == "nope",
            "{why}"
        );
    }
}
