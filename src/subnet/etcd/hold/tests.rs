//! How the own key is judged, and how often it is renewed.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn attrs(ip: [u8; 4], backend: &str) -> LeaseAttrs {
    LeaseAttrs { public_ip: Some(ip.into()), backend_type: backend.into(), ..LeaseAttrs::default() }
}

fn seen(attrs: LeaseAttrs) -> Seen {
    let subnet: ipnetwork::Ipv4Network = "10.5.34.0/24".parse().unwrap();
    Seen::Lease(Lease { subnets: subnet.into(), attrs, created: 2, modified: 9, grant: Grant::new(1) })
}

#[test]
fn the_record_decides_between_machines() {
    let wanted = attrs([10, 0, 0, 1], "vxlan");
    let [me, other, reborn] =
        [("a", "1"), ("b", "1"), ("a", "2")].map(|(id, boot)| Machine::new(id, boot, "h"));
    let own = Own { wanted: &wanted, published: &wanted, machine: Some(&me) };
    for (name, owner, verdict) in [
        ("ours", Some((me.clone(), 9)), Verdict::Fine),
        ("challenged", Some((me.clone(), 8)), Verdict::Rewrite(9)),
        ("not recorded", None, Verdict::Rewrite(9)),
        ("another's", Some((other.clone(), 9)), Verdict::Rival(other, 9)),
        ("of another boot", Some((reborn.clone(), 7)), Verdict::Rival(reborn.clone(), 7)),
    ] {
        assert_eq!(own.judge(&Sight { seen: seen(wanted.clone()), owner }, true), verdict, "{name}");
    }
    let unknown = Own { machine: None, ..own };
    let sight = Sight { seen: seen(wanted.clone()), owner: Some((reborn, 7)) };
    assert_eq!(unknown.judge(&sight, true), Verdict::Fine);
}

#[test]
fn the_own_key_is_judged() {
    let wanted = attrs([10, 0, 0, 1], "vxlan");
    let before = attrs([10, 0, 0, 9], "vxlan");
    let other = attrs([10, 0, 0, 2], "vxlan");
    for (name, seen, alive, verdict) in [
        ("as it should be", seen(wanted.clone()), true, Verdict::Fine),
        ("about to expire", seen(wanted.clone()), false, Verdict::Rewrite(9)),
        ("gone", Seen::Absent, true, Verdict::Create),
        ("gone with its etcd lease", Seen::Absent, false, Verdict::Create),
        ("scribbled over", Seen::Broken(7), true, Verdict::Rewrite(7)),
        ("ours, changed", seen(attrs([10, 0, 0, 1], "udp")), true, Verdict::Rewrite(9)),
        ("ours, with the address of before", seen(before.clone()), true, Verdict::Rewrite(9)),
        ("nobody's", seen(LeaseAttrs::default()), true, Verdict::Rewrite(9)),
        ("0.0.0.0", seen(attrs([0, 0, 0, 0], "vxlan")), true, Verdict::Rewrite(9)),
        ("another's", seen(other.clone()), true, Verdict::Taken([10, 0, 0, 2].into())),
        ("another's, ours dead", seen(other), false, Verdict::Taken([10, 0, 0, 2].into())),
    ] {
        let own = Own { wanted: &wanted, published: &before, machine: None };
        assert_eq!(own.judge(&Sight { seen, owner: None }, alive), verdict, "{name}");
    }
}

#[test]
fn renewals_keep_the_margin_and_never_spin() {
    for (ttl, margin, expected) in [
        (24 * HOUR, HOUR, HOUR),
        (24 * HOUR, 23 * HOUR + HOUR / 2, HOUR / 2),
        (24 * HOUR, 24 * HOUR, SHORTEST_PERIOD),
        (24 * HOUR, 1000 * HOUR, SHORTEST_PERIOD),
        (Duration::from_secs(48), HOUR, Duration::from_secs(2)),
        (24 * HOUR, Duration::ZERO, HOUR),
    ] {
        assert_eq!(period(ttl, margin), expected, "{ttl:?} {margin:?}");
    }
}
