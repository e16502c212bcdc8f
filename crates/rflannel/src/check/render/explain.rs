//! Describes a cause in words: what was found, what was expected, and how to fix it. Pure.

use std::fmt::Display;

use crate::check::diagnose::Cause;
use crate::check::evidence::{
    Broken, DeviceFact, Echo, Evidence, LeaseFact, Neighbor, PathNames, Port,
};
use flanneld::kernel::Mac;
use node_setup::finding::Finding;

impl Cause {
    pub const fn id(self) -> &'static str {
        match self {
            Cause::None => "reached",
            Cause::LeaseMissing => "lease-missing",
            Cause::DuplicateAddress => "duplicate-public-ip",
            Cause::NotConnected => "not-connected",
            Cause::LeaseUnusable => "lease-unusable",
            Cause::VxlanUser => "vxlan-conflict",
            Cause::DeviceMissing => "device-missing",
            Cause::DeviceDown => "device-down",
            Cause::DeviceDiffers => "device-mismatch",
            Cause::Route => "route",
            Cause::Neighbor => "neighbor",
            Cause::Fdb => "fdb",
            Cause::Shadowed => "route-override",
            Cause::OwnLease => "own-lease",
            Cause::NoRoute => "no-route",
            Cause::FirewallHere => "local-firewall",
            Cause::OwnMac => "local-mac-mismatch",
            Cause::RpFilter => "rp-filter",
            Cause::PeerDevice => "peer-device",
            Cause::PeerMac => "peer-mac-mismatch",
            Cause::PeerFirewall => "peer-firewall",
            Cause::PeerStale => "return-path",
            Cause::SourceCheck => "source-check",
            Cause::Loss => "packet-loss",
            Cause::PortBlocked => "port-blocked",
            Cause::WrongInterface => "wrong-interface",
            Cause::PublicAddress => "public-ip",
            Cause::PeerDown => "peer-down",
            Cause::Mtu => "mtu",
            Cause::Checksum => "checksum",
            Cause::Pod => "pod-unreachable",
        }
    }
}

pub fn finding(cause: Cause, names: &PathNames, evidence: &Evidence) -> Finding {
    if cause == Cause::None {
        return Finding::ok(
            cause.id(),
            format!("{} at {} is reached", names.subnet, names.public),
        );
    }
    let (found, expected, fix) = text(cause, names, evidence);
    Finding::error(cause.id(), found, &expected, fix)
}

type Text = (String, String, String);

fn of(found: impl Display, expected: impl Display, fix: impl Display) -> Text {
    (found.to_string(), expected.to_string(), fix.to_string())
}

fn text(cause: Cause, n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        device,
        local,
        port,
        public,
        subnet,
        underlay,
        ..
    } = n;
    match cause {
        Cause::None => of("", "", ""),
        Cause::LeaseMissing => of(lease(n, e), MISSING.0, MISSING.1),
        Cause::DuplicateAddress => of(lease(n, e), DUPLICATE_HOST.0, DUPLICATE_HOST.1),
        Cause::NotConnected => of(
            format!("there is no route to {subnet}: {}", lease(n, e)),
            format!("{public} in a network that is directly connected to {underlay}"),
            "check the route with ip route get; move the host, choose another interface with -iface, or use the vxlan backend for the cluster",
        ),
        Cause::LeaseUnusable => of(
            format!("the lease of {} is ignored: {}", n.subnet, lease(n, e)),
            "a valid lease, as flannel writes it",
            "restart flanneld on that host; if the host no longer exists, delete its lease",
        ),
        Cause::VxlanUser | Cause::DeviceMissing | Cause::DeviceDown | Cause::DeviceDiffers => {
            self::device(&n.device, &e.device)
        }
        Cause::Route | Cause::Neighbor | Cause::Fdb => entries(&e.broken),
        Cause::Shadowed => of(
            e.shadow.as_deref().unwrap_or_default(),
            format!("all packets to {subnet} leave through {device}"),
            "find the route or rule with ip route show table all and ip rule, and remove it",
        ),
        Cause::OwnLease => of(
            format!(
                "the lease of this host: {}",
                e.own.as_deref().unwrap_or_default()
            ),
            "a lease from which peers learn how to reach this host",
            "rflannel status shows what the daemon does about it; start the daemon if it does not run",
        ),
        Cause::NoRoute => of(
            e.next_hop
                .clone()
                .unwrap_or_else(|| format!("this host has no route to {public}")),
            format!("a route through {underlay} with a next hop that answers"),
            "check ip route get and ip neigh; if the peer publishes an address of another network, set -iface or -public-ip there",
        ),
        Cause::OwnMac => of(
            format!(
                "the peer sends replies to MAC {}, which is not the MAC of {device}",
                spelled(e.probes.answered_other_mac)
            ),
            "replies to the MAC in this host's lease",
            "restart flanneld on this host; then run rflannel check on the peer, whose neighbor entry for this host is outdated",
        ),
        Cause::RpFilter => of(
            format!(
                "replies from {public} arrive, but rp_filter=1 on {} drops them: this host routes to {public} through another interface",
                e.strict.as_deref().unwrap_or_default()
            ),
            "rp_filter=2 (loose) or 0 where packets arrive and leave on different interfaces",
            "set net.ipv4.conf.all.rp_filter=2 with sysctl, or route packets to the peers through that interface",
        ),
        Cause::FirewallHere => firewall_here(n, e),
        Cause::PeerDevice => of(
            format!("{public} reports that UDP port {port} is closed"),
            format!("{device} up on that host"),
            "on that host: check ip -d link show and systemctl status flanneld; its firewall may also reject the port",
        ),
        Cause::PeerMac => of(
            format!("the peer's device has MAC {}", spelled(e.probes.owner)),
            format!("MAC {}, as in the peer's lease", spelled(e.mac)),
            "on that host: restart flanneld, which sets the MAC of its lease",
        ),
        Cause::PeerFirewall => of(
            format!("{public} answers ARP requests in the tunnel, but no IP packets"),
            format!("no rule on that host drops packets from {device}, and rp_filter is 0 or 2"),
            "on that host: run rflannel check; then check iptables-save -c, nft list ruleset, and sysctl net.ipv4.icmp_echo_ignore_all",
        ),
        Cause::PeerStale => of(
            format!("requests reach {subnet}, but replies do not return through the overlay"),
            "entries for this host in the peer's kernel",
            "on that host: run rflannel check and rflannel status; a daemon that does not run or has lost etcd does not know newer hosts",
        ),
        Cause::SourceCheck => source_check(n, e),
        Cause::Loss => of(
            format!("some packets to {public} are lost"),
            "no packet loss",
            "check the network between the hosts: ping, ip -s link, ethtool -S",
        ),
        Cause::PortBlocked => of(
            match e.probes.underlay {
                Echo::Answered(_) | Echo::AtNic | Echo::AtDevice => {
                    format!("{public} answers a ping, but no VXLAN packets to UDP port {port}")
                }
                Echo::Untried | Echo::Refused(_) | Echo::Silent => {
                    format!(
                        "{public} answers ARP requests, but neither a ping nor VXLAN packets to UDP port {port}"
                    )
                }
            },
            format!("UDP port {port} open between all hosts, in both directions"),
            "check the peer's firewall (INPUT), the cloud's security group, and the switches between; on the peer: run rflannel check",
        ),
        Cause::WrongInterface => of(
            format!(
                "{public} answers packets of this host from another address, but not from {local}, which the tunnel uses and the lease publishes"
            ),
            "an interface through which the other hosts reach this one",
            "choose the interface with -iface or the address with -public-ip, and restart flanneld",
        ),
        Cause::PublicAddress => of(
            format!("{public} is in another network than all other hosts and does not answer"),
            format!("an address that {local} can reach"),
            "on that host: choose the interface with -iface or the address with -public-ip, and restart flanneld",
        ),
        Cause::PeerDown => of(
            match e.neighbor {
                Neighbor::OnLink(_) => format!("no host on the link has {public}"),
                Neighbor::Unknown | Neighbor::Beyond { .. } => format!("{public} does not answer"),
            },
            "a running host with the public IP of its lease",
            "start the host, or find the router or firewall that blocks all its packets; the lease of a host that no longer exists expires by itself",
        ),
        Cause::Mtu => mtu(n, e),
        Cause::Checksum => of(
            format!(
                "packets whose checksums the kernel or the network card computes arrive at {public} with wrong checksums"
            ),
            "correct checksums from the driver or the network card",
            format!(
                "start flanneld with -tx-checksum=off; if the card computes them: ethtool -K {underlay} tx-udp_tnl-csum-segmentation off"
            ),
        ),
        Cause::Pod => of(
            format!(
                "pod {} does not answer, but its host does",
                n.pod.map(|pod| pod.to_string()).unwrap_or_default()
            ),
            "a running pod with this address, and no firewall that blocks it",
            "on that host: check that the pod exists, that no FORWARD rule drops its packets (rflannel check), and its network policies",
        ),
    }
}

/// What was expected and how to fix it if there is no lease.
pub const MISSING: (&str, &str) = (
    "a lease that the peer's daemon creates and renews",
    "on the peer: start flanneld and run rflannel status; a lease that is not renewed expires after a day",
);

/// What was expected and how to fix it if two hosts have one address.
pub const DUPLICATE_HOST: (&str, &str) = (
    "a unique public IP for each host",
    "give each host its own public IP (-iface or -public-ip), then release the lease that no host renews (rflannel lease list shows when each was renewed, rflannel lease release removes one)",
);

fn spelled(mac: Option<Mac>) -> String {
    mac.map(|mac| mac.to_string()).unwrap_or_default()
}

fn lease(n: &PathNames, e: &Evidence) -> String {
    match (&e.lease, &e.neighbor) {
        (
            LeaseFact::Missing(why)
            | LeaseFact::Duplicate(why)
            | LeaseFact::NotConnected(why)
            | LeaseFact::Unusable(why),
            _,
        ) => why.clone(),
        (LeaseFact::Usable, Neighbor::OnLink(owners)) => {
            let each: Vec<String> = owners.iter().map(ToString::to_string).collect();
            format!(
                "{} answer ARP requests for {}",
                each.join(" and "),
                n.public
            )
        }
        (LeaseFact::Usable, Neighbor::Unknown | Neighbor::Beyond { .. }) => String::new(),
    }
}

/// Describes a device that differs from the desired one.
pub fn device(name: &str, fact: &DeviceFact) -> Text {
    const WHO: &str = "flanneld repairs this at once if it runs: systemctl status flanneld";
    match fact {
        DeviceFact::Right => of("", "", ""),
        DeviceFact::Missing => of(
            format!("device {name} does not exist"),
            "the overlay device",
            WHO,
        ),
        DeviceFact::Displaced(by) => of(
            by,
            format!("only {name} uses this VNI and UDP port"),
            "remove the other device or program, or choose another Backend VNI or Port for the whole cluster",
        ),
        DeviceFact::Down => of(format!("{name} is down"), "up", WHO),
        DeviceFact::Differs(how) => of(
            format!("{name} {how}"),
            "the settings of the lease and the network configuration",
            WHO,
        ),
    }
}

fn entries(broken: &[Broken]) -> Text {
    let is = |broken: &Broken| match broken.found.as_slice() {
        [] => format!("{} is missing", broken.wanted),
        found => found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and "),
    };
    let wanted: Vec<String> = broken
        .iter()
        .map(|broken| broken.wanted.to_string())
        .collect();
    let found: Vec<String> = broken.iter().map(is).collect();
    of(
        format!("in the kernel: {}", found.join("; ")),
        wanted.join("; "),
        "flanneld repairs this at once if it runs: systemctl status flanneld; if it runs, another program keeps changing the entry: rflannel status names it, ip monitor shows the changes",
    )
}

fn firewall_here(n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        device,
        port,
        public,
        ..
    } = n;
    let found = match (e.probes.port, e.probes.overlay) {
        (Port::Blocked, _) => {
            format!("this host's firewall drops packets to UDP port {port} of {public}")
        }
        (_, Echo::Refused(_)) => {
            format!("this host's firewall drops packets that leave through {device}")
        }
        (_, Echo::AtNic) => {
            format!("replies from {public} arrive on UDP port {port} but do not reach {device}")
        }
        (_, Echo::AtDevice) if e.direct => {
            format!("replies arrive on {device} and are dropped there")
        }
        (_, Echo::AtDevice) => {
            format!("replies leave the tunnel on {device} and are dropped there")
        }
        _ => format!("no packets to UDP port {port} of {public} leave this host"),
    };
    let rules = match e.rules.as_slice() {
        [] => String::new(),
        rules => format!(" (rules that may drop them: {})", rules.join("; ")),
    };
    of(
        format!("{found}{rules}"),
        if e.direct {
            format!("all overlay packets allowed on {device}")
        } else {
            format!(
                "UDP port {port} allowed in both directions, and all overlay packets allowed on {device}"
            )
        },
        "find the rule whose counter grows (iptables-save -c, nft list ruleset, ip xfrm policy); remove it, or accept the packets before it",
    )
}

fn source_check(n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        public,
        address,
        subnet,
        ..
    } = n;
    let is_answered = if e.probes.underlay.is_answered() {
        "answers a ping"
    } else {
        "answers ARP requests"
    };
    of(
        format!("{public} {is_answered}, but {address} behind it does not"),
        format!(
            "the network between this host and {public} forwards packets of pods, and a bridge on that host has {address}"
        ),
        format!(
            "allow hosts to send and receive for pod addresses (source and destination check of the cloud, allowed address pairs, port security of \
             the switch); on that host: check ip address show to {subnet} (the first pod creates the bridge), the firewall, and rp_filter (0 or 2)"
        ),
    )
}

fn mtu(n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        device,
        mtu,
        public,
        overhead,
        underlay,
        ..
    } = n;
    let largest = e.probes.largest.unwrap_or_default();
    of(
        format!("packets of at most {largest} bytes pass, but the MTU of {device} is {mtu}"),
        format!(
            "an MTU of {} bytes on every link to {public}",
            mtu + overhead
        ),
        match (*overhead, largest + overhead) {
            (0, size) => {
                format!(
                    "raise the MTU of the path; or set the MTU of {underlay} to {size} on all hosts, and restart docker"
                )
            }
            (_, size) => format!(
                "raise the MTU of the path; or set the MTU of {underlay} to {size} on all hosts, of which the VXLAN header takes {overhead}, and restart docker"
            ),
        },
    )
}
