//! Each table and default of the vxlan backend, and its entries for good and bad peers.

use super::*;
use crate::iface::{Addresses, Underlay};
use crate::kernel::host_state::{LinkFact, Route, VxlanFact};

fn config(backend: &str) -> NetworkConfig {
    let json = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
    NetworkConfig::parse(json.as_bytes()).unwrap()
}

fn underlay() -> Underlay {
    Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        addresses: IpAddr::from([10, 0, 0, 1]).into(),
    }
}

fn make(
    config: &NetworkConfig,
    host_state: &HostState,
    published: Option<&LeaseAttrs>,
) -> Result<Box<dyn Backend>, BadConfig> {
    let underlay = underlay();
    let host = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state,
        published,
        machine: "machine",
        blackhole: false,
    };
    crate::backend::new(config, &host)
}

/// A host without any link.
fn bare() -> HostState {
    HostState {
        vxlan_port: 8472,
        ..HostState::default()
    }
}

fn made(backend: &str) -> Box<dyn Backend> {
    make(&config(backend), &bare(), None).unwrap()
}

fn link(backend: &dyn Backend) -> LinkSpec {
    backend.links().remove(0).1
}

fn lease(subnet: &str, value: &str) -> Lease {
    let subnet: IpNetwork = subnet.parse().unwrap();
    Lease {
        subnets: std::iter::once(subnet).collect(),
        attrs: LeaseAttrs::decode(value.as_bytes()).unwrap(),
        created: 1,
        modified: 1,
        lease_id: None,
    }
}

#[test]
fn the_lease_value_is_that_of_go() {
    let host_state = existing(
        link(&*made(r#"{"Type":"vxlan"}"#)),
        [0x86, 0x4b, 0x9c, 0x65, 0xf2, 0x12],
    );
    let backend = make(&config(r#"{"Type":"vxlan"}"#), &host_state, None).unwrap();
    assert_eq!(
        backend.attrs().encode(),
        r#"{"PublicIP":"10.0.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"86:4b:9c:65:f2:12"}}"#
    );
}

/// A host that has the device `spec`, but for its MAC.
fn existing(spec: LinkSpec, mac: [u8; 6]) -> HostState {
    let vxlan = VxlanFact {
        vni: spec.vni,
        parent: spec.parent,
        local: Some(spec.local),
        port: 8472,
        ..VxlanFact::default()
    };
    let link = LinkFact {
        index: 9,
        name: spec.name,
        mtu: spec.mtu,
        up: true,
        mac: Some(Mac(mac)),
        vxlan: Some(vxlan),
    };
    HostState {
        links: vec![link],
        ..bare()
    }
}

#[test]
fn options_and_defaults() {
    let plain = link(&*made(r#"{"Type":"vxlan"}"#));
    assert_eq!(
        (plain.name.as_str(), plain.vni, plain.port, plain.mtu),
        ("flannel.1", 1, 8472, 1450)
    );
    assert_eq!((plain.learning, plain.gbp), (false, false));
    let all = link(&*made(
        r#"{"type":"VXLAN","VNI":7,"port":4789,"GBP":true,"Learning":true,"MTU":1400,"MacPrefix":"0E-2A"}"#,
    ));
    assert_eq!(
        (all.name.as_str(), all.vni, all.port, all.mtu),
        ("flannel.7", 7, 4789, 1350)
    );
    assert_eq!((all.learning, all.gbp), (true, true));
    assert_eq!(
        link(&*made(r#"{"Type":"vxlan","MTU":9000}"#)).mtu,
        1450,
        "never more than the underlay carries"
    );
}

#[test]
fn bad_options_are_named() {
    let table = [
        (
            r#"{"Type":"vxlan","VNI":16777216}"#,
            "VNI 16777216 is out of range; Backend VNI must be 0 to 16777215",
        ),
        (r#"{"Type":"vxlan","VNI":-1}"#, "VNI -1 is out of range"),
        (
            r#"{"Type":"vxlan","Port":99999}"#,
            "Port 99999 is out of range",
        ),
        (
            r#"{"Type":"vxlan","VNI":"1"}"#,
            "error decoding VXLAN backend config: VNI must be an integer",
        ),
        (r#"{"Type":"vxlan","MTU":100}"#, "MTU 100 is too small"),
        (
            r#"{"Type":"vxlan","DirectRouting":1}"#,
            "error decoding VXLAN backend config: DirectRouting",
        ),
        (
            r#"{"Type":"udp"}"#,
            "backend type udp is not supported; use vxlan",
        ),
        (r#"{"Type":"nope"}"#, "unknown backend type: nope"),
    ];
    for (backend, want) in table {
        let error = make(&config(backend), &bare(), None)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn directly_connected_peer_is_one_route_with_direct_routing() {
    let route = Route {
        net: "10.0.0.0/24".parse().unwrap(),
        metric: 0,
        link: Some(2),
        is_direct: true,
    };
    let host_state = HostState {
        routes: vec![route],
        ..bare()
    };
    let peer = |ip: &str| {
        let value = format!(
            r#"{{"PublicIP":"{ip}","BackendType":"vxlan","BackendData":{{"VtepMAC":"aa:bb:cc:dd:ee:ff"}}}}"#
        );
        lease("10.5.77.0/24", &value)
    };
    let entries = |options: &str, host_state: &HostState, ip: &str| {
        make(&config(options), host_state, None)
            .unwrap()
            .peer(&peer(ip), Family::V4)
            .unwrap()
    };
    let direct = Entry::Route {
        dst: "10.5.77.0/24".parse().unwrap(),
        metric: 0,
        dev: LinkRole::Underlay,
        gateway: Some([10, 0, 0, 2].into()),
        onlink: false,
        protocol: 3,
    };
    let on = r#"{"Type":"vxlan","DirectRouting":true}"#;
    assert_eq!(entries(on, &host_state, "10.0.0.2"), [direct]);
    assert_eq!(
        entries(on, &host_state, "10.1.0.2").len(),
        3,
        "behind a router"
    );
    assert_eq!(
        entries(on, &bare(), "10.0.0.2").len(),
        3,
        "no route says so"
    );
    assert_eq!(
        entries(r#"{"Type":"vxlan"}"#, &host_state, "10.0.0.2").len(),
        3,
        "not asked for"
    );
}

#[test]
fn peer_has_three_entries_like_go() {
    let peer = lease(
        "10.5.77.0/24",
        r#"{"PublicIP":"10.0.0.2","BackendType":"vxlan","BackendData":{"VtepMAC":"aa:bb:cc:dd:ee:ff"}}"#,
    );
    let mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
    let (dev, base) = (LinkRole::Overlay, IpAddr::from([10, 5, 77, 0]));
    let want = vec![
        Entry::Neigh { dev, ip: base, mac },
        Entry::Fdb {
            dev,
            mac,
            dst: [10, 0, 0, 2].into(),
            port: 0,
            vni: 0,
        },
        Entry::Route {
            dst: "10.5.77.0/24".parse().unwrap(),
            metric: 0,
            dev,
            gateway: Some(base),
            onlink: true,
            protocol: 3,
        },
    ];
    assert_eq!(
        made(r#"{"Type":"vxlan"}"#).peer(&peer, Family::V4),
        Ok(want)
    );
}

#[test]
fn unusable_peers_are_refused_with_the_reason() {
    let backend = made(r#"{"Type":"vxlan"}"#);
    let own = link(&*backend).mac;
    let table = [
        (
            r#""BackendType":"host-gw""#.to_owned(),
            "its backend type is \"host-gw\", this host uses vxlan",
        ),
        (r#""BackendType":"vxlan""#.to_owned(), "no BackendData"),
        (data("{}"), "VtepMAC \"\" is not a MAC address"),
        (data("7"), "BackendData: not a JSON object"),
        (
            data(r#"{"VtepMAC":"01:00:5e:00:00:01"}"#),
            "is not a unicast address",
        ),
        (
            data(r#"{"VtepMAC":"00:00:00:00:00:00"}"#),
            "is not a unicast address",
        ),
        (
            data(r#"{"VtepMAC":"aa:bb:cc:dd:ee"}"#),
            "is not a MAC address",
        ),
        (
            data(r#"{"VNI":2,"VtepMAC":"aa:bb:cc:dd:ee:ff"}"#),
            "its VNI is 2, this host uses 1",
        ),
        (
            data(&format!(r#"{{"VtepMAC":"{own}"}}"#)),
            "is this host's own",
        ),
    ];
    for (rest, want) in table {
        let peer = lease(
            "10.5.77.0/24",
            &format!(r#"{{"PublicIP":"10.0.0.2",{rest}}}"#),
        );
        let error = backend.peer(&peer, Family::V4).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// A host with both families, and what it has already.
fn both(
    backend: &str,
    mtu: u32,
    host_state: &HostState,
    published: Option<&LeaseAttrs>,
) -> Result<Box<dyn Backend>, BadConfig> {
    let json = format!(
        r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{backend}}}"#
    );
    let config = NetworkConfig::parse(json.as_bytes()).unwrap();
    let underlay = Underlay {
        addresses: Addresses {
            v6: Some([0xfd10, 0, 0, 0, 0, 0, 0, 1].into()),
            ..underlay().addresses
        },
        mtu,
        ..underlay()
    };
    let host = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state,
        published,
        machine: "machine",
        blackhole: false,
    };
    crate::backend::new(&config, &host)
}

#[test]
fn each_family_has_a_device_and_pods_the_smaller_mtu() {
    let backend = both(r#"{"Type":"vxlan","VNI":7}"#, 1500, &bare(), None).unwrap();
    let shown: Vec<String> = backend
        .links()
        .iter()
        .map(|(dev, l)| {
            format!(
                "{dev:?} {} {} {} {} {}",
                l.name, l.vni, l.port, l.local, l.mtu
            )
        })
        .collect();
    let want = [
        "Overlay flannel.7 7 8472 10.0.0.1 1450",
        "Overlay6 flannel-v6.7 7 8472 fd10::1 1430",
    ];
    assert_eq!(
        (shown, backend.mtu()),
        (want.map(String::from).to_vec(), 1430)
    );
    let [(_, four), (_, six)] = &backend.links()[..] else {
        panic!("two devices")
    };
    assert_ne!(four.mac, six.mac);
    assert_eq!(backend.owned().networks.len(), 2);
    let own = Subnets {
        v4: "10.5.1.0/24".parse().ok(),
        v6: "fd05:0:0:1::/64".parse().ok(),
    };
    let entries: Vec<String> = backend
        .local(&own)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(entries, ["address 10.5.1.0/32", "address fd05:0:0:1::/128"]);
}

#[test]
fn an_mtu_too_small_for_ipv6_is_named() {
    let error = both(r#"{"Type":"vxlan"}"#, 1349, &bare(), None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("VXLAN takes 70 bytes of it, and IPv6 needs 1280"),
        "{error}"
    );
    assert_eq!(
        both(r#"{"Type":"vxlan"}"#, 1350, &bare(), None)
            .unwrap()
            .mtu(),
        1280
    );
}

#[test]
fn both_macs_are_published_and_kept() {
    let vxlan = r#"{"Type":"vxlan"}"#;
    let value = r#"{"PublicIP":"10.0.0.1","PublicIPv6":"fd10::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:04"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:06"}}"#;
    let published = LeaseAttrs::decode(value.as_bytes()).unwrap();
    assert_eq!(
        both(vxlan, 1500, &bare(), Some(&published))
            .unwrap()
            .attrs()
            .encode(),
        value
    );
    let six = both(vxlan, 1500, &bare(), None)
        .unwrap()
        .links()
        .remove(1)
        .1;
    let host_state = existing(six, [2, 0, 0, 0, 0, 7]);
    let adopted = both(vxlan, 1500, &host_state, None)
        .unwrap()
        .links()
        .remove(1)
        .1;
    assert_eq!(adopted.mac, Mac([2, 0, 0, 0, 0, 7]));
}

#[test]
fn ipv6_peer_has_three_entries_like_go() {
    let backend = both(r#"{"Type":"vxlan"}"#, 1500, &bare(), None).unwrap();
    let value = r#"{"PublicIP":"10.0.0.2","PublicIPv6":"fd10::2","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}}"#;
    let peer = lease("fd05:0:0:77::/64", value);
    let (dev, base, mac) = (
        LinkRole::Overlay6,
        peer.subnets.of(Family::V6).unwrap().ip(),
        Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]),
    );
    let want = vec![
        Entry::Neigh { dev, ip: base, mac },
        Entry::Fdb {
            dev,
            mac,
            dst: "fd10::2".parse().unwrap(),
            port: 0,
            vni: 0,
        },
        Entry::Route {
            dst: "fd05:0:0:77::/64".parse().unwrap(),
            metric: 1024,
            dev,
            gateway: Some(base),
            onlink: true,
            protocol: 3,
        },
    ];
    assert_eq!(backend.peer(&peer, Family::V6), Ok(want));
    assert_eq!(
        backend.peer(&peer, Family::V4).unwrap_err().to_string(),
        "no BackendData"
    );
    let other = lease("fd05:0:0:77::/64", &value.replace("\"VNI\":1", "\"VNI\":2"));
    assert_eq!(
        backend.peer(&other, Family::V6).unwrap_err().to_string(),
        "its VNI is 2, this host uses 1"
    );
}

fn data(json: &str) -> String {
    format!(r#""BackendType":"vxlan","BackendData":{json}"#)
}

#[test]
fn mac_is_published_one_then_devices_then_machines() {
    let config = config(r#"{"Type":"vxlan"}"#);
    let derived = link(&*made(r#"{"Type":"vxlan"}"#)).mac;
    assert_eq!(derived, link(&*made(r#"{"Type":"vxlan"}"#)).mac);
    assert!(derived.is_unicast());
    let host_state = existing(link(&*made(r#"{"Type":"vxlan"}"#)), [2, 0, 0, 0, 0, 5]);
    assert_eq!(
        link(&*make(&config, &host_state, None).unwrap()).mac,
        Mac([2, 0, 0, 0, 0, 5])
    );
    let published = lease(
        "10.5.1.0/24",
        &format!("{{{}}}", data(r#"{"VtepMAC":"02:00:00:00:00:06"}"#)),
    )
    .attrs;
    assert_eq!(
        link(&*make(&config, &host_state, Some(&published)).unwrap()).mac,
        Mac([2, 0, 0, 0, 0, 6])
    );
}

#[test]
fn routes_of_large_networks_are_spread() {
    let large =
        NetworkConfig::parse(br#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#).unwrap();
    let backend = make(&large, &bare(), None).unwrap();
    let protocols: std::collections::BTreeSet<u8> = (0..=255_u8)
        .map(|n| {
            let value = format!(
                r#"{{"PublicIP":"10.0.0.2",{}}}"#,
                data(r#"{"VtepMAC":"aa:bb:cc:dd:ee:ff"}"#)
            );
            let entries = backend
                .peer(&lease(&format!("10.7.{n}.0/24"), &value), Family::V4)
                .unwrap();
            let Entry::Route { protocol, .. } = entries[2] else {
                panic!("the third item is the route")
            };
            protocol
        })
        .collect();
    assert_eq!(
        protocols.into_iter().collect::<Vec<_>>(),
        (100..164).collect::<Vec<u8>>()
    );
}
