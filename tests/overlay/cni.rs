//! subnet.env as the CNI plugin of flannel reads it.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::go::IPV6;
use super::support::PATIENCE;
use super::{NETWORK, Test, options, prepared};

/// The plugin's reader: a line's key is what stands before its first `=`, its value all that follows. No quotes, no comments, no
/// trimming.
fn read(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

/// What the plugin hands on to the bridge plugin and to its address management.
#[derive(Debug, PartialEq)]
struct Delegated {
    ranges: Vec<String>,
    routes: Vec<String>,
    mtu: u32,
    masquerade: bool,
}

/// `None`: something is missing or cannot be read.
fn delegated(variables: &BTreeMap<&str, &str>) -> Option<Delegated> {
    let values = |end: &str| {
        ["FLANNEL_", "FLANNEL_IPV6_"].map(|start| variables.get(&*format!("{start}{end}")))
    };
    let networks: Result<Vec<IpNetwork>, _> = values("NETWORK")
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(','))
        .map(str::parse)
        .collect();
    let subnets: Result<Vec<IpNetwork>, _> = values("SUBNET")
        .into_iter()
        .flatten()
        .map(|subnet| subnet.parse())
        .collect();
    let range = |subnet: &IpNetwork| format!("{}/{}", subnet.network(), subnet.prefix());
    Some(Delegated {
        ranges: subnets.ok()?.iter().map(range).collect(),
        routes: networks.ok()?.iter().map(ToString::to_string).collect(),
        mtu: variables.get("FLANNEL_MTU")?.parse().ok()?,
        masquerade: *variables.get("FLANNEL_IPMASQ")? != "true",
    })
}

const BOTH: &str = r#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;

#[test]
fn the_cni_plugin_finds_what_it_needs() -> Test {
    let rows: [(&str, &[&str], &[&str], u32); 2] = [
        (NETWORK, &["-ip-masq"], &["172.30.0.0/16"], 1450),
        (BOTH, &[], &["172.30.0.0/16", "fd05::/48"], 1430),
    ];
    for (network, flags, routes, mtu) in rows {
        let mut lab = prepared(options().network(network), 1)?;
        lab.host(1).sh(&IPV6.replace("{n}", "1"))?;
        lab.start_flanneld(1, flags)?.wait_ready(PATIENCE)?;
        let text = lab.host(1).read("/run/flannel/subnet.env")?;
        let key = lab.etcd()?.keys("/kubernetes/network/subnets/")?.concat();
        let subnets = key.rsplit('/').next().unwrap_or_default().split('&');
        let want = Delegated {
            ranges: subnets.map(|subnet| subnet.replace('-', "/")).collect(),
            routes: routes.iter().map(ToString::to_string).collect(),
            mtu,
            masquerade: flags.is_empty(),
        };
        assert_eq!(delegated(&read(&text)), Some(want), "{text:?}");
        let keys = read(&text)
            .into_keys()
            .filter(|key| !key.starts_with("FLANNEL_"))
            .count();
        assert_eq!(
            (keys, text.lines().count()),
            (0, read(&text).len()),
            "nothing else: {text:?}"
        );
    }
    Ok(())
}
