//! Every row of Go flannel's tables of defaults and errors.

use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> Result<NetworkConfig, String> {
    NetworkConfig::parse(json.as_bytes()).map_err(|error| error.0)
}

fn ranges(json: &str) -> String {
    let shown = |range: &Range| {
        let Range {
            network,
            subnet_len,
            subnet_min,
            subnet_max,
        } = range;
        format!(
            "{network} /{subnet_len} {subnet_min} {subnet_max} {}",
            range.subnet_count()
        )
    };
    parse(json)
        .unwrap()
        .ranges
        .iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn defaults_and_overrides() {
    let table = [
        (
            r#"{"network":"10.3.0.0/16"}"#,
            "10.3.0.0/16 /24 10.3.1.0 10.3.255.0 255",
        ),
        (
            r#"{"NETWORK":"10.6.7.8/16"}"#,
            "10.6.0.0/16 /24 10.6.1.0 10.6.255.0 255",
        ),
        (
            r#"{"Network":"10.3.0.0/22"}"#,
            "10.3.0.0/22 /24 10.3.1.0 10.3.3.0 3",
        ),
        (
            r#"{"Network":"10.3.0.0/23"}"#,
            "10.3.0.0/23 /25 10.3.0.128 10.3.1.128 3",
        ),
        (
            r#"{"Network":"10.3.0.0/28"}"#,
            "10.3.0.0/28 /30 10.3.0.4 10.3.0.12 3",
        ),
        (
            r#"{"Network":"10.0.0.0/8","SubnetLen":null}"#,
            "10.0.0.0/8 /24 10.0.1.0 10.255.255.0 65535",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28}"#,
            "10.3.0.0/16 /28 10.3.5.0 10.3.8.0 49",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"0.0.0.0","SubnetLen":0,"subnetlen":26,"x":1}"#,
            "10.3.0.0/16 /26 10.3.0.64 10.3.255.192 1023",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.0.0","SubnetMax":"10.3.0.0"}"#,
            "10.3.0.0/16 /24 10.3.0.0 10.3.0.0 1",
        ),
    ];
    for (json, want) in table {
        assert_eq!(ranges(json), want, "{json}");
    }
}

#[test]
fn ipv6_defaults_and_overrides() {
    let six = |members: &str, want: &str| {
        let json = format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,{members}}}"#);
        assert_eq!(ranges(&json), want, "{json}");
    };
    six(
        r#""IPv6Network":"fc00::/48""#,
        "fc00::/48 /64 fc00:0:0:1:: fc00:0:0:ffff:: 65535",
    );
    six(
        r#""ipv6network":"fc00::7/48""#,
        "fc00::/48 /64 fc00:0:0:1:: fc00:0:0:ffff:: 65535",
    );
    six(
        r#""IPv6Network":"fc00::/62""#,
        "fc00::/62 /64 fc00:0:0:1:: fc00:0:0:3:: 3",
    );
    six(
        r#""IPv6Network":"fc00::/63""#,
        "fc00::/63 /65 fc00::8000:0:0:0 fc00:0:0:1:8000:: 3",
    );
    six(
        r#""IPv6Network":"fc00::/124""#,
        "fc00::/124 /126 fc00::4 fc00::c 3",
    );
    six(
        r#""IPv6Network":"fc00::/8""#,
        "fc00::/8 /64 fc00:0:0:1:: fcff:ffff:ffff:ffff:: 72057594037927935",
    );
    six(
        r#""IPv6Network":"fc00::/8","IPv6SubnetLen":126"#,
        "fc00::/8 /126 fc00::4 fcff:ffff:ffff:ffff:ffff:ffff:ffff:fffc 332306998946228968225951765070086143",
    );
    six(
        r#""IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:5::","IPv6SubnetMax":"fc00:0:0:8::","IPv6SubnetLen":80"#,
        "fc00::/48 /80 fc00:0:0:5:: fc00:0:0:8:: 196609",
    );
    six(
        r#""IPv6Network":"fc00::/48","IPv6SubnetMin":null,"IPv6SubnetMax":"::","IPv6SubnetLen":0"#,
        "fc00::/48 /64 fc00:0:0:1:: fc00:0:0:ffff:: 65535",
    );
}

#[test]
fn both_families_or_one() {
    let both = r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}"#;
    let want =
        "10.3.0.0/16 /24 10.3.1.0 10.3.255.0 255; fc00::/48 /64 fc00:0:0:1:: fc00:0:0:ffff:: 65535";
    assert_eq!(ranges(both), want);
    assert_eq!(parse(both).unwrap().networks(), "10.3.0.0/16 and fc00::/48");
    let off = r#"{"Network":"10.3.0.0/16","IPv6Network":"fc00::/48","EnableNFTables":true}"#;
    assert_eq!(ranges(off), "10.3.0.0/16 /24 10.3.1.0 10.3.255.0 255");
    assert!(parse(off).unwrap().nftables && !parse(both).unwrap().nftables);
}

#[test]
fn a_host_leases_one_subnet_of_each_family_there_is() {
    let config =
        parse(r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}"#).unwrap();
    for (key, fits) in [
        ("10.3.1.0-24&fc00:0:0:1::-64", true),
        ("10.3.1.0-24", false),
        ("0.0.0.0-0&fc00:0:0:1::-64", false),
        ("10.3.1.0-24&fc00:0:0:1::-65", false),
        ("10.3.0.0-24&fc00:0:0:1::-64", false),
        ("10.3.1.0-24&fc00::-64", false),
    ] {
        let subnets = crate::subnet::key::parse(key).unwrap();
        assert_eq!(config.fits(&subnets), fits, "{key}");
    }
    let overlays = |key: &str| {
        let subnets = crate::subnet::key::parse(key).unwrap();
        config
            .overlays(&subnets)
            .map(|o| format!("{} {}", o.network, o.subnet))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        overlays("10.3.1.0-24&fc00:0:0:1::-64"),
        ["10.3.0.0/16 10.3.1.0/24", "fc00::/48 fc00:0:0:1::/64"]
    );
    assert_eq!(overlays("10.3.1.0-24"), ["10.3.0.0/16 10.3.1.0/24"]);
}

#[test]
fn backends() {
    let table = [
        ("", "udp", "{}"),
        (r#","Backend":null"#, "", "{}"),
        (r#","Backend":{}"#, "", "{}"),
        (
            r#","backend":{"type":"VXLAN","VNI":7}"#,
            "vxlan",
            r#"{"type":"VXLAN","VNI":7}"#,
        ),
    ];
    for (member, name, raw) in table {
        let config = parse(&format!(r#"{{"Network":"10.3.0.0/16"{member}}}"#)).unwrap();
        assert_eq!(
            (config.backend_type.as_str(), config.backend.get()),
            (name, raw)
        );
    }
}

#[test]
fn errors() {
    let in_network = [
        (r#""SubnetLen":31"#, "SubnetLen must be less than /31"),
        (
            r#""SubnetLen":17"#,
            "network must be able to accommodate at least four subnets",
        ),
        (
            r#""SubnetLen":"24""#,
            "SubnetLen must be an unsigned integer, not \"24\"",
        ),
        (
            r#""SubnetLen":24.0"#,
            "SubnetLen must be an unsigned integer, not 24.0",
        ),
        (
            r#""SubnetMin":"10.7.1.0""#,
            "SubnetMin is not in the range of the Network",
        ),
        (
            r#""SubnetMax":"10.7.1.0""#,
            "SubnetMax is not in the range of the Network",
        ),
        (
            r#""SubnetMin":"10.6.1.1""#,
            "SubnetMin is not on a SubnetLen boundary: 10.6.1.1",
        ),
        (
            r#""SubnetMax":"10.6.1.1""#,
            "SubnetMax is not on a SubnetLen boundary: 10.6.1.1",
        ),
        (r#""SubnetMin":null"#, "invalid IP address format: null"),
        (
            r#""SubnetMin":"10.6.9.0","SubnetMax":"10.6.8.0""#,
            "SubnetMin 10.6.9.0 is above SubnetMax 10.6.8.0",
        ),
        (r#""Network":null"#, "invalid CIDR address: null"),
        (r#""Network":"10.6.0.0""#, "invalid CIDR address: 10.6.0.0"),
        (r#""Network":"fd00::/48""#, "invalid IPv4 CIDR format"),
        (
            r#""Network":"10.6.0.0/29""#,
            "network is too small. Minimum useful network prefix is /28",
        ),
        (
            r#""Network":"0.0.0.0/0""#,
            "please define a correct Network parameter in the flannel config",
        ),
        (r#""Network":"127.0.0.0/16""#, "overlaps 127.0.0.0/8"),
        (r#""Network":"224.0.0.0/16""#, "overlaps 224.0.0.0/4"),
        (r#""Network":"0.0.0.0/1""#, "overlaps 0.0.0.0/8"),
        (
            r#""Backend":"vxlan""#,
            "error decoding Backend property of config: ",
        ),
        (
            r#""Backend":{"Type":1}"#,
            "error decoding Backend property of config: Type must be a string",
        ),
        (r#""EnableIPv6":"true""#, "EnableIPv6 must be true or false"),
        (r#""EnableIPv4":false"#, "none defined stack"),
        (
            r#""EnableIPv6":true"#,
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        (
            r#""IPv6Network":"10.0.0.0/8""#,
            "IPv6Network: invalid IPv6 CIDR format: 10.0.0.0/8",
        ),
        (
            r#""IPv6Network":null"#,
            "IPv6Network: invalid CIDR address: null",
        ),
        (
            r#""IPv6SubnetLen":"64""#,
            "IPv6SubnetLen must be an unsigned integer",
        ),
        (
            r#""IPv6SubnetMin":"10.6.1.0""#,
            "IPv6SubnetMin: invalid IP address format: 10.6.1.0",
        ),
    ];
    for (member, want) in in_network {
        let error = parse(&format!(r#"{{"Network":"10.6.0.0/16",{member}}}"#)).unwrap_err();
        assert!(error.contains(want), "{member}: {error}");
    }
    let missing = "please define a correct Network parameter in the flannel config";
    assert_eq!(parse("{}").unwrap_err(), missing);
    assert!(
        parse(r#"{"Network":"10.6.0.0/16",}"#)
            .unwrap_err()
            .contains("not a JSON object")
    );
}

#[test]
fn ipv6_errors() {
    let in_ipv6_network = [
        (r#""IPv6SubnetLen":127"#, "SubnetLen must be less than /127"),
        (
            r#""IPv6SubnetLen":49"#,
            "network must be able to accommodate at least four subnets",
        ),
        (
            r#""IPv6Network":"fc00::/125""#,
            "IPv6Network is too small. Minimum useful network prefix is /124",
        ),
        (
            r#""IPv6SubnetMin":"fd00::""#,
            "IPv6SubnetMin is not in the range of the IPv6Network",
        ),
        (
            r#""IPv6SubnetMax":"fd00::""#,
            "IPv6SubnetMax is not in the range of the IPv6Network",
        ),
        (
            r#""IPv6SubnetMin":"fc00:0:0:1::1""#,
            "IPv6SubnetMin is not on a SubnetLen boundary: fc00:0:0:1::1",
        ),
        (
            r#""IPv6SubnetMax":"fc00:0:0:1::1""#,
            "IPv6SubnetMax is not on a SubnetLen boundary: fc00:0:0:1::1",
        ),
        (
            r#""IPv6SubnetMin":"fc00:0:0:9::","IPv6SubnetMax":"fc00:0:0:8::""#,
            "IPv6SubnetMin fc00:0:0:9:: is above IPv6SubnetMax fc00:0:0:8::",
        ),
        (
            r#""IPv6Network":"::/0""#,
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        (r#""IPv6Network":"fe80::/64""#, "overlaps fe80::/10"),
        (r#""IPv6Network":"ff00::/16""#, "overlaps ff00::/8"),
        (r#""IPv6Network":"::/96""#, "overlaps ::/8"),
    ];
    for (member, want) in in_ipv6_network {
        let json = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","#;
        let error = parse(&format!("{json}{member}}}")).unwrap_err();
        assert!(error.contains(want), "{member}: {error}");
    }
}

#[test]
fn a_subnet_belongs_whatever_the_range() {
    let config =
        parse(r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0"}"#)
            .unwrap();
    let config = config.ranges.v4.unwrap();
    let net = |text: &str| text.parse::<IpNetwork>().unwrap();
    for (text, contains, fits) in [
        ("10.3.5.0/24", true, true),
        ("10.3.8.0/24", true, true),
        ("10.3.9.0/24", true, false),
        ("10.3.5.0/25", false, false),
        ("10.3.5.1/24", false, false),
        ("10.4.5.0/24", false, false),
        ("0.0.0.0/0", false, false),
    ] {
        assert_eq!(
            (config.contains(net(text)), config.fits(net(text))),
            (contains, fits),
            "{text}"
        );
    }
    assert!(
        config
            .subnets()
            .eq(["10.3.5.0/24", "10.3.6.0/24", "10.3.7.0/24", "10.3.8.0/24"].map(net))
    );
    assert_eq!(config.subnet(4), None);
}

proptest! {
    #[test]
    fn every_accepted_config_has_a_subnet_to_lease(
        six in any::<bool>(), ip in any::<u128>(), len in 1..=128u8, sub in 0..=129u8,
        min in any::<Option<u16>>(), max in any::<Option<u16>>(),
    ) {
        let rules = if six { V6 } else { V4 };
        let family = rules.family;
        let mask = u128::MAX >> (128 - family.bits());
        let Some(network) = cidr::masked(family.address(ip & mask).unwrap(), len) else { return Ok(()) };
        let base = value(network.ip());
        let at = |offset: u16| family.address(base.wrapping_add(u128::from(offset) << 4) & mask).unwrap();
        let member = |name, at: Option<IpAddr>| at.map_or_else(String::new, |at| format!(r#","{name}":"{at}""#));
        let (min, max) = (member(rules.subnet_min, min.map(at)), member(rules.subnet_max, max.map(at)));
        let (net, length) = (rules.network, rules.subnet_len);
        let json = format!(r#"{{"EnableIPv4":{},"EnableIPv6":{six},"{net}":"{network}","{length}":{sub}{min}{max}}}"#, !six);
        let Ok(config) = parse(&json) else { return Ok(()) };
        let range = *config.ranges.get(family).unwrap();
        let count = range.subnet_count();
        prop_assert!(count >= 1);
        for index in [0, count / 2, count - 1] {
            let subnet = range.subnet(index).unwrap();
            prop_assert!(range.fits(subnet));
            prop_assert_eq!(range.span(subnet), Some((index, index)));
        }
        prop_assert_eq!(range.span(network), Some((0, count - 1)));
        prop_assert_eq!(range.subnet(0).unwrap().ip(), range.subnet_min);
        prop_assert_eq!(range.subnet(count - 1).unwrap().ip(), range.subnet_max);
    }

    #[test]
    fn total(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in ".*") {
        let _ = NetworkConfig::parse(&bytes);
        let _ = parse(&format!(r#"{{"Network":"10.3.0.0/16","SubnetMin":"{text}"}}"#));
    }
}
