//! Reads routes, sysctls, firewall rules, and open ports of this host. Changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::evidence::{DeviceFact, Neighbor};
use super::firewall_rules::{self, Texts, Wanted};
use super::host::HostFacts;
use super::paths::{Gateway, LocalEnd, PeerPath, Sources};
use flanneld::desired::DesiredState;
use flanneld::kernel::host_state::Reachability;
use flanneld::kernel::netlink::Netlink;
use flanneld::kernel::plan::plan;
use flanneld::kernel::{HostState, Kernel, Op, Query};
use flanneld::util::env_file;
use flanneld::util::family::{Family, value};
use node_setup::check::gather;

/// Peers whose routes are examined to find the interface that packets to peers take.
const SAMPLE: usize = 3;

/// Reads the firewall rules of iptables and nftables. What cannot be read is left out.
pub(super) fn rules() -> Texts {
    let iptables = gather::rules().into_values().collect();
    Texts {
        iptables,
        nft: gather::said("nft", &["list", "ruleset"]).unwrap_or_default(),
    }
}

/// Returns the devices and ports to look for in the rules.
pub(super) fn wanted(ends: &[LocalEnd]) -> Wanted {
    Wanted {
        devices: ends.iter().map(|end| end.name.clone()).collect(),
        ports: ends
            .iter()
            .filter_map(|end| end.tunnel.as_ref())
            .map(|spec| spec.port)
            .collect(),
    }
}

/// Returns the UDP ports that programs have open. Sockets of the kernel have no inode and do not count.
pub(super) fn taken_ports() -> BTreeSet<u16> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1).filter_map(taken))
        .collect()
}

/// `sl local_address rem_address st queues tr:tm retrnsmt uid timeout inode …`.
fn taken(line: &str) -> Option<u16> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let inode = fields.get(9)?;
    u16::from_str_radix(port, 16).ok().filter(|_| *inode != "0")
}

/// Collects the facts that concern all peers.
pub(super) fn host(
    kernel: &mut Netlink,
    sources: &Sources<'_>,
    ends: &[LocalEnd],
    subnet_file: &Path,
    texts: &Texts,
) -> HostFacts {
    HostFacts {
        lost: sources.own.1.clone(),
        entries: entries(sources),
        not_forwarding: ends
            .iter()
            .filter_map(not_forwarding)
            .map(str::to_owned)
            .collect(),
        forward_blocks: firewall_rules::forward_blocks(texts, &wanted(ends)),
        mtu: mtu(subnet_file, ends, sources.host_state),
        detour: detour(kernel, sources, ends),
    }
}

fn entries(sources: &Sources<'_>) -> (usize, usize) {
    let ops = plan(&DesiredState::entries(sources.desired), sources.have);
    let wrong = ops.iter().filter(|op| matches!(op, Op::Set(_))).count();
    (wrong, ops.len() - wrong)
}

fn not_forwarding(end: &LocalEnd) -> Option<&'static str> {
    let (file, sysctl) = match end.family {
        Family::V4 => ("/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        Family::V6 => (
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "net.ipv6.conf.all.forwarding",
        ),
    };
    fs::read_to_string(file)
        .is_ok_and(|value| value.trim() == "0")
        .then_some(sysctl)
}

fn mtu(subnet_file: &Path, ends: &[LocalEnd], host_state: &HostState) -> Option<(u32, u32)> {
    let text = fs::read_to_string(subnet_file).ok()?;
    let (variables, _) = env_file::parse(&text);
    let told: u32 = variables.get("FLANNEL_MTU")?.parse().ok()?;
    let devices = ends
        .iter()
        .filter_map(|end| host_state.link(&end.name))
        .map(|link| link.mtu);
    devices
        .min()
        .filter(|device| *device < told)
        .map(|device| (told, device))
}

/// Returns the other interface that packets to the peers take, only if it is the same for all sampled peers.
fn detour(
    kernel: &mut Netlink,
    sources: &Sources<'_>,
    ends: &[LocalEnd],
) -> Option<(String, String)> {
    let underlay = sources.host_state.link(sources.underlay)?.index;
    let families: Vec<Family> = ends.iter().map(|end| end.family).collect();
    let publics = sources.peers.iter().filter_map(|lease| {
        families
            .iter()
            .find_map(|family| lease.attrs.public(*family))
    });
    let sample: Vec<IpAddr> = publics.take(SAMPLE).collect();
    let mut other = None;
    for ip in &sample {
        let link = reach(kernel, *ip)?.link;
        if link == underlay || other.replace(link).is_some_and(|before| before != link) {
            return None;
        }
    }
    let name = name_of(sources.host_state, other?)?.to_owned();
    Some((name, sample.first()?.to_string()))
}

fn name_of(host_state: &HostState, index: u32) -> Option<&str> {
    let link = host_state.links.iter().find(|link| link.index == index);
    link.map(|link| link.name.as_str())
}

/// Returns what keeps an interface from carrying packets, as far as the kernel knows.
pub(super) fn link_trouble(name: &str) -> Option<&'static str> {
    let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}"));
    match (read("operstate"), read("carrier")) {
        (Err(_), _) => Some("does not exist"),
        // An interface that is down refuses to report its carrier.
        (Ok(_), Err(_)) => Some("is down"),
        (Ok(_), Ok(carrier)) if carrier.trim() == "0" => Some("has no carrier"),
        (Ok(state), Ok(_)) if state.trim() == "down" => Some("is down"),
        (Ok(_), Ok(_)) => None,
    }
}

fn reach(kernel: &mut Netlink, ip: IpAddr) -> Option<Reachability> {
    kernel
        .host_state(&Query {
            can_reach: Some(ip),
            ..Query::default()
        })
        .ok()?
        .reach
}

/// Adds the evidence that needs no probes.
pub(super) fn complete(
    kernel: &mut Netlink,
    sources: &Sources<'_>,
    peer_path: &mut PeerPath,
    texts: &Texts,
    alone: bool,
) {
    let host_state = sources.host_state;
    let index = |name: &str| host_state.link(name).map(|link| link.index);
    let underlay = index(sources.underlay);
    let target = if peer_path.evidence.direct {
        underlay
    } else {
        index(&peer_path.end.name)
    };
    let to_peer = reach(kernel, peer_path.names.public);
    peer_path.evidence.device = peer_path.end.device.clone();
    peer_path.evidence.rules =
        firewall_rules::suspects(texts, &wanted(std::slice::from_ref(&peer_path.end)));
    peer_path.other_source = to_peer.and_then(|reach| reach.source) != Some(peer_path.end.local);
    if peer_path.end.device != DeviceFact::Missing {
        peer_path.evidence.shadow = shadow(kernel, host_state, peer_path, target);
    }
    let detour = underlay.filter(|own| to_peer.is_some_and(|reach| reach.link != *own));
    peer_path.gateway = to_peer.and_then(|reach| gateway(host_state, reach));
    let strict = detour
        .map(|_| sources.underlay)
        .filter(|link| is_strict(link));
    peer_path.evidence.strict = strict.map(str::to_owned);
    peer_path.on_link = sources.is_on_link(peer_path.names.public);
    if !peer_path.on_link {
        peer_path.evidence.neighbor = Neighbor::Beyond { alone };
    }
}

fn gateway(host_state: &HostState, reach: Reachability) -> Option<Gateway> {
    const NO_ARP: u32 = 0x80;
    let (ip, device) = (reach.gateway?, name_of(host_state, reach.link)?);
    let flags = fs::read_to_string(format!("/sys/class/net/{device}/flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    Some(Gateway {
        ip,
        device: device.to_owned(),
        has_arp: ip.is_ipv4() && flags & NO_ARP == 0,
    })
}

/// Returns what is wrong with the next hop to a peer that did not answer.
pub(super) fn next_hop(peer_path: &PeerPath) -> Option<String> {
    let table = fs::read_to_string("/proc/net/arp").unwrap_or_default();
    wrong_hop(
        &table,
        peer_path.gateway.as_ref(),
        peer_path.names.public,
        &peer_path.evidence.neighbor,
    )
}

/// Each line of `table` is a neighbor: address, type, flags, MAC, mask, device. Bit 2 of the flags says that the MAC is known. The kernel
/// may remove a neighbor that did not answer, but keeps one that was used recently.
fn wrong_hop(
    table: &str,
    gateway: Option<&Gateway>,
    public: IpAddr,
    seen: &Neighbor,
) -> Option<String> {
    let hop = gateway.map_or(public, |gateway| gateway.ip).to_string();
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let known = lines.find_map(|fields| {
        let (flags, mac, device) = (fields.get(2)?, fields.get(3)?, fields.get(5)?);
        let is_known = u8::from_str_radix(flags.trim_start_matches("0x"), 16).ok()? & 2 != 0;
        (fields.first() == Some(&hop.as_str()) && is_known)
            .then(|| (mac.to_string(), device.to_string()))
    });
    let owners: Vec<String> = match seen {
        Neighbor::OnLink(owners) => owners.iter().map(ToString::to_string).collect(),
        Neighbor::Unknown | Neighbor::Beyond { .. } => Vec::new(),
    };
    match (gateway, known) {
        (
            Some(Gateway {
                ip,
                device,
                has_arp: true,
            }),
            None,
        ) => Some(format!(
            "packets to {public} go to {ip} on {device}, which does not answer"
        )),
        (None, Some((mac, device))) if !owners.is_empty() && !owners.contains(&mac) => {
            Some(format!(
                "this host's neighbor entry for {public} on {device} has MAC {mac}, but {} has the address",
                owners.join(" and ")
            ))
        }
        (Some(_) | None, _) => None,
    }
}

/// Probes some addresses of the peer's subnet and describes one that is routed elsewhere.
fn shadow(
    kernel: &mut Netlink,
    host_state: &HostState,
    peer_path: &PeerPath,
    target: Option<u32>,
) -> Option<String> {
    let family = Family::of(peer_path.names.address);
    let base = value(peer_path.names.address);
    let size = size_of(&peer_path.names.subnet, family);
    let offsets = [0, 1, 2, size / 2, size.saturating_sub(2)];
    let sample = offsets
        .into_iter()
        .filter_map(|offset| family.address(base + offset))
        .chain(peer_path.names.pod);
    sample.into_iter().find_map(|ip| match reach(kernel, ip) {
        Some(reach) if Some(reach.link) == target => None,
        Some(reach) => {
            let link = name_of(host_state, reach.link)?;
            Some(format!("packets to {ip} go to {link}"))
        }
        None => Some(format!("the kernel does not route packets to {ip}")),
    })
}

fn size_of(subnet: &str, family: Family) -> u128 {
    let prefix = subnet
        .parse::<ipnetwork::IpNetwork>()
        .map_or(family.bits(), |net| net.prefix());
    1_u128
        .checked_shl(u32::from(family.bits() - prefix))
        .unwrap_or(u128::MAX)
}

/// Returns whether the reverse-path filter is strict. The higher of the two values counts: 1 is strict, 2 is loose.
fn is_strict(link: &str) -> bool {
    let value = |name: &str| {
        fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"))
            .ok()
            .and_then(|text| text.trim().parse::<u8>().ok())
            .unwrap_or_default()
    };
    value("all").max(value(link)) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use flanneld::kernel::Mac;

    #[test]
    fn ports_of_programs_are_told_from_the_kernels() {
        let line = |inode: &str| {
            format!(
                " 1133: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0"
            )
        };
        assert_eq!(taken(&line("12345")), Some(8472));
        assert_eq!(taken(&line("0")), None);
        assert_eq!(taken("  sl  local_address rem_address"), None);
    }

    #[test]
    fn next_hop_without_an_answer_or_with_another_mac_is_named() {
        let table = "IP address  HW type  Flags  HW address  Mask  Device\n\
                     10.64.0.2  0x1  0x6  02:de:ad:be:ef:01  *  eth0\n10.64.0.99  0x1  0x0  00:00:00:00:00:00  *  eth0\n";
        let peer = IpAddr::from([10, 64, 0, 2]);
        let owner = |mac| Neighbor::OnLink(BTreeSet::from([Mac(mac)]));
        let wrong = wrong_hop(table, None, peer, &owner([2, 0, 0, 0, 0, 2])).unwrap();
        assert!(
            wrong.contains("02:de:ad:be:ef:01, but 02:00:00:00:00:02 has"),
            "{wrong}"
        );
        assert_eq!(
            wrong_hop(table, None, peer, &owner([2, 0xde, 0xad, 0xbe, 0xef, 1])),
            None
        );
        assert_eq!(wrong_hop(table, None, peer, &Neighbor::Unknown), None);
        let by = |last, has_arp| {
            let gateway = Gateway {
                ip: [10, 64, 0, last].into(),
                device: "eth0".into(),
                has_arp,
            };
            wrong_hop(table, Some(&gateway), peer, &Neighbor::Unknown)
        };
        // The entry of a router that did not answer is kept for a while, and dropped.
        for silent in [99, 7] {
            let wrong = by(silent, true).unwrap();
            assert!(
                wrong.contains(&format!(
                    "go to 10.64.0.{silent} on eth0, which does not answer"
                )),
                "{wrong}"
            );
        }
        assert_eq!((by(2, true), by(7, false)), (None, None));
    }

    #[test]
    fn subnets_have_sizes() {
        assert_eq!(size_of("10.5.1.0/24", Family::V4), 256);
        assert_eq!(size_of("fd05::/64", Family::V6), 1 << 64);
    }
}
