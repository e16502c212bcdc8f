//! A cause in words: what is found, what should be, what to do: pure.

use std::fmt::Display;

use crate::check::diagnose::Cause;
use crate::check::evidence::{
    Broken, DeviceFact, Echo, Evidence, LeaseFact, Neighbor, PathNames, Port,
};
use flanneld::kernel::Mac;
use node_setup::finding::Finding;

impl Cause {
    /// Its stable name.
    pub const fn id(self) -> &'static str {
        match self {
            Cause::None => "reached",
            Cause::LeaseMissing => "lease-missing",
            Cause::DuplicateAddress => "duplicate-address",
            Cause::NotConnected => "not-connected",
            Cause::LeaseUnusable => "lease-unusable",
            Cause::VxlanUser => "vxlan-user",
            Cause::DeviceMissing => "device-missing",
            Cause::DeviceDown => "device-down",
            Cause::DeviceDiffers => "device-differs",
            Cause::Route => "route",
            Cause::Neighbor => "neighbour",
            Cause::Fdb => "fdb",
            Cause::Shadowed => "shadowed",
            Cause::OwnLease => "own-lease",
            Cause::NoRoute => "no-route",
            Cause::FirewallHere => "firewall-here",
            Cause::OwnMac => "own-mac",
            Cause::RpFilter => "rp-filter",
            Cause::PeerDevice => "peer-device",
            Cause::PeerMac => "peer-mac",
            Cause::PeerFirewall => "peer-firewall",
            Cause::PeerStale => "peer-stale",
            Cause::SourceCheck => "source-check",
            Cause::Loss => "loss",
            Cause::PortBlocked => "port-blocked",
            Cause::WrongInterface => "wrong-interface",
            Cause::PublicAddress => "public-address",
            Cause::PeerDown => "peer-down",
            Cause::Mtu => "mtu",
            Cause::Checksum => "checksum",
            Cause::Pod => "pod",
        }
    }
}

/// The cause as a finding.
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
    match cause {
        Cause::None => of("", "", ""),
        Cause::LeaseMissing => of(lease(n, e), MISSING.0, MISSING.1),
        Cause::DuplicateAddress => of(lease(n, e), DUPLICATE_HOST.0, DUPLICATE_HOST.1),
        Cause::NotConnected => not_connected(n, e),
        Cause::LeaseUnusable => lease_unusable(n, e),
        Cause::VxlanUser | Cause::DeviceMissing | Cause::DeviceDown | Cause::DeviceDiffers => {
            device(&n.device, &e.device)
        }
        Cause::Route | Cause::Neighbor | Cause::Fdb => entries(&e.broken),
        Cause::Shadowed => shadowed(n, e),
        Cause::OwnLease => own_lease(e),
        Cause::NoRoute => no_route(n, e),
        Cause::OwnMac => own_mac(n, e),
        Cause::RpFilter => rp_filter(n, e),
        Cause::FirewallHere => firewall_here(n, e),
        Cause::PeerDevice => peer_device(n),
        Cause::PeerMac => peer_mac(e),
        Cause::PeerFirewall => peer_firewall(n),
        Cause::PeerStale => peer_stale(n),
        Cause::SourceCheck => source_check(n, e),
        Cause::Loss => loss(n),
        Cause::PortBlocked => port_blocked(n, e),
        Cause::WrongInterface => wrong_interface(n),
        Cause::PublicAddress => public_address(n),
        Cause::PeerDown => peer_down(n, e),
        Cause::Mtu => mtu(n, e),
        Cause::Checksum => checksum(n),
        Cause::Pod => pod(n),
    }
}

/// What should be, and what to do, where there is no lease.
pub const MISSING: (&str, &str) = (
    "a lease, which the peer's daemon makes and renews",
    "start flanneld there, and read its status: rflannel status; a lease that nobody renews ends after a day",
);

/// The same where two hosts have one address.
pub const DUPLICATE_HOST: (&str, &str) = (
    "a public address of its own for every host",
    "give each host its own address (-iface or -public-ip), then delete the stale lease's key",
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
                "{} say on the wire that they have {}",
                each.join(" and "),
                n.public
            )
        }
        (LeaseFact::Usable, Neighbor::Unknown | Neighbor::Beyond { .. }) => String::new(),
    }
}

fn not_connected(n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        subnet,
        underlay,
        public,
        ..
    } = n;
    of(
        format!("there is no route to {subnet}: {}", lease(n, e)),
        format!("{public} on a network of {underlay}, without a router between"),
        "ip route get shows the way there; move the host, name the interface towards it with -iface, or use backend vxlan for the cluster",
    )
}

fn lease_unusable(n: &PathNames, e: &Evidence) -> Text {
    of(
        format!("the lease of {} is not used: {}", n.subnet, lease(n, e)),
        "a lease that flannel has written",
        "restart flanneld on that host, or delete the key if nobody is behind it",
    )
}

/// A device that is not right, in words.
pub fn device(name: &str, fact: &DeviceFact) -> Text {
    const WHO: &str = "flanneld puts it right at once: is it running? systemctl status flanneld";
    match fact {
        DeviceFact::Right => of("", "", ""),
        DeviceFact::Missing => of(
            format!("there is no device {name}"),
            "the overlay's device",
            WHO,
        ),
        DeviceFact::Displaced(by) => of(
            by,
            format!("this VNI and UDP port for {name} alone"),
            "remove the other one, or choose another Backend VNI or Port for the whole cluster",
        ),
        DeviceFact::Down => of(format!("{name} is down"), "up", WHO),
        DeviceFact::Differs(how) => of(
            format!("{name} {how}"),
            "as the lease and the network say",
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
        format!("in this kernel: {}", found.join("; ")),
        wanted.join("; "),
        "flanneld puts it right at once: is it running? If it is, another program keeps modifying it: rflannel status names it, ip monitor shows it",
    )
}

fn shadowed(n: &PathNames, e: &Evidence) -> Text {
    let PathNames { device, subnet, .. } = n;
    of(
        e.shadow.as_deref().unwrap_or_default(),
        format!("all of {subnet} into {device}"),
        "remove the route or the rule: ip route show table all, ip rule",
    )
}

fn own_lease(e: &Evidence) -> Text {
    of(
        format!(
            "this host's own lease: {}",
            e.own.as_deref().unwrap_or_default()
        ),
        "a lease by which peers find the way back",
        "rflannel status says what the daemon does about it; restart it if it does not run",
    )
}

fn no_route(n: &PathNames, e: &Evidence) -> Text {
    let PathNames {
        underlay, public, ..
    } = n;
    of(
        e.next_hop
            .clone()
            .unwrap_or_else(|| format!("this host has no way to {public}")),
        format!("a route over {underlay}, and a next hop that answers"),
        "ip route get, ip neigh; the peer may publish an address of another network (-iface, -public-ip there)",
    )
}

fn own_mac(n: &PathNames, e: &Evidence) -> Text {
    let PathNames { device, .. } = n;
    of(
        format!(
            "the peer answers to MAC {}, which {device} does not have",
            spelled(e.probes.answered_other_mac)
        ),
        "the MAC of this host's lease on both sides",
        "restart flanneld here, then look at the peer: its entries of this host are old ones",
    )
}

fn rp_filter(n: &PathNames, e: &Evidence) -> Text {
    let PathNames { public, .. } = n;
    of(
        format!(
            "answers of {public} come in, and rp_filter=1 of {} drops them: this host would send there over another interface",
            e.strict.as_deref().unwrap_or_default()
        ),
        "rp_filter 2 (loose) or 0 where ways in and out differ",
        "sysctl net.ipv4.conf.all.rp_filter=2 and the same of the interface, or a route to the peers over that interface",
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
        (Port::Blocked, _) => format!("this host does not let UDP port {port} of {public} go out"),
        (_, Echo::Refused(_)) => format!("this host does not let packets go out over {device}"),
        (_, Echo::AtNic) => {
            format!("answers from {public} come in on UDP port {port}, and do not reach {device}")
        }
        (_, Echo::AtDevice) if e.direct => {
            format!("answers come in at {device}, and are dropped there")
        }
        (_, Echo::AtDevice) => {
            format!("answers come out of the tunnel at {device}, and are dropped there")
        }
        _ => format!("nothing leaves this host towards UDP port {port} of {public}"),
    };
    let rules = match e.rules.as_slice() {
        [] => String::new(),
        rules => format!(" (rules that may do it: {})", rules.join("; ")),
    };
    of(
        format!("{found}{rules}"),
        match e.direct {
            true => format!("everything of the overlay on {device}"),
            false => {
                format!("UDP port {port} in and out, and everything of the overlay on {device}")
            }
        },
        "iptables-save -c, nft list ruleset, and ip xfrm policy: a rule whose counter grows; remove it, or accept before it",
    )
}

fn peer_device(n: &PathNames) -> Text {
    let PathNames {
        device,
        port,
        public,
        ..
    } = n;
    of(
        format!("{public} says that nobody listens at UDP port {port}"),
        format!("its {device}, up"),
        "on that host: ip -d link show, systemctl status flanneld; or its firewall rejects the port",
    )
}

fn peer_mac(e: &Evidence) -> Text {
    of(
        format!("the device there has MAC {}", spelled(e.probes.owner)),
        format!("{}, which its lease says", spelled(e.mac)),
        "on that host: restart flanneld, which sets the MAC of its lease",
    )
}

fn peer_firewall(n: &PathNames) -> Text {
    let PathNames { device, public, .. } = n;
    of(
        format!("{public} takes frames out of the tunnel, and its IP does not answer"),
        format!("no rule there that drops what comes in on {device}, and rp_filter 0 or 2"),
        "on that host: rflannel check; iptables-save -c and nft list ruleset; sysctl net.ipv4.icmp_echo_ignore_all",
    )
}

fn peer_stale(n: &PathNames) -> Text {
    let PathNames { subnet, .. } = n;
    of(
        format!("questions come to {subnet}, and no answer finds the way back through the overlay"),
        "entries of this host in the peer's kernel",
        "on that host: rflannel check, and rflannel status: a daemon that does not run or has lost etcd does not know newer hosts",
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
        "is there"
    };
    of(
        format!("{public} {is_answered}, and nothing that is sent to {address} behind it"),
        format!(
            "packets between addresses of pods on the way to {public} and back, and a bridge with {address} there"
        ),
        format!(
            "let hosts send and receive for others: the cloud's source and destination check, allowed address pairs, the switch's port \
             security; on that host: ip address show to {subnet} (a bridge comes with the first pod), its firewall, rp_filter 0 or 2"
        ),
    )
}

fn loss(n: &PathNames) -> Text {
    let PathNames { public, .. } = n;
    of(
        format!("some packets to {public} come through and others do not"),
        "no losses",
        "look at the network between: ping, ip -s link, ethtool -S",
    )
}

fn port_blocked(n: &PathNames, e: &Evidence) -> Text {
    let PathNames { port, public, .. } = n;
    of(
        match e.probes.underlay {
            Echo::Answered(_) | Echo::AtNic | Echo::AtDevice => {
                format!("{public} answers a ping, and nothing that is sent to its UDP port {port}")
            }
            Echo::Untried | Echo::Refused(_) | Echo::Silent => {
                format!("{public} is there, and answers neither a ping nor UDP port {port}")
            }
        },
        format!("UDP port {port} open between all hosts, in both directions"),
        "the peer's firewall (INPUT), the cloud's security group, the switch between; on the peer: rflannel check",
    )
}

fn wrong_interface(n: &PathNames) -> Text {
    let PathNames { public, local, .. } = n;
    of(
        format!(
            "{public} answers this host, but not at {local}, which the tunnel sends from and the lease publishes"
        ),
        "an interface by which the other hosts reach this one",
        "name it with -iface, or its address with -public-ip, and restart flanneld",
    )
}

fn public_address(n: &PathNames) -> Text {
    let PathNames { public, local, .. } = n;
    of(
        format!("{public} is in another network than all other hosts, and nothing there answers"),
        format!("an address that {local} can reach"),
        "on that host: name the interface with -iface or the address with -public-ip, and restart flanneld",
    )
}

fn peer_down(n: &PathNames, e: &Evidence) -> Text {
    let PathNames { public, .. } = n;
    of(
        match e.neighbor {
            Neighbor::OnLink(_) => format!("nobody on the link has {public}"),
            Neighbor::Unknown | Neighbor::Beyond { .. } => format!("nothing of {public} answers"),
        },
        "a host that is up, at the address of its lease",
        "start the host, or look for a router or firewall that blocks all of it; a lease of a host that is gone for good expires by itself",
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
        format!("packets of at most {largest} bytes come through, and {device} has {mtu}"),
        format!("{} bytes on every link to {public}", mtu + overhead),
        match (*overhead, largest + overhead) {
            (0, size) => {
                format!(
                    "raise the MTU on the way, or set that of {underlay} to {size} on all hosts; then restart docker"
                )
            }
            (_, size) => format!(
                "raise the MTU on the way, or set that of {underlay} to {size} on all hosts (or Backend MTU {size}); then restart docker"
            ),
        },
    )
}

fn checksum(n: &PathNames) -> Text {
    let PathNames {
        public, underlay, ..
    } = n;
    of(
        format!(
            "datagrams arrive at {public} with wrong checksums, unless they are made here by hand"
        ),
        "checksums that the driver or the network card puts in right",
        format!(
            "start flanneld with -tx-checksum=off; ethtool -K {underlay} tx-udp_tnl-csum-segmentation off if the card does it"
        ),
    )
}

fn pod(n: &PathNames) -> Text {
    of(
        format!(
            "{} does not answer, its host does",
            n.pod.map(|pod| pod.to_string()).unwrap_or_default()
        ),
        "a pod with this address, and no firewall before it",
        "on that host: is the pod there? Does FORWARD drop (rflannel check says so), or the pod's own policy?",
    )
}
