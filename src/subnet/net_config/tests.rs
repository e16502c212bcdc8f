//! Every row of Go flannel's tables of defaults and errors.

use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> Result<NetworkConfig, String> {
    NetworkConfig::parse(json.as_bytes()).map_err(|error| error.0)
}

fn ranges(json: &str) -> String {
    let config = parse(json).unwrap();
    let (min, max) = (config.subnet_min, config.subnet_max);
    format!("{} /{} {min} {max} {}", config.network, config.subnet_len, config.subnet_count())
}

#[test]
fn defaults_and_overrides() {
    let table = [
        (r#"{"network":"10.3.0.0/16"}"#, "10.3.0.0/16 /24 10.3.1.0 10.3.255.0 255"),
        (r#"{"NETWORK":"10.6.7.8/16"}"#, "10.6.0.0/16 /24 10.6.1.0 10.6.255.0 255"),
        (r#"{"Network":"10.3.0.0/22"}"#, "10.3.0.0/22 /24 10.3.1.0 10.3.3.0 3"),
        (r#"{"Network":"10.3.0.0/23"}"#, "10.3.0.0/23 /25 10.3.0.128 10.3.1.128 3"),
        (r#"{"Network":"10.3.0.0/28"}"#, "10.3.0.0/28 /30 10.3.0.4 10.3.0.12 3"),
        (r#"{"Network":"10.0.0.0/8","SubnetLen":null}"#, "10.0.0.0/8 /24 10.0.1.0 10.255.255.0 65535"),
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
fn backends() {
    let table = [
        ("", "udp", "{}"),
        (r#","Backend":null"#, "", "{}"),
        (r#","Backend":{}"#, "", "{}"),
        (r#","backend":{"type":"VXLAN","VNI":7}"#, "vxlan", r#"{"type":"VXLAN","VNI":7}"#),
    ];
    for (member, name, raw) in table {
        let config = parse(&format!(r#"{{"Network":"10.3.0.0/16"{member}}}"#)).unwrap();
        assert_eq!((config.backend_type.as_str(), config.backend.get()), (name, raw));
    }
}

#[test]
fn errors() {
    let in_network = [
        (r#""SubnetLen":31"#, "SubnetLen must be less than /31"),
        (r#""SubnetLen":17"#, "network must be able to accommodate at least four subnets"),
        (r#""SubnetLen":"24""#, "SubnetLen must be an unsigned integer, not \"24\""),
        (r#""SubnetLen":24.0"#, "SubnetLen must be an unsigned integer, not 24.0"),
        (r#""SubnetMin":"10.7.1.0""#, "SubnetMin is not in the range of the Network"),
        (r#""SubnetMax":"10.7.1.0""#, "SubnetMax is not in the range of the Network"),
        (r#""SubnetMin":"10.6.1.1""#, "SubnetMin is not on a SubnetLen boundary: 10.6.1.1"),
        (r#""SubnetMax":"10.6.1.1""#, "SubnetMax is not on a SubnetLen boundary: 10.6.1.1"),
        (r#""SubnetMin":null"#, "invalid IP address format: null"),
        (
            r#""SubnetMin":"10.6.9.0","SubnetMax":"10.6.8.0""#,
            "SubnetMin 10.6.9.0 is above SubnetMax 10.6.8.0",
        ),
        (r#""Network":null"#, "invalid CIDR address: null"),
        (r#""Network":"10.6.0.0""#, "invalid CIDR address: 10.6.0.0"),
        (r#""Network":"fd00::/48""#, "invalid IPv4 CIDR format"),
        (r#""Network":"10.6.0.0/29""#, "network is too small. Minimum useful network prefix is /28"),
        (r#""Network":"0.0.0.0/0""#, "please define a correct Network parameter in the flannel config"),
        (r#""Network":"127.0.0.0/16""#, "overlaps 127.0.0.0/8"),
        (r#""Network":"224.0.0.0/16""#, "overlaps 224.0.0.0/4"),
        (r#""Network":"0.0.0.0/1""#, "overlaps 0.0.0.0/8"),
        (r#""Backend":"vxlan""#, "error decoding Backend property of config: "),
        (r#""Backend":{"Type":1}"#, "error decoding Backend property of config: Type must be a string"),
        (r#""EnableIPv6":"true""#, "EnableIPv6 must be true or false"),
        (r#""EnableIPv6":true"#, "EnableIPv6=true is not supported yet"),
        (r#""EnableIPv4":false,"EnableIPv6":true"#, "EnableIPv4=false is not supported yet"),
        (r#""EnableIPv4":false"#, "none defined stack"),
        (r#""EnableNFTables":true"#, "EnableNFTables=true is not supported yet"),
        (r#""IPv6Network":"10.0.0.0/8""#, "IPv6Network must be an IPv6 CIDR"),
    ];
    for (member, want) in in_network {
        let error = parse(&format!(r#"{{"Network":"10.6.0.0/16",{member}}}"#)).unwrap_err();
        assert!(error.contains(want), "{member}: {error}");
    }
    let missing = "please define a correct Network parameter in the flannel config";
    assert_eq!(parse("{}").unwrap_err(), missing);
    assert!(parse(r#"{"Network":"10.6.0.0/16",}"#).unwrap_err().contains("not a JSON object"));
}

#[test]
fn a_subnet_belongs_whatever_the_range() {
    let config = parse(r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0"}"#).unwrap();
    let net = |text: &str| text.parse::<Ipv4Network>().unwrap();
    for (text, contains, fits) in [
        ("10.3.5.0/24", true, true),
        ("10.3.8.0/24", true, true),
        ("10.3.9.0/24", true, false),
        ("10.3.5.0/25", false, false),
        ("10.3.5.1/24", false, false),
        ("10.4.5.0/24", false, false),
        ("0.0.0.0/0", false, false),
    ] {
        assert_eq!((config.contains(net(text)), config.fits(net(text))), (contains, fits), "{text}");
    }
    assert!(config.subnets().eq(["10.3.5.0/24", "10.3.6.0/24", "10.3.7.0/24", "10.3.8.0/24"].map(net)));
    assert_eq!(config.subnet(4), None);
}

proptest! {
    #[test]
    fn every_accepted_config_has_a_subnet_to_lease(
        ip in any::<u32>(), len in 1..=32u8, sub in 0..=33u8, min in any::<Option<u16>>(), max in any::<Option<u16>>(),
    ) {
        let network = Ipv4Network::new(ip.into(), len).unwrap();
        let base = u32::from(network.network());
        let at = |offset: u16| Ipv4Addr::from(base.wrapping_add(u32::from(offset) << 4));
        let member = |name, at: Option<Ipv4Addr>| at.map_or_else(String::new, |at| format!(r#","{name}":"{at}""#));
        let (min, max) = (member("SubnetMin", min.map(at)), member("SubnetMax", max.map(at)));
        let json = format!(r#"{{"Network":"{network}","SubnetLen":{sub}{min}{max}}}"#);
        let Ok(config) = parse(&json) else { return Ok(()) };
        let count = config.subnet_count();
        prop_assert!(count >= 1);
        for index in [0, count / 2, count - 1] {
            prop_assert!(config.fits(config.subnet(index).unwrap()));
        }
        prop_assert_eq!(config.subnet(0).unwrap().ip(), config.subnet_min);
        prop_assert_eq!(config.subnet(count - 1).unwrap().ip(), config.subnet_max);
    }

    #[test]
    fn total(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in ".*") {
        let _ = NetworkConfig::parse(&bytes);
        let _ = parse(&format!(r#"{{"Network":"10.3.0.0/16","SubnetMin":"{text}"}}"#));
    }
}
