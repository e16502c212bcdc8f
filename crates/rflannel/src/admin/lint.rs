//! Finds mistakes in a network configuration that the daemon accepts. Pure.

use std::net::IpAddr;

use serde_json::value::RawValue;

use flanneld::backend;
use flanneld::subnet::go_json::{self, Object};
use flanneld::subnet::{NetworkConfig, cidr, net_config};

/// Returns a warning for each: unknown and duplicate members, host bits, and networks that contain one of the `local`
/// addresses, each of which comes with the name of its interface. Empty where `json` is not an object.
pub fn warnings(json: &[u8], config: &NetworkConfig, local: &[(IpAddr, String)]) -> Vec<String> {
    let Ok(object) = Object::parse(json) else {
        return Vec::new();
    };
    let mut warnings = members(&object, "", net_config::MEMBERS);
    if let Some(object) = object
        .raw("Backend")
        .and_then(|raw| Object::parse(raw.get().as_bytes()).ok())
    {
        warnings.extend(members(&object, "Backend ", backend::members(config)));
    }
    warnings.extend(
        net_config::NETWORK_MEMBERS
            .iter()
            .filter_map(|name| host_bits(name, object.raw(name)?)),
    );
    warnings.extend(
        local
            .iter()
            .filter_map(|(ip, link)| contained(config, *ip, link)),
    );
    warnings
}

/// Warns about unknown members and members that appear more than once, in any case.
fn members(object: &Object<'_>, of: &str, known: &[&str]) -> Vec<String> {
    let names: Vec<&str> = object.members().map(|(name, _)| name).collect();
    let is_earlier = |(at, name): &(usize, &&str)| {
        names
            .iter()
            .take(*at)
            .any(|earlier| earlier.eq_ignore_ascii_case(name))
    };
    let unknown = names
        .iter()
        .filter(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)));
    let unknown = unknown
        .map(|name| format!("{of}{name} is not known and has no effect; check its spelling"));
    let twice = names.iter().enumerate().filter(is_earlier);
    unknown
        .chain(
            twice
                .map(|(_, name)| format!("{of}{name} appears more than once; the last one counts")),
        )
        .collect()
}

fn host_bits(name: &str, raw: &RawValue) -> Option<String> {
    let text = go_json::text(raw)?;
    let (network, (ip, _)) = (cidr::any(&text)?, text.split_once('/')?);
    let ip: IpAddr = ip.parse().ok()?;
    (ip != network.ip())
        .then(|| format!("{name} {text} has host bits, which are ignored; write {network}"))
}

fn contained(config: &NetworkConfig, ip: IpAddr, link: &str) -> Option<String> {
    let network = config
        .ranges
        .iter()
        .map(|range| range.network)
        .find(|network| network.contains(ip))?;
    Some(format!(
        "network {network} contains {ip}, an address of this host ({link}); choose a network that contains no host's address"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(json: &str, local: &[&str]) -> Vec<String> {
        let config = NetworkConfig::parse(json.as_bytes()).unwrap();
        let local: Vec<_> = local
            .iter()
            .map(|ip| (ip.parse().unwrap(), "eth0".to_owned()))
            .collect();
        warnings(json.as_bytes(), &config, &local)
    }

    #[test]
    fn sound_configuration_has_no_warning() {
        let json = r#"{"network":"10.5.0.0/16","SubnetLen":24,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.9.0","EnableIPv4":true,
            "EnableIPv6":true,"IPv6Network":"fd05::/48","IPv6SubnetLen":64,"EnableNFTables":false,
            "Backend":{"Type":"vxlan","VNI":1,"Port":8472,"MTU":1400,"GBP":false,"Learning":false,"DirectRouting":true}}"#;
        assert_eq!(lint(json, &["10.77.0.1", "fd10::1"]), [""; 0]);
    }

    #[test]
    fn each_kind_of_slip_is_named() {
        for (json, local, want) in [
            (
                r#"{"Network":"10.5.0.0/16","SubnetLenght":26,"Backend":{"Type":"vxlan"}}"#,
                &[][..],
                "SubnetLenght is not known and has no effect; check its spelling",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Vnid":7}}"#,
                &[],
                "Backend Vnid is not known and has no effect; check its spelling",
            ),
            (
                r#"{"Network":"10.4.0.0/16","network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
                &[],
                "network appears more than once; the last one counts",
            ),
            (
                r#"{"Network":"10.5.6.7/16","Backend":{"Type":"vxlan"}}"#,
                &[],
                "Network 10.5.6.7/16 has host bits, which are ignored; write 10.5.0.0/16",
            ),
            (
                r#"{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd05::1/48","Backend":{"Type":"vxlan"}}"#,
                &[],
                "IPv6Network fd05::1/48 has host bits, which are ignored; write fd05::/48",
            ),
            (
                r#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#,
                &["10.77.0.2"],
                "network 10.0.0.0/8 contains 10.77.0.2, an address of this host (eth0); choose a network that contains no host's address",
            ),
        ] {
            assert_eq!(lint(json, local), [want], "{json}");
        }
    }

    /// The lists of names follow what is read.
    #[test]
    fn every_member_that_is_read_is_known() {
        for (source, known) in [
            (
                include_str!("../../../../src/subnet/net_config.rs"),
                net_config::MEMBERS,
            ),
            (
                include_str!("../../../../src/backend/vxlan.rs"),
                backend::members(
                    &NetworkConfig::parse(
                        br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
                    )
                    .unwrap(),
                ),
            ),
        ] {
            let code = source.split("#[cfg(test)]").next().unwrap();
            for rest in code.split("object.bool(\"").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(known.contains(&name), "{name}");
            }
        }
    }
}
