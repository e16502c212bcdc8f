//! Every combination of what can be known has one cause, and every row of the table can be the one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::evidence::{Broken, PathNames, Probes};
use super::super::{render::explain, render::trace};
use super::*;
use flanneld::kernel::LinkRole;
use node_setup::finding::Level;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const DONE: Echo = Echo::Answered(Duration::from_millis(1));

fn entries() -> [Entry; 3] {
    let (dev, ip): (LinkRole, IpAddr) = (LinkRole::Overlay, [10, 5, 2, 0].into());
    [
        Entry::Neigh { dev, ip, mac: OURS },
        Entry::Fdb {
            dev,
            mac: OURS,
            dst: [10, 64, 0, 2].into(),
            port: 0,
            vni: 0,
        },
        Entry::Route {
            dst: "10.5.2.0/24".parse().unwrap(),
            metric: 0,
            dev,
            gateway: Some(ip),
            onlink: true,
            protocol: 3,
        },
    ]
}

/// A peer that answers nothing although all is in order here.
fn silent() -> Evidence {
    let probes = Probes {
        overlay: Echo::Silent,
        left: Some(true),
        underlay: Echo::Silent,
        port: Port::Silent,
        ..Probes::default()
    };
    Evidence {
        lease: LeaseFact::Usable,
        own: None,
        device: DeviceFact::Right,
        broken: Vec::new(),
        shadow: None,
        strict: None,
        next_hop: None,
        neighbor: Neighbor::Unknown,
        direct: false,
        mac: Some(OURS),
        required: 526,
        rules: Vec::new(),
        probes,
    }
}

fn echo() -> impl Strategy<Value = Echo> {
    select(vec![
        Echo::Untried,
        Echo::Refused(Refusal::Blocked),
        Echo::Refused(Refusal::NoRoute),
        Echo::Refused(Refusal::TooLong),
        Echo::Silent,
        Echo::AtNic,
        Echo::AtDevice,
        DONE,
    ])
}

fn word() -> impl Strategy<Value = Option<String>> {
    select(vec![None, Some("why".to_owned())])
}

fn mac() -> impl Strategy<Value = Option<Mac>> {
    select(vec![None, Some(OURS), Some(OTHER)])
}

prop_compose! {
    fn probes()(
        overlay in echo(), left in any::<Option<bool>>(), answered_other_mac in mac(), full in echo(),
        largest in select(vec![None, Some(0), Some(1350)]),
        checksum in select(vec![Checksum::Unknown, Checksum::Right, Checksum::Wrong]), pod in echo(),
    )(
        underlay in echo(), any_source in echo(),
        port in select(vec![Port::Untried, Port::Silent, Port::Refused, Port::Blocked, Port::NoRoute]),
        handmade in any::<bool>(), by_underlay in any::<bool>(), owner in mac(),
        (overlay, left, answered_other_mac, full, largest, checksum, pod) in
            Just((overlay, left, answered_other_mac, full, largest, checksum, pod)),
    ) -> Probes {
        Probes {
            overlay, left, answered_other_mac, full, largest, checksum, pod, underlay, any_source, port, handmade,
            by_underlay, owner,
        }
    }
}

prop_compose! {
    fn evidence()(
        lease in select(vec![
            LeaseFact::Usable, LeaseFact::Missing("m".into()), LeaseFact::Duplicate("d".into()),
            LeaseFact::Unusable("u".into()), LeaseFact::NotConnected("n".into()),
        ]),
        device in select(vec![
            DeviceFact::Right, DeviceFact::Missing, DeviceFact::Down, DeviceFact::Displaced("vx".into()),
            DeviceFact::Differs("MTU".into()),
        ]),
        broken in prop::collection::vec((select(entries().to_vec()), any::<bool>()), 0..3),
        neighbor in select(vec![
            Neighbor::Unknown, Neighbor::OnLink(BTreeSet::new()), Neighbor::OnLink(BTreeSet::from([OURS])),
            Neighbor::OnLink(BTreeSet::from([OURS, OTHER])), Neighbor::Beyond { alone: true },
            Neighbor::Beyond { alone: false },
        ]),
        (own, shadow, strict, next_hop) in (word(), word(), word(), word()), direct in any::<bool>(), mac in mac(), probes in probes(),
    ) -> Evidence {
        let broken = broken.into_iter().map(|(wanted, is_there)| Broken {
            wanted,
            found: is_there.then_some(wanted).into_iter().collect(),
        });
        Evidence {
            lease, own, device, broken: broken.collect(), shadow, strict, next_hop, neighbor, direct, mac, required: 526, rules: Vec::new(),
            probes,
        }
    }
}

fn names() -> PathNames {
    PathNames {
        host: Some("h2".into()),
        subnet: "10.5.2.0/24".into(),
        address: [10, 5, 2, 0].into(),
        public: [10, 64, 0, 2].into(),
        pod: None,
        device: "flannel.1".into(),
        mtu: 1450,
        port: 8472,
        overhead: 50,
        underlay: "eth0".into(),
        local: [10, 64, 0, 1].into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Exactly one cause, with its name, what is found and what to do; and never a panic.
    #[test]
    fn every_combination_has_one_cause(evidence in evidence()) {
        let cause = diagnose(&evidence);
        let finding = explain::finding(cause, &names(), &evidence);
        trace::lines(&names(), &evidence.probes);
        prop_assert_eq!(finding.id, cause.id());
        prop_assert_eq!(cause == Cause::None, finding.level == Level::Ok);
        prop_assert_eq!(finding.level == Level::Error, !finding.expected.is_empty() && !finding.fix.is_empty());
        prop_assert!(!finding.found.trim().is_empty(), "{:?}", cause);
    }

    /// Who answers in every respect is reached, whatever else there is to complain of; no one else is.
    #[test]
    fn reached_is_who_answers(evidence in evidence()) {
        let probes = &evidence.probes;
        let is_whole = probes.overlay.is_answered()
            && probes.largest.is_none()
            && probes.checksum != Checksum::Wrong
            && !probes.pod.is_unanswered()
            && !matches!(evidence.lease, LeaseFact::Missing(_) | LeaseFact::Duplicate(_));
        prop_assert_eq!(diagnose(&evidence) == Cause::None, is_whole);
    }
}

/// One for each row, in its order: nothing else is known than what leads there.
#[test]
fn every_row_can_be_the_one() {
    type Change = fn(&mut Evidence);
    let reached: Change = |e| e.probes.overlay = DONE;
    let rows: [(Cause, &[Change]); 37] = [
        (
            Cause::LeaseMissing,
            &[|e| e.lease = LeaseFact::Missing("m".into())],
        ),
        (
            Cause::DuplicateAddress,
            &[reached, |e| e.lease = LeaseFact::Duplicate("d".into())],
        ),
        (Cause::Mtu, &[reached, |e| e.probes.largest = Some(1350)]),
        (Cause::Loss, &[reached, |e| e.probes.largest = Some(110)]),
        (
            Cause::Checksum,
            &[reached, |e| e.probes.checksum = Checksum::Wrong],
        ),
        (
            Cause::Shadowed,
            &[
                reached,
                |e| e.probes.pod = Echo::Silent,
                |e| e.shadow = Some("eth0".into()),
            ],
        ),
        (Cause::Pod, &[reached, |e| e.probes.pod = Echo::Silent]),
        (Cause::None, &[reached]),
        (
            Cause::NotConnected,
            &[|e| e.lease = LeaseFact::NotConnected("n".into())],
        ),
        (
            Cause::LeaseUnusable,
            &[|e| e.lease = LeaseFact::Unusable("u".into())],
        ),
        (
            Cause::VxlanUser,
            &[|e| e.device = DeviceFact::Displaced("vx".into())],
        ),
        (Cause::DeviceMissing, &[|e| e.device = DeviceFact::Missing]),
        (Cause::DeviceDown, &[|e| e.device = DeviceFact::Down]),
        (
            Cause::DeviceDiffers,
            &[|e| e.device = DeviceFact::Differs("x".into())],
        ),
        (
            Cause::Route,
            &[|e| {
                e.broken.push(Broken {
                    wanted: entries()[2],
                    found: Vec::new(),
                })
            }],
        ),
        (
            Cause::Neighbor,
            &[|e| {
                e.broken.push(Broken {
                    wanted: entries()[0],
                    found: Vec::new(),
                })
            }],
        ),
        (
            Cause::Fdb,
            &[|e| {
                e.broken.push(Broken {
                    wanted: entries()[1],
                    found: Vec::new(),
                })
            }],
        ),
        (Cause::Shadowed, &[|e| e.shadow = Some("eth0".into())]),
        (Cause::OwnLease, &[|e| e.own = Some("lost".into())]),
        (Cause::NoRoute, &[|e| e.probes.port = Port::NoRoute]),
        (Cause::NoRoute, &[|e| e.next_hop = Some("silent".into())]),
        (Cause::FirewallHere, &[|e| e.probes.port = Port::Blocked]),
        (Cause::FirewallHere, &[|e| e.probes.left = Some(false)]),
        (
            Cause::OwnMac,
            &[
                |e| e.probes.overlay = Echo::AtDevice,
                |e| e.probes.answered_other_mac = Some(OTHER),
            ],
        ),
        (
            Cause::RpFilter,
            &[
                |e| e.probes.underlay = Echo::AtNic,
                |e| e.strict = Some("eth0".into()),
            ],
        ),
        (Cause::FirewallHere, &[|e| e.probes.overlay = Echo::AtNic]),
        (
            Cause::DuplicateAddress,
            &[|e| e.neighbor = Neighbor::OnLink(BTreeSet::from([OURS, OTHER]))],
        ),
        (Cause::PeerDevice, &[|e| e.probes.port = Port::Refused]),
        (Cause::PeerMac, &[|e| e.probes.owner = Some(OTHER)]),
        (Cause::Loss, &[|e| e.probes.handmade = true]),
        (Cause::PeerStale, &[|e| e.probes.by_underlay = true]),
        (Cause::PeerFirewall, &[|e| e.probes.owner = Some(OURS)]),
        (
            Cause::SourceCheck,
            &[|e| e.direct = true, |e| e.probes.underlay = DONE],
        ),
        (Cause::PortBlocked, &[|e| e.probes.underlay = DONE]),
        (Cause::WrongInterface, &[|e| e.probes.any_source = DONE]),
        (
            Cause::PortBlocked,
            &[|e| e.neighbor = Neighbor::OnLink(BTreeSet::from([OURS]))],
        ),
        (
            Cause::PublicAddress,
            &[|e| e.neighbor = Neighbor::Beyond { alone: true }],
        ),
    ];
    assert_eq!(rows.len() + 1, TABLE.len(), "the last row is for the rest");
    for (place, (cause, changes)) in rows.into_iter().enumerate() {
        let mut evidence = silent();
        changes.iter().for_each(|change| change(&mut evidence));
        let first = TABLE.iter().position(|row| (row.when)(&evidence));
        assert_eq!((first, diagnose(&evidence)), (Some(place), cause));
    }
    assert_eq!(diagnose(&silent()), Cause::PeerDown);
    let mut absent = silent();
    (absent.probes.left, absent.neighbor) = (Some(false), Neighbor::OnLink(BTreeSet::new()));
    assert_eq!(
        diagnose(&absent),
        Cause::PeerDown,
        "no firewall holds up what has no destination"
    );
}
