//! subnet.env as the CNI plugin of flannel reads it.

use std::collections::BTreeMap;

use super::support::PATIENCE;
use super::{Test, options, prepared};

/// The plugin's reader: a line's key is what stands before its first `=`, its value all that follows. No quotes, no comments, no
/// trimming.
fn read(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// What the plugin hands on to the bridge plugin and to its address management, or what it misses.
fn delegated(variables: &BTreeMap<&str, &str>) -> Result<(Vec<String>, String, u32, bool), String> {
    let get = |name: &str| variables.get(name).ok_or(format!("{name} is missing"));
    let networks: Result<Vec<ipnetwork::IpNetwork>, _> =
        get("FLANNEL_NETWORK")?.split(',').map(str::parse).collect();
    let subnet: ipnetwork::IpNetwork = get("FLANNEL_SUBNET")?.parse().map_err(|_| "subnet")?;
    let mtu = get("FLANNEL_MTU")?.parse().map_err(|_| "MTU")?;
    let masquerade = *get("FLANNEL_IPMASQ")? != "true";
    let routes = networks.map_err(|_| "network")?.iter().map(ToString::to_string).collect();
    Ok((routes, format!("{}/{}", subnet.network(), subnet.prefix()), mtu, masquerade))
}

#[test]
fn the_cni_plugin_finds_what_it_needs() -> Test {
    let mut lab = prepared(options(), 1)?;
    lab.start_flanneld(1, &[])?.wait_ready(PATIENCE)?;
    let text = lab.host(1).read("/run/flannel/subnet.env")?;
    let keys: Vec<&str> = read(&text).into_keys().collect();
    assert_eq!(keys, ["FLANNEL_IPMASQ", "FLANNEL_MTU", "FLANNEL_NETWORK", "FLANNEL_SUBNET"], "{text:?}");
    let own = super::view::Vtep::of(lab.host(1))?.subnet.to_string();
    assert_eq!(delegated(&read(&text)), Ok((vec!["172.30.0.0/16".into()], own, 1450, true)), "{text:?}");
    Ok(())
}
