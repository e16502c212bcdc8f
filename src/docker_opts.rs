//! Docker's options for this host's subnet, as `mk-docker-opts.sh` writes them: pure.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::subnet::cidr;
use crate::subnet_env::SUBNET;
use crate::util::env_file::Variables;

/// Part of the name of every variable that holds one option.
const MARK: &str = "DOCKER_OPT_";
/// `RTF_GATEWAY` of `<linux/route.h>`: the route has a next hop.
const GATEWAY: u32 = 2;

/// Which lines to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub individual: bool,
    pub combined: bool,
    /// Name of the variable on the combined line. Its present value comes first in it.
    pub key: String,
    pub ip_masq: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            individual: true,
            combined: true,
            key: "DOCKER_OPTS".into(),
            ip_masq: true,
        }
    }
}

/// `FLANNEL_IPMASQ` is neither `true` nor `false`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value of FLANNEL_IPMASQ: {0}")]
pub struct BadIpMasq(pub String);

/// Renders the file. `variables` are those of `subnet.env` over those of the environment.
///
/// Every variable that has `DOCKER_OPT_` in its name or value takes part, sorted by name. The blank before each option
/// makes the combined value begin with one; the script's users may rely on it.
pub fn render(options: &Options, variables: &Variables) -> Result<String, BadIpMasq> {
    let before = variables.get(&options.key);
    let before = before.filter(|value| !value.is_empty());
    let mut combined = before.map_or_else(String::new, |value| format!("{value} "));
    let mut out = String::new();
    for (name, value) in with_flannel(options, variables)? {
        if name.contains(MARK) || value.contains(MARK) {
            let value = single_spaced(&value);
            combined += &format!(" {value}");
            if options.individual {
                out += &line(&name, &value);
            }
        }
    }
    if options.combined {
        out += &line(&options.key, &combined);
    }
    Ok(out)
}

/// What the script's unquoted `echo` makes of a value.
fn single_spaced(value: &str) -> String {
    let words = value.split([' ', '\t', '\n']);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn line(name: &str, value: &str) -> String {
    format!("{name}=\"{value}\"\n")
}

/// The variables, with flannel's own options among them.
fn with_flannel(options: &Options, variables: &Variables) -> Result<Variables, BadIpMasq> {
    let known = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let mut all = variables.clone();
    let mut set = |name: &str, value: String| all.insert(format!("{MARK}{name}"), value);
    if let Some(subnet) = known(SUBNET) {
        set("BIP", format!("--bip={subnet}"));
    }
    if let Some(mtu) = known("FLANNEL_MTU") {
        set("MTU", format!("--mtu={mtu}"));
    }
    if let Some(value) = known("FLANNEL_IPMASQ").filter(|_| options.ip_masq) {
        let masquerades = docker_masquerades(value)?;
        set("IPMASQ", format!("--ip-masq={masquerades}"));
    }
    Ok(all)
}

/// One of the two masquerades: docker does when flannel does not.
fn docker_masquerades(flannel: &str) -> Result<bool, BadIpMasq> {
    match flannel {
        "true" => Ok(false),
        "false" => Ok(true),
        _ => Err(BadIpMasq(flannel.into())),
    }
}

/// Routes through a gateway to this host's own subnet, in the words of `ip route`: docker's bridge would collide with
/// them. `proc_net_route` is the text of `/proc/net/route`.
pub fn routes_elsewhere(variables: &Variables, proc_net_route: &str) -> Vec<String> {
    let Some(own) = variables.get(SUBNET).and_then(|text| cidr::v4(text)) else {
        return Vec::new();
    };
    let elsewhere = |line| gateway_route(line, own);
    proc_net_route.lines().filter_map(elsewhere).collect()
}

/// A line of `/proc/net/route`, if it is a route to `own` by a gateway. Addresses are the hexadecimal of the bytes as they lie
/// in memory.
fn gateway_route(line: &str, own: Ipv4Network) -> Option<String> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let [dev, to, via, flags, _, _, _, mask, ..] = columns[..] else {
        return None;
    };
    let number = |hex| u32::from_str_radix(hex, 16).ok();
    let address = |hex| Some(Ipv4Addr::from(number(hex)?.to_ne_bytes()));
    let to = Ipv4Network::with_netmask(address(to)?, address(mask)?).ok()?;
    let (via, is_by_gateway) = (address(via)?, number(flags)? & GATEWAY != 0);
    (to == own && is_by_gateway).then(|| format!("{to} via {via} dev {dev}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::env_file;

    const ENV: &str = "FLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";

    fn rendered(options: &Options, env: &str) -> String {
        render(options, &env_file::parse(env).0).unwrap()
    }

    #[test]
    fn the_documented_example() {
        let want = concat!(
            "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\n",
            "DOCKER_OPT_IPMASQ=\"--ip-masq=true\"\n",
            "DOCKER_OPT_MTU=\"--mtu=1472\"\n",
            "DOCKER_OPTS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n",
        );
        assert_eq!(rendered(&Options::default(), ENV), want);
    }

    #[test]
    fn other_variables_take_part() {
        let combined = Options {
            individual: false,
            ..Options::default()
        };
        for (env, want) in [
            ("", "DOCKER_OPTS=\"\"\n"),
            ("DOCKER_OPTS=X", "DOCKER_OPTS=\"X \"\n"),
            (
                "DOCKER_OPTS=X\nDOCKER_OPT_B=b\nMY_DOCKER_OPT_A=a",
                "DOCKER_OPTS=\"X  b a\"\n",
            ),
            ("ZZ=DOCKER_OPT_HI", "DOCKER_OPTS=\" DOCKER_OPT_HI\"\n"),
            ("DOCKER_OPT_B=' b   c\t'", "DOCKER_OPTS=\" b c\"\n"),
            ("FLANNEL_SUBNET=\nFLANNEL_IPMASQ=", "DOCKER_OPTS=\"\"\n"),
        ] {
            assert_eq!(rendered(&combined, env), want, "{env}");
        }
    }

    #[test]
    fn masquerade_is_checked_only_when_used() {
        let env = env_file::parse("FLANNEL_IPMASQ=True").0;
        let error = render(&Options::default(), &env).unwrap_err();
        assert_eq!(error.to_string(), "Invalid value of FLANNEL_IPMASQ: True");
        assert!(
            render(
                &Options {
                    ip_masq: false,
                    ..Options::default()
                },
                &env
            )
            .is_ok()
        );
    }

    #[test]
    fn only_a_gateway_route_to_exactly_our_subnet_collides() {
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let line = |to, via, flags| {
            let mask = hex([255, 255, 255, 0]);
            format!(
                "eth0\t{}\t{}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n",
                hex(to),
                hex(via)
            )
        };
        let table =
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                .to_owned()
                + &line([10, 1, 74, 0], [0, 0, 0, 0], "0001")
                + &line([10, 1, 75, 0], [192, 0, 2, 1], "0003")
                + &line([10, 1, 74, 0], [192, 0, 2, 1], "0003");
        let found = routes_elsewhere(&env_file::parse(ENV).0, &table);
        assert_eq!(found, ["10.1.74.0/24 via 192.0.2.1 dev eth0"]);
        assert!(routes_elsewhere(&Variables::new(), &table).is_empty());
    }
}
